package cloud

import (
	"context"
	"net/http"
	"time"

	"github.com/vpcep-approver/vpcep-approver/internal/approval"
)

// apigPage is the maximum page size of APIG's lists. APIG cuts larger ones silently.
const apigPage = 500

// actGateway accepts or rejects a connection of a gateway whose endpoint service belongs
// to APIG. A call can name 50 connections, but it is not documented whether it is atomic.
func (c *Client) actGateway(ctx context.Context, project, gateway, endpoint string, v approval.Verdict, done func(context.Context) (bool, error)) error {
	const op = "AcceptOrRejectEndpointConnections"
	var out actionAnswer
	return c.do(ctx, &call{
		api: APIAPIG, op: op, method: http.MethodPost,
		path: "/v2/{}/apigw/instances/{}/vpc-endpoint/connections/action", ids: []string{project, gateway},
		project: project, contentType: utf8JSON,
		body: connectionAction{verb(v), []string{endpoint}}, effect: idempotent,
		decode: decodeJSON(&out, func(a actionAnswer) bool { return a.Connections != nil }),
	}, done)
}

// gatewayConnections reads one page of the connections of a gateway, and returns when
// the call was sent.
func (c *Client) gatewayConnections(ctx context.Context, project, gateway string, f filter) (page[connection], time.Time, error) {
	const op = "ListEndpointConnections"
	var out page[connection]
	read := &call{
		api: APIAPIG, op: op, method: http.MethodGet,
		path: "/v2/{}/apigw/instances/{}/vpc-endpoint/connections", ids: []string{project, gateway},
		query: f.query(), project: project, contentType: plainJSON, names: f.names(),
		decode: decodeList(&out, "connections", "total", f.rows(apigPage), c.rowReader(f)), // "size" is that of the page
	}
	err := c.do(ctx, read, nil)
	return out, read.sent, err
}
