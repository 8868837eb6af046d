package events

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/vpcep-approver/vpcep-approver/internal/approval"
)

// Handler handles one request. nil means done. An error means that the request is
// redelivered: after RetryAfter() if the error has that method and it is positive,
// else after a growing backoff. ctx ends when the process is about to stop. It must
// be safe for concurrent use.
type Handler func(ctx context.Context, d *approval.Delivery) error

const (
	pullFor       = 5 * time.Second // an empty pull ends and is repeated
	pullHeartbeat = time.Second     // of the broker during a pull; two missed ones end it
	tick          = time.Second     // of the loop while it waits
	backlogEvery  = 5 * time.Second
	bindWithin    = 8 * time.Second
	answerWithin  = 3 * time.Second // for the first request of bindWithin
	settleWithin  = 3 * time.Second // for an ack, a nak or a dead letter
	lateSettle    = 4 * time.Second // for handlers to return after their context ended
	flushWithin   = time.Second

	pullRetryPause    = 250 * time.Millisecond // after a pull that failed, then twice as long and so on
	maxPullRetryPause = 15 * time.Second       // well below stalledAfter

	// A node of a cluster may fail for this long, and at two attempts, before
	// another node is tried; then twice as long and so on, up to maxNodePatience.
	nodePatience    = 5 * time.Second
	maxNodePatience = time.Minute
)

// consumeLoop is one run of Consume.
type consumeLoop struct {
	*Bus
	handle   Handler
	slots    chan struct{}   // holds a token for each delivery
	handlers context.Context //nolint:containedctx // of the handlers; ends after the shutdown grace
	done     sync.WaitGroup  // of the deliveries that hold a slot
	next     chan *delivery  // to goroutines that have handled one
	resting  chan struct{}   // holds a token for each of them

	// Used by the pulling goroutine only.
	failedPulls  int       // consecutive failed pulls
	lastWarning  string    // last logged warning; it is not repeated while nothing changes
	looked       time.Time // when requests were last looked for that could run
	pulledAnyway time.Time // when one was last pulled although others wait

	present   *presence
	isolation isolation
	set       atomic.Bool // whether setup succeeded once and a heartbeat was sent
	stopping  atomic.Bool // whether no more requests are pulled

	deliveriesMu sync.Mutex
	deliveries   map[messageKey]*delivery
	pending      map[messageKey]recordEdit // edits of delivery records that are not written yet
}

// messageKey identifies a stored message, even if the stream was recreated and
// counts from 1 again.
type messageKey struct {
	seq uint64
	at  int64 // when it was stored, in Unix nanoseconds
}

// Consume passes each request to handle, at most Config.Slots concurrently, until
// ctx ends or the connection is closed for good, which is ErrClosed. It pulls only
// for free slots, sends progress every third of AckWait, and settles each request by
// what handle returns.
//
// When ctx ends, nothing more is pulled. Requests in flight have
// Config.ShutdownGrace to finish; then they are given back immediately. Consume
// returns when all are settled. Only one Consume may run at a time.
func (b *Bus) Consume(ctx context.Context, handle func(context.Context, *approval.Delivery) error) error {
	if b.cfg.Ledger == nil {
		return errNoLedger
	}
	handlers, end := context.WithCancel(context.WithoutCancel(ctx))
	defer end()
	c := &consumeLoop{
		Bus: b, handle: handle, handlers: handlers,
		slots: make(chan struct{}, b.cfg.Slots), next: make(chan *delivery), resting: make(chan struct{}, maxResting), deliveries: map[messageKey]*delivery{}, pending: map[messageKey]recordEdit{},
		present: newPresence(b.heartbeats, b.cfg),
	}
	b.present.Store(c.present)
	defer b.present.Store(nil)
	var background sync.WaitGroup
	backgroundCtx, stopBackground := context.WithCancel(handlers)
	background.Go(func() { c.ackProgress(backgroundCtx) })
	background.Go(func() { c.watchBroker(backgroundCtx) })
	background.Go(func() { c.sendHeartbeats(backgroundCtx) })

	if a := b.cfg.Admission; a != nil {
		a.Open()
		defer context.AfterFunc(ctx, a.Close)()
	}
	err := c.run(ctx)
	c.stopping.Store(true)
	b.bound.Store(false)
	b.cfg.Observer.ConsumerBound(false)
	err = errors.Join(err, c.finish(end)) //nolint:contextcheck // settling goes on after ctx ends
	stopBackground()
	background.Wait()
	if err == nil && c.nc.IsConnected() {
		c.reportStopped(context.WithoutCancel(ctx))
	}
	b.loop.Store(0)
	return err
}

// run pulls until ctx ends.
func (c *consumeLoop) run(ctx context.Context) error {
	bound := false
	var since time.Time // of the first failure, or of the last switch of nodes
	left := nodePatience
	for failures := 0; ctx.Err() == nil; {
		c.recordTurn()
		switch {
		case c.nc.IsClosed():
			return c.closedError()
		case !c.nc.IsConnected():
			c.wait(ctx, tick)
			continue
		case !bound || c.setupDirty.Load():
			if failures == 0 {
				since, left = time.Now(), nodePatience
			}
			err := c.bind(ctx)
			if bound = err == nil; !bound {
				failures++
				if failures > 1 && time.Since(since) >= left && c.switchNode(err) {
					since, left = time.Now(), min(2*left, maxNodePatience)
				}
				c.wait(ctx, min(250*time.Millisecond<<min(failures, 3), 2*time.Second))
				continue
			}
			failures = 0
		case c.present.lapsed():
			c.wait(ctx, tick)
			continue
		}
		most := c.room(ctx)
		if most == 0 {
			continue
		}
		n, err := c.acquireSlots(ctx, most)
		if err != nil || n == 0 {
			continue
		}
		if err := c.pull(ctx, n); err != nil {
			bound = false
			c.pullFailed(ctx, err)
		}
	}
	return nil
}

// pullFailed waits after a failed pull; the wait grows. While pulls fail
// repeatedly, the worker is not ready even if the consumer exists.
func (c *consumeLoop) pullFailed(ctx context.Context, err error) {
	c.failedPulls++
	c.setupAt.Store(0)
	if c.failedPulls > 1 {
		c.setBound(false)
	}
	c.warnOnce(err, "pulling requests failed; checking the consumer")
	c.wait(ctx, min(pullRetryPause<<min(c.failedPulls-1, 8), maxPullRetryPause))
}

// pullServed records that the broker serves a pull.
func (c *consumeLoop) pullServed() {
	if c.failedPulls == 0 {
		return
	}
	c.failedPulls, c.lastWarning = 0, ""
	c.setBound(true)
}

func (c *consumeLoop) setBound(up bool) {
	c.bound.Store(up)
	c.cfg.Observer.ConsumerBound(up)
}

// warnOnce logs a warning unless the last one was the same.
func (c *consumeLoop) warnOnce(err error, text string) {
	if said := text + ": " + err.Error(); said != c.lastWarning {
		c.lastWarning = said
		c.warn(err, text)
	}
}

func (c *consumeLoop) recordTurn() { c.loop.Store(time.Now().UnixNano()) }

// wait waits for the connection, for d, or until ctx ends.
func (c *consumeLoop) wait(ctx context.Context, d time.Duration) {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
	case <-c.closed:
	case <-c.wake:
	case <-timer.C:
	}
}

// switchNode connects to another node if err may be specific to this node: a node
// that is cut off from its cluster keeps its clients, while JetStream goes on
// without it. It reports whether it did.
func (c *consumeLoop) switchNode(err error) bool {
	refused, ok := errors.AsType[*jetstream.APIError](err)
	unanswered := errors.Is(err, context.DeadlineExceeded) || errors.Is(err, nats.ErrNoResponders)
	unavailable := ok && refused.Code == http.StatusServiceUnavailable
	if c.nc.ConnectedClusterName() == "" || !unanswered && !unavailable {
		return false
	}
	c.warn(err, "JetStream does not answer on this node of the cluster; trying another")
	return c.nc.ForceReconnect() == nil
}

// bind creates or checks streams and buckets, and the consumer last.
func (c *consumeLoop) bind(ctx context.Context) error {
	// A broker that goes down leaves requests unanswered, so a reconnection
	// interrupts them.
	ctx, cancel := c.interruptible(ctx, bindWithin)
	defer cancel()
	c.setupDirty.Store(false)
	err := c.lookup(ctx)
	if errors.Is(err, context.Canceled) {
		return err // interrupted; bind is called again immediately
	}
	if err != nil {
		c.setBound(false)
		c.warnOnce(err, "no requests can be delivered")
		return err
	}
	if c.failedPulls <= 1 { // else ready once a pull is served
		c.setBound(true)
	}
	return nil
}

// errPaused means that the broker accepts pulls and serves none.
var errPaused = errors.New("the consumer " + ConsumerName + " is paused; end that with `nats consumer resume " + RequestsStream + " " + ConsumerName + "`")

func (c *consumeLoop) lookup(ctx context.Context) error {
	// While a cluster has no leader, requests are lost and stay unanswered after
	// the election. So the first one has a short timeout.
	asked, cancel := context.WithTimeout(ctx, answerWithin)
	info, err := c.consumerInfo(asked)
	cancel()
	if err != nil {
		return err
	}
	if info != nil && info.Paused {
		return errPaused
	}
	if info == nil || !c.justSetUp() {
		if err := c.Setup(ctx); err != nil {
			return err
		}
		consumer, err := c.js.Consumer(ctx, RequestsStream, ConsumerName)
		if err != nil {
			return apiError("bind the consumer "+ConsumerName, err)
		}
		info = consumer.CachedInfo()
	}
	c.reportBacklog(info)
	if c.present.lapsed() {
		c.sendHeartbeat(ctx)
	}
	c.set.Store(true)
	return nil
}

// interruptible returns a context that interrupt cancels.
func (b *Bus) interruptible(ctx context.Context, d time.Duration) (context.Context, context.CancelFunc) {
	ctx, cancel := context.WithTimeout(ctx, d)
	b.mu.Lock()
	defer b.mu.Unlock()
	b.stop = cancel
	return ctx, cancel
}

// acquireSlots acquires the free slots, at most so many, and returns their number. It
// waits up to one tick for the first.
func (c *consumeLoop) acquireSlots(ctx context.Context, most int) (int, error) {
	timer := time.NewTimer(tick)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return 0, ctx.Err()
	case <-timer.C:
		return 0, nil
	case c.slots <- struct{}{}:
	}
	for n := 1; n < most; n++ {
		select {
		case c.slots <- struct{}{}:
		default:
			return n, nil
		}
	}
	return most, nil
}

// finish waits for the requests in flight, gives back those that take too long, and
// flushes what was settled.
func (c *consumeLoop) finish(end context.CancelFunc) error {
	idle := make(chan struct{})
	go func() {
		c.done.Wait()
		close(idle)
	}()
	grace := time.NewTimer(c.cfg.ShutdownGrace)
	defer grace.Stop()
	var err error
	select {
	case <-idle:
	case <-c.closed:
		end()
		<-idle
	case <-grace.C:
		end()
		late := time.NewTimer(lateSettle)
		defer late.Stop()
		select {
		case <-idle:
		case <-late.C:
			if n := c.nakAll(); n > 0 {
				err = fmt.Errorf("%d requests were given back while their handlers were still running", n)
			}
		}
	}
	if !c.nc.IsConnected() {
		return err
	}
	if flushErr := c.nc.FlushTimeout(flushWithin); flushErr != nil {
		err = errors.Join(err, fmt.Errorf("flush acknowledgements to NATS: %w", flushErr))
	}
	return err
}

// ackProgress sends progress for every request in flight each third of AckWait.
func (c *consumeLoop) ackProgress(ctx context.Context) {
	t := time.NewTicker(c.cfg.AckWait / 3)
	defer t.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-t.C:
		}
		for _, d := range c.inFlight() {
			d.inProgress()
		}
	}
}

// inFlight returns the deliveries that this process handles now.
func (c *consumeLoop) inFlight() []*delivery {
	c.deliveriesMu.Lock()
	defer c.deliveriesMu.Unlock()
	return slices.Collect(maps.Values(c.deliveries))
}

// watchBroker reports the backlog to the observer, and detects a stream, bucket or
// consumer that was changed or deleted.
func (c *consumeLoop) watchBroker(ctx context.Context) {
	t := time.NewTicker(backlogEvery)
	defer t.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-t.C:
		}
		if c.nc.IsConnected() && c.bound.Load() {
			c.checkBroker(ctx)
		}
	}
}

func (c *consumeLoop) checkBroker(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, backlogEvery)
	defer cancel()
	if !c.justSetUp() {
		differences, err := c.Status(ctx)
		if err != nil {
			return // the next pull fails, too
		}
		if slices.ContainsFunc(differences, func(d Difference) bool { return d.Matters }) {
			c.markSetupDirty()
			return
		}
	}
	info, err := c.consumerInfo(ctx)
	if err != nil || info == nil {
		return
	}
	if info.Paused {
		c.markSetupDirty()
		return
	}
	c.reportBacklog(info)
}

func (c *consumeLoop) reportBacklog(info *jetstream.ConsumerInfo) {
	c.cfg.Observer.Backlog(clampInt(info.NumPending), info.NumAckPending, info.NumRedelivered)
}

func clampInt(n uint64) int { return int(min(n, 1<<53)) }
