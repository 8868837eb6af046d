package main

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync/atomic"

	"github.com/nats-io/nats.go"
)

// fromServer is the class of what the server sends: deliveries, answers and advisories.
const fromServer = ""

// classOf returns the kind of a message that a client sent, by its subject.
func classOf(m *nats.Msg) string {
	s := m.Subject
	switch {
	case strings.HasPrefix(s, "$JS.ACK."):
		if len(m.Data) > 0 && string(m.Data) != "+ACK" {
			return "progress, give back"
		}
		return "acknowledge"
	case strings.HasPrefix(s, "$JS.API.CONSUMER.MSG.NEXT."):
		return "pull"
	case strings.HasPrefix(s, "$JS.API.DIRECT.GET."), strings.HasPrefix(s, "$JS.API.STREAM.MSG.GET."):
		return "read"
	case strings.HasPrefix(s, "$JS.API."):
		return "other API"
	case strings.HasPrefix(s, "$KV.vpcep-workers."):
		return "heartbeat"
	case strings.HasPrefix(s, "$KV."):
		return "ledger write"
	case strings.HasPrefix(s, resultsSubject):
		return "result"
	case strings.HasPrefix(s, requestsSubject), strings.HasPrefix(s, "_INBOX."), strings.HasPrefix(s, "$JS.EVENT."):
		return fromServer
	}
	return "other"
}

// roundTrips returns the kinds of messages whose answer the sender waits for.
func roundTrips() []string { return []string{"read", "other API", "ledger write", "result"} }

// trips prints the messages that contenders send for a request. A subscription to
// everything slows the broker down, so rates are not measured here.
func (e *env) trips(ctx context.Context, name string, w workload) error {
	total := map[string]map[string]float64{}
	for _, c := range e.contenders() {
		counts, err := e.countMessages(ctx, c, w)
		if err != nil {
			return fmt.Errorf("%s: %w", c.name, err)
		}
		total[c.name] = counts
	}
	kinds := map[string]bool{}
	for _, counts := range total {
		for kind := range counts {
			kinds[kind] = true
		}
	}
	lines := [][]string{{name}}
	for _, c := range e.contenders() {
		lines[0] = append(lines[0], c.name)
	}
	sum := []string{"round trips"}
	for _, kind := range slices.Sorted(maps.Keys(kinds)) {
		line := []string{kind}
		for _, c := range e.contenders() {
			line = append(line, number(total[c.name][kind]))
		}
		lines = append(lines, line)
	}
	for _, c := range e.contenders() {
		n := 0.0
		for _, kind := range roundTrips() {
			n += total[c.name][kind]
		}
		sum = append(sum, number(n))
	}
	e.printf("\nmessages for each of %d requests; round trips are %s\n\n", w.n, strings.Join(roundTrips(), ", "))
	e.table(append(lines, sum))
	return nil
}

// countMessages counts what clients send between the first and the last result, for
// each request.
func (e *env) countMessages(ctx context.Context, c contender, w workload) (map[string]float64, error) {
	r, err := e.load(ctx, w)
	if err != nil {
		return nil, err
	}
	defer r.stop()
	spy, err := nats.Connect(r.broker.url)
	if err != nil {
		return nil, err
	}
	defer spy.Close()
	counts := map[string]float64{}
	var done atomic.Bool
	ended := make(chan struct{})
	sub, err := spy.Subscribe(">", func(m *nats.Msg) {
		if !done.Load() {
			counts[classOf(m)]++
		}
	})
	if err != nil {
		return nil, err
	}
	if err := sub.SetPendingLimits(-1, -1); err != nil {
		return nil, err
	}
	sub.SetClosedHandler(func(string) { close(ended) })
	if err := spy.Flush(); err != nil {
		return nil, err
	}
	if err := r.launch(ctx, c, false); err != nil {
		return nil, err
	}
	if _, err := r.finish(ctx); err != nil {
		return nil, err
	}
	if err := sub.Drain(); err != nil { // what was sent until here is still counted
		return nil, err
	}
	<-ended
	done.Store(true)
	for kind := range counts {
		counts[kind] /= float64(w.n)
	}
	delete(counts, fromServer)
	return counts, nil
}
