package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

// broker is a NATS server process.
type broker struct {
	*process
	url, monitor string
	nc           *nats.Conn
	js           jetstream.JetStream
}

// readyWithin is how long a program may take until it can be used.
const readyWithin = 30 * time.Second

func (e *env) startBroker(ctx context.Context) (*broker, error) {
	dir, err := os.MkdirTemp(e.dir, "jetstream.")
	if err != nil {
		return nil, err
	}
	// It chooses free ports, and writes them to a file.
	p, err := e.start("nats-server", nil, e.server, "-a", "127.0.0.1", "-p", "-1", "-m", "-1", "-js", "-sd", dir, "--ports_file_dir", dir)
	if err != nil {
		return nil, err
	}
	b := &broker{process: p}
	err = every(ctx, 10*time.Millisecond, readyWithin, func() (bool, error) {
		if b.url == "" && !b.readPorts(dir) {
			return false, nil
		}
		var err error
		b.nc, err = nats.Connect(b.url, nats.MaxReconnects(0))
		return err == nil, nil
	})
	if err == nil {
		b.js, err = jetstream.New(b.nc)
	}
	if err != nil {
		p.stop()
		return nil, p.failure(fmt.Errorf("start the NATS server: %w", err))
	}
	return b, nil
}

// readPorts reports whether the server has written its addresses to dir, as a whole.
func (b *broker) readPorts(dir string) bool {
	var ports struct{ NATS, Monitoring []string }
	files, _ := filepath.Glob(filepath.Join(dir, "*.ports")) // the pattern is right
	if len(files) != 1 {
		return false
	}
	text, err := os.ReadFile(files[0])
	if err != nil || json.Unmarshal(text, &ports) != nil || len(ports.NATS) == 0 || len(ports.Monitoring) == 0 {
		return false
	}
	b.url, b.monitor = ports.NATS[0], ports.Monitoring[0]
	return true
}

func (b *broker) stop() {
	if b.nc != nil {
		b.nc.Close()
	}
	b.process.stop()
}

// received returns the number of messages that the server got from its clients.
func (b *broker) received(ctx context.Context) (int, error) {
	var varz struct {
		In int `json:"in_msgs"`
	}
	return varz.In, getJSON(ctx, b.monitor+"/varz", &varz)
}

func getJSON(ctx context.Context, url string, into any) error {
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return err
	}
	answer, err := http.DefaultClient.Do(r)
	if err != nil {
		return err
	}
	defer answer.Body.Close() //nolint:errcheck // nothing depends on the end of a read
	return json.NewDecoder(answer.Body).Decode(into)
}

// load publishes the events of n requests and waits until all are stored.
func (b *broker) load(ctx context.Context, n int, event func(int) *event) error {
	for i := range n {
		e := event(i)
		if _, err := b.js.PublishAsync(e.subject(), e.encode(), jetstream.WithStallWait(10*time.Second)); err != nil {
			return err
		}
	}
	select {
	case <-b.js.PublishAsyncComplete():
	case <-ctx.Done():
		return ctx.Err()
	}
	s, err := b.js.Stream(ctx, requestsStream)
	if err != nil {
		return err
	}
	return stored(ctx, s, n)
}

// stored reports if stream s has not n messages.
func stored(ctx context.Context, s jetstream.Stream, n int) error {
	info, err := s.Info(ctx)
	if err != nil {
		return err
	}
	if got := asInt(info.State.Msgs); got != n {
		return fmt.Errorf("%d of %d messages are stored in %s", got, n, info.Config.Name)
	}
	return nil
}

// asInt converts a count of the broker.
func asInt(n uint64) int { return int(min(n, math.MaxInt)) }

// deliveries returns how many messages the consumer of the workers delivered, and
// how many different ones.
func (b *broker) deliveries(ctx context.Context) (all, different int, err error) {
	c, err := b.js.Consumer(ctx, requestsStream, consumerName)
	if err != nil {
		return 0, 0, err
	}
	d := c.CachedInfo().Delivered
	return asInt(d.Consumer), asInt(d.Stream), nil
}

// results counts the results that are published, each request once.
type results struct {
	sub *nats.Subscription

	mu      sync.Mutex
	seen    map[string]bool
	bodies  [][]byte // if kept
	keep    bool
	times   []time.Time
	changed chan struct{} // capacity 1
	atFirst func()        // called at the first result; may be nil
}

// watch counts results from here on.
func (b *broker) watch(keep bool, atFirst func()) (*results, error) {
	r := &results{seen: map[string]bool{}, keep: keep, changed: make(chan struct{}, 1), atFirst: atFirst}
	var err error
	r.sub, err = b.nc.Subscribe(resultsSubject+">", r.add)
	if err == nil {
		err = errors.Join(r.sub.SetPendingLimits(-1, -1), b.nc.Flush())
	}
	return r, err
}

func (r *results) add(m *nats.Msg) {
	now := time.Now()
	r.mu.Lock()
	if !r.seen[m.Subject] {
		r.seen[m.Subject] = true
		r.times = append(r.times, now)
		if len(r.times) == 1 && r.atFirst != nil {
			r.atFirst()
		}
		if r.keep {
			r.bodies = append(r.bodies, m.Data)
		}
	}
	r.mu.Unlock()
	select {
	case r.changed <- struct{}{}:
	default:
	}
}

// ages returns the seconds of each accepted request in the stages that decide and act, in
// order.
func (r *results) ages() ([]float64, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	var out []float64
	for _, body := range r.bodies {
		var result struct {
			Data struct {
				Outcome string
				Seconds map[string]float64
			}
		}
		if err := json.Unmarshal(body, &result); err != nil {
			return nil, fmt.Errorf("result: %w", err)
		}
		if result.Data.Outcome != accepted {
			return nil, fmt.Errorf("a result is %q instead of %q", result.Data.Outcome, accepted)
		}
		out = append(out, result.Data.Seconds["decide"]+result.Data.Seconds["act"])
	}
	slices.Sort(out)
	return out, nil
}

// progress is how many results there are, and when some of them came.
type progress struct {
	n                  int
	first, tenth, last time.Time
}

// rate returns the results a second after the first tenth of them, in which some
// contenders still start.
func (p progress) rate() float64 {
	if p.n < 2 {
		return 0
	}
	return float64(p.n-1-p.n/10) / p.last.Sub(p.tenth).Seconds()
}

func (r *results) progress() progress {
	r.mu.Lock()
	defer r.mu.Unlock()
	n := len(r.times)
	if n == 0 {
		return progress{}
	}
	return progress{n, r.times[0], r.times[n/10], r.times[n-1]}
}

// await returns once there are n results, when within is over, or when a process
// of those that make them ends.
func (r *results) await(ctx context.Context, n int, within time.Duration, ended <-chan struct{}) (progress, error) {
	timer := time.NewTimer(within)
	defer timer.Stop()
	for {
		if p := r.progress(); p.n >= n {
			return p, nil
		}
		select {
		case <-r.changed:
		case <-timer.C:
			return r.progress(), errTooLong
		case <-ended:
			return r.progress(), errors.New("the process has ended")
		case <-ctx.Done():
			return r.progress(), ctx.Err()
		}
	}
}
