package main

import (
	"encoding/json"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/vpcep-approver/vpcep-approver/internal/approval"
	"github.com/vpcep-approver/vpcep-approver/internal/cli"
	"github.com/vpcep-approver/vpcep-approver/internal/events"
	"github.com/vpcep-approver/vpcep-approver/internal/inspect"
	"github.com/vpcep-approver/vpcep-approver/internal/ledger/ledgertest"
)

// nobody is a folder of policies that accept nobody.
func nobody(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "payments.yaml"), []byte("version: 1\npolicy: payments\ntargets: [payments]\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	return dir
}

// TestPolicyCommandsReadTheLedger goes from a recorded decision to each command
// that takes one.
func TestPolicyCommandsReadTheLedger(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	const endpoint = "705290f3-0d00-41f2-aedc-71f09844e879"
	old := f.decide(t, "old", endpoint, 40*24*time.Hour, approval.OutcomeAccepted)
	young := f.decide(t, "young", endpoint, time.Hour, "")
	f.neverDecided(t)
	const now = "testdata/workbench/now"

	t.Run("backtest", func(t *testing.T) {
		t.Parallel()
		for _, tt := range []struct {
			name string
			args []string
			code int
			want string
		}{
			{"thirty days unless it is said", []string{"backtest", now}, cli.ExitDone, "1 decision compared, 0 flips\n"},
			{"longer", []string{"backtest", now, "--since", "41d"}, cli.ExitDone, "2 decisions compared, 0 flips\n"},
			{"nothing so young", []string{"backtest", now, "--since", "1m"}, cli.ExitDone, "nothing was compared"},
			{"a flip", []string{"backtest", nobody(t)}, cli.ExitDiffers, "accept>hold"},
			{"against another set", []string{"backtest", nobody(t), "--against", now}, cli.ExitDiffers, young.ID},
			{"against itself", []string{"backtest", nobody(t), "--against", nobody(t)}, cli.ExitDone, "0 flip"},
			{"diff", []string{"diff", now, nobody(t), "--since", "30d"}, cli.ExitDiffers, "accept>hold"},
		} {
			got := f.do(t.Context(), "", append([]string{"policy"}, tt.args...)...)
			if got.code != tt.code || !strings.Contains(got.stdout+got.stderr, tt.want) {
				t.Errorf("%s: %+v, want exit %d and %q", tt.name, got, tt.code, tt.want)
			}
		}
	})
	t.Run("records", func(t *testing.T) {
		t.Parallel()
		printed := f.do(t.Context(), "", "policy", "records", "--since", "41d")
		if printed.code != cli.ExitDone {
			t.Fatalf("%+v", printed)
		}
		var ids []string
		for r, err := range inspect.ReadRecords("records", []byte(printed.stdout)) {
			if err != nil {
				t.Fatal(err)
			}
			ids = append(ids, r.ID)
		}
		if diff := cmp.Diff([]string{young.ID, old.ID}, ids); diff != "" {
			t.Errorf("the latest first, without what was never decided (-want +got):\n%s", diff)
		}
		live := f.do(t.Context(), "", "policy", "backtest", nobody(t), "--since", "41d", "-o", "json")
		filed := f.do(t.Context(), printed.stdout, "policy", "backtest", nobody(t), "--records", "-", "-o", "json")
		if diff := cmp.Diff(live.stdout, filed.stdout); diff != "" || live.code != cli.ExitDiffers || filed.code != cli.ExitDiffers {
			t.Errorf("from the ledger and from a file (-ledger +file):\n%s", diff)
		}
		recent := f.do(t.Context(), printed.stdout, "policy", "backtest", now, "--records", "-", "--since", "2d")
		if recent.code != cli.ExitDone || !strings.HasPrefix(recent.stdout, "1 decision compared") {
			t.Errorf("of a file, the young: %+v", recent)
		}
	})
	t.Run("explain", func(t *testing.T) {
		t.Parallel()
		for _, tt := range []struct {
			name string
			args []string
			want []string
		}{
			{"as recorded", []string{now, "--request", young.ID}, []string{"payments (service) " + endpoint, "verdict: accept by payments/acme", "recorded: accept by payments/acme, on ", `alice@example.org\u001b[31m`}},
			{"the beginning of the id", []string{now, "--request", strings.ToUpper(young.ID[:10])}, []string{"verdict: accept"}},
			{"a flip", []string{nobody(t), "--request", young.ID}, []string{"verdict: hold", "recorded: accept by payments/acme", "; it flips"}},
			{"at another time", []string{"testdata/workbench/next", "--request", young.ID, "--now", "2027-07-01"}, []string{"now      2027-07-01T00:00:00Z", "verdict: reject", "; it flips"}},
		} {
			got := f.do(t.Context(), "", append([]string{"policy", "explain"}, tt.args...)...)
			for _, want := range tt.want {
				if got.code != cli.ExitDone || !strings.Contains(strings.ReplaceAll(got.stdout, `\\u`, `\u`), want) || strings.Contains(got.stdout, "\x1b") {
					t.Errorf("%s: %+v, want %q", tt.name, got, want)
				}
			}
		}
		got := f.do(t.Context(), "", "policy", "explain", now, "--request", young.ID, "-o", "json")
		var x struct {
			Request  events.RequestRecord  `json:"request"`
			Recorded events.DecisionRecord `json:"recorded"`
			Decision events.DecisionRecord `json:"decision"`
		}
		if err := json.Unmarshal([]byte(got.stdout), &x); err != nil || x.Request.EventID != "young" || x.Recorded.Rule != "acme" || x.Decision.Rule != "acme" {
			t.Errorf("%v: %+v", err, got)
		}
		none := f.do(t.Context(), "", "policy", "explain", now, "--request", strings.Repeat("0", 32))
		if none.code != cli.ExitInvalid || !strings.Contains(none.stderr, "the ledger has no request") {
			t.Errorf("%+v", none)
		}
	})
}

// neverDecided records a request that ended before the policies were asked.
func (f fixture) neverDecided(t *testing.T) {
	t.Helper()
	target, _ := f.cfg.Targets.ByName("payments")
	req := approval.Request{ID: approval.RequestID("/crm", "gone"), Source: "/crm", EventID: "gone", Target: target, EndpointID: "705290f3-0d00-41f2-aedc-71f09844e999"}
	d := approval.Decision{
		ID: approval.DecisionID(req.ID), Verdict: approval.Hold, At: time.Now(),
		Reasons: []approval.Reason{{Code: approval.ReasonNotVisible, Text: "The endpoint does not show."}},
	}
	if _, _, err := ledgertest.Record(t.Context(), f.book(t), &req, &d); err != nil {
		t.Fatal(err)
	}
}

// TestABacktestWithAHoleFails: a gate must not open on a part of the decisions.
func TestABacktestWithAHoleFails(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	f.decide(t, "good", "705290f3-0d00-41f2-aedc-71f09844e879", time.Hour, "")
	bucket, err := f.bus.Bucket(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := bucket.Put(t.Context(), ledgertest.RequestKey(strings.Repeat("a", 32)), []byte("{")); err != nil {
		t.Fatal(err)
	}
	for _, args := range [][]string{
		{"policy", "backtest", "testdata/workbench/now"},
		{"policy", "diff", "testdata/workbench/now", "testdata/workbench/now", "--since", "30d"},
		{"policy", "records"},
	} {
		got := f.do(t.Context(), "", args...)
		if got.code != cli.ExitFailed || !strings.Contains(got.stderr, "1 entry of the ledger could not be read") || got.stdout == "" {
			t.Errorf("%q: %+v, want what can be read and exit 1", args, got)
		}
	}
}

func TestPolicyNew(t *testing.T) {
	t.Parallel()
	for _, kind := range approval.TargetKinds() {
		t.Run(string(kind), func(t *testing.T) {
			t.Parallel()
			dir := filepath.Join(t.TempDir(), "policies")
			got := call{args: []string{"policy", "new", "partners", "--target", "mine=" + string(kind), "--dir", dir}}.do(t.Context())
			if got.code != cli.ExitDone || strings.Count(got.stdout, "wrote ") != 4 || !strings.Contains(got.stdout, "worker policy test "+dir) {
				t.Fatalf("%+v", got)
			}
			for _, args := range [][]string{{"check", dir, "--strict"}, {"test", dir, "--min", "100"}} {
				if got := (call{args: append([]string{"policy"}, args...)}).do(t.Context()); got.code != cli.ExitDone {
					t.Errorf("%q: %+v", args, got)
				}
			}
			again := call{args: []string{"policy", "new", "partners", "--target", "mine", "--dir", dir}}.do(t.Context())
			if again.code != cli.ExitInvalid || !strings.Contains(again.stderr, "is there already") {
				t.Errorf("again: %+v", again)
			}
		})
	}
}

// TestPolicyNewOverwritesNothing: what is there stays, to the last byte.
func TestPolicyNewOverwritesNothing(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	mine := []byte("mine")
	for _, name := range []string{"a_test.yaml", "b.yaml", "schema/policy.v1.json"} {
		if err := os.MkdirAll(filepath.Dir(filepath.Join(dir, name)), 0o750); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(dir, name), mine, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	for name, code := range map[string]int{"a": cli.ExitInvalid, "b": cli.ExitInvalid, "c": cli.ExitDone} {
		got := call{args: []string{"policy", "new", name, "--target", "payments", "--dir", dir}, files: map[string]string{"worker.yaml": goodFile}}.do(t.Context())
		if got.code != code {
			t.Errorf("%s: %+v, want exit %d", name, got, code)
		}
	}
	var names []string
	list, err := filepath.Glob(filepath.Join(dir, "*.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range list {
		names = append(names, filepath.Base(name))
	}
	if want := []string{"a_test.yaml", "b.yaml", "c.yaml", "c_test.yaml"}; !slices.Equal(names, want) {
		t.Errorf("files %q, want %q", names, want)
	}
	for _, name := range []string{"a_test.yaml", "b.yaml", "schema/policy.v1.json"} {
		if text, err := os.ReadFile(filepath.Join(dir, name)); err != nil || string(text) != "mine" {
			t.Errorf("%s is %q, %v", name, text, err)
		}
	}
}

// TestPolicySchema holds what the command prints to what is shipped with the
// example policies.
func TestPolicySchema(t *testing.T) {
	t.Parallel()
	for file, args := range map[string][]string{"policy.v1.json": nil, "policy-test.v1.json": {"test"}, "reviewers.v1.json": {"reviewers"}} {
		want, err := os.ReadFile(filepath.Join(shipped, "schema", file))
		if err != nil {
			t.Fatal(err)
		}
		got := call{args: append([]string{"policy", "schema"}, args...)}.do(t.Context())
		if diff := cmp.Diff(string(want), got.stdout); diff != "" || got.code != cli.ExitDone {
			t.Errorf("schema %q differs from %s (-file +command):\n%s", args, file, diff)
		}
	}
}

// TestShippedPolicies: in a fresh clone, without a configuration, the commands
// find nothing to complain of.
func TestShippedPolicies(t *testing.T) {
	t.Parallel()
	for _, args := range [][]string{
		{"check", shipped, "--strict", "--now", "2026-11-18"},
		{"test", shipped, "--min", "100"},
		{"diff", shipped, shipped},
		{"explain", shipped, "--target", "payments"},
	} {
		if got := (call{args: append([]string{"policy"}, args...)}).do(t.Context()); got.code != cli.ExitDone || got.stderr != "" {
			t.Errorf("%q: %+v", args, got)
		}
	}
}
