package cloud_test

import (
	"context"
	"errors"
	"fmt"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/vpcep-approver/vpcep-approver/internal/approval"
	"github.com/vpcep-approver/vpcep-approver/internal/cloud"
	"github.com/vpcep-approver/vpcep-approver/internal/cloud/openapi/openapitest"
	"github.com/vpcep-approver/vpcep-approver/internal/cloud/simulator"
)

const (
	project   = "0123456789abcdef0123456789abcdef"
	serviceID = "4189d3c2-8882-4871-a3c2-d380272eed88"
	gatewayID = "eddc4d25480b4cd6b512f270a1b8b341"
	vpcID     = "11111111-2222-3333-4444-555555555555"
	subnetID  = "66666666-7777-8888-9999-000000000000"
)

func targets() approval.Targets {
	return approval.Targets{
		{Name: "payments", Kind: approval.Service, ID: serviceID, ProjectID: project},
		{Name: "orders", Kind: approval.Gateway, ID: gatewayID, ProjectID: project},
		{Name: "functions", Kind: approval.FunctionGraph, ProjectID: project},
		{Name: "hosts", Kind: approval.HSS, ProjectID: project},
		{Name: "insight", Kind: approval.DataArtsInsight, ProjectID: project, WorkspaceID: "0123456789abcdef0123456789abcdee"},
	}
}

// documents are the OpenAPI documents of the APIs, loaded once. All requests of the
// client and all responses of the simulator are checked against them.
var documents = sync.OnceValues(openapitest.Load)

// start serves a simulated cloud over HTTP and returns it with a client of it.
func start(t *testing.T, cfg simulator.Config, auth cloud.Auth) (*simulator.Simulator, *cloud.Client) {
	t.Helper()
	sim := simulator.New(cfg)
	sim.AddProject(simulator.Project{ID: project, Name: "cn-north-4"})
	sim.AddService(simulator.Service{ID: serviceID, Name: "payments", ProjectID: project, ApprovalEnabled: true})
	sim.AddGateway(simulator.Gateway{ID: gatewayID, ProjectID: project})
	docs, err := documents()
	if err != nil {
		t.Fatal(err)
	}
	server := httptest.NewServer(docs.Validate(t, sim))
	t.Cleanup(server.Close)
	endpoints := map[string]string{}
	for _, api := range cloud.APIs() {
		endpoints[api] = server.URL
	}
	c, err := cloud.New(cloud.Config{Region: "cn-north-4", Endpoints: endpoints, Auth: auth, RatePerSecond: 1000, Targets: targets()})
	if err != nil {
		t.Fatal(err)
	}
	return sim, c
}

func given(cred cloud.Credentials) func() (cloud.Credentials, error) {
	return func() (cloud.Credentials, error) { return cred, nil }
}

func signed() cloud.Auth {
	a := simulator.DefaultAuth()
	return cloud.Auth{Mode: cloud.ModeAKSK, Source: given(cloud.Credentials{AccessKey: a.AccessKey, SecretKey: a.SecretKey})}
}

// settle decides a connection and waits for the result.
func settle(ctx context.Context, c *cloud.Client, req approval.Request, v approval.Verdict) error {
	f, err := c.Facts(ctx, req)
	if err != nil || f.State != approval.Pending {
		return fmt.Errorf("facts: %+v: %w", f, err)
	}
	if err := c.Act(ctx, &req, v); err != nil {
		return fmt.Errorf("act: %w", err)
	}
	state, err := c.Await(ctx, req, v.Goal(), time.Now())
	if err != nil || state != v.Goal() {
		return fmt.Errorf("await: %q: %w", state, err)
	}
	return nil
}

// TestSimulated makes every call in every authentication mode over real HTTP.
func TestSimulated(t *testing.T) {
	t.Parallel()
	a := simulator.DefaultAuth()
	auths := map[string]cloud.Auth{
		"aksk":     signed(),
		"token":    {Mode: cloud.ModeToken, Source: given(cloud.Credentials{Token: a.Token})},
		"password": {Mode: cloud.ModePassword, Source: given(cloud.Credentials{User: a.User, Password: a.Password, Domain: a.Domain})},
	}
	for name, auth := range auths {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			sim, c := start(t, simulator.Config{}, auth)
			ctx := t.Context()
			for _, target := range targets().Connections() {
				for _, v := range []approval.Verdict{approval.Accept, approval.Reject} {
					conn := sim.Connect(target.ID, simulator.Connection{State: simulator.PendingAcceptance})
					if err := settle(ctx, c, approval.Request{Target: target, EndpointID: conn.ID}, v); err != nil {
						t.Errorf("%s, %s: %v", target.Name, v, err)
					}
				}
				conn := sim.Connect(target.ID, simulator.Connection{State: simulator.PendingAcceptance})
				if waits, err := c.Pending(ctx, target); err != nil || len(waits) != 1 || waits[0].EndpointID != conn.ID || waits[0].MarkerID != conn.MarkerID {
					t.Errorf("%s: pending %+v, %v", target.Name, waits, err)
				}
			}
			create(ctx, t, c)
			if n := sim.Counters(); n.Reversals != 0 || n.Refused != 0 {
				t.Errorf("reversals %d, refused %d", n.Reversals, n.Refused)
			}
		})
	}
}

// creations returns a request for each target that creates.
func creations() []approval.Request {
	all := targets()
	return []approval.Request{
		{Target: all[2], Creation: approval.Creation{FunctionGraph: &approval.FunctionGraphEndpoint{VPCID: vpcID, SubnetID: subnetID, Flavor: "default"}}},
		{Target: all[3], Creation: approval.Creation{HSS: &approval.HSSEndpoints{
			HostIDs: []string{"71a15ecc-049f-4cca-bd28-5e90aca1817f"}, VPCs: []approval.HSSVPC{{VPCID: vpcID, SubnetIDs: []string{subnetID}}},
		}}},
		{Target: all[4], Creation: approval.Creation{DataArtsInsight: &approval.DataArtsInsightEndpoint{DSType: "DWS", ServerID: serviceID}}},
	}
}

func create(ctx context.Context, t *testing.T, c *cloud.Client) {
	t.Helper()
	for _, req := range creations() {
		before, err := c.Look(ctx, req, nil)
		readable := !errors.Is(err, cloud.ErrNoReadBack)
		if readable && err != nil {
			t.Errorf("%s: look before: %v", req.Target.Name, err)
		}
		made, err := c.Create(ctx, req)
		if err != nil {
			t.Errorf("%s: create: %v", req.Target.Name, err)
			continue
		}
		if !readable {
			if made.ID == "" || made.EndpointID == "" {
				t.Errorf("%s: created %+v", req.Target.Name, made)
			}
			continue
		}
		after, err := c.Look(ctx, req, before.Keys)
		if err != nil || after.Created == nil || len(after.Keys) != len(before.Keys)+1 {
			t.Errorf("%s: look after: %+v, %v", req.Target.Name, after, err)
		}
	}
}

// TestSimulatedFaults: requests succeed despite each kind of fault in lists and decisions.
func TestSimulatedFaults(t *testing.T) {
	t.Parallel()
	for _, kind := range simulator.FaultKinds() {
		switch kind {
		case simulator.Refuse, simulator.ExpiredToken: // a fixed key that is refused stays so
			continue
		case simulator.Permission, simulator.Quota, simulator.UnknownService, simulator.WrongProject: // the operator's, and not the client's
			continue
		default:
		}
		t.Run(string(kind), func(t *testing.T) {
			t.Parallel()
			sim, c := start(t, simulator.Config{}, signed())
			ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
			defer cancel()
			var wg sync.WaitGroup
			for _, target := range targets().Connections() {
				conn := sim.Connect(target.ID, simulator.Connection{State: simulator.PendingAcceptance, CreatedAt: time.Now().Add(-time.Hour)})
				api, operations := simulator.VPCEP, []string{"ListServiceConnections", "AcceptOrRejectEndpoint"}
				if target.Kind == approval.Gateway {
					api, operations = simulator.APIG, []string{"ListEndpointConnections", "AcceptOrRejectEndpointConnections"}
				}
				for _, op := range operations {
					f := simulator.Fault{API: api, Operation: op, Kind: kind, Count: 1, Delay: 100 * time.Millisecond}
					if strings.HasPrefix(string(kind), "throttle") {
						f.RetryAfter = time.Second
					}
					if f.Check() == nil {
						sim.Inject(f)
					}
				}
				wg.Go(func() {
					req := approval.Request{Target: target, EndpointID: conn.ID}
					err := settle(ctx, c, req, approval.Accept)
					if err != nil && !strings.HasPrefix(err.Error(), `facts: {EndpointID:`+conn.ID) { // an unknown state was shown
						t.Errorf("%s: %v", target.Name, err)
					}
				})
			}
			wg.Wait()
			if n := sim.Counters(); n.Reversals != 0 || n.Repeats != 0 || n.Locks != 0 {
				t.Errorf("reversals %d, repeats %d, locks %d", n.Reversals, n.Repeats, n.Locks)
			}
		})
	}
}

// TestSimulatedLies: every list fault is detected, or the shown rows are true.
func TestSimulatedLies(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name   string
		faults []simulator.Fault
		fails  bool // counts and pending lists
	}{
		{"short", []simulator.Fault{{Kind: simulator.MissingRows}}, true},
		{"one row short", []simulator.Fault{{Kind: simulator.MissingRows, Rows: 1}}, true},
		{"small pages", []simulator.Fault{{Kind: simulator.SmallPages}}, false},
		{"a row that slips", []simulator.Fault{{Kind: simulator.SmallPages}, {Kind: simulator.ShiftedRows}}, true},
		{"large pages", []simulator.Fault{{Kind: simulator.LargePages}}, false},
		{"the same row twice", []simulator.Fault{{Kind: simulator.DuplicateRows, Field: "none"}}, true},
		{"members twice", []simulator.Fault{{Kind: simulator.DuplicateMember}}, true},
		{"states twice", []simulator.Fault{{Kind: simulator.DuplicateMember, Field: "status"}}, true},
		{"a part", []simulator.Fault{{Kind: simulator.Partial206}}, true},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			sim, c := start(t, simulator.Config{}, signed())
			for _, target := range targets().Connections() {
				own := sim.Connect(target.ID, simulator.Connection{State: simulator.PendingAcceptance})
				for range 4 {
					sim.Connect(target.ID, simulator.Connection{DomainID: own.DomainID, State: simulator.Accepted})
					sim.Connect(target.ID, simulator.Connection{State: simulator.PendingAcceptance})
				}
				for _, f := range tt.faults {
					sim.Inject(f)
				}
				n, err := c.Accepted(t.Context(), target, own.DomainID, own.ID)
				if (err != nil) != tt.fails || err == nil && n.Accepted != 4 {
					t.Errorf("%s: counted %+v, %v", target.Name, n, err)
				}
				pending, err := c.Pending(t.Context(), target)
				if (err != nil) != tt.fails || err == nil && len(pending) != 5 {
					t.Errorf("%s: %d pending, %v", target.Name, len(pending), err)
				}
				facts, err := c.Facts(t.Context(), approval.Request{Target: target, EndpointID: own.ID})
				if err == nil && (facts.State != approval.Pending || facts.DomainID != own.DomainID) {
					t.Errorf("%s: facts %+v", target.Name, facts)
				}
				sim.ClearFaults()
			}
		})
	}
	t.Run("contradictory", func(t *testing.T) {
		t.Parallel()
		sim, c := start(t, simulator.Config{}, signed())
		for _, target := range targets().Connections() {
			own := sim.Connect(target.ID, simulator.Connection{State: simulator.PendingAcceptance})
			sim.Inject(simulator.Fault{Kind: simulator.DuplicateRows})
			facts, err := c.Facts(t.Context(), approval.Request{Target: target, EndpointID: own.ID})
			if err != nil || facts.DomainID != "" || facts.State != approval.Pending {
				t.Errorf("%s: facts %+v, %v", target.Name, facts, err)
			}
			if n, err := c.Accepted(t.Context(), target, own.DomainID, own.ID); err == nil {
				t.Errorf("%s: counted %+v", target.Name, n)
			}
			sim.ClearFaults()
		}
	})
	t.Run("late", func(t *testing.T) {
		t.Parallel()
		sim, c := start(t, simulator.Config{}, signed())
		target := targets()[0]
		own := sim.Connect(target.ID, simulator.Connection{State: simulator.PendingAcceptance})
		sim.Inject(simulator.Fault{Kind: simulator.DelayedRows})
		if n, err := c.Accepted(t.Context(), target, own.DomainID, own.ID); err == nil {
			t.Errorf("counted %+v by a list that does not show the connection", n)
		}
	})
}

// TestSimulatedApproval: the approval setting is read if it is readable.
func TestSimulatedApproval(t *testing.T) {
	t.Parallel()
	sim, c := start(t, simulator.Config{}, signed())
	for _, want := range []bool{true, false} {
		sim.SetApproval(serviceID, want)
		if got, err := c.ApprovalEnabled(t.Context(), targets()[0]); got != want || err != nil {
			t.Errorf("%t, %v, want %t", got, err, want)
		}
	}
	if cloud.ApprovalReadable(targets()[1]) || cloud.ApprovalReadable(targets()[2]) {
		t.Error("a gateway without a service of ours can be read")
	}
}

// TestSimulatedServers: creations for servers only and for VPCs only are found.
func TestSimulatedServers(t *testing.T) {
	t.Parallel()
	for name, want := range map[string]*approval.HSSEndpoints{
		"servers": {HostIDs: []string{"71a15ecc-049f-4cca-bd28-5e90aca1817f", "81a15ecc-049f-4cca-bd28-5e90aca1817f"}},
		"VPCs":    {VPCs: []approval.HSSVPC{{VPCID: vpcID, SubnetIDs: []string{subnetID}}}},
	} {
		_, c := start(t, simulator.Config{}, signed())
		req := approval.Request{Target: targets()[3], Creation: approval.Creation{HSS: want}}
		req.Target.EnterpriseProjectID = "all_granted_eps"
		if _, err := c.Create(t.Context(), req); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		if look, err := c.Look(t.Context(), req, nil); err != nil || look.Created == nil || look.Partial {
			t.Errorf("%s: look %+v, %v", name, look, err)
		}
	}
}

// TestSimulatedCreationLost: a creation whose response is lost has an unknown outcome, is
// found if it is readable, and exists once.
func TestSimulatedCreationLost(t *testing.T) {
	t.Parallel()
	for _, kind := range []simulator.FaultKind{simulator.CutAfter, simulator.TruncatedJSON, simulator.ServerError} {
		t.Run(string(kind), func(t *testing.T) {
			t.Parallel()
			sim, c := start(t, simulator.Config{}, signed())
			for i, api := range []string{simulator.FunctionGraph, simulator.HSS, simulator.DataArtsInsight} {
				req := creations()[i]
				sim.Inject(simulator.Fault{API: api, Kind: kind, Count: 1, Done: true})
				_, err := c.Create(t.Context(), req)
				var e *cloud.Error
				if !errors.As(err, &e) || !e.OutcomeUnknown() || !e.Retryable() {
					t.Errorf("%s: %v", api, err)
				}
				look, err := c.Look(t.Context(), req, nil)
				if api != simulator.DataArtsInsight && (err != nil || look.Created == nil) {
					t.Errorf("%s: look %+v, %v", api, look, err)
				}
			}
			if n := sim.Counters(); n.Count(simulator.EffectCreate, "") != 3 {
				t.Errorf("effects %+v", n.Effects)
			}
		})
	}
}

// TestSimulatedWrongKey: 200 concurrent calls with a wrong secret do not lock the key.
func TestSimulatedWrongKey(t *testing.T) {
	t.Parallel()
	sim, c := start(t, simulator.Config{}, cloud.Auth{
		Mode: cloud.ModeAKSK, Source: given(cloud.Credentials{AccessKey: simulator.DefaultAuth().AccessKey, SecretKey: "wrong"}),
	})
	var wg sync.WaitGroup
	for range 200 {
		wg.Go(func() {
			if _, err := c.Pending(t.Context(), targets()[0]); !errors.Is(err, cloud.ErrCredentials) {
				t.Errorf("error %v", err)
			}
		})
	}
	wg.Wait()
	if n := sim.Counters(); n.Refused > 5 || n.Locks != 0 {
		t.Errorf("%d refused, %d locks", n.Refused, n.Locks)
	}
}
