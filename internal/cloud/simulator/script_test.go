package simulator

import (
	"os"
	"strings"
	"testing"
	"time"
)

// TestScriptOfTheDocs: what docs/simulator.md shows works.
func TestScriptOfTheDocs(t *testing.T) {
	t.Parallel()
	page, err := os.ReadFile("../../../docs/simulator.md")
	if err != nil {
		t.Fatal(err)
	}
	_, after, found := strings.Cut(string(page), "```yaml\n")
	text, _, _ := strings.Cut(after, "```")
	if !found {
		t.Fatal("there is no script in docs/simulator.md")
	}
	world, err := ReadScript("cloud.yaml", []byte(text))
	if err != nil {
		t.Fatal(err)
	}
	var cfg Config
	world.Configure(&cfg)
	sim := New(cfg)
	if err := world.Build(sim); err != nil {
		t.Fatal(err)
	}
	if n := len(sim.Connections("")); n != 4 { // the fifth comes later
		t.Errorf("%d connections, want 4", n)
	}
	if cfg.Delays.Accept != 3*time.Second || len(sim.Faults()) != 2 {
		t.Errorf("delays %+v, faults %+v", cfg.Delays, sim.Faults())
	}
}

// TestScriptErrors: everything that is wrong in a script is reported with its place.
func TestScriptErrors(t *testing.T) {
	t.Parallel()
	const text = `delays: {acept: 1s, create: -1s, delete: 3}
services: [{id: a}]
connections: {target: a}
small_marker_ids: yes
faults: [x, [y]]
`
	_, err := ReadScript("cloud.yaml", []byte(text))
	if err == nil {
		t.Fatal("no error")
	}
	for _, want := range []string{
		`cloud.yaml:1:10: delays: unknown key "acept"; did you mean accept?`,
		`cloud.yaml:1:29: delays.create: got "-1s", want a duration such as 500ms, 90s or 5m`,
		`cloud.yaml:1:42: delays.delete: got "3", want a duration such as 500ms, 90s or 5m`,
		`cloud.yaml:2:12: services[0]: missing key "project_id"`,
		`cloud.yaml:3:14: connections: got a mapping, want a list`,
		`cloud.yaml:4:19: small_marker_ids: got "yes", want true or false`,
		`cloud.yaml:5:13: faults[1]: got a list, want a text`,
	} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("ReadScript = %v, want %q", err, want)
		}
	}
}
