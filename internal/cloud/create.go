package cloud

import (
	"context"
	"fmt"

	"github.com/vpcep-approver/vpcep-approver/internal/approval"
)

// Create makes the endpoint of req. It repeats the call only if the cloud certainly did
// not carry it out, and calls approval.Permit before each call. If the OutcomeUnknown of
// the error is true, the caller must call Look before a retry.
func (c *Client) Create(ctx context.Context, req approval.Request) (approval.Created, error) {
	ctx = forTarget(ctx, req.Target.Name)
	t, want := req.Target, req.Creation
	switch {
	case t.Kind == approval.FunctionGraph && want.FunctionGraph != nil:
		return c.createFunctionEndpoint(ctx, t, want.FunctionGraph)
	case t.Kind == approval.HSS && want.HSS != nil:
		return c.createHostEndpoints(ctx, t, want.HSS)
	case t.Kind == approval.DataArtsInsight && want.DataArtsInsight != nil:
		return c.createInsightEndpoint(ctx, t, want.DataArtsInsight)
	}
	return approval.Created{}, noParameters(req, "create")
}

// Look returns the existing endpoints that req's creation could have made, and which of
// them are not in before. If nothing can be read the error wraps ErrNoReadBack. That is
// the case for DataArts Insight: it lists an endpoint only when a data source uses it,
// and the connection list of the service does not tell its endpoints from others.
func (c *Client) Look(ctx context.Context, req approval.Request, before []string) (approval.Look, error) {
	ctx = forTarget(ctx, req.Target.Name)
	t, want := req.Target, req.Creation
	switch {
	case t.Kind == approval.FunctionGraph && want.FunctionGraph != nil:
		return c.lookFunctionEndpoint(ctx, t, want.FunctionGraph, before)
	case t.Kind == approval.HSS && want.HSS != nil:
		return c.lookHostEndpoints(ctx, t, want.HSS, before)
	case t.Kind == approval.DataArtsInsight && want.DataArtsInsight != nil:
		return approval.Look{}, refuse(APIDataArtsInsight, "look", "no_read_back", ErrNoReadBack)
	}
	return approval.Look{}, noParameters(req, "look")
}

func noParameters(req approval.Request, op string) error {
	return refuse(apiOf(req.Target), op, "invalid_request",
		fmt.Errorf("the parameters are not those of target %s of kind %s", req.Target.Name, req.Target.Kind))
}
