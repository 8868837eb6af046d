// Package cloud is a client for the APIs of Huawei Cloud: it reads connection lists,
// accepts and rejects connections, waits for their states, and creates endpoints.
//
// The client repeats a call for about 20 s where that is safe and can help. Then the
// call fails with an *Error that says whether and when to retry. The calls to one API
// host share a rate limit, a concurrency limit and a circuit breaker. All calls share
// one credential, which is not used any more once it is refused.
package cloud

import (
	"fmt"
	"net/http"
	"net/url"
	"sync"

	"github.com/vpcep-approver/vpcep-approver/internal/approval"
)

// Client calls the APIs. It is safe for concurrent use.
type Client struct {
	region   string
	hosts    map[string]*host
	auth     *auth
	http     http.RoundTripper // no client around it: redirects are not followed, and its frames are big
	codes    codeTable
	observer Observer
	trace    Trace // nil: off
	faults   *faults
	targets  approval.Targets
	rows     rowCache // of single pages

	mu      sync.Mutex
	readers map[listKey]*connectionReader
}

// host is one API host.
type host struct {
	base    *url.URL
	limit   *limit
	breaker *breaker
}

// New checks cfg, reads the credential and returns a client. It makes no call.
func New(cfg Config) (*Client, error) {
	cfg, err := complete(cfg)
	if err != nil {
		return nil, fmt.Errorf("cloud: %w", err)
	}
	codes, err := newCodeTable(errorCodes())
	if err != nil {
		return nil, fmt.Errorf("cloud: %w", err)
	}
	c := &Client{
		region: cfg.Region, hosts: map[string]*host{}, codes: codes, observer: cfg.Observer, trace: cfg.Trace, faults: newFaults(cfg.Observer), targets: cfg.Targets,
		readers: map[listKey]*connectionReader{},
		http:    cfg.Transport,
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
			limit: newLimit(api, perSecond, cfg.Concurrency, cfg.Observer),
		}
	}
	if c.auth, err = newAuth(cfg.Auth, c.iamToken, cfg.Observer); err != nil {
		return nil, fmt.Errorf("cloud: authentication: %w", err)
	}
	return c, nil
}
