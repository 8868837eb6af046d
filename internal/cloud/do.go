package cloud

import (
	"bytes"
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"io"
	"net"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	strict "github.com/go-json-experiment/json"

	"github.com/vpcep-approver/vpcep-approver/internal/approval"
)

// CallTimeout limits one attempt of a call, up to the last byte of the response.
const CallTimeout = 30 * time.Second

const (
	maxResponse = 8 << 20 // bytes
	// foreign401Wait is the pause of a host after a 401 that has not the form of an API
	// error. A proxy may have sent it, but if the API did, repeats would lock the key.
	foreign401Wait = 5 * time.Second
	plainJSON      = "application/json"
	utf8JSON       = "application/json;charset=UTF-8"
	userAgent      = "vpcep-approver"
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
	anonymous   bool // needs no credential
	optional    bool // a refusal is not reported as an operator fault
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
	p, err := c.admit(ctx, host, call)
	if err != nil {
		return notSent(ctx, call, err)
	}
	report, err := host.breaker.allow()
	if err != nil {
		host.limit.release()
		c.release(call, p)
		return notSent(ctx, call, err)
	}
	if call.effect != safe {
		if err := approval.Permit(ctx); err != nil {
			host.limit.release()
			report(errInconclusive)
			c.release(call, p)
			return notPermitted(call, err)
		}
	}
	start := time.Now()
	e := c.send(ctx, host, call, body, p)
	if e != nil {
		e.Target = targetOf(ctx)
	}
	host.limit.release()
	report(breakerResult(ctx, e))

	class := ClassOK
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
		c.faults.resolve(call.api, call.op, targetOf(ctx))
		return nil
	}
	switch {
	case e.Class == ClassOperator && call.optional:
	case refused || e.Class == ClassOperator:
		c.faults.report(e)
	case e.authenticated && e.Class != ClassGone: // which can also mean an unknown service
		c.faults.resolve(call.api, call.op, e.Target)
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
func (c *Client) admit(ctx context.Context, host *host, call *call) (permit, error) {
	for {
		if err := host.breaker.check(); err != nil {
			return permit{}, err
		}
		var p permit
		if !call.anonymous {
			var err error
			if p, err = c.auth.acquire(ctx, scope{call.api, call.project}); err != nil {
				return permit{}, err
			}
		}
		if err := host.limit.acquire(ctx, call.effect != safe && !p.probesKey); err != nil {
			c.release(call, p)
			return permit{}, err
		}
		if call.anonymous || c.auth.valid(p) {
			return p, nil
		}
		host.limit.release()
		c.release(call, p)
	}
}

func (c *Client) release(call *call, p permit) {
	if !call.anonymous {
		c.auth.release(p)
	}
}

// send sends one request and classifies the response.
func (c *Client) send(ctx context.Context, host *host, call *call, body []byte, p permit) *Error {
	ctx, cancel := context.WithTimeout(ctx, CallTimeout)
	defer cancel()
	r, err := c.request(ctx, host, call, body, p)
	if err != nil {
		return refuse(call.api, call.op, "invalid_request", err)
	}
	res, err := c.http.Do(r)
	if err != nil {
		return noResponse(call, err)
	}
	defer func() { _ = res.Body.Close() }() // the body is read or given up, so the error does not matter
	data, err := io.ReadAll(io.LimitReader(res.Body, maxResponse+1))
	switch {
	case err != nil:
		return call.failed(call.unknown(), "the response is truncated", err)
	case res.StatusCode < 200 || res.StatusCode > 299 || len(data) > maxResponse:
		return c.refused(call, res, data)
	}
	err = call.decode(res.Header, data)
	if res.StatusCode == http.StatusPartialContent {
		err = incomplete("the response is partial")
	}
	if err != nil {
		e := c.refused(call, res, nil)
		e.Class, e.Text, e.Err = call.unknown(), "the response is not from the API; check for a firewall or proxy in between", err
		if isIncomplete(err) && call.effect == safe {
			e.Code, e.Text, e.authenticated = CodeListIncomplete, textIncomplete, true
		}
		return e
	}
	return nil
}

// request builds the HTTP request.
func (c *Client) request(ctx context.Context, host *host, call *call, body []byte, p permit) (*http.Request, error) {
	u := *host.base
	u.Path = strings.TrimSuffix(u.Path, "/") + call.path
	u.RawPath = ""
	u.RawQuery = call.query.Encode()
	var reader io.Reader
	if body != nil {
		reader = bytes.NewReader(body)
	}
	r, err := http.NewRequestWithContext(ctx, call.method, u.String(), reader)
	if err != nil {
		return nil, err
	}
	r.Header.Set("User-Agent", userAgent)
	r.Header.Set("Content-Type", call.contentType)
	if call.project != "" {
		r.Header.Set("X-Project-Id", call.project)
	}
	if call.workspace != "" {
		r.Header.Set("X-Workspace-Id", call.workspace)
	}
	switch {
	case call.anonymous:
	case c.auth.mode == ModeAKSK:
		sign(r, body, p.cred, time.Now())
	default:
		r.Header.Set("X-Auth-Token", p.token)
	}
	return r, nil
}

// refused returns the error for a response that is not a success.
func (c *Client) refused(call *call, res *http.Response, data []byte) *Error {
	said := parseErrorBody(data)
	e := &Error{API: call.api, Op: call.op, Status: res.StatusCode, Code: said.code, changes: call.effect != safe}
	e.Class, e.Text = c.codes.classify(call.names, res.StatusCode, said)
	if e.Class == ClassUnknown {
		e.Class = call.unknown()
	}
	e.authenticated = provesCredential(e.Class, said)
	e.refusesKey = e.Class == ClassCredentials && refusesKey(c.auth.mode, said.code)
	for _, id := range []string{res.Header.Get("X-Request-Id"), res.Header.Get("X-IAM-Trace-Id"), said.requestID} {
		if e.RequestID == "" {
			e.RequestID = plain(id)
		}
	}
	e.Wait = retryAfter(res.Header.Get("Retry-After"), time.Now())
	if res.StatusCode == http.StatusUnauthorized && !said.shaped && e.Wait == 0 {
		e.Wait = foreign401Wait
	}
	return e
}

// noResponse returns the error for a call without a response.
func noResponse(call *call, err error) *Error {
	if u, ok := errors.AsType[*url.Error](err); ok {
		err = u.Err // without the URL, which is long
	}
	if !wasNotSent(err) {
		return call.failed(call.unknown(), "no response", err)
	}
	e := call.failed(ClassRetry, "the API cannot be reached", err)
	e.notSent = true
	return e
}

// failed returns the error for a call without a complete response.
func (c *call) failed(class Class, text string, err error) *Error {
	return &Error{API: c.api, Op: c.op, Class: class, Text: text, Err: err, changes: c.effect != safe}
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

// unknown is the class of a call whose outcome is not known.
func (c *call) unknown() Class {
	if c.effect == safe {
		return ClassRetry
	}
	return ClassUnknown
}

// wasNotSent reports whether err occurred before anything was sent.
func wasNotSent(err error) bool {
	if op, ok := errors.AsType[*net.OpError](err); ok && (op.Op == "dial" || op.Op == "proxyconnect") {
		return true
	}
	if _, ok := errors.AsType[*net.DNSError](err); ok {
		return true
	}
	if _, ok := errors.AsType[*tls.CertificateVerificationError](err); ok {
		return true
	}
	_, ok := errors.AsType[tls.RecordHeaderError](err)
	return ok
}

// retryAfter parses the header Retry-After, in seconds or as a date. It returns 0 if
// that fails.
func retryAfter(value string, now time.Time) time.Duration {
	value = strings.TrimSpace(value)
	if n, err := strconv.Atoi(value); err == nil {
		return time.Duration(min(max(n, 0), int(maxRetryAfter.Seconds()))) * time.Second
	}
	if at, err := http.ParseTime(value); err == nil {
		return min(max(0, at.Sub(now)), maxRetryAfter)
	}
	return 0
}

// encode writes JSON as the cloud's SDK does, with a newline at the end.
func encode(v any) ([]byte, error) {
	var b bytes.Buffer
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false)
	if err := enc.Encode(v); err != nil {
		return nil, err
	}
	return b.Bytes(), nil
}

// decodeJSON returns a decode function that reads JSON strictly into out. ok reports
// whether the required members are present.
func decodeJSON[T any](out *T, ok func(T) bool) func(http.Header, []byte) error {
	return func(_ http.Header, body []byte) error {
		*out = *new(T) // clear the result of an earlier attempt
		if err := strict.Unmarshal(body, out); err != nil {
			return errUnexpectedJSON
		}
		if !ok(*out) {
			return errors.New("required members are missing")
		}
		return nil
	}
}
