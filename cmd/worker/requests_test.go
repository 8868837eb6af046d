package main

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/vpcep-approver/vpcep-approver/internal/approval"
	"github.com/vpcep-approver/vpcep-approver/internal/cli"
	"github.com/vpcep-approver/vpcep-approver/internal/events"
	"github.com/vpcep-approver/vpcep-approver/internal/ledger"
	"github.com/vpcep-approver/vpcep-approver/internal/ledger/ledgertest"
)

// book returns the ledger of the fixture.
func (f fixture) book(t *testing.T) *ledger.Ledger {
	t.Helper()
	bucket, err := f.bus.Bucket(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return ledger.New(bucket, nil)
}

// decide records an accepted request that began age ago, and ends it unless
// outcome is empty.
func (f fixture) decide(t *testing.T, event, endpoint string, age time.Duration, outcome approval.Outcome) approval.Request {
	t.Helper()
	target, _ := f.cfg.Targets.ByName("payments")
	req := approval.Request{
		ID: approval.RequestID("/crm", event), Source: "/crm", EventID: event, Target: target, EndpointID: endpoint,
		Claims: approval.Claims{"requester": "alice@example.org\x1b[31m"},
	}
	res := resultFor(req, outcome)
	res.Decision.At = time.Now().Add(-age)
	res.Decision.Facts.Accepted = approval.Counted(0)
	book := f.book(t)
	e, _, err := ledgertest.Record(t.Context(), book, &req, &res.Decision)
	if err != nil {
		t.Fatal(err)
	}
	if outcome != "" {
		e.ActedAt, e.Result = res.At, &res
		if err := book.Put(t.Context(), e); err != nil {
			t.Fatal(err)
		}
	}
	return req
}

func TestRequests(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	endpoint := func(n int) string { return fmt.Sprintf("705290f3-0d00-41f2-aedc-71f09844e%03d", n) }
	old := f.decide(t, "old", endpoint(1), 50*time.Hour, approval.OutcomeAccepted)
	failed := f.decide(t, "failed", endpoint(2), time.Hour, approval.OutcomeFailed)
	open := f.decide(t, "open", endpoint(3), time.Minute, "")

	tests := []struct {
		name string
		args []string
		want []approval.Request
	}{
		{"all, the latest first", nil, []approval.Request{open, failed, old}},
		{"some outcomes", []string{"--outcome", "failed,unknown"}, []approval.Request{failed}},
		{"open ones", []string{"--open"}, []approval.Request{open}},
		{"young ones", []string{"--since", "2h"}, []approval.Request{open, failed}},
		{"old ones", []string{"--until", "2h"}, []approval.Request{old}},
		{"about an endpoint", []string{"--endpoint-id", strings.ToUpper(endpoint(1))}, []approval.Request{old}},
		{"of another target", []string{"--target", "functions"}, nil},
		{"of an account", []string{"--domain-id", "EE9dfd51d1124e8d8498dce894923a0f"}, []approval.Request{open, failed, old}},
		{"of another account", []string{"--domain-id", "00000000000000000000000000000001"}, nil},
		{"a few", []string{"--limit", "1"}, []approval.Request{open}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			got := f.do(t.Context(), "", append([]string{"requests", "list", "-o", "json"}, tt.args...)...)
			var views []events.Record
			if err := json.Unmarshal([]byte(got.stdout), &views); err != nil || got.code != cli.ExitDone {
				t.Fatalf("%+v: %v", got, err)
			}
			var ids, want []string
			for _, v := range views {
				ids = append(ids, v.Request.EventID)
			}
			for _, r := range tt.want {
				want = append(want, r.EventID)
			}
			if strings.Join(ids, " ") != strings.Join(want, " ") {
				t.Errorf("requests %q, want %q", ids, want)
			}
		})
	}

	for _, tt := range []struct {
		name, want string
		args       []string
		code       int
	}{
		{"a target that is not there", `there is no target "paymnts" — did you mean payments?`, []string{"--target", "paymnts"}, cli.ExitInvalid},
		{"an account that is no id", "--domain-id", []string{"--domain-id", "acme"}, cli.ExitUsage},
		{"an endpoint that is no id", "--endpoint-id", []string{"--endpoint-id", "e"}, cli.ExitUsage},
		{"a duration below zero", "--since", []string{"--since", "-5s"}, cli.ExitUsage},
		{"a limit below zero", "--limit", []string{"--limit", "-1"}, cli.ExitUsage},
		{"nothing between", "--since must be longer", []string{"--since", "1h", "--until", "2h"}, cli.ExitUsage},
		{"open, with an outcome", "leave one out", []string{"--open", "--outcome", "held"}, cli.ExitUsage},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			got := f.do(t.Context(), "", append([]string{"requests", "list"}, tt.args...)...)
			if got.code != tt.code || got.stdout != "" || !strings.Contains(got.stderr, tt.want) {
				t.Errorf("%+v, want exit %d and %q", got, tt.code, tt.want)
			}
		})
	}

	t.Run("as a table", func(t *testing.T) {
		t.Parallel()
		got := f.do(t.Context(), "", "requests", "list", "--limit", "2")
		lines := strings.Split(got.stdout, "\n")
		if len(lines) != 4 || !strings.HasPrefix(lines[0], "REQUEST ") || !strings.HasPrefix(lines[1], open.ID) || got.stderr != "there are more — see --limit\n" {
			t.Errorf("%+v", got)
		}
	})
	t.Run("one, with its history", func(t *testing.T) {
		t.Parallel()
		for _, args := range [][]string{{failed.ID}, {failed.ID[:12]}, {"--source", "/crm", "--event-id", "failed"}} {
			got := f.do(t.Context(), "", append([]string{"requests", "show"}, args...)...)
			for _, want := range []string{"failed payments " + endpoint(2), "because", "decided to accept", "ended failed", `alice@example.org\u001b[31m`} {
				if got.code != cli.ExitDone || !strings.Contains(strings.ReplaceAll(got.stdout, `\\`, `\`), want) {
					t.Errorf("show %q = %+v, want %q", args, got, want)
				}
			}
			if strings.Contains(got.stdout, "\x1b") {
				t.Errorf("what others wrote steers the terminal: %q", got.stdout)
			}
		}
	})
	for _, tt := range []struct {
		args []string
		code int
		want string
	}{
		{[]string{strings.Repeat("0", 32)}, cli.ExitInvalid, "the ledger has no request"},
		{[]string{"ffff0000"}, cli.ExitInvalid, "the ledger has no request"},
		{[]string{"../x"}, cli.ExitUsage, "is not the id of a request"},
		{nil, cli.ExitUsage, "name the request either by its id"},
		{[]string{"abcd", "--source", "a", "--event-id", "b"}, cli.ExitUsage, "name the request either by its id"},
	} {
		t.Run("not "+strings.Join(tt.args, " "), func(t *testing.T) {
			t.Parallel()
			got := f.do(t.Context(), "", append([]string{"requests", "show"}, tt.args...)...)
			if got.code != tt.code || !strings.Contains(got.stderr, tt.want) {
				t.Errorf("%+v, want exit %d and %q", got, tt.code, tt.want)
			}
		})
	}
}

// TestOpenRequests: what no worker has acknowledged is listed with what it waits
// for, also if it was never decided.
func TestOpenRequests(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	endpoint := func(n int) string { return fmt.Sprintf("705290f3-0d00-41f2-aedc-71f09844e%03d", n) }
	book := f.book(t)
	submit := func(id string, n int) approval.Request {
		t.Helper()
		if got := f.do(t.Context(), "", "submit", "--target", "payments", "--endpoint-id", endpoint(n), "--id", id, "--source", "/crm"); got.code != cli.ExitDone {
			t.Fatalf("%+v", got)
		}
		return approval.Request{ID: approval.RequestID("/crm", id)}
	}
	waits, queued := submit("waits", 1), submit("queued", 2)
	submit("ended", 3)
	f.decide(t, "ended", endpoint(3), time.Second, approval.OutcomeAccepted)
	decided := f.decide(t, "decided", endpoint(4), time.Hour, "")
	waits.Target, _ = f.cfg.Targets.ByName("payments")
	waits.Source, waits.EventID, waits.EndpointID = "/crm", "waits", endpoint(1)
	fault := approval.OperatorFault{API: "vpcep", Operation: "ListServiceConnections", Code: "EndPoint.0004", Text: "grant it", RequestID: "req-1"}
	if err := book.Put(t.Context(), &approval.Entry{Request: waits, Wait: &approval.Wait{
		Since: time.Now(), Stage: approval.StageOutage, Code: fault.Code, Text: fault.Text, RequestID: fault.RequestID, Operator: &fault,
	}}); err != nil {
		t.Fatal(err)
	}

	got := f.do(t.Context(), "", "requests", "list", "--open", "-o", "json")
	var records []events.Record
	if err := json.Unmarshal([]byte(got.stdout), &records); err != nil || got.code != cli.ExitDone {
		t.Fatalf("%+v: %v", got, err)
	}
	want := []struct{ id, code, api string }{
		{decided.ID, "in_progress", ""}, {waits.ID, "EndPoint.0004", "vpcep"}, {queued.ID, "queued", ""},
	}
	if len(records) != len(want) {
		t.Fatalf("%d are open, want %d: %s", len(records), len(want), got.stdout)
	}
	for i, w := range want {
		r := records[i]
		text, err := json.Marshal(r)
		if err != nil {
			t.Fatal(err)
		}
		checkResult(t, "an open request", text)
		if r.Request.ID != w.id || r.Waiting == nil || r.Waiting.API != w.api || r.Waiting.Code != w.code || r.Waiting.Since.IsZero() {
			t.Errorf("open %d: %s %+v, want %+v", i, r.Request.ID, r.Waiting, w)
		}
	}
	if table := f.do(t.Context(), "", "requests", "list", "--open", "--limit", "2"); !strings.Contains(table.stdout, "vpcep ListServiceConnections: EndPoint.0004: grant it [request id req-1]") ||
		strings.Contains(table.stdout, queued.ID) || !strings.Contains(table.stderr, "there are more") {
		t.Errorf("%+v", table)
	}
}
