package promtest

import (
	"encoding/json"
	"fmt"
	"math"
	"net/http"
	"net/url"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"
)

// server is a running Prometheus.
type server struct{ url string }

// startServer starts Prometheus with the rules of deploy/ on the targets of the load.
// Every two seconds all is scraped and evaluated.
func startServer(t *testing.T, program string, l *load, features string) *server {
	t.Helper()
	dir := t.TempDir()
	rules, err := filepath.Abs("../../deploy/prometheus")
	if err != nil {
		t.Fatal(err)
	}
	config := filepath.Join(dir, "prometheus.yaml")
	write(t, config, fmt.Sprintf(`global: {scrape_interval: 2s, scrape_timeout: 2s, evaluation_interval: 2s}
rule_files: [%q]
scrape_configs:
  - job_name: vpcep-approver
    static_configs: [{targets: ["%s"], labels: {namespace: test}}]
`, filepath.Join(rules, "*.rules.yaml"), strings.Join(l.targets, `", "`)))
	p := start(t, program, nil, "--config.file="+config, "--storage.tsdb.path="+filepath.Join(dir, "data"),
		"--web.listen-address=127.0.0.1:0", "--enable-feature="+features)
	return &server{url: "http://" + p.find(t, `msg="Listening on" address=(\S+)`)}
}

// get asks the API, and fails on an error and on a warning.
func (s *server) get(t *testing.T, path string, args url.Values, into any) error {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, s.url+"/api/v1/"+path+"?"+args.Encode(), http.NoBody)
	if err != nil {
		return err
	}
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		return err
	}
	defer res.Body.Close() //nolint:errcheck // it is read whole
	var answer struct {
		Status, Error string
		Warnings      []string
		Data          json.RawMessage
	}
	if err := json.NewDecoder(res.Body).Decode(&answer); err != nil {
		return fmt.Errorf("status %d: %w", res.StatusCode, err)
	}
	if answer.Status != "success" || len(answer.Warnings) > 0 {
		return fmt.Errorf("%s %s %q", answer.Status, answer.Error, answer.Warnings)
	}
	return json.Unmarshal(answer.Data, into)
}

// sample is a time and a value.
type sample [2]any

func (s sample) number() float64 {
	text, _ := s[1].(string)
	v, err := strconv.ParseFloat(text, 64)
	if err != nil {
		return math.NaN()
	}
	return v
}

// result is what a query found: how many series, and how many of their values are
// numbers.
type result struct{ series, numbers int }

func (s *server) query(t *testing.T, expr string, over time.Duration) (result, error) {
	t.Helper()
	args, path := url.Values{"query": {expr}}, "query"
	if over > 0 {
		now := time.Now()
		path = "query_range"
		args.Set("start", strconv.FormatInt(now.Add(-over).Unix(), 10))
		args.Set("end", strconv.FormatInt(now.Unix(), 10))
		args.Set("step", "2")
	}
	var data struct {
		ResultType string
		Result     []struct {
			Value      sample
			Values     []sample
			Histogram  json.RawMessage
			Histograms json.RawMessage
		}
	}
	if err := s.get(t, path, args, &data); err != nil {
		return result{}, err
	}
	r := result{series: len(data.Result)}
	for _, series := range data.Result {
		for _, v := range append(series.Values, series.Value) {
			if !math.IsNaN(v.number()) {
				r.numbers++
			}
		}
		if series.Histogram != nil || series.Histograms != nil {
			r.numbers++
		}
	}
	return r, nil
}
