package workbench

import (
	"flag"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/fstest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/vpcep-approver/vpcep-approver/internal/approval"
	"github.com/vpcep-approver/vpcep-approver/internal/policy"
)

const (
	acme    = "6e9dfd51d1124e8d8498dce894923a0d"
	leftUs  = "b70fde8e849b4e76a61dd8aa0ec05c81"
	staging = "0f7b2c6a51c94d0e9a3f5be27d1c4a88"
	insight = "5d3a8e0c47f14b7f9b21c6d0e8a4f913"
	nobody  = "ffffffffffffffffffffffffffffffff"

	endpointA = "705290f3-0d00-41f2-aedc-71f09844e879"
	endpointB = "9d4c0e5a-6b1f-4f0e-8c27-3a5d9e7b1c60"
)

// demoTargets are the targets that the shipped policies are written for.
func demoTargets() approval.Targets {
	ts := approval.Targets{
		{Name: "payments", Kind: approval.Service, ID: "4189d3c2-8882-4871-a3c2-d380272eed88"},
		{Name: "orders-gateway", Kind: approval.Gateway, ID: "b1a8c2d5-3e4f-4a6b-9c7d-8e0f1a2b3c4d"},
		{Name: "functions", Kind: approval.FunctionGraph},
		{Name: "hosts", Kind: approval.HSS},
		{Name: "insight", Kind: approval.DataArtsInsight, WorkspaceID: "a1b2c3d4e5f60718293a4b5c6d7e8f90"},
	}
	for i := range ts {
		ts[i].ProjectID = "0605767bd1c04a7c8d3f2e1b9a8c7d6e"
		ts[i].Region = "cn-north-4"
	}
	return ts
}

// noon is when the tests take place: a Wednesday.
func noon() time.Time { return time.Date(2026, 11, 18, 12, 0, 0, 0, time.UTC) }

// connection is a request of domain to connect to target, as the cloud shows it.
func connection(target, domain string) approval.Input {
	t, _ := demoTargets().ByName(target)
	return approval.Input{
		Request: approval.Request{ID: "r1", Target: t, EndpointID: endpointA},
		Facts: approval.Facts{
			EndpointID: endpointA, DomainID: domain, State: approval.Pending, MarkerID: 322312312312,
			CreatedAt: noon().Add(-time.Hour), ReadAt: noon(),
		},
		Now: noon(),
	}
}

// head begins a policy called name for the payments service.
func head(name string) string {
	return "version: 1\npolicy: " + name + "\ntargets: [payments]\n"
}

// allowing is a policy with one allow of acme and these further keys.
func allowing(keys string) string {
	return head("p") + "allow: [{id: acme, domain_id: " + acme + ", " + keys + "}]\n"
}

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

// tested is a folder with a policy and these tests of it.
func tested(tests string) fstest.MapFS {
	fsys := folder(head("p") + "allow:\n  - {id: acme, domain_id: " + acme + ", limit: 3}\n  - {id: other, domain_id: " + insight + "}\n")
	fsys["p_test.yaml"] = &fstest.MapFile{Data: []byte("version: 1\ntargets: [{name: payments, kind: service}]\ntests:\n" + tests)}
	return fsys
}

// folder is a folder of policies: each text is a file, p0.yaml, p1.yaml and so on.
func folder(texts ...string) fstest.MapFS {
	fsys := fstest.MapFS{}
	for i, text := range texts {
		fsys[fmt.Sprintf("p%d.yaml", i)] = &fstest.MapFile{Data: []byte(text)}
	}
	return fsys
}

// load is policy.Load of policies that are right.
func load(t testing.TB, texts ...string) *policy.Set {
	t.Helper()
	set, err := policy.Load(folder(texts...), demoTargets())
	if err != nil {
		t.Fatalf("Load(%s): %v", strings.Join(texts, "\n---\n"), err)
	}
	return set
}

// inDir writes fsys to a folder of the disk and returns it.
func inDir(t *testing.T, fsys fs.FS) string {
	t.Helper()
	dir := t.TempDir()
	if err := os.CopyFS(dir, fsys); err != nil {
		t.Fatal(err)
	}
	return dir
}

// runTests is RunTests of fsys, as if it were the folder policies.
func runTests(t *testing.T, fsys fs.FS, targets approval.Targets) (TestReport, error) {
	t.Helper()
	dir := inDir(t, fsys)
	report, err := RunTests(dir, targets)
	for i, r := range report.Results {
		report.Results[i].File = strings.ReplaceAll(r.File, dir, "policies")
		report.Results[i].Explain = strings.ReplaceAll(r.Explain, dir, "policies")
	}
	for i, c := range report.Coverage {
		report.Coverage[i].File = strings.ReplaceAll(c.File, dir, "policies")
	}
	return report, err
}

var update = flag.Bool("update", false, "write the golden files")

// golden compares got with a file of testdata.
func golden(t *testing.T, name, got string) {
	t.Helper()
	path := filepath.Join("testdata", name)
	if *update {
		if err := os.WriteFile(path, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatalf("%v; run the test with -update", err)
	}
	if diff := cmp.Diff(string(want), got); diff != "" {
		t.Errorf("%s (-want +got; -update writes it):\n%s", path, diff)
	}
}
