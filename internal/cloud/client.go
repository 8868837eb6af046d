// Package cloud is a client for the APIs of Huawei Cloud: it reads connection lists,
// accepts and rejects connections, waits for their states, and creates endpoints.
//
// The client repeats a call for about 20 s where that is safe and can help. Then the
// call fails with an *Error that says whether and when to retry. The calls to one API
// host share a rate limit, a concurrency limit and a circuit breaker. All calls share
// one credential, which is not used any more once it is refused.
package cloud

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"math"
	"net"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/vpcep-approver/vpcep-approver/internal/approval"
)

// The names of the APIs, which are also the names of their hosts.
const (
	APIVPCEP           = "vpcep"
	APIAPIG            = "apig"
	APIFunctionGraph   = "functiongraph"
	APIHSS             = "hss"
	APIDataArtsInsight = "dataartsinsight"
	APIIAM             = "iam"
)

// APIs returns the names of all APIs.
func APIs() []string {
	return []string{APIVPCEP, APIAPIG, APIFunctionGraph, APIHSS, APIDataArtsInsight, APIIAM}
}

const (
	defaultRate        = 10 // calls a second
	defaultConcurrency = 64
)

// Config configures a Client.
type Config struct {
	Region        string
	Endpoints     map[string]string // base URL by API name; default https://{api}.{region}.myhuaweicloud.com
	Auth          Auth
	RatePerSecond float64            // calls to each API host; 0: 10
	Rates         map[string]float64 // calls per second by API name; default RatePerSecond
	Concurrency   int                // concurrent calls to each API host; 0: 64
	Transport     http.RoundTripper  // nil: like http.DefaultTransport, with timeouts
	Observer      Observer           // nil: none
	Targets       approval.Targets
	AllowHTTP     bool // allow http endpoints on other hosts, which is unsafe
}

// Observer receives the events of a Client. api, operation, class, state and target
// have few fixed values. The methods must return immediately, must not call the Client,
// and must be safe for concurrent use.
type Observer interface {
	CloudCall(api, operation, class string, took time.Duration)
	CloudRetry(api, operation, class string)
	CloudThrottled(api string, wait time.Duration)
	CloudInFlight(api string, delta int)
	CloudBreaker(api, state string) // closed, open or half-open
	CloudUnknownState(target string)
	CloudList(target string, complete bool) // for each read of a list; see CodeListIncomplete
	// CredentialState reports the state of the credential: unverified, ok, or refused,
	// which stops all calls because of refusal. expires is zero if unknown.
	CredentialState(state string, expires time.Time, refusal *Error)
	// OperatorFault reports each refusal that only the operator can fix.
	// OperatorFaultOver reports that the API works for the target again, or that its
	// faults have not occurred for long.
	OperatorFault(target string, fault approval.OperatorFault)
	OperatorFaultOver(api, target string)
}

// Client calls the APIs. It is safe for concurrent use.
type Client struct {
	region   string
	hosts    map[string]*host
	auth     *auth
	http     *http.Client
	codes    codeTable
	observer Observer
	faults   *faults
	targets  approval.Targets

	mu      sync.Mutex
	readers map[listKey]*connectionReader
}

// host is one API host.
type host struct {
	base      *url.URL
	limit     *limit
	perSecond float64
	breaker   *breaker
}

// listKey identifies a connection list.
type listKey struct {
	kind        approval.TargetKind
	project, id string
}

// New checks cfg, reads the credential and returns a client. It makes no call.
func New(cfg Config) (*Client, error) {
	if cfg.RatePerSecond == 0 {
		cfg.RatePerSecond = defaultRate
	}
	if !validRate(cfg.RatePerSecond) {
		return nil, fmt.Errorf("cloud: invalid rate of %v calls per second", cfg.RatePerSecond)
	}
	for name, rate := range cfg.Rates {
		if !slices.Contains(APIs(), name) {
			return nil, fmt.Errorf("cloud: rate of %q: unknown API; the APIs are %s", name, strings.Join(APIs(), ", "))
		}
		if !validRate(rate) {
			return nil, fmt.Errorf("cloud: rate of %s: invalid rate of %v calls per second", name, rate)
		}
	}
	if cfg.Concurrency == 0 {
		cfg.Concurrency = defaultConcurrency
	}
	if cfg.Concurrency < 0 {
		return nil, fmt.Errorf("cloud: invalid concurrency limit %d", cfg.Concurrency)
	}
	if cfg.Observer == nil {
		cfg.Observer = noopObserver{}
	}
	if cfg.Transport == nil {
		cfg.Transport = transport(cfg.Concurrency)
	}
	if err := checkTargets(cfg); err != nil {
		return nil, fmt.Errorf("cloud: %w", err)
	}
	codes, err := newCodeTable(errorCodes())
	if err != nil {
		return nil, fmt.Errorf("cloud: %w", err)
	}
	c := &Client{
		region: cfg.Region, hosts: map[string]*host{}, codes: codes, observer: cfg.Observer, faults: newFaults(cfg.Observer), targets: cfg.Targets,
		readers: map[listKey]*connectionReader{},
		http: &http.Client{
			Transport:     cfg.Transport,
			CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
		},
	}
	for name := range cfg.Endpoints {
		if !slices.Contains(APIs(), name) {
			return nil, fmt.Errorf("cloud: endpoint of %q: unknown API; the APIs are %s", name, strings.Join(APIs(), ", "))
		}
	}
	for _, api := range APIs() {
		base, err := baseURL(cfg, api)
		if err != nil {
			return nil, fmt.Errorf("cloud: endpoint of %s: %w", api, err)
		}
		perSecond, own := cfg.Rates[api]
		if !own {
			perSecond = cfg.RatePerSecond
		}
		c.hosts[api] = &host{
			base: base, breaker: newBreaker(api, cfg.Observer),
			limit: newLimit(api, perSecond, cfg.Concurrency, cfg.Observer), perSecond: perSecond,
		}
	}
	if c.auth, err = newAuth(cfg.Auth, c.iamToken, cfg.Observer); err != nil {
		return nil, fmt.Errorf("cloud: authentication: %w", err)
	}
	return c, nil
}

func validRate(perSecond float64) bool {
	return perSecond > 0 && !math.IsInf(perSecond, 0)
}

// checkTargets checks the ids of the targets, which go into URLs.
func checkTargets(cfg Config) error {
	for _, t := range cfg.Targets {
		ids := []string{t.ProjectID}
		if !t.Kind.Creates() {
			ids = append(ids, t.ID)
		}
		if t.ServiceID != "" {
			ids = append(ids, t.ServiceID)
		}
		for _, id := range ids {
			if err := approval.ValidID(id); err != nil {
				return fmt.Errorf("target %s: %w", t.Name, err)
			}
		}
		if err := approval.ValidEnterpriseProject(t.EnterpriseProjectID); err != nil {
			return fmt.Errorf("target %s: %w", t.Name, err)
		}
		if t.Region != "" && cfg.Region != "" && t.Region != cfg.Region {
			return fmt.Errorf("target %s is in region %s, but the client is for %s", t.Name, t.Region, cfg.Region)
		}
	}
	return nil
}

// baseURL returns the base URL of an API.
func baseURL(cfg Config, api string) (*url.URL, error) {
	text, given := cfg.Endpoints[api]
	if !given || text == "" {
		if cfg.Region == "" || strings.Trim(cfg.Region, "abcdefghijklmnopqrstuvwxyz0123456789-") != "" {
			return nil, fmt.Errorf("invalid region %q", cfg.Region)
		}
		domain := "myhuaweicloud.com"
		if cfg.Region == "eu-west-101" {
			domain = "myhuaweicloud.eu"
		}
		text = "https://" + api + "." + cfg.Region + "." + domain
	}
	u, err := url.Parse(text)
	switch {
	case err != nil:
		return nil, errors.New("invalid URL")
	case u.Host == "" || u.User != nil || u.RawQuery != "" || u.Fragment != "":
		return nil, errors.New("must have the form https://host or https://host/path")
	case u.Scheme == "https", u.Scheme == "http" && (cfg.AllowHTTP || loopback(u.Hostname())):
		return u, nil
	case u.Scheme == "http":
		return nil, errors.New("http is only allowed for this machine; use https")
	}
	return nil, fmt.Errorf("scheme %q; use https", u.Scheme)
}

func loopback(name string) bool {
	ip := net.ParseIP(name)
	return name == "localhost" || ip != nil && ip.IsLoopback()
}

// transport is like http.DefaultTransport, with timeouts and an idle connection for
// each concurrent call.
func transport(concurrency int) http.RoundTripper {
	return &http.Transport{
		Proxy:       http.ProxyFromEnvironment,
		DialContext: (&net.Dialer{Timeout: 10 * time.Second, KeepAlive: 30 * time.Second}).DialContext,
		TLSClientConfig: &tls.Config{
			MinVersion:         tls.VersionTLS12,
			ClientSessionCache: tls.NewLRUClientSessionCache(0), // makes many connections to one host cheaper
		},
		TLSHandshakeTimeout:   10 * time.Second,
		ForceAttemptHTTP2:     true,
		MaxIdleConnsPerHost:   concurrency,
		IdleConnTimeout:       90 * time.Second,
		ResponseHeaderTimeout: CallTimeout,
		// Nearly all messages are shorter.
		WriteBufferSize: 1 << 10,
		ReadBufferSize:  1 << 10,
	}
}

// reader returns the shared reader of the connection list of req's target.
func (c *Client) reader(req *approval.Request) (*connectionReader, error) {
	if req.Creates() {
		return nil, refuse(apiOf(req.Target), "connections", "invalid_request", fmt.Errorf("target %s has no connections", req.Target.Name))
	}
	if err := approval.ValidID(req.EndpointID); err != nil {
		return nil, refuse(apiOf(req.Target), "connections", "invalid_id", err)
	}
	t := req.Target
	key := listKey{t.Kind, t.ProjectID, t.ID}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.readers[key] == nil {
		read, size := c.pager(t)
		c.readers[key] = newConnectionReader(size, c.hosts[apiOf(t)].perSecond, read, func(err error) error { return c.reportList(t, apiOf(t), "list", err) })
	}
	return c.readers[key], nil
}

// pager returns the function that reads a page of t's connections, and the maximum
// page size.
func (c *Client) pager(t approval.Target) (read func(context.Context, filter) (page[connection], error), size int) {
	if t.Kind == approval.Gateway {
		return func(ctx context.Context, f filter) (page[connection], error) {
			return c.gatewayConnections(ctx, t.ProjectID, t.ID, f)
		}, apigPage
	}
	return func(ctx context.Context, f filter) (page[connection], error) {
		return c.serviceConnections(ctx, t.ProjectID, t.ID, f)
	}, vpcepPage
}

// apiOf returns the API of t.
func apiOf(t approval.Target) string {
	switch t.Kind {
	case approval.Gateway:
		return APIAPIG
	case approval.FunctionGraph:
		return APIFunctionGraph
	case approval.HSS:
		return APIHSS
	case approval.DataArtsInsight:
		return APIDataArtsInsight
	case approval.Service:
	}
	return APIVPCEP
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
	l.budget.Credit()
	shown, err := l.read(ctx, req.EndpointID, false)
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
	l.mu.Lock()
	defer l.mu.Unlock()
	seen, ok := l.pending[approval.UUID(req.EndpointID)]
	if !ok {
		return f, false
	}
	f = seen.row.facts()
	f.ReadAt = seen.at
	return f, true
}

// Accepted returns the number of accepted connections that the account domainID has on
// t, not counting endpointID, from a read that began after the call. The read is of the
// whole list and shared with concurrent callers. It is a retryable error if the list
// does not show endpointID, or shows it with another account.
func (c *Client) Accepted(ctx context.Context, t approval.Target, domainID, endpointID string) (int, error) {
	ctx = forTarget(ctx, t.Name)
	req := approval.Request{Target: t, EndpointID: endpointID}
	l, err := c.reader(&req)
	if err != nil {
		return 0, err
	}
	shown, err := l.read(ctx, req.EndpointID, true)
	if err != nil {
		return 0, c.readError(&req, "count", err)
	}
	row, ok := shown.row(endpointID)
	if !ok || domainID == "" || row.contradicted || !approval.SameID(row.DomainID, domainID) {
		return 0, c.readError(&req, "count", errNotCountable)
	}
	n, err := shown.accepted(domainID, endpointID)
	if err != nil {
		return 0, c.reportList(t, apiOf(t), "count", err)
	}
	return n, nil
}

// accepted counts the accepted connections of domainID, except endpointID. It is an
// error if a row may or may not be one of them.
func (s snapshot) accepted(domainID, endpointID string) (int, error) {
	n := 0
	for key, r := range s.rows {
		state := approval.State(r.Status)
		switch mine := approval.SameID(r.DomainID, domainID); {
		case r.contradicted:
			return 0, incomplete("two rows of one endpoint contradict each other")
		case r.DomainID == "" && (state == approval.Accepted || !state.Known()):
			return 0, incomplete("an accepted connection has no account")
		case approval.SameID(key, endpointID) || !mine:
		case !state.Known():
			return 0, incomplete("a connection of the account has an undocumented state")
		case state == approval.Accepted:
			n++
		}
	}
	return n, nil
}

// errNotCountable says that a list does not show the connection in question.
var errNotCountable = errors.New("the list does not show the connection with the expected account, so the connections of the account cannot be counted")

// errContradicted says that a list has two different rows for a connection.
var errContradicted = incomplete("two rows of the connection contradict each other")

// Act accepts or rejects req's connection, through VPCEP or, for a gateway whose endpoint
// service is not ours, through APIG. nil means that the cloud accepted the call or that
// the list shows the result; Await waits for the result. After a lost response Act reads
// the list, and repeats the call only if the connection is still pending. It calls
// approval.Permit before each call, including repeats.
func (c *Client) Act(ctx context.Context, req approval.Request, v approval.Verdict) error {
	ctx = forTarget(ctx, req.Target.Name)
	l, err := c.reader(&req)
	if err != nil {
		return err
	}
	t := &req.Target
	if !v.Acts() {
		return refuse(apiOf(*t), "act", "invalid_request", fmt.Errorf("the verdict %q requires no call", v))
	}
	done := func(ctx context.Context) (bool, error) {
		shown, err := l.read(ctx, req.EndpointID, false)
		if err != nil {
			return false, c.readError(&req, "act", err)
		}
		row, _ := shown.row(req.EndpointID)
		switch state := approval.State(row.Status); {
		case row.contradicted:
			return false, c.reportList(*t, apiOf(*t), "act", errContradicted)
		case tookEffect(v, state):
			return true, nil
		case state == approval.Pending:
			return false, nil
		default:
			return false, errNotPending
		}
	}
	id := approval.UUID(req.EndpointID)
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
	case e.Class == ClassAlreadyDone:
		if ok, _ := done(ctx); ok { // else the list may be stale; the caller retries
			return nil
		}
	case e.Class == ClassGone && e.Code != "" && normal(e.Code) == codeNotFound:
		return c.notFound(ctx, l, &req, e)
	}
	return err
}

// codeNotFound means that the endpoint or its service was not found.
const codeNotFound = "ENDPOINT.0005"

// notFound returns the error for a decision that failed with e and codeNotFound. The
// endpoint is gone if the list does not show it. Otherwise the service is missing, whose
// id is in the configuration.
func (c *Client) notFound(ctx context.Context, l *connectionReader, req *approval.Request, e *Error) error {
	shown, err := l.read(ctx, req.EndpointID, false)
	if err != nil {
		return c.readError(req, "act", err)
	}
	row, there := shown.row(req.EndpointID)
	if !there || approval.State(row.Status) == approval.Deleting {
		return e
	}
	fault := *e
	fault.Class, fault.Text = ClassOperator, "the API does not know the endpoint service, but the target's list shows the connection; check the target's id or service_id, and its project"
	c.faults.report(&fault)
	return &fault
}

// errNotPending stops the repeats of a decision.
var errNotPending = errors.New("the connection is no longer pending")

// tookEffect reports whether s is the result of v on a pending connection.
func tookEffect(v approval.Verdict, s approval.State) bool {
	return s == v.Goal() || v == approval.Accept && s == approval.Creating
}

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

// Pending returns all pending connections of t. It reads all pages before it returns,
// because decisions move the rows of later pages. Facts.Accepted is not set.
func (c *Client) Pending(ctx context.Context, t approval.Target) ([]approval.Facts, error) {
	ctx = forTarget(ctx, t.Name)
	if t.Kind.Creates() {
		return nil, refuse(apiOf(t), "pending", "invalid_request", fmt.Errorf("target %s has no connections", t.Name))
	}
	read, size := c.pager(t)
	at := time.Now()
	rows, err := collect(size, func(offset int) (page[connection], error) {
		return read(ctx, filter{status: approval.Pending, limit: size, offset: offset})
	})
	if err = c.reportList(t, apiOf(t), "pending", err); err != nil {
		return nil, c.readError(&approval.Request{Target: t}, "pending", err)
	}
	var out []approval.Facts
	for _, r := range rows {
		if approval.State(r.Status) == approval.Pending && approval.ValidID(r.ID) == nil {
			f := r.facts()
			f.ReadAt = at
			out = append(out, f)
		}
	}
	return out, nil
}

// noopObserver ignores all events.
type noopObserver struct{}

func (noopObserver) CloudCall(string, string, string, time.Duration) {}
func (noopObserver) CloudRetry(string, string, string)               {}
func (noopObserver) CloudThrottled(string, time.Duration)            {}
func (noopObserver) CloudInFlight(string, int)                       {}
func (noopObserver) CloudBreaker(string, string)                     {}
func (noopObserver) CloudUnknownState(string)                        {}
func (noopObserver) CloudList(string, bool)                          {}
func (noopObserver) CredentialState(string, time.Time, *Error)       {}
func (noopObserver) OperatorFault(string, approval.OperatorFault)    {}
func (noopObserver) OperatorFaultOver(string, string)                {}
