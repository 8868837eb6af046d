package workbench

import (
	"strings"
	"testing"
	"testing/fstest"

	"github.com/vpcep-approver/vpcep-approver/internal/approval"
	"github.com/vpcep-approver/vpcep-approver/internal/policy"
)

func TestStarter(t *testing.T) {
	t.Parallel()
	for _, target := range demoTargets() {
		text, tests, err := Starter("fresh", target)
		if err != nil {
			t.Fatal(err)
		}
		fsys := fstest.MapFS{"fresh.yaml": {Data: []byte(text)}, "fresh_test.yaml": {Data: []byte(tests)}}
		report, err := runTests(t, fsys, nil)
		if err != nil {
			t.Errorf("%s: %v\n%s\n%s", target.Name, err, text, tests)
			continue
		}
		if report.Failed() > 0 || report.Covered() != 1 || len(report.Results) < 2 {
			var b strings.Builder
			_ = report.WriteText(&b, true)
			t.Errorf("%s: %s\n%s", target.Name, b.String(), text)
		}
		set, err := policy.Load(fsys, approval.Targets{target})
		if err != nil || len(set.Findings()) > 0 {
			t.Errorf("%s: %v, findings %v", target.Name, err, set.Findings())
		}
	}
	for name, target := range map[string]approval.Target{"Not A Name": demoTargets()[0], "fresh": {Name: "x", Kind: "bucket"}} {
		if _, _, err := Starter(name, target); err == nil {
			t.Errorf("Starter(%q, %s) gives no error", name, target.Kind)
		}
	}
}

// TestStartersInOneFolder: each is tested by what only it decides.
func TestStartersInOneFolder(t *testing.T) {
	t.Parallel()
	for _, target := range demoTargets() {
		fsys := fstest.MapFS{}
		for _, name := range []string{"first", "second", "third"} {
			text, tests, err := Starter(name, target)
			if err != nil {
				t.Fatal(err)
			}
			fsys[name+".yaml"], fsys[name+"_test.yaml"] = &fstest.MapFile{Data: []byte(text)}, &fstest.MapFile{Data: []byte(tests)}
		}
		report, err := runTests(t, fsys, nil)
		if err != nil {
			t.Fatal(err)
		}
		if report.Failed() > 0 || report.Covered() != 1 {
			var b strings.Builder
			_ = report.WriteText(&b, true)
			t.Errorf("%s: %s", target.Name, b.String())
		}
		if set, err := policy.Load(fsys, approval.Targets{target}); err != nil || len(set.Findings()) > 0 {
			t.Errorf("%s: %v, findings %v", target.Name, err, set.Findings())
		}
	}
}
