package main

import (
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"reflect"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/vpcep-approver/vpcep-approver/internal/approval"
	"github.com/vpcep-approver/vpcep-approver/internal/cli"
	"github.com/vpcep-approver/vpcep-approver/internal/events"
	"github.com/vpcep-approver/vpcep-approver/internal/inspect"
	"github.com/vpcep-approver/vpcep-approver/internal/policy"
	"github.com/vpcep-approver/vpcep-approver/internal/policy/workbench"
)

// shipped are the example policies, where the tests of this package run.
const shipped = "../../policies"

// someOf returns one of these at random.
func someOf[T any](r *rand.Rand, list ...T) T { return list[r.IntN(len(list))] }

// randomInput makes a request to a target of the example policies of values that
// their entries name and of others.
func randomInput(r *rand.Rand, targets approval.Targets, n int) approval.Input {
	at := time.Date(2026, 11, 16, 0, 0, 0, 0, time.UTC).Add(time.Duration(r.IntN(7*24*60)) * time.Minute)
	in := approval.Input{Now: at}
	in.Request = approval.Request{
		Source: "/random", EventID: strconv.Itoa(n), ID: approval.RequestID("/random", strconv.Itoa(n)), Time: at,
		Target: someOf(r, targets...), Claims: approval.Claims{},
	}
	domains := []string{
		"6e9dfd51d1124e8d8498dce894923a0d", "b70fde8e849b4e76a61dd8aa0ec05c81", "a41c7e5d9b3f4e02b8d6f01e7c2a9583",
		"5d3a8e0c47f14b7f9b21c6d0e8a4f913", "0f7b2c6a51c94d0e9a3f5be27d1c4a88", "58d1e9a7c3b04f6e92a50c7d4b8f1e36", "d15ea5ed00000000000000000badf00d",
	}
	const vpc, other = "7c9b3f7e-2d0a-4a52-9a0e-5f6d1c2b3a41", "2b8f64c1-0d3e-4a57-b1c9-8e7f6a5d4c3b"
	switch in.Request.Target.Kind {
	case approval.FunctionGraph:
		in.Request.Creation.FunctionGraph = &approval.FunctionGraphEndpoint{VPCID: someOf(r, vpc, other), SubnetID: other, Flavor: someOf(r, "default", "large", "")}
	case approval.HSS:
		in.Request.Creation.HSS = &approval.HSSEndpoints{HostIDs: []string{someOf(r, vpc, other)}, VPCs: []approval.HSSVPC{{VPCID: someOf(r, vpc, other), SubnetIDs: []string{other}}}}
	case approval.DataArtsInsight:
		in.Request.Creation.DataArtsInsight = &approval.DataArtsInsightEndpoint{DSType: someOf(r, "DWS", "MySQL"), ServerID: someOf(r, vpc, other)}
	case approval.Service, approval.Gateway:
		in.Request.EndpointID = fmt.Sprintf("705290f3-0d00-41f2-aedc-%012d", n)
		if r.IntN(10) > 0 {
			in.Facts = approval.Facts{
				EndpointID: in.Request.EndpointID, DomainID: someOf(r, domains...), State: approval.Pending, MarkerID: r.Int64N(1000) + 1,
				Accepted: approval.Counted(r.IntN(4)), ReadAt: at,
			}
			if r.IntN(3) > 0 {
				in.Facts.CreatedAt = at.Add(-time.Duration(r.IntN(1000)) * time.Hour)
			}
		}
	}
	if r.IntN(2) == 0 {
		in.Request.Claims["tags"] = map[string]any{"env": someOf(r, "staging", "prod", "prod-eu", "test-7")}
	}
	if r.IntN(4) == 0 {
		in.Request.Claims["domain_id"] = someOf(r, domains...)
	}
	return in
}

// dataOf is the request of in as the data of an event.
func dataOf(in approval.Input) map[string]any {
	record := events.NewRecord(approval.Entry{Request: in.Request}).Request
	out := map[string]any{"target": record.Target, "claims": in.Request.Claims}
	if p := record.Parameters; p != nil {
		for name, block := range map[string]any{"functiongraph": p.FunctionGraph, "hss": p.HSS, "dataarts_insight": p.DataArtsInsight} {
			if !reflect.ValueOf(block).IsNil() {
				out[name] = block
			}
		}
	} else {
		out["endpoint_id"] = record.EndpointID
	}
	return out
}

// recordLine is a decision as worker policy records prints it.
func recordLine(t testing.TB, in approval.Input, d approval.Decision) string {
	t.Helper()
	d.At, d.Facts = in.Now, in.Facts
	var b strings.Builder
	if err := inspect.WriteRecords(&b, []approval.Entry{{Request: in.Request, Decision: d}}); err != nil {
		t.Fatal(err)
	}
	return b.String()
}

func textOf(t *testing.T, v any) string {
	t.Helper()
	out, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	return string(out)
}

// explainFlags are the flags that tell explain of the facts of in.
func explainFlags(in approval.Input) []string {
	args := []string{"-o", "json", "--file", "-", "--now", in.Now.Format(time.RFC3339)}
	if f := in.Facts; f.Found() {
		args = append(args, "--domain-id", f.DomainID, "--marker-id", strconv.FormatInt(f.MarkerID, 10), "--accepted", strconv.Itoa(f.Accepted.N))
		if !f.CreatedAt.IsZero() {
			args = append(args, "--created-at", f.CreatedAt.Format(time.RFC3339))
		}
	}
	return args
}

// explainByCommand asks the whole command about in and returns what it prints.
func explainByCommand(t *testing.T, in approval.Input) string {
	t.Helper()
	args := append([]string{"policy", "explain", shipped}, explainFlags(in)...)
	got := call{args: args, stdin: textOf(t, dataOf(in))}.do(t.Context())
	if got.code != cli.ExitDone {
		t.Fatalf("explain %q: %+v", args, got)
	}
	return got.stdout
}

// explainBySet is what the command does once the policies are loaded.
func explainBySet(t *testing.T, in approval.Input, b bench, set *policy.Set) string {
	t.Helper()
	env := cli.Environment{Stdin: strings.NewReader(textOf(t, dataOf(in)))}
	q := &question{}
	c := q.command(env)
	if err := c.ParseFlags(explainFlags(in)); err != nil {
		t.Fatal(err)
	}
	if err := q.Check(); err != nil {
		t.Fatal(err)
	}
	var a inspect.Explained
	var err error
	if a.Input, _, err = q.input(c, env, b); err != nil {
		t.Fatal(err)
	}
	a.Explanation = workbench.Explain(set, &a.Input)
	var out strings.Builder
	if err := a.Write(&out, "json", cli.Palette{}); err != nil {
		t.Fatal(err)
	}
	return out.String()
}

// decisionIn returns the decision in what explain prints.
func decisionIn(t *testing.T, text string) approval.Decision {
	t.Helper()
	var x struct {
		Decision struct {
			Verdict, Policy, Rule, Digest string
			Reasons                       []struct{ Code, Text string }
		} `json:"decision"`
	}
	if err := json.Unmarshal([]byte(text), &x); err != nil {
		t.Fatalf("%v\n%s", err, text)
	}
	d := approval.Decision{Verdict: approval.Verdict(x.Decision.Verdict), Policy: x.Decision.Policy, Rule: x.Decision.Rule, Digest: x.Decision.Digest}
	for _, r := range x.Decision.Reasons {
		d.Reasons = append(d.Reasons, approval.Reason{Code: approval.ReasonCode(r.Code), Text: r.Text})
	}
	return d
}

// testOf writes in as a test that expects d.
func testOf(t *testing.T, in approval.Input, d approval.Decision) string {
	t.Helper()
	var codes []string
	for _, r := range d.Reasons {
		codes = append(codes, string(r.Code))
	}
	test := map[string]any{
		"name": in.Request.EventID, "now": in.Now.Format(time.RFC3339), "request": dataOf(in),
	}
	expect := map[string]any{
		"verdict": d.Verdict, "reasons": codes, "limit": d.Limit, "policy": d.Policy, "rule": d.Rule, "contact": d.Contact,
	}
	test["expect"] = expect
	if f := in.Facts; f.Found() {
		facts := map[string]any{"domain_id": f.DomainID, "marker_id": f.MarkerID, "accepted": f.Accepted.N}
		if !f.CreatedAt.IsZero() {
			facts["created_at"] = f.CreatedAt.Format(time.RFC3339)
		}
		test["facts"] = facts
	}
	return "  - " + textOf(t, test) + "\n" // JSON is YAML
}

// TestCommandsDecideAlike puts random requests through the worker's source of
// policies and through each command that decides; all must say the same.
func TestCommandsDecideAlike(t *testing.T) {
	t.Parallel()
	const inputs = 1000
	targets, err := policy.TestTargets(shipped, nil)
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	if err := os.CopyFS(dir, os.DirFS(shipped)); err != nil {
		t.Fatal(err)
	}
	live := policy.NewSource(shipped, targets, nil)
	if err := live.Load(t.Context()); err != nil {
		t.Fatal(err)
	}
	r := rand.New(rand.NewPCG(1, 2))
	var tests, lines, against strings.Builder
	tests.WriteString("version: 1\ntests:\n")
	verdicts, reasons := map[approval.Verdict]int{}, map[approval.ReasonCode]int{}
	for n := range inputs {
		in := randomInput(r, targets, n)
		want := live.Evaluate(&in)
		verdicts[want.Verdict]++
		for _, reason := range want.Reasons {
			reasons[reason.Code]++
		}
		said := approval.Decision{Verdict: want.Verdict, Policy: want.Policy, Rule: want.Rule, Digest: want.Digest, Reasons: want.Reasons}
		text := explainBySet(t, in, bench{targets: targets}, live.Current())
		if n%25 == 0 { // loading the policies each time is what takes long
			if diff := cmp.Diff(text, explainByCommand(t, in)); diff != "" {
				t.Fatalf("the command prints something else:\n%s", diff)
			}
		}
		if diff := cmp.Diff(said, decisionIn(t, text)); diff != "" {
			t.Fatalf("explain says otherwise of %s (-live +explain):\n%s", textOf(t, dataOf(in)), diff)
		}
		tests.WriteString(testOf(t, in, want))
		lines.WriteString(recordLine(t, in, want))
		want.Verdict = approval.Ignore // which no shipped policy says
		against.WriteString(recordLine(t, in, want))
	}
	if verdicts[approval.Accept] < 50 || verdicts[approval.Reject] < 20 || verdicts[approval.Hold] < 50 || len(reasons) < 8 {
		t.Errorf("the requests are too much alike: %v, %v", verdicts, reasons)
	}

	if err := os.WriteFile(filepath.Join(dir, "random_test.yaml"), []byte(tests.String()), 0o600); err != nil {
		t.Fatal(err)
	}
	got := call{args: []string{"policy", "test", dir, "-o", "json"}}.do(t.Context())
	var report workbench.TestReport
	if err := json.Unmarshal([]byte(got.stdout), &report); err != nil {
		t.Fatalf("%v: %s%s", err, got.stdout, got.stderr)
	}
	passed := 0
	for _, res := range report.Results {
		if strings.HasSuffix(res.File, "random_test.yaml") && res.Passed {
			passed++
		}
	}
	if passed != inputs || got.code != cli.ExitDone {
		t.Errorf("test: %d of %d decided as live, exit %d", passed, inputs, got.code)
	}

	for name, want := range map[string]int{lines.String(): 0, against.String(): inputs} {
		got := call{args: []string{"policy", "backtest", shipped, "--records", "-", "-o", "json"}, stdin: name}.do(t.Context())
		var flips workbench.Flips
		if err := json.Unmarshal([]byte(got.stdout), &flips); err != nil || flips.Total != inputs || len(flips.Flips) != want {
			t.Errorf("backtest: %v, %d compared, %d flip, want %d\n%s", err, flips.Total, len(flips.Flips), want, got.stderr)
		}
	}
}

// TestRecordsKeepEverything holds the form of a record to what a decision rests on.
func TestRecordsKeepEverything(t *testing.T) {
	t.Parallel()
	targets, err := policy.TestTargets(shipped, nil)
	if err != nil {
		t.Fatal(err)
	}
	r := rand.New(rand.NewPCG(3, 4))
	for n := range 100 {
		in := randomInput(r, targets, n)
		if len(in.Request.Claims) == 0 {
			in.Request.Claims = nil // as in an event without claims
		}
		in.Facts.UpdatedAt = in.Now
		// The rest of the target comes from the configuration.
		in.Request.Target = approval.Target{Name: in.Request.Target.Name, Kind: in.Request.Target.Kind}
		want := workbench.Record{ID: in.Request.ID, Input: in, Decision: approval.Decision{
			ID: approval.DecisionID(in.Request.ID), Contact: "c",
			Verdict: approval.Hold, Policy: "p", Rule: "r", Digest: "d", Facts: in.Facts, At: in.Now,
			Reasons: []approval.Reason{{Code: approval.ReasonNotAllowed, Text: "No <b>rule</b>."}},
		}}
		for got, err := range inspect.ReadRecords("x", []byte(recordLine(t, in, want.Decision))) {
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(want, got); diff != "" {
				t.Fatalf("a record changes by being written (-before +after):\n%s", diff)
			}
		}
	}
}

func TestReadRecordsNamesTheLine(t *testing.T) {
	t.Parallel()
	good, _, _ := strings.Cut(recordedLines, "\n")
	for _, tt := range []struct{ name, text, want string }{
		{"no JSON", good + "\n\n{", "x:3: this is no record"},
		{"an unknown key", strings.Replace(good, `"time"`, `"when"`, 1), `x:1: this is no record of worker policy records: json: unknown field "when"`},
		{"no time", strings.Replace(good, `,"time":"2026-11-18T12:00:00Z"`, "", 1), "no decision.time"},
		{"no target", strings.Replace(good, `"target":"payments",`, "", 1), "request.target: a name has"},
		{"no verdict", strings.Replace(good, `"verdict":"accept",`, "", 1), `decision.verdict "" is none`},
		{"a marker that is no integer", strings.Replace(good, `"facts":{`, `"facts":{"marker_id":"1.5",`, 1), "marker_id"},
		{"fewer than none", strings.Replace(good, `"accepted_connections":5`, `"accepted_connections":-5`, 1), "facts.accepted_connections -5 is less than none"},
		{"two on a line", good + good, "more than one record"},
	} {
		var last error
		for _, err := range inspect.ReadRecords("x", []byte(tt.text)) {
			last = err
		}
		if last == nil || !strings.Contains(last.Error(), tt.want) {
			t.Errorf("%s: %v, want %q", tt.name, last, tt.want)
		}
	}
}

// BenchmarkBacktestOfAFile is the command on 100,000 recorded decisions.
func BenchmarkBacktestOfAFile(b *testing.B) {
	const records = 100_000
	targets, err := policy.TestTargets(shipped, nil)
	if err != nil {
		b.Fatal(err)
	}
	set, err := policy.LoadDir(shipped, targets)
	if err != nil {
		b.Fatal(err)
	}
	r := rand.New(rand.NewPCG(5, 6))
	var lines strings.Builder
	for n := range records {
		in := randomInput(r, targets, n)
		lines.WriteString(recordLine(b, in, set.Evaluate(&in)))
	}
	c := call{args: []string{"policy", "backtest", shipped, "--records", "-"}, stdin: lines.String()}
	b.SetBytes(int64(lines.Len()))
	b.ReportAllocs()
	for b.Loop() {
		if got := c.do(b.Context()); got.code != cli.ExitDone {
			b.Fatalf("%+v", got)
		}
	}
}
