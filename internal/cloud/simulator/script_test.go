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
	world, err := ReadScript([]byte(text))
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
