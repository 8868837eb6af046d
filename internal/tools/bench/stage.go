package main

import (
	"context"
	"fmt"
	"math"
	"slices"
	"strings"
	"time"
)

// stage is what a contender runs on: a broker and an API, both new.
type stage struct {
	broker *broker
	cloud  *cloud
}

func (e *env) startStage(ctx context.Context, latency time.Duration) (*stage, error) {
	b, err := e.startBroker(ctx)
	if err != nil {
		return nil, err
	}
	c, err := e.startCloud(ctx, latency)
	if err != nil {
		b.stop()
		return nil, err
	}
	return &stage{b, c}, nil
}

func (s *stage) stop() {
	s.broker.stop()
	s.cloud.stop()
}

// workload is what contenders have to do, and with what.
type workload struct {
	n           int
	event       func(int) *event
	waiting     int // connections that wait for the requests, over all targets
	accepted    int // connections of each target that were accepted earlier
	targets     int
	latency     time.Duration
	slots       int
	rate        int
	concurrency int
	workers     int // processes; 0: one
	refuse      int // account that no rule allows; 0: none
	limit       int // of each rule; 0: none
}

// held is requests that end without a call.
func held(n int) workload {
	return workload{n: n, event: creationEvent, targets: 1, slots: 256, rate: 10_000, concurrency: 1024}
}

// accepts is requests that are accepted, with no limit but the number of slots.
func accepts(n int, latency time.Duration) workload {
	return acceptsOn(n, 1, latency)
}

func acceptsOn(n, targets int, latency time.Duration) workload {
	w := held(n)
	w.event = func(i int) *event { return connectionEvent(i, targets) }
	w.waiting, w.targets, w.latency = n, targets, latency
	return w
}

// running is a workload in progress.
type running struct {
	*stage
	env      *env
	work     workload
	settings settings
	written  time.Time // when the policies were
	results  *results
	workers  []*process

	received  int   // messages that the broker had before
	atFirst   usage // of the first worker, at the first result
	callsThen int   // calls at the first result
}

// begin starts w with contender c.
func (e *env) begin(ctx context.Context, c contender, w workload, keep bool) (*running, error) {
	r, err := e.load(ctx, w)
	if err != nil {
		return nil, err
	}
	if err := r.launch(ctx, c, keep); err != nil {
		r.stop()
		return nil, err
	}
	return r, nil
}

// load makes a stage with the requests of w in the stream, and the connections.
func (e *env) load(ctx context.Context, w workload) (*running, error) {
	s, err := e.startStage(ctx, w.latency)
	if err != nil {
		return nil, err
	}
	r := &running{stage: s, env: e, work: w}
	if err := r.fill(ctx); err != nil {
		r.stop()
		return nil, err
	}
	return r, nil
}

func (r *running) fill(ctx context.Context) error {
	dir, err := r.env.policies(r.work.targets, r.work.refuse, r.work.limit)
	if err != nil {
		return err
	}
	r.written = time.Now()
	w := r.work
	r.settings = settings{targets: w.targets, slots: w.slots, rate: w.rate, concurrency: w.concurrency, policies: dir, stage: r.stage}
	file, err := r.env.workerConfig(r.settings)
	if err != nil {
		return err
	}
	if _, _, _, err := r.env.command(ctx, file, "bus", "setup"); err != nil {
		return err
	}
	if err := r.broker.load(ctx, w.n, w.event); err != nil {
		return fmt.Errorf("load the requests: %w", err)
	}
	// The sweep leaves connections that are newer than the oldest event to the events.
	newest := time.Now().Add(2 * time.Second)
	for i := range w.targets {
		old := connections{Service: serviceID(i), State: accepted, First: 1_000_000 * (i + 1), Count: w.accepted, Newest: newest.Add(-time.Hour), Step: 1}
		if err := r.cloud.connect(ctx, old); err != nil {
			return err
		}
	}
	for i := range w.waiting { // connection i is of target i modulo their number, as the events say
		if w.targets == 1 {
			return r.cloud.connect(ctx, connections{Service: serviceID(0), State: pending, Count: w.waiting, Newest: newest})
		}
		if err := r.cloud.connect(ctx, connections{Service: serviceID(i % w.targets), State: pending, First: i, Count: 1, Newest: newest}); err != nil {
			return err
		}
	}
	return nil
}

// launch starts the contender. The worker waits at its start for policies that were
// written a moment ago, which those of production are not.
func (r *running) launch(ctx context.Context, c contender, keep bool) (err error) {
	if err := wait(ctx, time.Until(r.written.Add(2*stableFor))); err != nil {
		return err
	}
	if r.received, err = r.broker.received(ctx); err != nil {
		return err
	}
	if r.results, err = r.broker.watch(keep, func() {
		r.atFirst, _ = r.workers[0].usage() // one that has ended shows at the end
		if s, err := r.cloud.stats(ctx); err == nil {
			r.callsThen = s.total()
		}
	}); err != nil {
		return err
	}
	r.results.mu.Lock() // the first result waits until the processes are known
	defer r.results.mu.Unlock()
	for range max(1, r.work.workers) {
		p, err := c.start(r.env, r.settings)
		if err != nil {
			return err
		}
		r.workers = append(r.workers, p)
	}
	return nil
}

func (r *running) stop() {
	for _, p := range r.workers {
		p.stop()
	}
	r.stage.stop()
}

// measured is what one run showed.
type measured struct {
	progress
	toFirst  time.Duration // from the start of the process
	cpu      time.Duration // for 100,000 requests
	peak     int           // MiB
	messages float64       // into the broker, each request
	calls    float64       // each request
	stats    apiStats
}

// finish waits for all results and measures. With errTooLong, what it returns is
// what was seen until then.
func (r *running) finish(ctx context.Context) (measured, error) {
	p, late := r.results.await(ctx, r.work.n, r.env.limit, r.workers[0].ended)
	if p.n == 0 {
		return measured{}, r.workers[0].failure(fmt.Errorf("%w: %v", errNoResult, late)) //nolint:errorlint // without a result it is no measurement that was cut
	}
	u, err := r.workers[0].usage()
	if err != nil {
		return measured{}, err
	}
	m := measured{progress: p, toFirst: p.first.Sub(r.workers[0].started), peak: u.peak}
	m.cpu = (u.cpu - r.atFirst.cpu) * 100_000 / time.Duration(p.n)
	received, err := r.broker.received(ctx)
	if err != nil {
		return measured{}, err
	}
	m.messages = float64(received-r.received) / float64(p.n)
	if m.stats, err = r.cloud.stats(ctx); err != nil {
		return measured{}, err
	}
	m.calls = float64(m.stats.total()) / float64(p.n)
	return m, late
}

// measure runs w with c from the beginning to the end.
func (e *env) measure(ctx context.Context, c contender, w workload) (measured, error) {
	r, err := e.begin(ctx, c, w, false)
	if err != nil {
		return measured{}, err
	}
	defer r.stop()
	return r.finish(ctx)
}

// table writes lines in columns.
func (e *env) table(lines [][]string) {
	widths := map[int]int{}
	for _, line := range lines {
		for i, cell := range line {
			widths[i] = max(widths[i], len([]rune(cell)))
		}
	}
	rule := make([]string, len(lines[0]))
	for i := range rule {
		rule[i] = strings.Repeat("-", max(3, widths[i]))
	}
	for _, line := range slices.Insert(lines, 1, rule) {
		for i, cell := range line {
			e.printf("| %s%s ", cell, strings.Repeat(" ", max(0, max(3, widths[i])-len([]rune(cell)))))
		}
		e.printf("|\n")
	}
}

// median returns the middle value that of returns for in.
func median[T any](in []T, of func(T) float64) float64 {
	if len(in) == 0 {
		return math.NaN()
	}
	values := make([]float64, len(in))
	for i, x := range in {
		values[i] = of(x)
	}
	slices.Sort(values)
	if n := len(values); n%2 == 0 {
		return (values[n/2-1] + values[n/2]) / 2
	}
	return values[len(values)/2]
}

func number(x float64) string {
	switch {
	case math.IsNaN(x):
		return "-"
	case x >= 100:
		return fmt.Sprintf("%.0f", x)
	case x >= 10:
		return fmt.Sprintf("%.1f", x)
	}
	return fmt.Sprintf("%.2f", x)
}
