package events_test

import (
	"fmt"

	"github.com/vpcep-approver/vpcep-approver/internal/approval"
	"github.com/vpcep-approver/vpcep-approver/internal/events"
)

func ExampleDecodeRequest() {
	targets := approval.Targets{{Name: "payments", Kind: approval.Service, ID: "4189d3c2-8882-4871-a3c2-d380272eed88"}}
	request, err := events.DecodeRequest(nil, []byte(`{
		"specversion": "1.0",
		"id": "4711",
		"source": "//portal.example.org/endpoints",
		"type": "vpcep.connection.requested",
		"data": {
			"target": "payments",
			"endpoint_id": "705290f3-0d00-41f2-aedc-71f09844e879",
			"claims": {"requester": "alice@example.org"}
		}
	}`), targets)
	if err != nil {
		fmt.Println(err)
		return
	}
	fmt.Println("event:   ", request.EventID, "from", request.Source)
	fmt.Println("target:  ", request.Target.Name)
	fmt.Println("endpoint:", request.EndpointID)
	fmt.Println("claims:  ", request.Claims)
	// Output:
	// event:    4711 from //portal.example.org/endpoints
	// target:   payments
	// endpoint: 705290f3-0d00-41f2-aedc-71f09844e879
	// claims:   map[requester:alice@example.org]
}
