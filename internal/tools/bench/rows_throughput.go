package main

import (
	"context"
	"errors"
	"fmt"
	"time"
)

// throughputRows compare the contenders on the same requests.
func throughputRows() []row {
	compare := func(name, about string, n int, of func(n int) workload) row {
		return row{name, about, func(ctx context.Context, e *env) error { return e.compare(ctx, of(e.count(n))) }}
	}
	return []row{
		compare("held", "requests that no rule allows, without a cloud call", 20_000, held),
		compare("accept", "accepted requests, API of 0 ms", 10_000, func(n int) workload { return accepts(n, 0) }),
		compare("accept5", "accepted requests, API of 5 ms", 10_000, func(n int) workload { return accepts(n, 5*time.Millisecond) }),
		compare("accept50", "accepted requests, API of 50 ms, 256 slots", 10_000, func(n int) workload { return accepts(n, 50*time.Millisecond) }),
		compare("accept50slots", "accepted requests, API of 50 ms, 1,024 slots; GOMEMLIMIT=400MiB is what deploy/ sets", 10_000, func(n int) workload {
			w := accepts(n, 50*time.Millisecond)
			w.slots = 1024
			return w
		}),
		{"trips", "messages that a request takes, by kind", func(ctx context.Context, e *env) error {
			return errors.Join(e.trips(ctx, "held", held(e.count(2_000))), e.trips(ctx, "accepted", accepts(e.count(2_000), 0)))
		}},
		{"start", "start of the process to its first result", startRow},
		{"memory", "memory: idle, and with 1,024 calls in flight", memoryRow},
	}
}

// compare runs all contenders on w in turn, several rounds, and prints medians.
func (e *env) compare(ctx context.Context, w workload) error {
	all := e.contenders()
	got := map[string][]measured{}
	for range e.rounds {
		for _, c := range all {
			m, err := e.measure(ctx, c, w)
			if errors.Is(err, errTooLong) {
				e.printf("%s: %d of %d results in %s\n", c.name, m.n, w.n, e.limit)
				err = nil
			}
			if err != nil {
				return fmt.Errorf("%s: %w", c.name, err)
			}
			got[c.name] = append(got[c.name], m)
		}
	}
	rate := func(m measured) float64 { return m.rate() }
	cpu := func(m measured) float64 { return m.cpu.Seconds() }
	lines := [][]string{{"contender", "requests/s", "CPU s per 100,000", "peak MiB", "messages in", "calls", "rate against Watermill", "CPU against Watermill"}}
	base := got[kindWatermill]
	for _, c := range all {
		m := got[c.name]
		lines = append(lines, []string{
			c.name, number(median(m, rate)), number(median(m, cpu)),
			number(median(m, func(m measured) float64 { return float64(m.peak) })),
			number(median(m, func(m measured) float64 { return m.messages })),
			number(median(m, func(m measured) float64 { return m.calls })),
			number(median(m, rate) / median(base, rate)), number(median(m, cpu) / median(base, cpu)),
		})
	}
	e.printf("%d requests, median of %d rounds\n\n", w.n, e.rounds)
	e.table(lines)
	return nil
}

// startRow measures the time from the start of a process to its first result.
func startRow(ctx context.Context, e *env) error {
	got := map[string][]measured{}
	rounds := max(e.rounds, e.count(11))
	for range rounds {
		for _, c := range e.contenders() {
			m, err := e.measure(ctx, c, accepts(1, 0))
			if err != nil {
				return fmt.Errorf("%s: %w", c.name, err)
			}
			got[c.name] = append(got[c.name], m)
		}
	}
	first := func(m measured) float64 { return float64(m.toFirst.Microseconds()) / 1000 }
	lines := [][]string{{"contender", "ms to the first result", "against the plain program"}}
	for _, c := range e.contenders() {
		ms := median(got[c.name], first)
		lines = append(lines, []string{c.name, number(ms), number(ms / median(got[kindRaw], first))})
	}
	e.printf("one request that is accepted, %d rules, median of %d rounds\n\n", domains, rounds)
	e.table(lines)
	return nil
}

// memoryRow measures the worker when it has nothing to do, and when many calls are
// in flight.
func memoryRow(ctx context.Context, e *env) error {
	const calls = 1024
	w := accepts(1, 0)
	r, err := e.begin(ctx, e.contenders()[0], w, false)
	if err != nil {
		return err
	}
	defer r.stop()
	if _, err := r.finish(ctx); err != nil {
		return err
	}
	if err := wait(ctx, 10*time.Second); err != nil {
		return err
	}
	idle, err := r.workers[0].usage()
	if err != nil {
		return err
	}
	w = accepts(e.count(calls+calls/16), 2*time.Second)
	w.slots = 4 * calls // of which one target gets less than half while it is slow
	busy, err := e.begin(ctx, e.contenders()[0], w, false)
	if err != nil {
		return err
	}
	defer busy.stop()
	m, err := busy.finish(ctx)
	if err != nil && !errors.Is(err, errTooLong) {
		return err
	}
	e.table([][]string{
		{"", "MiB"},
		{"idle for 10 s, resident", number(float64(idle.rss))},
		{fmt.Sprintf("%d calls in flight, peak", m.stats.Peak), number(float64(m.peak))},
	})
	return nil
}
