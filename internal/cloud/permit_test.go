package cloud

import (
	"errors"
	"net/http"
	"testing"
	"testing/synctest"
	"time"

	"github.com/vpcep-approver/vpcep-approver/internal/approval"
)

// TestNothingIsSentWithoutPermit: permit is asked right before each call that
// changes something, the repeated ones too, and after the wait for the rate; what
// it refuses is not sent, and that says nothing against an earlier call that may
// have been carried out.
func TestNothingIsSentWithoutPermit(t *testing.T) {
	t.Parallel()
	errNo := errors.New("not any more")
	for _, tt := range []struct {
		name    string
		permits int // calls that are permitted
		answer  func() (*http.Response, error)
		sent    int
		unknown bool
	}{
		{"refused before the first call", 0, func() (*http.Response, error) { return says(500, "{}") }, 0, false},
		{"refused before a repeat after a lost answer", 1, func() (*http.Response, error) { return says(504, "<html>") }, 1, true},
		{"refused before a repeat of what was not done", 1, func() (*http.Response, error) { return says(429, errorJSON("APIGW.0308")) }, 1, false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				w := newWorld(endpoint)
				w.onAct = func(int, *http.Request) (*http.Response, error, bool) {
					res, err := tt.answer()
					return res, err, true
				}
				asked := 0
				ctx := approval.WithPermit(t.Context(), func() error {
					if asked++; asked > tt.permits {
						return errNo
					}
					return nil
				})
				err := client(t, w).Act(ctx, new(connect(service())), approval.Accept)
				e, ok := asError(err)
				if !ok || !errors.Is(err, errNo) || !e.Retryable() || e.Gone() || e.OutcomeUnknown() != tt.unknown {
					t.Fatalf("Act = %v (unknown: %v), want what permit said, and unknown: %v", err, ok && e.OutcomeUnknown(), tt.unknown)
				}
				if asked != tt.permits+1 || w.acts[endpoint] != tt.sent {
					t.Errorf("asked %d times and sent %d calls, want %d and %d", asked, w.acts[endpoint], tt.permits+1, tt.sent)
				}
			})
		})
	}
}

// TestAPermitIsAskedAfterTheWaitForTheRate: what became forbidden while a call
// waited for its turn is not sent.
func TestAPermitIsAskedAfterTheWaitForTheRate(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(endpoint)
		c := client(t, w, func(cfg *Config) { cfg.RatePerSecond = 0.1 })
		if _, err := c.Facts(t.Context(), connect(service())); err != nil { // takes the turn
			t.Fatal(err)
		}
		begin, asked := time.Now(), time.Time{}
		ctx := approval.WithPermit(t.Context(), func() error {
			asked = time.Now()
			return errors.New("denied meanwhile")
		})
		if err := c.Act(ctx, new(connect(service())), approval.Accept); err == nil || w.acts[endpoint] != 0 {
			t.Errorf("Act = %v after %d calls, want none", err, w.acts[endpoint])
		}
		if waited := asked.Sub(begin); waited < 5*time.Second {
			t.Errorf("asked after %s, want it after the wait for the rate", waited)
		}
	})
}

// TestReadsNeedNoPermit: permit is about what changes something.
func TestReadsNeedNoPermit(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		ctx := approval.WithPermit(t.Context(), func() error { return errors.New("no") })
		if _, err := client(t, newWorld(endpoint)).Facts(ctx, connect(service())); err != nil {
			t.Errorf("Facts: %v", err)
		}
	})
}

// TestALookTellsWhatIsThere: an endpoint for the very parameters is told as such
// before anything was sent, and one of another service in the same subnet is not.
func TestALookTellsWhatIsThere(t *testing.T) {
	t.Parallel()
	const vpc, subnet = "0f7b3f3e-3a0f-4a8e-9f5c-6f0f3c1d2b4a", "5c1f4c0a-7a64-4a3e-8f6b-2f7f0a9f4f11"
	for name, want := range map[string]string{
		"cn-north-4.functiongraph.0a": endpoint, "": endpoint, "com.myhuaweicloud.cn-north-4.obs": "",
	} {
		t.Run("service "+name, func(t *testing.T) {
			t.Parallel()
			c := client(t, script(func(*http.Request, string) (*http.Response, error) {
				return says(200, `{"endpoints":[{"id":"`+endpoint+`","status":"accepted","vpc_id":"`+vpc+`","subnet_id":"`+subnet+`","endpoint_service_name":"`+name+`"}],"total_count":1}`)
			}))
			look, err := c.Look(t.Context(), approval.Request{
				Target:   approval.Target{Name: "functions", Kind: approval.FunctionGraph, ProjectID: project},
				Creation: approval.Creation{FunctionGraph: &approval.FunctionGraphEndpoint{VPCID: vpc, SubnetID: subnet}},
			}, nil)
			if err != nil || len(look.Keys) != 1 {
				t.Fatalf("Look = %+v, %v", look, err)
			}
			if got := look.Existing; (got != nil) != (want != "") || got != nil && got.EndpointID != want {
				t.Errorf("existing is %+v, want %q", got, want)
			}
		})
	}
}
