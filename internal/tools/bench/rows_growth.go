package main

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"time"
)

// growthRows show how the cost of the worker grows with what it has to look at.
func growthRows() []row {
	return []row{
		{"queue", "20,000 requests queued on one target, 10 calls a second", queueRow},
		{"connections", "1,000 waiting on a target with many accepted connections, 500 calls a second", func(ctx context.Context, e *env) error {
			return e.connections(ctx, 500, e.limit)
		}},
		{"connections10", "the same at 10 calls a second, for 2 minutes each", func(ctx context.Context, e *env) error {
			return e.connections(ctx, 10, 2*time.Minute)
		}},
		{"limits", "the same with rules with a limit, 500 calls a second", func(ctx context.Context, e *env) error { return e.limits(ctx, 500) }},
		{"limits10", "the same at 10 calls a second, for a minute each", func(ctx context.Context, e *env) error { return e.limits(ctx, 10) }},
		{"targets", "1,000 targets with one request each", targetsRow},
		{"replicas", "two workers, 50 calls a second", replicasRow},
	}
}

// workerOnly returns the worker as a contender.
func workerOnly() contender { return contender{kindWorker, startWorker} }

// queueRow measures how often requests are delivered that have to wait for their turn.
func queueRow(ctx context.Context, e *env) error {
	w := accepts(e.count(20_000), 0)
	w.rate, w.concurrency = 10, 64
	r, err := e.begin(ctx, workerOnly(), w, false)
	if err != nil {
		return err
	}
	defer r.stop()
	if _, err := r.results.await(ctx, 1, e.limit, r.workers[0].ended); err != nil {
		return r.workers[0].failure(err)
	}
	// In the first third the worker fills up; the rest is how it goes on.
	if err := wait(ctx, e.limit/3); err != nil {
		return err
	}
	from, fromAt := r.results.progress(), time.Now()
	before, _, err := r.broker.deliveries(ctx)
	if err != nil {
		return err
	}
	if err := wait(ctx, e.limit*2/3); err != nil {
		return err
	}
	to := r.results.progress()
	after, different, err := r.broker.deliveries(ctx)
	if err != nil {
		return err
	}
	seconds, n := time.Since(fromAt).Seconds(), float64(to.n-from.n)
	e.table([][]string{
		{"queued", "window s", "results/s", "deliveries/s", "deliveries per result", "deliveries per request that was delivered"},
		{
			strconv.Itoa(w.n), number(seconds), number(n / seconds), number(float64(after-before) / seconds),
			number(float64(after-before) / n), number(float64(after) / float64(different)),
		},
	})
	return nil
}

// connections measures what an approval costs on targets with many connections.
func (e *env) connections(ctx context.Context, rate int, limit time.Duration) error {
	lines := [][]string{{"accepted before", "results", "results/s", "calls per result", "after the first result", "calls/s", "lists", "actions", "peak MiB"}}
	long := *e
	long.limit = limit
	for _, n := range []int{500, 5_000, 50_000, 100_000} {
		w := accepts(e.count(1_000), 0)
		w.accepted, w.rate, w.concurrency = n, rate, 64
		r, err := long.begin(ctx, workerOnly(), w, false)
		if err != nil {
			return err
		}
		m, err := r.finish(ctx)
		r.stop()
		if errors.Is(err, errNoResult) { // the others still tell something
			e.printf("%d connections: %v\n\n", n, err)
			continue
		}
		if err != nil && !errors.Is(err, errTooLong) {
			return fmt.Errorf("%d connections: %w", n, err)
		}
		after := float64(m.stats.total()-r.callsThen) / float64(max(1, m.n-1))
		lines = append(lines, []string{
			strconv.Itoa(n), strconv.Itoa(m.n), number(m.rate()), number(m.calls), number(after),
			strconv.Itoa(m.stats.busiest()), strconv.Itoa(m.stats.Calls["list"]), strconv.Itoa(m.stats.Calls["action"]), strconv.Itoa(m.peak),
		})
	}
	e.table(lines)
	return nil
}

// limits measures what an approval by a rule with a limit costs, which counts the accepted
// connections of the account. The age of a count is at most the time of a request in the
// stages that decide and act.
func (e *env) limits(ctx context.Context, rate int) error {
	lines := [][]string{{"accepted before", "results", "results/s", "calls per result", "pages of lists", "pages per result", "age of the count s: median", "longest"}}
	for _, n := range []int{500, 5_000, 50_000, 100_000} {
		w := accepts(e.count(1_000), 0)
		w.accepted, w.rate, w.concurrency, w.limit = n, rate, 64, maxLimit
		r, err := e.begin(ctx, workerOnly(), w, true)
		if err != nil {
			return err
		}
		m, err := r.finish(ctx)
		r.stop()
		if errors.Is(err, errNoResult) {
			e.printf("%d connections: %v\n\n", n, err)
			continue
		}
		if err != nil && !errors.Is(err, errTooLong) {
			return fmt.Errorf("%d connections: %w", n, err)
		}
		ages, err := r.results.ages()
		if err != nil {
			return err
		}
		lists := m.stats.Calls["list"]
		lines = append(lines, []string{
			strconv.Itoa(n), strconv.Itoa(m.n), number(m.rate()), number(m.calls), strconv.Itoa(lists), number(float64(lists) / float64(m.n)),
			number(ages[len(ages)/2]), number(ages[len(ages)-1]),
		})
	}
	e.table(lines)
	return nil
}

// maxLimit is a limit that is never reached.
const maxLimit = 1_000_000

// targetsRow measures many targets that have one request each.
func targetsRow(ctx context.Context, e *env) error {
	n := e.count(1_000)
	w := acceptsOn(n, n, 0)
	w.rate, w.concurrency = 500, 64
	r, err := e.begin(ctx, workerOnly(), w, false)
	if err != nil {
		return err
	}
	defer r.stop()
	m, err := r.finish(ctx)
	if err != nil && !errors.Is(err, errTooLong) {
		return err
	}
	all, _, err := r.broker.deliveries(ctx)
	if err != nil {
		return err
	}
	e.table([][]string{
		{"targets", "results", "results/s", "calls per request", "lists", "actions", "others", "deliveries per request"},
		{
			strconv.Itoa(n), strconv.Itoa(m.n), number(m.rate()), number(m.calls), strconv.Itoa(m.stats.Calls["list"]),
			strconv.Itoa(m.stats.Calls["action"]), strconv.Itoa(m.stats.Calls["service"]), number(float64(all) / float64(n)),
		},
	})
	return nil
}

// replicasRow measures the calls that two workers make together.
func replicasRow(ctx context.Context, e *env) error {
	const rate = 50
	lines := [][]string{{"workers", "results", "results/s", "calls/s", "busiest second"}}
	long := *e
	long.limit = min(e.limit, 40*time.Second)
	for _, workers := range []int{1, 2} {
		w := accepts(e.count(2_000), 0)
		w.rate, w.workers = rate, workers
		m, err := long.measure(ctx, workerOnly(), w)
		if err != nil && !errors.Is(err, errTooLong) {
			return err
		}
		lines = append(lines, []string{
			strconv.Itoa(workers), strconv.Itoa(m.n), number(m.rate()), number(m.stats.mean()), strconv.Itoa(m.stats.busiest()),
		})
	}
	e.printf("rate_per_second: %d\n\n", rate)
	e.table(lines)
	return nil
}
