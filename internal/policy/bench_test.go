package policy

import (
	"fmt"
	"strings"
	"testing"

	v4 "go.yaml.in/yaml/v4"
	"gopkg.in/yaml.v3"

	"github.com/vpcep-approver/vpcep-approver/internal/approval"
)

// rules is a policy of n entries: nine of ten allow a domain, the others deny one.
func rules(n int) string {
	var b strings.Builder
	b.WriteString(head("big") + "allow:\n")
	for i := range n - n/10 {
		fmt.Fprintf(&b, "  - id: a%d\n    domain_id: [%032x]\n", i, i+1)
	}
	b.WriteString("deny:\n")
	for i := range n / 10 {
		fmt.Fprintf(&b, "  - id: d%d\n    domain_id: [%032x]\n    reason: Contract ended.\n", i, 1<<32+i)
	}
	return b.String()
}

func BenchmarkEvaluate(b *testing.B) {
	for _, n := range []int{10, 1_000, 100_000} {
		set := load(b, rules(n))
		for name, domain := range map[string]int{"accept": n / 2, "deny": 1 << 32, "hold": 1 << 40} {
			b.Run(fmt.Sprintf("%s/%d", name, n), func(b *testing.B) {
				in := connection("payments", fmt.Sprintf("%032x", domain))
				in.Request.Claims = approval.Claims{
					"domain_id": in.Facts.DomainID, "requester": "alice@example.org", "tags": map[string]any{"env": "prod"},
				}
				b.ReportAllocs()
				for b.Loop() {
					set.Evaluate(&in)
				}
			})
		}
	}
}

// TestEvaluateAllocatesNothing holds the benchmark's figure.
func TestEvaluateAllocatesNothing(t *testing.T) {
	set := load(t, rules(1000)+"  - {id: tagged, any_domain: true, claims: {tags.env: forbidden}}\n")
	for name, domain := range map[string]int{"accept": 1, "deny": 1 << 32, "hold": 1 << 40} {
		in := connection("payments", fmt.Sprintf("%032x", domain))
		in.Request.Claims = approval.Claims{"domain_id": in.Facts.DomainID, "tags": map[string]any{"env": "prod"}}
		if n := testing.AllocsPerRun(100, func() { set.Evaluate(&in) }); n != 0 {
			t.Errorf("%s allocates %v times, want 0", name, n)
		}
	}
}

// BenchmarkLoad compares loading 100,000 entries with what yaml.v3 needs to read
// the same text into plain structs, without checking anything.
func BenchmarkLoad(b *testing.B) {
	const n = 100_000
	text := rules(n)
	var listed strings.Builder
	for i := range n {
		fmt.Fprintf(&listed, "%032x\n", i+1)
	}
	b.Run("entries", func(b *testing.B) {
		fsys := folder(text)
		b.ReportAllocs()
		for b.Loop() {
			if _, err := Load(fsys, demoTargets()); err != nil {
				b.Fatal(err)
			}
		}
	})
	b.Run("file-of-values", func(b *testing.B) {
		snap := snapshotOf(map[string][]byte{"a.yaml": []byte(head("a") + "allow: [{id: a, domain_id: {file: l.txt}}]"), "l.txt": []byte(listed.String())})
		b.ReportAllocs()
		for b.Loop() {
			if _, err := snap.load("", demoTargets()); err != nil {
				b.Fatal(err)
			}
		}
	})
	b.Run("yaml.v4-nodes", func(b *testing.B) { // the part of "entries" that the library takes
		b.ReportAllocs()
		for b.Loop() {
			var n v4.Node
			if err := v4.Load([]byte(text), &n); err != nil {
				b.Fatal(err)
			}
		}
	})
	b.Run("yaml.v3-structs", func(b *testing.B) {
		type entry struct {
			ID       string   `yaml:"id"`
			DomainID []string `yaml:"domain_id"`
			Reason   string   `yaml:"reason"`
		}
		b.ReportAllocs()
		for b.Loop() {
			var p struct {
				Version int      `yaml:"version"`
				Policy  string   `yaml:"policy"`
				Targets []string `yaml:"targets"`
				Allow   []entry  `yaml:"allow"`
				Deny    []entry  `yaml:"deny"`
			}
			if err := yaml.Unmarshal([]byte(text), &p); err != nil {
				b.Fatal(err)
			}
		}
	})
}
