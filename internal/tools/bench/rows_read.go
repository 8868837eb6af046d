package main

import (
	"context"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/vpcep-approver/vpcep-approver/internal/approval"
)

// readRows show what commands and decisions cost that look at much.
func readRows() []row {
	return []row{
		{"rules", "a decision by 10, 1,000 and 100,000 mixed rules, against OPA", rulesRow},
		{"ledger", "requests list and show on a ledger of 100,000", func(ctx context.Context, e *env) error { return e.ledger(ctx, e.count(100_000)) }},
		{"ledger1m", "the same on a ledger of 1,000,000; takes minutes to fill", func(ctx context.Context, e *env) error { return e.ledger(ctx, 1_000_000) }},
	}
}

// ledger measures the commands that read a ledger of n requests.
func (e *env) ledger(ctx context.Context, n int) error {
	r, err := e.begin(ctx, workerOnly(), accepts(1, 0), false)
	if err != nil {
		return err
	}
	defer r.stop()
	if _, err := r.finish(ctx); err != nil {
		return err
	}
	r.workers[0].stop() // nothing else uses the broker
	began := time.Now()
	if err := r.broker.multiply(ctx, n); err != nil {
		return fmt.Errorf("fill the ledger: %w", err)
	}
	e.printf("%d requests, filled in %.0f s, median of %d rounds\n\n", n, time.Since(began).Seconds(), e.rounds)
	if err := e.storage(ctx, r.broker, n); err != nil {
		return err
	}
	file, err := e.workerConfig(r.settings)
	if err != nil {
		return err
	}
	middle := approval.RequestID(source, connectionEvent(n/2, 1).ID)
	lines := [][]string{{"command", "s", "peak MiB"}}
	for _, args := range [][]string{
		{"requests", "list", "--limit", "10"},
		{"requests", "list", "--limit", "10", "--outcome", "held"},
		{"requests", "list", "--open", "--limit", "10"},
		{"requests", "show", middle},
		{"requests", "show", middle[:12]},
	} {
		type run struct {
			took time.Duration
			peak int
		}
		var runs []run
		for range e.rounds {
			out, peak, took, err := e.command(ctx, file, args...)
			if err != nil {
				return err
			}
			if args[1] == "show" && !strings.Contains(out, middle) {
				return fmt.Errorf("%v does not show request %s:\n%s", args, middle, out)
			}
			runs = append(runs, run{took, peak})
		}
		shown := strings.Join(args, " ")
		shown = strings.ReplaceAll(strings.ReplaceAll(shown, middle, "<id>"), middle[:12], "<12 digits>")
		lines = append(lines, []string{
			shown, number(median(runs, func(r run) float64 { return r.took.Seconds() })),
			number(median(runs, func(r run) float64 { return float64(r.peak) })),
		})
	}
	e.table(lines)
	return nil
}

// storage prints what n requests take in the broker: one version of each key, of which
// the bucket keeps up to eight, and the result.
func (e *env) storage(ctx context.Context, b *broker, n int) error {
	lines := [][]string{{"stream", "messages per request", "bytes per request"}}
	for _, name := range []string{requestsStream, "KV_" + ledgerBucket, resultsStream} {
		s, err := b.js.Stream(ctx, name)
		if err != nil {
			return err
		}
		stored, requests := s.CachedInfo().State, float64(n)
		if name == requestsStream {
			requests = 1 // it was not copied
		}
		lines = append(lines, []string{name, number(float64(stored.Msgs) / requests), number(float64(stored.Bytes) / requests)})
	}
	e.table(lines)
	u, err := b.usage()
	if err != nil {
		return err
	}
	e.printf("\nThe NATS server has %d MiB resident.\n\n", u.rss)
	return nil
}

// multiply copies what the broker holds of the request of connection 0, the newest
// version of each key and the result, to n requests with ids of their own.
func (b *broker) multiply(ctx context.Context, n int) error {
	var templates []*nats.Msg
	for _, name := range []string{"KV_" + ledgerBucket, resultsStream} {
		found, err := b.newest(ctx, name)
		if err != nil {
			return err
		}
		templates = append(templates, found...)
	}
	js, err := jetstream.New(b.nc, jetstream.WithPublishAsyncMaxPending(8_192), jetstream.WithPublishAsyncErrHandler(func(jetstream.JetStream, *nats.Msg, error) {}))
	if err != nil {
		return err
	}
	old := namesOf(0)
	for i := 1; i < n; i++ {
		replace := []string{}
		for k, name := range namesOf(i) {
			replace = append(replace, old[k], name)
		}
		replacer := strings.NewReplacer(replace...)
		for _, t := range templates {
			subject := replacer.Replace(t.Subject)
			if subject == t.Subject {
				continue // not about one request
			}
			m := &nats.Msg{Subject: subject, Header: t.Header, Data: []byte(replacer.Replace(string(t.Data)))}
			if _, err := js.PublishMsgAsync(m, jetstream.WithStallWait(time.Minute)); err != nil {
				return err
			}
		}
	}
	select {
	case <-js.PublishAsyncComplete():
	case <-ctx.Done():
		return ctx.Err()
	}
	s, err := b.js.Stream(ctx, resultsStream)
	if err != nil {
		return err
	}
	return stored(ctx, s, n)
}

// namesOf returns what tells request i from the others. The quotes keep an id from
// being found within a longer one.
func namesOf(i int) []string {
	event := connectionEvent(i, 1)
	request := approval.RequestID(source, event.ID)
	out := []string{request[:4] + "." + request, request, event.Data.EndpointID, strconv.Quote(event.ID)}
	if decision := approval.DecisionID(request); decision != request {
		out = append(out, decision)
	}
	return out
}

// newest returns the newest message of each subject of a stream, without headers
// that would make the broker refuse a copy.
func (b *broker) newest(ctx context.Context, stream string) ([]*nats.Msg, error) {
	s, err := b.js.Stream(ctx, stream)
	if err != nil {
		return nil, err
	}
	info, err := s.Info(ctx, jetstream.WithSubjectFilter(">"))
	if err != nil {
		return nil, err
	}
	var out []*nats.Msg
	for subject := range info.State.Subjects {
		m, err := s.GetLastMsgForSubject(ctx, subject)
		if err != nil {
			return nil, err
		}
		for name := range m.Header {
			if strings.HasPrefix(name, "Nats-") {
				m.Header.Del(name)
			}
		}
		out = append(out, &nats.Msg{Subject: m.Subject, Header: m.Header, Data: m.Data})
	}
	slices.SortFunc(out, func(a, b *nats.Msg) int { return strings.Compare(a.Subject, b.Subject) })
	return out, nil
}
