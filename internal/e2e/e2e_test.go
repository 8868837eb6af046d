package e2e

import (
	"errors"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/moby/moby/api/types/container"
)

const (
	service  = "f6b2e0d7-51c3-4c0e-9d5a-7e2a8c4b1d90"
	acme     = "6e9dfd51d1124e8d8498dce894923a0d" // allowed
	leftUs   = "b70fde8e849b4e76a61dd8aa0ec05c81" // denied
	stranger = "a1b2c3d4e5f60718293a4b5c6d7e8f90"

	allowedVPC = "0c9a7b1e-3f52-4d3e-9a34-6c1f6c0f7a11"
	subnet     = "3d1f0f6a-8f5e-4c39-9a0c-2f7f1a5b9c02"

	connectionRequested = "vpcep.connection.requested"
	endpointRequested   = "vpcep.endpoint.requested"
)

func connection(endpoint string) map[string]any {
	return map[string]any{"target": "shop", "endpoint_id": endpoint}
}

// TestRequests sends requests in both modes of CloudEvents and looks at what
// came of them in the results, in the cloud, and in the metrics.
func TestRequests(t *testing.T) {
	s := start(t)
	p := s.producer()

	wanted, denied, unknown := s.connect(acme), s.connect(leftUs), s.connect(stranger)
	p.structured("structured-1", connectionRequested, connection(wanted))
	p.binary("binary-1", connectionRequested, connection(denied))
	p.binary("binary-2", connectionRequested, map[string]any{
		"target": "shop", "endpoint_id": unknown, "claims": map[string]any{"domain_id": acme},
	})
	p.structured("structured-2", endpointRequested, map[string]any{
		"target": "functions", "functiongraph": map[string]any{"vpc_id": allowedVPC, "subnet_id": subnet, "flavor": "default"},
	})
	p.structured("structured-3", connectionRequested, map[string]any{"target": "nobody", "endpoint_id": wanted})

	if r := p.ended("structured-1", "accepted", "shop"); r.Data.Status != "accepted" || r.Data.Decision.Rule != "acme" || r.Data.Facts.DomainID != acme {
		t.Errorf("structured-1: %+v", r)
	}
	if r := p.ended("binary-1", "rejected", "shop"); r.Data.Status != "rejected" || r.Data.Decision.Rule != "left-us" || r.Data.Facts.DomainID != leftUs {
		t.Errorf("binary-1: %+v", r)
	}
	if r := p.ended("binary-2", "held", "shop"); len(r.Data.Decision.Reasons) == 0 || r.Data.Decision.Reasons[0].Code != "claim_mismatch" {
		t.Errorf("binary-2: %+v", r)
	}
	if r := p.ended("structured-2", "created", "functions"); r.Data.Created == nil || len(r.Data.Created.Addresses) == 0 {
		t.Errorf("structured-2: %+v", r)
	}
	eventually(t, "the dead letter of structured-3", func() error {
		letters := p.stored("VPCEP_DEADLETTERS")
		if len(letters) != 1 || !strings.Contains(string(letters[0].Data), "structured-3") || letters[0].Subject != "vpcep.deadletters.unknown_target" {
			return fmt.Errorf("%d dead letters: %v", len(letters), letters)
		}
		return nil
	})
	if all := p.results(); len(all) != 4 {
		t.Errorf("%d results, want 4: %+v", len(all), all)
	}

	s.didOnly([]string{"accept " + wanted, "create functiongraph", "reject " + denied})
	for series, value := range map[string]string{
		`vpcep_approver_requests_finished_total{outcome="accepted",target="shop"}`:     "1",
		`vpcep_approver_requests_finished_total{outcome="rejected",target="shop"}`:     "1",
		`vpcep_approver_requests_finished_total{outcome="held",target="shop"}`:         "1",
		`vpcep_approver_requests_finished_total{outcome="created",target="functions"}`: "1",
		`vpcep_approver_dead_letters_total{reason="unknown_target"}`:                   "1",
		`vpcep_approver_claim_mismatches_total`:                                        "1",
	} {
		eventually(t, "metrics", func() error {
			if got := s.metric(series); got != value {
				return fmt.Errorf("%s is %s, want %s", series, got, value)
			}
			return nil
		})
	}
}

// TestContainer looks at the container itself: who it runs as, what it may
// write, how it tells that it is well, and how it ends.
func TestContainer(t *testing.T) {
	s := start(t)

	info, err := s.worker.Inspect(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if info.Config.User != workerUID || !info.HostConfig.ReadonlyRootfs {
		t.Errorf("it runs as %q with a read-only root: %t; want %s, true", info.Config.User, info.HostConfig.ReadonlyRootfs, workerUID)
	}
	for _, path := range []string{"/livez", "/readyz"} {
		if status, text := s.get(path); status != http.StatusOK {
			t.Errorf("%s: status %d: %s", path, status, text)
		}
	}
	if code, out := s.exec("/worker", "healthcheck"); code != 0 {
		t.Errorf("worker healthcheck: exit code %d: %s", code, out)
	}
	eventually(t, "the engine's own health check", func() error {
		state, err := s.worker.State(t.Context())
		if err != nil {
			return err
		}
		if state.Health == nil || state.Health.Status != container.Healthy {
			return fmt.Errorf("health is %+v", state.Health)
		}
		return nil
	})

	// A request in progress, which waits for an endpoint that does not show, must not
	// keep the worker from ending.
	p := s.producer()
	p.structured("waiting", connectionRequested, connection("00000000-0000-4000-8000-000000000001"))
	eventually(t, "the request is taken", func() error {
		if s.metric(`vpcep_approver_requests_received_total{kind="connection"}`) == "0" {
			return errors.New("not yet")
		}
		return nil
	})
	begin, limit := time.Now(), 30*time.Second
	if err := s.worker.Stop(t.Context(), &limit); err != nil {
		t.Fatal(err)
	}
	took := time.Since(begin)
	state, err := s.worker.State(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if state.ExitCode != 0 || state.OOMKilled || took > 15*time.Second {
		t.Errorf("after SIGTERM it ended with code %d after %s; want 0 within 15 s", state.ExitCode, took)
	}
}

// TestBrokerKilled kills the NATS server while requests are in progress. The worker
// says so, waits, and goes on when there is a server again: each request ends
// once and is carried out once.
func TestBrokerKilled(t *testing.T) {
	s := start(t)
	p := s.producer()
	requests, effects := map[string]string{}, []string{} // event id to endpoint
	for i := range 20 {
		id, endpoint := fmt.Sprintf("before-%d", i), s.connect(acme)
		requests[id] = endpoint
		effects = append(effects, "accept "+endpoint)
	}
	for id, endpoint := range requests {
		p.structured(id, connectionRequested, connection(endpoint))
	}

	at := time.Duration(0) // SIGKILL after no time
	if err := s.nats.Stop(t.Context(), &at); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the worker says that it is not ready", func() error {
		if status, text := s.get("/readyz"); status != http.StatusServiceUnavailable {
			return fmt.Errorf("/readyz: status %d: %s", status, text)
		}
		return nil
	})
	if status, text := s.get("/livez"); status != http.StatusOK {
		t.Errorf("/livez without a broker: status %d: %s; a restart would not help", status, text)
	}
	if code, out := s.exec("/worker", "healthcheck"); code != 1 {
		t.Errorf("worker healthcheck without a broker: exit code %d, want 1: %s", code, out)
	}
	if err := s.nats.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the worker is ready again", s.isReady)

	p = s.producer()
	last := s.connect(acme)
	effects = append(effects, "accept "+last)
	p.binary("after", connectionRequested, connection(last))
	for id, endpoint := range requests {
		p.ended(id, "accepted", "shop")
		p.structured(id, connectionRequested, connection(endpoint)) // the same event once more
	}
	p.ended("after", "accepted", "shop")
	p.structured("again", connectionRequested, connection(last)) // another event about the same endpoint
	p.ended("again", "accepted", "shop")                         // nothing to do: it is in the state that is wanted

	eventually(t, "everything is settled", s.settled)
	if got, want := len(p.results()), len(requests)+2; got != want {
		t.Errorf("%d results, want %d: one for each request, however often it is sent", got, want)
	}
	s.didOnly(effects)
}
