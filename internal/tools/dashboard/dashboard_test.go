package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/grafana/grafana-foundation-sdk/go/cog"
	"github.com/grafana/grafana-foundation-sdk/go/cog/plugins"
	"github.com/grafana/grafana-foundation-sdk/go/dashboard"
	"github.com/grafana/grafana-foundation-sdk/go/prometheus"
)

// TestCommitted: the files are what the code makes, and nothing else is there.
func TestCommitted(t *testing.T) {
	files, err := generate()
	if err != nil {
		t.Fatal(err)
	}
	for name, want := range files {
		got, err := os.ReadFile(filepath.Join(dir, name))
		if err != nil || !bytes.Equal(got, want) {
			t.Errorf("%s is not what the code makes (%v): go -C internal/tools/dashboard run .", name, err)
		}
	}
	committed, err := filepath.Glob(filepath.Join(dir, "*"))
	if err != nil || len(committed) != len(files) {
		t.Errorf("%d files are committed and %d are made (%v)", len(committed), len(files), err)
	}
	again, err := generate()
	for name := range files {
		if err != nil || !bytes.Equal(files[name], again[name]) {
			t.Errorf("%s is not the same when it is made again (%v)", name, err)
		}
	}
}

// read reads a dashboard strictly. The strict reader finds the faults and keeps no
// panel; another one keeps them.
func read(data []byte) (classic, error) {
	var strict, d classic
	var faults cog.BuildErrors
	err := strict.UnmarshalJSONStrict(data) // never nil: without a fault it is an empty list
	if err != nil && (!errors.As(err, &faults) || len(faults) > 0) {
		return d, err
	}
	return d, json.Unmarshal(data, &d)
}

// TestStrict: the dashboards read back without a fault, and the reader finds faults.
func TestStrict(t *testing.T) {
	plugins.RegisterDefaultPlugins()
	files, err := generate()
	if err != nil {
		t.Fatal(err)
	}
	for name, data := range files {
		d, err := read(data)
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		for _, fault := range check(d) {
			t.Errorf("%s: %s", name, fault)
		}
		for _, wrong := range [][2]string{
			{`"legendFormat"`, `"legendFormatt"`}, {`"reduceOptions"`, `"reduceOption"`}, {`"refresh": "30s"`, `"refreshh": "30s"`}, {`"calcs"`, `"calculations"`},
		} {
			if broken := strings.Replace(string(data), wrong[0], wrong[1], 1); broken != string(data) {
				if _, err := read([]byte(broken)); err == nil {
					t.Errorf("%s: %s is read for %s", name, wrong[1], wrong[0])
				}
			}
		}
	}
}

// TestOwnRules: what the strict reader does not see is found.
func TestOwnRules(t *testing.T) {
	plugins.RegisterDefaultPlugins()
	files, err := generate()
	if err != nil {
		t.Fatal(err)
	}
	data := string(files[overviewUID+".json"])
	for _, wrong := range [][3]string{
		{`"id": 2,`, `"id": 1,`, "same id"},
		{`"unit": "percentunit"`, `"unit": ""`, "no unit"},
		{`"unit": "percentunit"`, `"unit": "percents"`, "unit"},
		{`"type": "timeseries"`, `"type": "timeserie"`, "type"},
		{`[$__rate_interval]`, `[5m]`, "$__rate_interval"},
		{`vpcep_approver_decisions_total`, `vpcep_approver_decision_total`, "not in docs/metrics.md"},
		{`"uid": "${datasource}"`, `"uid": "prometheus"`, "data source"},
		{`namespace=~\"$namespace\"`, `namespace=~\"$namespaces\"`, "variable"},
		{`namespace=~\"$namespace\", `, ``, "$namespace"},
		{`/d/vpcep-approver-operations`, `/d/vpcep-approver-operation`, "link"},
		{`#vpcepapproverdown`, `#vpcepapproverup`, "link"},
		{`"description": "Requests that got`, `"descriptio": "Requests that got`, ""},
	} {
		if !strings.Contains(data, wrong[0]) {
			t.Errorf("there is no %s to replace", wrong[0])
			continue
		}
		d, err := read([]byte(strings.Replace(data, wrong[0], wrong[1], 1)))
		found := strings.Join(check(d), "\n")
		if err == nil && !strings.Contains(found, wrong[2]) {
			t.Errorf("%s for %s is not found: %s", wrong[1], wrong[0], found)
		}
	}
}

// check returns what is wrong with a dashboard beyond the spelling of its keys.
func check(d classic) []string {
	var faults []string
	fault := func(format string, args ...any) { faults = append(faults, fmt.Sprintf(format, args...)) }
	known, err := names()
	if err != nil {
		return []string{err.Error()}
	}
	variables := []string{"datasource", "__rate_interval", "__range"}
	for _, v := range d.Templating.List {
		variables = append(variables, v.Name)
	}
	for _, want := range []string{"datasource", "namespace", "target", "instance"} {
		if !slices.Contains(variables[3:], want) {
			fault("there is no variable %s", want)
		}
	}
	expr := func(where, text string) {
		for _, m := range regexp.MustCompile(`\$\{?(\w+)`).FindAllStringSubmatch(text, -1) {
			if !slices.Contains(variables, m[1]) {
				fault("%s: there is no variable %s: %s", where, m[1], text)
			}
		}
		for _, name := range regexp.MustCompile(`\bvpcep_\w+`).FindAllString(text, -1) {
			if !known[name] {
				fault("%s: %s is not in docs/metrics.md", where, name)
			}
		}
		for _, window := range regexp.MustCompile(`\[[^\]]*\]`).FindAllString(text, -1) {
			if window != "[$__rate_interval]" && window != "[$__range]" {
				fault("%s: %s instead of $__rate_interval or $__range: %s", where, window, text)
			}
		}
		if n := len(regexp.MustCompile(`\b(vpcep|process|go)_\w+`).FindAllString(text, -1)); strings.Count(text, `namespace=~"$namespace"`) != n {
			fault("%s: not every metric is that of $namespace: %s", where, text)
		}
	}
	link := func(where, url string) {
		if err := resolves(url); err != nil {
			fault("%s: the link %s: %v", where, url, err)
		}
	}
	for _, a := range d.Annotations.List {
		expr("annotation "+a.Name, *a.Expr)
	}
	for _, l := range d.Links {
		link(l.Title, *l.Url)
	}
	ids, panels := map[uint32]bool{}, 0
	for _, p := range d.Panels {
		if r := p.RowPanel; r != nil {
			if ids[r.Id] {
				fault("row %q has the same id as another panel: %d", *r.Title, r.Id)
			}
			ids[r.Id] = true
			continue
		}
		panels++
		checkPanel(p.Panel, ids, fault, expr, link)
	}
	if panels < 5 {
		fault("%d panels: is the dashboard read right?", panels)
	}
	return faults
}

func checkPanel(p *dashboard.Panel, ids map[uint32]bool, fault func(string, ...any), expr, link func(string, string)) {
	title := *p.Title
	switch {
	case p.Id == nil || ids[*p.Id]:
		fault("%s has no id, or the same id as another panel", title)
	case p.Description == nil || *p.Description == "":
		fault("%s has no description", title)
	case p.FieldConfig == nil || p.FieldConfig.Defaults.Unit == nil || *p.FieldConfig.Defaults.Unit == "":
		fault("%s has no unit", title)
	case !slices.Contains([]string{"short", "s", "reqps", "percentunit", "bytes"}, *p.FieldConfig.Defaults.Unit):
		fault("%s: the unit %s is not one of ours", title, *p.FieldConfig.Defaults.Unit)
	case !slices.Contains([]string{"timeseries", "stat", "bargauge", "table", "state-timeline"}, p.Type):
		fault("%s: the type %s is not one of ours", title, p.Type)
	}
	if p.Id != nil {
		ids[*p.Id] = true
	}
	if p.Datasource == nil || *p.Datasource.Uid != "${datasource}" {
		fault("%s: the data source is not the variable", title)
	}
	if len(p.Targets) == 0 {
		fault("%s has no query", title)
	}
	for _, target := range p.Targets {
		q, ok := target.(*prometheus.Dataquery)
		if !ok {
			fault("%s: %T is no query of Prometheus", title, target)
			continue
		}
		if q.Datasource == nil || *q.Datasource.Uid != "${datasource}" {
			fault("%s: the data source of a query is not the variable", title)
		}
		expr(title, q.Expr)
	}
	for _, l := range p.Links {
		link(title, *l.Url)
	}
}

// names are those of docs/metrics.md, with the parts of histograms.
func names() (map[string]bool, error) {
	text, err := os.ReadFile("../../../docs/metrics.md")
	if err != nil {
		return nil, err
	}
	out := map[string]bool{}
	for _, m := range regexp.MustCompile("(?m)^\\| `(\\w+)` \\| (\\w+)").FindAllStringSubmatch(string(text), -1) {
		out[m[1]] = true
		if m[2] == "histogram" {
			out[m[1]+"_bucket"], out[m[1]+"_sum"], out[m[1]+"_count"] = true, true, true
		}
	}
	if len(out) < 40 {
		return nil, fmt.Errorf("%d metrics are found in docs/metrics.md: is it read right?", len(out))
	}
	return out, nil
}

// resolves reports where a link leads to nothing.
func resolves(url string) error {
	switch {
	case strings.HasPrefix(url, "/d/"):
		if uid := strings.TrimPrefix(url, "/d/"); !slices.Contains([]string{overviewUID, operationsUID, policiesUID}, uid) {
			return fmt.Errorf("there is no dashboard %s", uid)
		}
	case strings.HasPrefix(url, runbook):
		anchor := strings.TrimPrefix(strings.TrimPrefix(url, runbook), "#")
		text, err := os.ReadFile("../../../docs/runbook.md")
		if err != nil {
			return err
		}
		if anchor != "" && !strings.Contains(strings.ToLower(string(text)), "\n## "+anchor+"\n") {
			return fmt.Errorf("the runbook has no section %s", anchor)
		}
	case url == traces:
		var panes map[string]struct{ Datasource string }
		if err := json.Unmarshal([]byte(strings.TrimPrefix(url, "/explore?schemaVersion=1&panes=")), &panes); err != nil {
			return err
		}
		text, err := os.ReadFile("../../../deploy/grafana/provisioning/datasources/datasources.yaml")
		if err != nil {
			return err
		}
		if uid := panes["t"].Datasource; !strings.Contains(string(text), "uid: "+uid+"\n") {
			return fmt.Errorf("there is no data source %s", uid)
		}
	default:
		return errors.New("it leads neither to a dashboard, nor to the runbook, nor to traces")
	}
	return nil
}

// TestNoMetricIsForgotten: each metric of the worker is in a panel, but for those
// that are named here with the reason.
func TestNoMetricIsForgotten(t *testing.T) {
	known, err := names()
	if err != nil {
		t.Fatal(err)
	}
	files, err := generate()
	if err != nil {
		t.Fatal(err)
	}
	var all strings.Builder
	for _, data := range files {
		all.Write(data)
	}
	for name := range known {
		if regexp.MustCompile(`_(bucket|sum|count)$`).MatchString(name) {
			continue // parts of a histogram
		}
		if !regexp.MustCompile(`\b` + name + `(_bucket|_sum|_count)?\b`).MatchString(all.String()) {
			t.Errorf("%s is in no panel", name)
		}
	}
}
