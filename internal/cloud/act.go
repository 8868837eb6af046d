package cloud

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/vpcep-approver/vpcep-approver/internal/approval"
)

// Act accepts or rejects req's connection, through VPCEP or, for a gateway whose endpoint
// service is not ours, through APIG. nil means that the cloud accepted the call or that
// the list shows the result; Await waits for the result. After a lost response Act reads
// the list, and repeats the call only if the connection is still pending. It calls
// approval.Permit before each call, including repeats.
func (c *Client) Act(ctx context.Context, req *approval.Request, v approval.Verdict) error {
	ctx = forTarget(ctx, req.Target.Name)
	l, err := c.reader(req)
	if err != nil {
		return err
	}
	t := &req.Target
	if !v.Acts() {
		return refuse(apiOf(*t), "act", "invalid_request", fmt.Errorf("the verdict %q requires no call", v))
	}
	done := func(ctx context.Context) (bool, error) {
		return c.tookEffect(ctx, l, req, v)
	}
	id := approval.UUID(req.EndpointID)
	defer l.act(id)()
	switch {
	case t.Kind == approval.Gateway && t.ServiceID == "":
		err = c.actGateway(ctx, t.ProjectID, t.ID, id, v, done)
	case t.Kind == approval.Gateway:
		err = c.actService(ctx, t.ProjectID, t.ServiceID, id, v, done)
	default:
		err = c.actService(ctx, t.ProjectID, t.ID, id, v, done)
	}
	e, _ := asError(err)
	switch {
	case e == nil:
		l.rows.budget.Credit(actCredit)
	case e.Class == ClassAlreadyDone:
		if ok, _ := done(ctx); ok { // else the list may be stale; the caller retries
			return nil
		}
	case e.Class == ClassGone && e.Code != "" && normal(e.Code) == codeNotFound:
		return c.notFound(ctx, l, req, e)
	}
	return err
}

// tookEffect reports whether the list shows the result of v. It is an error if the
// connection is neither that nor pending.
func (c *Client) tookEffect(ctx context.Context, l *connectionReader, req *approval.Request, v approval.Verdict) (bool, error) {
	shown, err := l.read(ctx, req.EndpointID, needState)
	if err != nil {
		return false, c.readError(req, "act", err)
	}
	row, _ := shown.row(req.EndpointID)
	switch state := approval.State(row.Status); {
	case row.contradicted:
		return false, c.reportList(req.Target, apiOf(req.Target), "act", errContradicted)
	case tookEffect(v, state):
		return true, nil
	case state == approval.Pending:
		return false, nil
	default:
		return false, errNotPending
	}
}

// codeNotFound means that the endpoint or its service was not found.
const codeNotFound = "ENDPOINT.0005"

// notFound returns the error for a decision that failed with e and codeNotFound. The
// endpoint is gone if the list does not show it. Otherwise the service is missing, whose
// id is in the configuration.
func (c *Client) notFound(ctx context.Context, l *connectionReader, req *approval.Request, e *Error) error {
	shown, err := l.read(ctx, req.EndpointID, needState)
	if err != nil {
		return c.readError(req, "act", err)
	}
	row, there := shown.row(req.EndpointID)
	if !there || approval.State(row.Status) == approval.Deleting {
		return e
	}
	fault := *e
	fault.Class, fault.Text = ClassOperator, "the API does not know the endpoint service, but the target's list shows the connection; check the target's id or service_id, and its project"
	c.faults.report(&fault, time.Now())
	return &fault
}

// errNotPending stops the repeats of a decision.
var errNotPending = errors.New("the connection is no longer pending")

// tookEffect reports whether s is the result of v on a pending connection.
func tookEffect(v approval.Verdict, s approval.State) bool {
	return s == v.Goal() || v == approval.Accept && s == approval.Creating
}
