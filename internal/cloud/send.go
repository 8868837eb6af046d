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
	"strconv"
	"strings"
	"time"

	strict "github.com/go-json-experiment/json"
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

// send sends one request and classifies the response.
func (c *Client) send(ctx context.Context, host *host, call *call, body []byte, p *permit) *Error {
	ctx, cancel := context.WithTimeout(ctx, CallTimeout)
	defer cancel()
	r, err := c.request(ctx, host, call, body, p)
	if err != nil {
		return refuse(call.api, call.op, "invalid_request", err)
	}
	res, err := c.http.RoundTrip(r)
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
func (c *Client) request(ctx context.Context, host *host, call *call, body []byte, p *permit) (*http.Request, error) {
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
