package promtest

import (
	"encoding/json"
	"fmt"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"go.yaml.in/yaml/v4"
)

// mayBeEmpty are the panels that the load need not fill, with the reason.
func mayBeEmpty() map[string]string {
	return map[string]string{
		"Credential expires in": "a key does not say when it expires",
		"Time to review":        "nobody reviews in the demo",
	}
}

// TestEveryQuery runs every query of every panel, variable, annotation, alert and
// recording rule on two workers under load, with and without native histograms.
func TestEveryQuery(t *testing.T) {
	if os.Getenv("APPROVER_TEST_PROMETHEUS") != "require" {
		t.Skip("two workers run for a minute; APPROVER_TEST_PROMETHEUS=require runs this with the prometheus of the PATH")
	}
	program, err := exec.LookPath("prometheus")
	if err != nil {
		t.Fatalf("Prometheus is not installed: %v", err)
	}
	l := startLoad(t)
	for _, mode := range []struct {
		name, features string
		native         bool
	}{
		{"classic histograms", "exemplar-storage", false},
		{"native histograms", "exemplar-storage,native-histograms", true},
	} {
		t.Run(mode.name, func(t *testing.T) {
			t.Parallel()
			s := startServer(t, program, l, mode.features)
			eventually(t, 3*time.Minute, "a minute of scrapes of both workers", func() bool {
				r, err := s.query(t, `count(sum_over_time(up[10m]) >= 30) == 2`, 0)
				return err == nil && r.series == 1
			})
			s.canFail(t)
			s.dashboards(t, mode.native)
			s.rules(t, mode.native)
			s.exemplars(t, mode.native)
		})
	}
}

type target struct {
	Expr    string
	Instant bool
}

type dashboard struct {
	Title  string
	Panels []struct {
		Title, Type string
		Targets     []target
	}
	Templating struct {
		List []struct {
			Name, Type string
			Query      any
		}
	}
	Annotations struct{ List []target }
}

func (s *server) dashboards(t *testing.T, native bool) {
	t.Helper()
	files, err := filepath.Glob("../../deploy/grafana/dashboards/*.json")
	if err != nil || len(files) < 3 {
		t.Fatalf("%d dashboards are there (%v)", len(files), err)
	}
	seen := map[string]bool{}
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		var d dashboard
		if err := json.Unmarshal(text, &d); err != nil {
			t.Fatal(err)
		}
		for _, v := range d.Templating.List {
			if v.Type == "query" {
				s.variable(t, d.Title+": variable "+v.Name, fmt.Sprint(v.Query))
			}
		}
		for i, a := range d.Annotations.List {
			s.panel(t, fmt.Sprintf("%s: annotation %d", d.Title, i), a, native, true)
		}
		for _, p := range d.Panels {
			_, quiet := mayBeEmpty()[p.Title]
			seen[p.Title] = true
			for _, q := range p.Targets {
				s.panel(t, d.Title+": "+p.Title, q, native, !quiet)
			}
		}
	}
	for title := range mayBeEmpty() {
		if !seen[title] {
			t.Errorf("there is no panel %s that may be empty", title)
		}
	}
}

// canFail proves that an expression with an error and one without data are found.
func (s *server) canFail(t *testing.T) {
	t.Helper()
	if _, err := s.query(t, "rate(up)", 0); err == nil {
		t.Error("an expression with an error passes")
	}
	if r, err := s.query(t, "vpcep_approver_decision_total", 40*time.Second); err != nil || r.series != 0 {
		t.Errorf("a metric that does not exist has %d series (%v)", r.series, err)
	}
	if r, err := s.query(t, "up * NaN", 40*time.Second); err != nil || r.series != 2 || r.numbers != 0 {
		t.Errorf("what is not a number has %d series and %d numbers (%v)", r.series, r.numbers, err)
	}
}

// variable runs the query of a variable, label_values(metric, label).
func (s *server) variable(t *testing.T, where, query string) {
	t.Helper()
	m := regexp.MustCompile(`^label_values\((.*), (\w+)\)$`).FindStringSubmatch(query)
	if m == nil {
		t.Errorf("%s: %s is not label_values(metric, label)", where, query)
		return
	}
	var values []string
	if err := s.get(t, "label/"+m[2]+"/values", url.Values{"match[]": {fill(m[1], ".*")}}, &values); err != nil || len(values) == 0 {
		t.Errorf("%s: %s has no values (%v)", where, query, err)
	}
}

// fill puts values in the place of Grafana's variables.
func fill(expr, value string) string {
	return strings.NewReplacer("$__rate_interval", "20s", "$__range", "60s", "$namespace", value, "$instance", value, "$target", value).Replace(expr)
}

// panel runs a query as Grafana does, with all values of its variables, and with
// one of each, which need not find anything.
func (s *server) panel(t *testing.T, where string, q target, native, filled bool) {
	t.Helper()
	over := 40 * time.Second
	if q.Instant {
		over = 0
	}
	expr := fill(q.Expr, ".*")
	r, err := s.query(t, expr, over)
	for tries := 0; filled && err == nil && r.numbers == 0 && tries < 15; tries++ {
		<-time.After(2 * time.Second) // the last scrape may have failed on a busy machine
		r, err = s.query(t, expr, over)
	}
	if err != nil {
		t.Errorf("%s: %v: %s", where, err, expr)
		return
	}
	if filled && r.numbers == 0 {
		t.Errorf("%s is empty: %d series without a number: %s", where, r.series, expr)
	}
	if _, err := s.query(t, fill(q.Expr, "one"), over); err != nil {
		t.Errorf("%s: %v: %s", where, err, fill(q.Expr, "one"))
	}
	s.selectors(t, where, expr, native)
}

// histograms are those of the worker; Prometheus stores them in one of two forms.
const histograms = `(_bucket|_sum|_count)$|duration_seconds$`

// selectors finds each metric of an expression, with its matchers, so that no part of it is always empty.
func (s *server) selectors(t *testing.T, where, expr string, native bool) {
	t.Helper()
	for _, m := range regexp.MustCompile(`((?:\b[a-z_]+:)?\b(?:vpcep_approver|process|go)_[\w:]+)(\{[^}]*\})?`).FindAllStringSubmatch(expr, -1) {
		if form := regexp.MustCompile(histograms).FindString(m[1]); form != "" && native == strings.HasPrefix(form, "_") {
			continue
		}
		if r, err := s.query(t, "count(last_over_time("+m[0]+"[10m]))", 0); err != nil || r.numbers == 0 {
			t.Errorf("%s: nothing is found (%v): %s", where, err, m[0])
		}
	}
}

func (s *server) rules(t *testing.T, native bool) {
	t.Helper()
	files, err := filepath.Glob("../../deploy/prometheus/*.rules.yaml")
	if err != nil || len(files) == 0 {
		t.Fatalf("no rules are there (%v)", err)
	}
	n := 0
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		var rules struct {
			Groups []struct {
				Rules []struct{ Alert, Record, Expr string }
			}
		}
		if err := yaml.Unmarshal(text, &rules); err != nil {
			t.Fatal(err)
		}
		for _, g := range rules.Groups {
			for _, rule := range g.Rules {
				n++
				name := rule.Alert + rule.Record
				if _, err := s.query(t, rule.Expr, 0); err != nil {
					t.Errorf("%s: %v", name, err)
				}
				s.selectors(t, name, rule.Expr, native)
				if rule.Record == "" {
					continue
				}
				if r, err := s.query(t, rule.Record, 40*time.Second); err != nil || r.numbers == 0 {
					t.Errorf("%s is empty (%v)", name, err)
				}
			}
		}
	}
	var loaded struct {
		Groups []struct {
			Rules []struct{ Name, Health, LastError, State string }
		}
	}
	if err := s.get(t, "rules", nil, &loaded); err != nil {
		t.Fatal(err)
	}
	// What is wrong in the demo: it sends false claims, unreadable events and denied accounts.
	expected := []string{"VpcepApproverClaimMismatches", "VpcepApproverDeadLetters", "VpcepApproverRejectionSurge"}
	for _, g := range loaded.Groups {
		for _, rule := range g.Rules {
			n--
			if rule.Health != "ok" {
				t.Errorf("%s is %s: %s", rule.Name, rule.Health, rule.LastError)
			}
			if rule.State == "firing" && !slices.Contains(expected, rule.Name) {
				t.Errorf("%s fires, and nothing is wrong", rule.Name)
			}
		}
	}
	if n != 0 {
		t.Errorf("%d rules more are in the files than Prometheus has loaded", n)
	}
}

// exemplars finds the trace of the requests that were sent with one.
func (s *server) exemplars(t *testing.T, native bool) {
	t.Helper()
	name := "vpcep_approver_request_duration_seconds_bucket"
	if native {
		name = strings.TrimSuffix(name, "_bucket")
	}
	var found []struct {
		Exemplars []struct{ Labels map[string]string }
	}
	args := url.Values{"query": {name}, "start": {fmt.Sprint(time.Now().Add(-10 * time.Minute).Unix())}, "end": {fmt.Sprint(time.Now().Unix())}}
	if err := s.get(t, "query_exemplars", args, &found); err != nil {
		t.Fatal(err)
	}
	for _, series := range found {
		for _, e := range series.Exemplars {
			if e.Labels["trace_id"] == trace {
				return
			}
		}
	}
	t.Errorf("%s has no exemplar with the trace %s: %v", name, trace, found)
}
