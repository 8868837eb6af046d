package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"time"
)

// cloud is a process of the fake API.
type cloud struct {
	*process
	url string
}

func (e *env) startCloud(ctx context.Context, latency time.Duration) (*cloud, error) {
	p, err := e.start("api", nil, e.self, childAPI, "-latency", latency.String())
	if err != nil {
		return nil, err
	}
	c := &cloud{process: p}
	err = every(ctx, 5*time.Millisecond, readyWithin, func() (bool, error) {
		line, found := strings.CutPrefix(p.output(), "listening on ")
		c.url = strings.TrimSpace(line)
		return found && strings.HasSuffix(line, "\n"), nil
	})
	if err != nil {
		p.stop()
		return nil, p.failure(fmt.Errorf("start the API: %w", err))
	}
	return c, nil
}

// connect makes connections.
func (c *cloud) connect(ctx context.Context, in connections) error {
	body, err := json.Marshal(in)
	if err != nil {
		return err
	}
	r, err := http.NewRequestWithContext(ctx, http.MethodPost, c.url+"/bench/connections", bytes.NewReader(body))
	if err != nil {
		return err
	}
	answer, err := http.DefaultClient.Do(r)
	if err != nil {
		return err
	}
	defer answer.Body.Close() //nolint:errcheck // nothing depends on it
	if answer.StatusCode != http.StatusOK {
		return fmt.Errorf("make connections: %s", answer.Status)
	}
	return nil
}

// stats returns what was called.
func (c *cloud) stats(ctx context.Context) (apiStats, error) {
	var s apiStats
	return s, getJSON(ctx, c.url+"/bench/stats", &s)
}
