package cloud

import (
	"context"
	"net/http"

	"github.com/vpcep-approver/vpcep-approver/internal/approval"
)

// insightEndpoint is the request body of "verify a service and create an endpoint".
type insightEndpoint struct {
	DSType     string `json:"ds_type"`
	ServerName string `json:"vpc_ep_server_name,omitempty"`
	ServerID   string `json:"vpc_ep_server_id,omitempty"`
}

// insightAnswer holds the used members of the response.
type insightAnswer struct {
	ID           string `json:"id"`
	ClientID     string `json:"vpc_ep_client_id"`
	ClientStatus string `json:"vpc_ep_client_status"`
}

// createInsightEndpoint connects DataArts Insight to an endpoint service. The status in
// the response is the current one; if the service is ours, its connection list shows
// later ones. See Look for why the endpoint cannot be read back.
func (c *Client) createInsightEndpoint(ctx context.Context, t approval.Target, want *approval.DataArtsInsightEndpoint) (approval.Created, error) {
	const op = "VerifyAndCreateVpcEp"
	var out insightAnswer
	err := c.do(ctx, &call{
		api: APIDataArtsInsight, op: op, method: http.MethodPost,
		path: "/v1/{}/connections/vpc-endpoint", ids: []string{t.ProjectID},
		project: t.ProjectID, workspace: t.WorkspaceID,
		contentType: plainJSON, body: insightEndpoint{want.DSType, want.ServerName, want.ServerID}, effect: nonIdempotent,
		decode: decodeJSON(&out, func(a insightAnswer) bool { return a.ID != "" || a.ClientID != "" }),
	}, nil)
	if err != nil {
		return approval.Created{}, err
	}
	return approval.Created{ID: out.ID, EndpointID: out.ClientID, State: approval.State(out.ClientStatus)}, nil
}
