package cloud

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/vpcep-approver/vpcep-approver/internal/approval"
)

// listKey identifies a connection list.
type listKey struct {
	kind        approval.TargetKind
	project, id string
}

// reader returns the shared reader of the connection list of req's target.
func (c *Client) reader(req *approval.Request) (*connectionReader, error) {
	if req.Creates() {
		return nil, refuse(apiOf(req.Target), "connections", "invalid_request", fmt.Errorf("target %s has no connections", req.Target.Name))
	}
	if err := approval.ValidID(req.EndpointID); err != nil {
		return nil, refuse(apiOf(req.Target), "connections", "invalid_id", err)
	}
	return c.readerOf(req.Target), nil
}

// readerOf returns the shared reader of the connection list of a service or gateway.
func (c *Client) readerOf(t approval.Target) *connectionReader {
	key := listKey{t.Kind, t.ProjectID, t.ID}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.readers[key] == nil {
		read, size := c.pager(t)
		c.readers[key] = newConnectionReader(size, c.hosts[apiOf(t)].limit.perSecond, read, func(err error) error { return c.reportList(t, apiOf(t), "list", err) })
	}
	return c.readers[key]
}

// Connections returns how many connections the latest reads of t's list showed, for
// whatever reason they were made. Nothing is called. A creation place has none.
func (c *Client) Connections(t approval.Target) approval.Connections {
	if t.Kind.Creates() {
		return approval.Connections{}
	}
	return c.readerOf(t).counted()
}

// pager returns the function that reads a page of t's connections, and the maximum
// page size.
func (c *Client) pager(t approval.Target) (read pageReader, size int) {
	if t.Kind == approval.Gateway {
		return func(ctx context.Context, f filter) (page[connection], time.Time, error) {
			return c.gatewayConnections(ctx, t.ProjectID, t.ID, f)
		}, apigPage
	}
	return func(ctx context.Context, f filter) (page[connection], time.Time, error) {
		return c.serviceConnections(ctx, t.ProjectID, t.ID, f)
	}, vpcepPage
}

// reportList reports the result of reading a list of t to the observer. If the list is
// incomplete it returns err as an *Error.
func (c *Client) reportList(t approval.Target, api, op string, err error) error {
	switch {
	case err == nil:
		c.observer.CloudList(t.Name, true)
	case isIncomplete(err):
		c.observer.CloudList(t.Name, false)
		if _, ok := asError(err); !ok {
			err = &Error{API: api, Op: op, Class: ClassRetry, Code: CodeListIncomplete, Text: textIncomplete, Err: err}
		}
	}
	return err
}

// readError returns err as an *Error. The end of a context is retryable.
func (c *Client) readError(req *approval.Request, op string, err error) error {
	if _, ok := asError(err); ok {
		return err
	}
	return &Error{API: apiOf(req.Target), Op: op, Class: ClassRetry, Err: err, notSent: true}
}

// Facts returns the cloud's facts about req's connection, from a read that began after
// the call of Facts. State is Absent if the list does not show the connection. If the
// list contradicts itself, the account is empty. For a creation, only the time is set.
// Facts.Accepted is not set, because it takes the whole list; see Accepted.
func (c *Client) Facts(ctx context.Context, req approval.Request) (approval.Facts, error) {
	if req.Creates() {
		return approval.Facts{ReadAt: time.Now()}, nil
	}
	ctx = forTarget(ctx, req.Target.Name)
	l, err := c.reader(&req)
	if err != nil {
		return approval.Facts{}, err
	}
	l.rows.budget.Credit(factsCredit)
	shown, err := l.read(ctx, req.EndpointID, needFacts)
	if err != nil {
		return approval.Facts{}, c.readError(&req, "facts", err)
	}
	row, _ := shown.row(req.EndpointID)
	f := row.facts()
	f.ReadAt = shown.at
	if !f.State.Known() {
		c.observer.CloudUnknownState(req.Target.Name)
	}
	return f, nil
}

// LatestPending returns what the latest read of req's target showed of its
// connection, also if another request caused that read; ok is false if it was not
// pending, or not read. Nothing is called.
func (c *Client) LatestPending(req approval.Request) (f approval.Facts, ok bool) {
	l, err := c.reader(&req)
	if err != nil {
		return f, false
	}
	seen, ok := l.latestPending(req.EndpointID)
	if !ok {
		return f, false
	}
	f = seen.row.facts()
	f.ReadAt = seen.at
	return f, true
}

// Accepted returns how many connections the account domainID has on t, not counting
// endpointID. They are counted by a read of the whole list that began after the call, or
// by one that took long and has just ended; callers share it. It is a retryable error if the
// list does not show endpointID, or shows it with another account.
func (c *Client) Accepted(ctx context.Context, t approval.Target, domainID, endpointID string) (approval.AccountCount, error) {
	ctx = forTarget(ctx, t.Name)
	req := approval.Request{Target: t, EndpointID: endpointID}
	l, err := c.reader(&req)
	if err != nil {
		return approval.AccountCount{}, err
	}
	l.whole.budget.Credit(factsCredit)
	if latest := l.latestCount(); latest != nil {
		if n, err := latest.of(domainID, endpointID); err == nil {
			return n, nil
		} // the connection may be younger
	}
	shown, err := l.read(ctx, endpointID, needList)
	if err != nil {
		return approval.AccountCount{}, c.readError(&req, "count", err)
	}
	n, err := shown.count.of(domainID, endpointID)
	switch {
	case err == nil:
		return n, nil
	case isIncomplete(err):
		return n, c.reportList(t, apiOf(t), "count", err)
	default:
		return n, c.readError(&req, "count", err)
	}
}

// errNotCountable says that a list does not show the connection in question.
var errNotCountable = errors.New("the list does not show the connection with the expected account, so the connections of the account cannot be counted")

// errContradicted says that a list has two different rows for a connection.
var errContradicted = incomplete("two rows of the connection contradict each other")

// Pending returns all pending connections of t. It reads all pages before it returns,
// because decisions move the rows of later pages. If they moved while it read, Pending
// returns the error and what it has seen. Facts.Accepted is not set.
func (c *Client) Pending(ctx context.Context, t approval.Target) ([]approval.Facts, error) {
	ctx = forTarget(ctx, t.Name)
	if t.Kind.Creates() {
		return nil, refuse(apiOf(t), "pending", "invalid_request", fmt.Errorf("target %s has no connections", t.Name))
	}
	read, size := c.pager(t)
	at := time.Now()
	list, err := collect(ctx, size, func(ctx context.Context, offset int) (page[connection], error) {
		p, _, err := read(ctx, filter{status: approval.Pending, limit: size, offset: offset})
		return p, err
	})
	if err = c.reportList(t, apiOf(t), "pending", err); err != nil {
		err = c.readError(&approval.Request{Target: t}, "pending", err)
	}
	if list == nil {
		return nil, err
	}
	var out []approval.Facts
	filtered := true
	for _, r := range list.rows {
		pending := approval.State(r.Status) == approval.Pending
		filtered = filtered && pending
		if pending && approval.ValidID(r.ID) == nil {
			f := r.facts()
			f.ReadAt = at
			out = append(out, f)
		}
	}
	if err == nil {
		c.readerOf(t).countPending(len(out), filtered, at)
	}
	return out, err
}

// CountAccepted reads how many accepted connections t has, of all accounts, so that
// Connections returns it: the total of a page of one row. It is for people; no decision
// may use it. Call it after Pending, which shows whether the API filters by state.
func (c *Client) CountAccepted(ctx context.Context, t approval.Target) error {
	const op = "count_accepted"
	ctx = forTarget(ctx, t.Name)
	if t.Kind.Creates() {
		return refuse(apiOf(t), op, "invalid_request", fmt.Errorf("target %s has no connections", t.Name))
	}
	l := c.readerOf(t)
	p, at, err := l.readPage(ctx, filter{status: approval.Accepted, limit: 1})
	switch {
	case err != nil:
	case p.total < 0 || len(p.rows) != min(p.total, 1):
		err = incomplete("the total is %d rows, but a page of one row has %d", p.total, len(p.rows))
	case !l.filtersByState() || len(p.rows) == 1 && approval.State(p.rows[0].Status) != approval.Accepted:
		err = incomplete("the list shows other states than the one that was asked for")
	}
	if err != nil {
		return c.readError(&approval.Request{Target: t}, op, err)
	}
	l.countAccepted(p.total, at)
	return nil
}
