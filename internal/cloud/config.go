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
	"time"

	"github.com/vpcep-approver/vpcep-approver/internal/approval"
)

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
	Trace         Trace              // nil: off
	Targets       approval.Targets
	AllowHTTP     bool // allow http endpoints on other hosts, which is unsafe
}

// Trace starts the span of a call. end takes the HTTP status, 0 if there was no response, and
// the class of the result.
type Trace func(ctx context.Context, api, operation string) (within context.Context, end func(status int, class string, ok bool))

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

// complete returns cfg with the default values, or an error if it is not valid.
func complete(cfg Config) (Config, error) {
	if cfg.RatePerSecond == 0 {
		cfg.RatePerSecond = defaultRate
	}
	if cfg.Concurrency == 0 {
		cfg.Concurrency = defaultConcurrency
	}
	if cfg.Observer == nil {
		cfg.Observer = noopObserver{}
	}
	if !validRate(cfg.RatePerSecond) {
		return cfg, fmt.Errorf("invalid rate of %v calls per second", cfg.RatePerSecond)
	}
	for name, rate := range cfg.Rates {
		if !slices.Contains(APIs(), name) {
			return cfg, fmt.Errorf("rate of %q: unknown API; the APIs are %s", name, strings.Join(APIs(), ", "))
		}
		if !validRate(rate) {
			return cfg, fmt.Errorf("rate of %s: invalid rate of %v calls per second", name, rate)
		}
	}
	for name := range cfg.Endpoints {
		if !slices.Contains(APIs(), name) {
			return cfg, fmt.Errorf("endpoint of %q: unknown API; the APIs are %s", name, strings.Join(APIs(), ", "))
		}
	}
	if cfg.Concurrency < 0 {
		return cfg, fmt.Errorf("invalid concurrency limit %d", cfg.Concurrency)
	}
	if cfg.Transport == nil {
		cfg.Transport = transport(cfg.Concurrency)
	}
	return cfg, checkTargets(cfg)
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
