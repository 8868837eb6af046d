package cloud

import (
	"context"
	"errors"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/vpcep-approver/vpcep-approver/internal/approval"
)

// call describes one call of an API.
type call struct {
	api, op     string // op is the name in the API reference
	method      string
	path        string   // "{}" stands for an id
	ids         []string // of path
	query       url.Values
	project     string // X-Project-Id
	workspace   string // X-Workspace-Id
	contentType string
	body        any // nil: no body
	effect      effect
	names       nameSource
	anonymous   bool      // needs no credential
	optional    bool      // a refusal is not reported as an operator fault
	sent        time.Time // when the latest attempt was sent; the wait for its turn is over then
	// decode reads the response to a status of 2xx. An error means that the response
	// is not one of this API.
	decode func(header http.Header, body []byte) error
}

// do makes a call with authentication, limits and retries. done may be nil, see
// repeat. Every error is an *Error.
func (c *Client) do(ctx context.Context, call *call, done func(context.Context) (bool, error)) error {
	path, err := pathOf(call.path, call.ids)
	if err != nil {
		return refuse(call.api, call.op, "invalid_id", err)
	}
	call.path = path
	var body []byte
	if call.body != nil {
		if body, err = encode(call.body); err != nil {
			return refuse(call.api, call.op, "invalid_request", err)
		}
	}
	return c.repeat(ctx, call, done, func(ctx context.Context) error {
		err := c.attempt(ctx, call, body, false)
		if errors.Is(err, errRenewed) {
			err = c.attempt(ctx, call, body, true)
		}
		return err
	})
}

// pathOf replaces each "{}" of pattern by an id. It refuses invalid ids, because events can
// contain anything.
func pathOf(pattern string, ids []string) (string, error) {
	for _, id := range ids {
		if err := approval.ValidID(id); err != nil {
			return "", err
		}
		pattern = strings.Replace(pattern, "{}", id, 1)
	}
	return pattern, nil
}

// errRenewed asks for the same call with the current credential.
var errRenewed = errors.New("the credential was renewed")

// attempt makes a call once. second says that the previous attempt was refused for
// its credential.
func (c *Client) attempt(ctx context.Context, call *call, body []byte, second bool) error {
	host := c.hosts[call.api]
	p, report, refused := c.begin(ctx, host, call)
	if refused != nil {
		if refused.Class == ClassCredentials {
			c.faults.keep(call.api, targetOf(ctx))
		}
		return refused
	}
	call.sent = time.Now()
	host.limit.sent(call.sent)
	e := c.traced(ctx, host, call, body, p)
	if e != nil {
		e.Target = targetOf(ctx)
	}
	host.limit.release()
	report(breakerResult(ctx, e))
	return c.finish(ctx, host, call, p, e, second)
}

// traced is send within a span. No trace context is sent: it is nothing to the cloud.
func (c *Client) traced(ctx context.Context, host *host, call *call, body []byte, p *permit) *Error {
	if c.trace == nil {
		return c.send(ctx, host, call, body, p)
	}
	ctx, end := c.trace(ctx, call.api, call.op)
	e := c.send(ctx, host, call, body, p)
	if e == nil {
		end(http.StatusOK, string(ClassOK), true)
	} else {
		end(e.Status, string(e.Class), false)
	}
	return e
}

// begin waits for the turn of a call and asks whether it may be made. report tells the
// breaker its result.
func (c *Client) begin(ctx context.Context, host *host, call *call) (p *permit, report func(error), refused *Error) {
	p, err := c.admit(ctx, host, call)
	if err != nil {
		return nil, nil, notSent(ctx, call, err)
	}
	report, err = host.breaker.allow()
	if err != nil {
		host.limit.releaseUnused()
		c.release(call, p)
		return nil, nil, notSent(ctx, call, err)
	}
	if call.effect != safe {
		if err := approval.Permit(ctx); err != nil {
			host.limit.releaseUnused()
			report(errInconclusive)
			c.release(call, p)
			return nil, nil, notPermitted(call, err)
		}
	}
	return p, report, nil
}

// finish draws the conclusions from the answer to a call: e, nil if it was a success. It
// is a function of its own because attempt's stack is held for as long as the call takes.
func (c *Client) finish(ctx context.Context, host *host, call *call, p *permit, e *Error, second bool) error {
	start, class := call.sent, ClassOK
	if e != nil {
		class = e.Class
	}
	c.observer.CloudCall(call.api, call.op, string(class), time.Since(start))
	if e == nil || e.Class != ClassThrottle && e.Status != 0 {
		host.limit.succeeded()
	}
	switch {
	case e == nil:
	case e.Class == ClassThrottle:
		e.Wait = host.limit.throttled(start, e.Wait)
	case e.Wait > 0:
		host.limit.pauseFor(e.Wait)
	}
	refused := e != nil && e.Class == ClassCredentials
	switch {
	case call.anonymous:
	case e == nil || e.authenticated:
		c.auth.accept(p)
	case !refused:
		c.auth.release(p)
	default:
		if err := c.auth.refuse(p, e, second); err == nil {
			return errRenewed
		}
	}
	if e == nil {
		c.faults.resolve(call.api, call.op, targetOf(ctx), start)
		return nil
	}
	switch {
	case e.Class == ClassOperator && call.optional:
	case refused || e.Class == ClassOperator:
		c.faults.report(e, start)
	case e.authenticated && e.Class != ClassGone: // which can also mean an unknown service
		c.faults.resolve(call.api, call.op, e.Target, start)
	}
	return e
}

// provesCredential reports whether a response of this class can only come from an API
// that has accepted the credential. Gateways throttle and fail before they check it,
// and do not know some paths.
func provesCredential(class Class, said errorBody) bool {
	switch class {
	case ClassFinal, ClassGone, ClassAlreadyDone, ClassSlow, ClassOperator:
		return said.shaped && !strings.HasPrefix(normal(said.code), "APIGW.")
	default:
		return false
	}
}

type targetKey struct{}

// forTarget sets the name of the target of the calls made with ctx.
func forTarget(ctx context.Context, target string) context.Context {
	return context.WithValue(ctx, targetKey{}, target)
}

func targetOf(ctx context.Context) string {
	name, _ := ctx.Value(targetKey{}).(string)
	return name
}

// admit waits for the credential and for the limits of the host.
func (c *Client) admit(ctx context.Context, host *host, call *call) (*permit, error) {
	for {
		if err := host.breaker.check(); err != nil {
			return nil, err
		}
		p := &permit{}
		if !call.anonymous {
			var err error
			if p, err = c.auth.acquire(ctx, scope{call.api, call.project}); err != nil {
				return nil, err
			}
		}
		if err := host.limit.acquire(ctx, laneOf(ctx, call.effect), call.effect != safe && !p.probesKey); err != nil {
			c.release(call, p)
			return nil, err
		}
		if call.anonymous || c.auth.valid(p) {
			return p, nil
		}
		host.limit.releaseUnused()
		c.release(call, p)
	}
}

func (c *Client) release(call *call, p *permit) {
	if !call.anonymous {
		c.auth.release(p)
	}
}

// notSent returns the error for a call that was not made because of err, which may
// come from another call, such as the one for a token.
func notSent(ctx context.Context, call *call, err error) *Error {
	e := call.failed(ClassRetry, "not sent", err)
	if cause, ok := asError(err); ok {
		*e = *cause
		e.changes = call.effect != safe
	}
	if e.Op == "" {
		e.Op = call.op
	}
	if e.Target == "" {
		e.Target = targetOf(ctx)
	}
	e.notSent = true
	return e
}

// notPermitted returns the error for a call that approval.Permit refused. The caller
// decides about a retry.
func notPermitted(call *call, err error) *Error {
	e := call.failed(ClassRetry, "not permitted", err)
	e.notSent, e.notPermitted = true, true
	return e
}
