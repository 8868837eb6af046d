package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"maps"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// prepared returns an environment whose programs are built.
func prepared(t *testing.T) *env {
	t.Helper()
	if testing.Short() {
		t.Skip("builds the worker and a NATS server")
	}
	self := filepath.Join(t.TempDir(), "bench")
	if err := build(t.Context(), ".", self, "."); err != nil {
		t.Fatal(err)
	}
	e := &env{out: &bytes.Buffer{}, rounds: 1, limit: time.Minute, self: self}
	cleanup, err := e.prepare(t.Context())
	t.Cleanup(cleanup)
	if err != nil {
		t.Fatal(err)
	}
	return e
}

// answer is what all contenders must say of a request.
type answer struct {
	Outcome, Verdict, Policy, Rule string
}

// answersOf runs w with c and returns the answer to each event.
func answersOf(t *testing.T, e *env, c contender, w workload) map[string]answer {
	t.Helper()
	r, err := e.begin(t.Context(), c, w, true)
	if err != nil {
		t.Fatalf("%s: %v", c.name, err)
	}
	defer r.stop()
	m, err := r.finish(t.Context())
	if err != nil {
		t.Fatalf("%s: %d of %d results: %v\n%s", c.name, m.n, w.n, err, r.workers[0].output())
	}
	if m.peak == 0 || m.messages == 0 || m.toFirst <= 0 {
		t.Errorf("%s: %+v has no figures", c.name, m)
	}
	out := map[string]answer{}
	r.results.mu.Lock()
	defer r.results.mu.Unlock()
	for _, body := range r.results.bodies {
		var result plainResult
		if err := json.Unmarshal(body, &result); err != nil {
			t.Fatal(err)
		}
		d := result.Data
		out[result.CausationID] = answer{d.Outcome, d.Decision.Verdict, d.Decision.Policy, d.Decision.Rule}
	}
	return out
}

// TestBench runs contenders and rows with few requests.
func TestBench(t *testing.T) {
	t.Parallel()
	e := prepared(t)
	t.Run("contenders agree", func(t *testing.T) { contendersAgree(t, e) })
	t.Run("rows run", func(t *testing.T) { rowsRun(t, e) })
}

// contendersAgree holds the contenders to the same answers, so that what is compared
// is the same work.
func contendersAgree(t *testing.T, e *env) {
	mixed := acceptsOn(30, 2, 0)
	mixed.refuse = 7
	mixed.accepted = 20
	mixed.n = 40 // the last ten are creations
	mixed.event = func(i int) *event {
		if i >= 30 {
			return creationEvent(i)
		}
		return connectionEvent(i, 2)
	}
	want := map[string]answer{}
	for i := range mixed.n {
		a := answer{Outcome: "held", Verdict: "hold", Policy: "partners"}
		if i >= 30 {
			a.Policy = functions
		} else if i%domains != mixed.refuse {
			a = answer{accepted, "accept", "partners", fmt.Sprintf("partner-%d", i%domains)}
		}
		want[mixed.event(i).ID] = a
	}
	for _, c := range e.contenders() {
		got := answersOf(t, e, c, mixed)
		if !maps.Equal(got, want) {
			for id, a := range want {
				if got[id] != a {
					t.Errorf("%s answers %+v to %s, want %+v", c.name, got[id], id, a)
				}
			}
			t.Errorf("%s: %d answers, want %d", c.name, len(got), len(want))
		}
	}
}

// rowsRun runs rows with few requests, so that none rots.
func rowsRun(t *testing.T, e *env) {
	for _, name := range []string{"held", "trips", "targets", "replicas", "ledger"} {
		chosen, err := chooseRows(name)
		if err != nil {
			t.Fatal(err)
		}
		small := *e
		var out bytes.Buffer
		small.out, small.n = &out, 20
		if err := chosen[0].run(t.Context(), &small); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		if !strings.Contains(out.String(), "| ---") || strings.Contains(out.String(), "NaN") {
			t.Errorf("%s prints\n%s", name, out.String())
		}
	}
}

// TestRulesAgree: OPA and the worker decide alike, which the row checks for each input.
func TestRulesAgree(t *testing.T) {
	t.Parallel()
	e := &env{out: &bytes.Buffer{}, limit: time.Minute}
	for _, n := range []int{10, 200} {
		if _, opa, err := compareRules(t.Context(), e, n); err != nil || opa.each == 0 {
			t.Errorf("%d rules: %+v, %v", n, opa, err)
		}
	}
}

// TestRulesOfAllKinds: the random inputs meet rules of each kind.
func TestRulesOfAllKinds(t *testing.T) {
	t.Parallel()
	rules := makeRules(10, rand.New(rand.NewPCG(1, 2)))
	for _, kind := range []string{"any_domain", `*"`, "claims"} {
		if !strings.Contains(rules.yaml.String(), kind) {
			t.Errorf("no rule has %s:\n%s", kind, rules.yaml.String())
		}
	}
}

// TestAPI: lists are filtered, sorted and divided into pages as in VPCEP.
func TestAPI(t *testing.T) {
	t.Parallel()
	server := httptest.NewServer(newFakeAPI(0))
	t.Cleanup(server.Close)
	c := &cloud{url: server.URL}
	now := time.Now()
	for _, in := range []connections{
		{Service: "s", State: accepted, First: 100, Count: 5, Newest: now.Add(-time.Hour), Step: 1},
		{Service: "s", State: pending, First: 0, Count: 3, Newest: now, Step: 1},
	} {
		if err := c.connect(t.Context(), in); err != nil {
			t.Fatal(err)
		}
	}
	base := server.URL + "/v1/p/vpc-endpoint-services/s/connections"
	act := func(id string) int {
		body := strings.NewReader(`{"action":"receive","endpoints":["` + id + `"]}`)
		answer, err := http.Post(base+"/action", "application/json", body)
		if err != nil {
			t.Fatal(err)
		}
		_ = answer.Body.Close()
		return answer.StatusCode
	}
	if first, again, unknown := act(endpointID(1)), act(endpointID(1)), act(endpointID(9)); first != 200 || again != 400 || unknown != 404 {
		t.Errorf("the actions answer %d, %d, %d", first, again, unknown)
	}
	for query, want := range map[string]struct {
		total int
		ids   []int
	}{
		"?limit=2":                                   {8, []int{2, 1}},
		"?limit=2&offset=6":                          {8, []int{101, 100}},
		"?limit=1000&status=pendingAcceptance":       {2, []int{2, 0}},
		"?limit=1&offset=1&status=pendingAcceptance": {2, []int{0}},
		"?limit=2&sort_key=updated_at":               {8, []int{1, 2}},
		"?limit=2&sort_key=created_at&sort_dir=asc":  {8, []int{100, 101}},
		"?id=" + endpointID(2):                       {1, []int{2}},
		"?id=" + endpointID(2) + "&status=accepted":  {0, nil},
		"?id=" + endpointID(55):                      {0, nil},
		"?limit=10&offset=8":                         {8, nil},
	} {
		var got struct {
			Connections []struct{ ID string }
			Total       int `json:"total_count"`
		}
		if err := getJSON(t.Context(), base+query, &got); err != nil {
			t.Fatal(err)
		}
		ids := []string{}
		for _, c := range got.Connections {
			ids = append(ids, c.ID)
		}
		expect := []string{}
		for _, n := range want.ids {
			expect = append(expect, endpointID(n))
		}
		if got.Total != want.total || strings.Join(ids, " ") != strings.Join(expect, " ") {
			t.Errorf("%s: %d, %v, want %d, %v", query, got.Total, ids, want.total, expect)
		}
	}
	s, err := c.stats(t.Context())
	if err != nil || s.Calls["action"] != 3 || s.total() != 13 || s.busiest() == 0 || s.mean() <= 0 {
		t.Errorf("stats %+v, %v", s, err)
	}
}

func TestUnknownRow(t *testing.T) {
	t.Parallel()
	if err := run(t.Context(), []string{"-row", "hold"}, os.Stderr); err == nil || !strings.Contains(err.Error(), `unknown row "hold"`) {
		t.Errorf("error %v", err)
	}
}
