// Package openapitest checks HTTP traffic in tests against the OpenAPI documents.
package openapitest

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"net/http"
	"strings"
	"testing"

	"github.com/getkin/kin-openapi/openapi3"
	"github.com/getkin/kin-openapi/openapi3filter"
	"github.com/getkin/kin-openapi/routers"
	"github.com/getkin/kin-openapi/routers/legacy"

	"github.com/vpcep-approver/vpcep-approver/internal/cloud/openapi"
)

// Header marks a response that a fault made, which is not checked.
const Header = "X-Sim-Fault"

// Documents is the set of loaded documents. It is safe for concurrent use.
type Documents struct {
	routers []routers.Router
}

// Load loads and validates the documents.
func Load() (*Documents, error) {
	names, err := fs.Glob(openapi.Documents(), "*.yaml")
	if err != nil {
		return nil, err
	}
	var out Documents
	for _, name := range names {
		text, err := fs.ReadFile(openapi.Documents(), name)
		if err != nil {
			return nil, err
		}
		doc, err := openapi3.NewLoader().LoadFromData(text)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", name, err)
		}
		doc.Servers = nil // all APIs are behind one host in tests
		router, err := legacy.NewRouter(doc, openapi3.IsOpenAPI31OrLater())
		if err != nil {
			return nil, fmt.Errorf("%s: %w", name, err)
		}
		out.routers = append(out.routers, router)
	}
	return &out, nil
}

// Exchange is a request that matches a document.
type Exchange struct {
	input *openapi3filter.RequestValidationInput
}

// CheckRequest checks r and its body against the document.
func (d *Documents) CheckRequest(r *http.Request, body []byte) (*Exchange, error) {
	for _, router := range d.routers {
		route, path, err := router.FindRoute(r)
		if err != nil {
			continue
		}
		clone := r.Clone(r.Context())
		clone.Body = io.NopCloser(bytes.NewReader(body))
		x := &Exchange{input: &openapi3filter.RequestValidationInput{
			Request: clone, PathParams: path, Route: route,
			Options: &openapi3filter.Options{
				MultiError: true, IncludeResponseStatus: true, RejectWhenRequestBodyNotSpecified: true, SkipSettingDefaults: true,
				AuthenticationFunc: openapi3filter.NoopAuthenticationFunc,
			},
		}}
		if err := openapi3filter.ValidateRequest(clone.Context(), x.input); err != nil {
			return x, fmt.Errorf("%s: %w", route.Operation.OperationID, err)
		}
		return x, x.checkQuery()
	}
	return nil, fmt.Errorf("%s %s is in no document", r.Method, r.URL.Path)
}

// checkQuery returns an error for query parameters that are not documented.
func (x *Exchange) checkQuery() error {
	var unknown []error
	for name := range x.input.Request.URL.Query() {
		known := false
		for _, p := range append(x.input.Route.PathItem.Parameters, x.input.Route.Operation.Parameters...) {
			known = known || p.Value.In == openapi3.ParameterInQuery && p.Value.Name == name
		}
		if !known {
			unknown = append(unknown, fmt.Errorf("%s: the query parameter %q is not in the document", x.input.Route.Operation.OperationID, name))
		}
	}
	return errors.Join(unknown...)
}

// CheckAnswer checks a response against the document.
func (x *Exchange) CheckAnswer(status int, header http.Header, body []byte) error {
	input := &openapi3filter.ResponseValidationInput{RequestValidationInput: x.input, Status: status, Header: header, Options: x.input.Options}
	input.SetBodyBytes(body)
	op := x.input.Route.Operation
	if err := openapi3filter.ValidateResponse(x.input.Request.Context(), input); err != nil {
		return fmt.Errorf("%s: %d: %w", op.OperationID, status, err)
	}
	said := op.Responses.Status(status)
	if said != nil && said.Value != nil && len(said.Value.Content) == 0 && len(body) > 0 {
		return fmt.Errorf("%s: %d: a body where the document has none: %.200q", op.OperationID, status, body)
	}
	return nil
}

// Validate returns h with a check of each request and each response against the
// documents; t fails with the difference. It does not check the admin API of the simulator
// and the responses of its faults.
func Validate(t testing.TB, h http.Handler) http.Handler {
	t.Helper()
	documents, err := Load()
	if err != nil {
		t.Fatalf("OpenAPI documents: %v", err)
	}
	return documents.Validate(t, h)
}

// Validate is as the function Validate, with documents that are already loaded. Loading
// is slow, so tests share them.
func (d *Documents) Validate(t testing.TB, h http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if strings.HasPrefix(r.URL.Path, "/_sim/") {
			h.ServeHTTP(w, r)
			return
		}
		body, err := io.ReadAll(r.Body)
		if err != nil {
			return // the client has gone in the middle of its request
		}
		r.Body = io.NopCloser(bytes.NewReader(body))
		exchange, err := d.CheckRequest(r, body)
		if err != nil {
			t.Errorf("%s %s: request: %v\nbody: %s", r.Method, r.URL, err, body)
		}
		rec := &recorder{ResponseWriter: w, status: http.StatusOK}
		h.ServeHTTP(rec, r)
		if rec.taken {
			return
		}
		if exchange != nil && w.Header().Get(Header) == "" {
			if err := exchange.CheckAnswer(rec.status, w.Header(), rec.body.Bytes()); err != nil {
				t.Errorf("%s %s: answer: %v\nbody: %s", r.Method, r.URL, err, rec.body.Bytes())
			}
		}
		w.WriteHeader(rec.status)
		_, _ = w.Write(rec.body.Bytes()) // a client that has gone hears nothing
	})
}

// recorder buffers the response until it is checked, so that the client cannot end the
// test before.
type recorder struct {
	http.ResponseWriter
	status int
	body   bytes.Buffer
	taken  bool // the connection was hijacked: there is no response
}

func (r *recorder) WriteHeader(status int) { r.status = status }

func (r *recorder) Write(p []byte) (int, error) { return r.body.Write(p) }

// Hijack lets http.ResponseController hijack the connection.
func (r *recorder) Hijack() (net.Conn, *bufio.ReadWriter, error) {
	conn, rw, err := http.NewResponseController(r.ResponseWriter).Hijack()
	r.taken = err == nil
	return conn, rw, err
}
