package cloud_test

import (
	"context"
	"fmt"
	"net/http/httptest"
	"time"

	"github.com/vpcep-approver/vpcep-approver/internal/approval"
	"github.com/vpcep-approver/vpcep-approver/internal/cloud"
	"github.com/vpcep-approver/vpcep-approver/internal/cloud/simulator"
)

// Read the facts about a connection, accept it, and wait until the list shows that.
func Example() {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()

	// A simulated cloud with one pending connection.
	sim := simulator.New(simulator.Config{})
	sim.AddService(simulator.Service{ID: serviceID, ProjectID: project, ApprovalEnabled: true})
	pending := sim.Connect(serviceID, simulator.Connection{DomainID: "6e9dfd51d1124e8d8498dce894923a0d"})
	server := httptest.NewServer(sim)
	defer server.Close()

	target := approval.Target{Name: "payments", Kind: approval.Service, ID: serviceID, ProjectID: project}
	endpoints := map[string]string{}
	for _, api := range cloud.APIs() {
		endpoints[api] = server.URL
	}
	client, err := cloud.New(cloud.Config{
		Region: "cn-north-4", Endpoints: endpoints, Auth: signed(), Targets: approval.Targets{target},
	})
	if err != nil {
		fmt.Println(err)
		return
	}

	req := approval.Request{ID: "1", Target: target, EndpointID: pending.ID}
	facts, err := client.Facts(ctx, req)
	if err != nil {
		fmt.Println(err)
		return
	}
	fmt.Println(facts.DomainID, facts.State)
	if err := client.Act(ctx, &req, approval.Accept); err != nil {
		fmt.Println(err)
		return
	}
	state, err := client.Await(ctx, req, approval.Accepted, time.Now())
	fmt.Println(state, err)

	// Output:
	// 6e9dfd51d1124e8d8498dce894923a0d pendingAcceptance
	// accepted <nil>
}
