package main

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"
)

// token is what the API is called with, by all contenders. The API does not look
// at it: signing would cost the worker alone.
const token = "bench-token-of-no-other-use"

// settings is how a contender is started.
type settings struct {
	targets     int
	slots       int
	rate        int // calls a second
	concurrency int // concurrent calls
	policies    string
	stage       *stage
}

// contender is a program that handles the requests in the stream.
type contender struct {
	name  string
	start func(*env, settings) (*process, error)
}

const kindWorker = "worker"

// contenders returns those that -only chooses.
func (e *env) contenders() []contender {
	plain := func(kind string) contender {
		return contender{kind, func(e *env, s settings) (*process, error) {
			return e.start(kind, nil, e.self, childContender, "-kind", kind, "-nats", s.stage.broker.url, "-api", s.stage.cloud.url,
				"-policies", s.policies, "-targets", strconv.Itoa(s.targets), "-slots", strconv.Itoa(s.slots))
		}}
	}
	all := []contender{{kindWorker, startWorker}, plain(kindWatermill), plain(kindRaw)}
	if e.only == "" {
		return all
	}
	return slices.DeleteFunc(all, func(c contender) bool { return !slices.Contains(strings.Split(e.only, ","), c.name) })
}

func startWorker(e *env, s settings) (*process, error) {
	file, err := e.workerConfig(s)
	if err != nil {
		return nil, err
	}
	return e.start(kindWorker, workerEnv(), e.worker, "run", "--config", file)
}

// stableFor is how long policies must have been the same before they are loaded.
const stableFor = 100 * time.Millisecond

func workerEnv() []string { return []string{"APPROVER_CLOUD_TOKEN=" + token} }

// workerConfig writes a configuration, as JSON, which is YAML.
func (e *env) workerConfig(s settings) (string, error) {
	type target struct {
		Name      string `json:"name"`
		Kind      string `json:"kind"`
		ID        string `json:"id,omitempty"`
		ProjectID string `json:"project_id"`
	}
	var list []target
	for _, t := range targets(s.targets) {
		list = append(list, target{t.Name, string(t.Kind), t.ID, t.ProjectID})
	}
	endpoints := map[string]string{}
	for _, api := range []string{"vpcep", "apig", "functiongraph", "hss", "dataartsinsight", "iam"} {
		endpoints[api] = s.stage.cloud.url
	}
	text, err := json.Marshal(map[string]any{
		"nats": map[string]any{"url": s.stage.broker.url},
		"cloud": map[string]any{
			"region": region, "auth": map[string]any{"mode": "token"}, "endpoints": endpoints,
			"rate_per_second": s.rate, "concurrency": s.concurrency,
		},
		"policies": map[string]any{"dir": s.policies, "stable_for": stableFor.String()}, // it is never changed
		// One sweep at the start, as in production, and no other during a measurement.
		"sweep":   map[string]any{"interval": "24h"},
		"http":    map[string]any{"listen": "127.0.0.1:0", "probes": "127.0.0.1:0"}, // free ports
		"worker":  map[string]any{"slots": s.slots},
		"targets": list,
	})
	if err != nil {
		return "", err
	}
	dir, err := os.MkdirTemp(e.dir, "config.")
	if err != nil {
		return "", err
	}
	file := filepath.Join(dir, "worker.yaml")
	return file, os.WriteFile(file, text, 0o600)
}

// command runs a command of the worker to its end and returns its output, the most
// memory that it had, and how long it took.
func (e *env) command(ctx context.Context, config string, args ...string) (out string, peak int, took time.Duration, err error) {
	p, err := e.start("command", workerEnv(), e.worker, append(args, "--config", config)...)
	if err != nil {
		return "", 0, 0, err
	}
	// The peak that the kernel keeps for ended processes includes that of this
	// program, which forked it.
	tick := time.NewTicker(2 * time.Millisecond)
	defer tick.Stop()
	for {
		select {
		case <-p.ended:
			if p.err != nil {
				return "", 0, 0, p.failure(fmt.Errorf("worker %s: %w", strings.Join(args, " "), p.err))
			}
			return p.output(), peak, time.Since(p.started), nil
		case <-tick.C:
			if u, err := p.usage(); err == nil {
				peak = max(peak, u.peak)
			}
		case <-ctx.Done():
			_ = p.cmd.Process.Kill() // it may have ended
			return "", 0, 0, ctx.Err()
		}
	}
}
