package policy_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"iter"
	"math/rand/v2"
	"os"
	"strings"
	"testing"
	"testing/fstest"

	"github.com/google/go-cmp/cmp"

	"github.com/vpcep-approver/vpcep-approver/internal/approval"
	"github.com/vpcep-approver/vpcep-approver/internal/policy"
	"github.com/vpcep-approver/vpcep-approver/internal/policy/workbench"
	"github.com/vpcep-approver/vpcep-approver/internal/strictyaml"
)

// recordsOf yields these records.
func recordsOf(rs []workbench.Record) iter.Seq2[workbench.Record, error] {
	return func(yield func(workbench.Record, error) bool) {
		for _, r := range rs {
			if !yield(r, nil) {
				return
			}
		}
	}
}

// TestEveryToolDecidesAlike puts random requests through each way that
// leads to a decision; all of them must give the same one, to the last byte.
func TestEveryToolDecidesAlike(t *testing.T) {
	t.Parallel()
	const inputs = 20
	sets := policy.Tries(80)
	if os.Getenv("FAULT_COUNTS") == "ci" { // as .ci/run does
		sets = 500
	}
	for seed := range uint64(sets) {
		r := rand.New(rand.NewPCG(seed, 7))
		texts := policy.RandomPolicies(r)
		fsys := policy.Folder(texts...)
		set, err := policy.Load(fsys, policy.DemoTargets())
		if err != nil {
			t.Fatalf("seed %d: %v", seed, err)
		}
		src := policy.SourceOf(set)
		var tests strings.Builder
		tests.WriteString("version: 1\nnow: " + policy.Noon().Format("2006-01-02T15:04:05Z07:00") + "\ntests:\n")
		var want []approval.Decision
		var rs []workbench.Record
		for range inputs {
			in := policy.RandomInput(r)
			if !in.Request.Creates() {
				in.Facts.CreatedAt, in.Facts.Accepted = policy.Noon(), approval.Counted(0)
			}
			d := set.Evaluate(&in)
			want = append(want, d)
			rs = append(rs, workbench.RecordOf(approval.Entry{Request: in.Request, Decision: d}))
			if got := src.Evaluate(&in); !same(d, got) {
				t.Fatalf("seed %d: live: %s", seed, cmp.Diff(d, got))
			}
			x := set.Explain(&in)
			if !same(d, x.Decision) {
				t.Fatalf("seed %d: explain: %s", seed, cmp.Diff(d, x.Decision))
			}
			explainedAlike(t, seed, x)
			writeTest(t, &tests, in)
		}
		fsys["p_test.yaml"] = &fstest.MapFile{Data: []byte(tests.String())}
		suite, err := policy.LoadSuiteFS(fsys, policy.DemoTargets())
		if err != nil {
			t.Fatalf("seed %d: %v\n%s", seed, err, tests.String())
		}
		for i, res := range workbench.Run(suite).Results {
			// A test cannot say when the facts were read, and leaves the rest alone.
			res.Decision.Facts.ReadAt = want[i].Facts.ReadAt
			if !same(want[i], res.Decision) {
				t.Fatalf("seed %d: test: %s", seed, cmp.Diff(want[i], res.Decision))
			}
		}
		flips, err := workbench.Backtest(recordsOf(rs), set, nil, policy.DemoTargets())
		if err != nil || len(flips.Flips) != 0 || flips.Total != inputs {
			t.Fatalf("seed %d: backtest: %v, %d compared, flips %+v", seed, err, flips.Total, flips.Flips)
		}
	}
}

// same compares decisions byte by byte.
func same(a, b approval.Decision) bool {
	return fmt.Sprintf("%+v %+v", a, a.Shadow) == fmt.Sprintf("%+v %+v", b, b.Shadow) || cmp.Equal(a, b)
}

// explainedAlike checks that the tree leads to the verdict.
func explainedAlike(t *testing.T, seed uint64, x policy.Explanation) {
	t.Helper()
	decides := 0
	for _, p := range x.Policies {
		for _, e := range p.Entries {
			if e.Decides {
				decides++
				if e.Answer == policy.MatchesNot || e.Answer == policy.Matches && x.Decision.Verdict == approval.Accept && e.List != "allow" {
					t.Fatalf("seed %d: %s/%s decides and %s: %+v", seed, p.Name, e.ID, e.Answer, x.Decision)
				}
			}
		}
	}
	if (x.Decision.Rule != "") != (decides == 1) {
		t.Fatalf("seed %d: %d entries decide, the decision is by %q", seed, decides, x.Decision.Rule)
	}
}

// writeTest writes in as a test; JSON is YAML.
func writeTest(t *testing.T, b *strings.Builder, in approval.Input) {
	t.Helper()
	text := func(v any) string {
		out, err := json.Marshal(v)
		if err != nil {
			t.Fatal(err)
		}
		return string(out)
	}
	fmt.Fprintf(b, "  - name: x\n    request: {target: %s, claims: %s", in.Request.Target.Name, text(in.Request.Claims))
	if h := in.Request.Creation.HSS; h != nil {
		vpcs := []map[string]any{}
		for _, v := range h.VPCs {
			vpcs = append(vpcs, map[string]any{"vpc_id": v.VPCID, "subnet_id_list": append([]string{}, v.SubnetIDs...)})
		}
		fmt.Fprintf(b, ", hss: {host_id_list: %s, vpc_list: %s}}\n", text(h.HostIDs), text(vpcs))
	} else {
		fmt.Fprintf(b, ", endpoint_id: %s}\n    facts: {", in.Request.EndpointID)
		if in.Facts.DomainID != "" {
			fmt.Fprintf(b, "domain_id: %s, ", in.Facts.DomainID)
		}
		fmt.Fprintf(b, "marker_id: %d, created_at: %q}\n", in.Facts.MarkerID, in.Facts.CreatedAt.Format("2006-01-02T15:04:05Z07:00"))
	}
	b.WriteString("    expect: {verdict: hold}\n")
}

// FuzzTestFile: whatever the text, reading tests does not panic, and tests that
// can be read are run.
func FuzzTestFile(f *testing.F) {
	f.Add("version: 1\ntests:\n  - name: a\n    request: {target: payments, claims: {a: [1, {b: null}]}}\n    facts: {domain_id: x}\n    expect: {verdict: hold, reasons: [allowed]}\n")
	f.Add("version: 1\ntargets: [{name: x, kind: hss}]\ntests: [{name: a, request: {target: x, hss: {vpc_list: [{vpc_id: a}]}}, expect: {verdict: accept}}]")
	f.Fuzz(func(t *testing.T, text string) {
		fsys := policy.Folder(policy.AllowingPolicy("region: cn-*"))
		fsys["a_test.yaml"] = &fstest.MapFile{Data: []byte(text)}
		suite, err := policy.LoadSuiteFS(fsys, policy.DemoTargets())
		if err != nil {
			refused, ok := errors.AsType[*strictyaml.Error](err)
			if !ok {
				t.Fatalf("%q: %v, want a LoadError", text, err)
			}
			for _, fd := range refused.Findings {
				if err := policy.Placed(text, fd); fd.File == "a_test.yaml" && err != nil {
					t.Errorf("%q: the finding %q %v", text, fd, err)
				}
			}
			return
		}
		report := workbench.Run(suite)
		if err := report.WriteJUnit(io.Discard); err != nil {
			t.Error(err)
		}
		if err := report.WriteText(io.Discard, true); err != nil {
			t.Error(err)
		}
	})
}
