package events

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"os"
	"sync"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/vpcep-approver/vpcep-approver/internal/approval"
)

// Heartbeats stores the status of each worker, in a bucket whose values expire
// after Config.heartbeatTTL; *ledger.Workers implements it.
type Heartbeats interface {
	// Store stores s as the latest heartbeat of its instance and returns the
	// revision. last is the revision of the one before; 0: there was none. The
	// error is approval.ErrInstanceDead if it came too late; any other is temporary.
	Store(ctx context.Context, s approval.WorkerStatus, last uint64) (uint64, error)
	// CheckLiveness reports whether another instance is alive. since is the revision of any
	// heartbeat after which every living worker has sent one.
	CheckLiveness(ctx context.Context, instance string, since uint64) (approval.Liveness, error)
}

// HeartbeatTTL is how long an instance counts as alive after its last heartbeat. A
// message of a worker that died is redelivered two thirds of AckWait later, or more:
// by then the instance must be dead.
func HeartbeatTTL(ackWait time.Duration) time.Duration { return ackWait * 6 / 10 }

func (c Config) heartbeatTTL() time.Duration { return HeartbeatTTL(c.AckWait) }

// presence tracks the heartbeats of this process and which other workers are alive.
// It is safe for concurrent use.
type presence struct {
	store Heartbeats
	ttl   time.Duration

	sending sync.Mutex // held while a heartbeat is sent

	mu        sync.Mutex
	status    approval.WorkerStatus // the constant part
	begun     time.Time             // when this instance first tried to send one; zero: not yet
	revision  uint64                // of the latest heartbeat; 0: none was acknowledged
	sent      time.Time             // when the latest acknowledged one was sent; zero: none
	judgeFrom time.Time             // liveness is not checked before
	recent    []sentHeartbeat       // of this instance, oldest first
	former    map[string]bool       // earlier instance ids of this process
	dead      map[string]bool       // other instances that were found dead, which is final
}

// sentHeartbeat is an acknowledged heartbeat.
type sentHeartbeat struct {
	at       time.Time
	revision uint64
}

const (
	maxRecent = 8
	maxDead   = 1 << 12 // instances
)

func newPresence(store Heartbeats, cfg Config) *presence {
	host, err := os.Hostname()
	if err != nil {
		host = "unknown"
	}
	p := &presence{store: store, ttl: cfg.heartbeatTTL(), former: map[string]bool{}, dead: map[string]bool{}}
	p.status = approval.WorkerStatus{Instance: newInstance(), Host: host, Version: cfg.Version, StartedAt: time.Now()}
	for _, t := range cfg.Targets {
		p.status.Targets = append(p.status.Targets, t.Name)
	}
	return p
}

func newInstance() string { return rand.Text()[:16] }

func (p *presence) instance() string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.status.Instance
}

// isOwn reports whether an instance id is, or was, that of this process.
func (p *presence) isOwn(instance string) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return instance == p.status.Instance || p.former[instance]
}

// lapsed reports whether no heartbeat was acknowledged for one TTL: other workers may
// declare this one dead.
func (p *presence) lapsed() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.sent.IsZero() || time.Since(p.sent) >= p.ttl
}

// reconnected suspends liveness checks for one TTL, in which every live worker sends a
// heartbeat.
func (p *presence) reconnected() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.judgeFrom = time.Now().Add(p.ttl)
}

// send sends a heartbeat; edit adds the variable part. If others have declared this
// instance dead, it returns that instance and continues as a new one; else "".
func (p *presence) send(ctx context.Context, edit func(*approval.WorkerStatus)) (former string, err error) {
	p.sending.Lock()
	defer p.sending.Unlock()
	p.mu.Lock()
	now := time.Now()
	// One that was sent and not acknowledged may be stored. After one TTL others may
	// have declared the instance dead, and after two nothing shows it any more. It has
	// taken no work, so another id costs nothing.
	if p.revision == 0 && !p.begun.IsZero() && now.Sub(p.begun) >= p.ttl {
		p.status.Instance, p.begun = newInstance(), time.Time{}
	}
	if p.begun.IsZero() {
		p.begun = now
	}
	s, last := p.status, p.revision
	p.mu.Unlock()
	edit(&s)
	s.SentAt = now
	revision, err := p.store.Store(ctx, s, last)
	p.mu.Lock()
	defer p.mu.Unlock()
	switch {
	case errors.Is(err, approval.ErrInstanceDead):
		former = p.status.Instance
		p.former[former] = true
		p.status.Instance = newInstance()
		p.begun, p.revision, p.recent, p.sent = time.Time{}, 0, nil, time.Time{}
		return former, err
	case err != nil:
		return "", err
	}
	// After a gap, other workers may have had the same and not be back yet.
	if p.sent.IsZero() || now.Sub(p.sent) > p.ttl*2/3 {
		p.judgeFrom = time.Now().Add(p.ttl)
	}
	p.revision, p.sent = revision, now
	if p.recent = append(p.recent, sentHeartbeat{now, revision}); len(p.recent) > maxRecent {
		p.recent = p.recent[len(p.recent)-maxRecent:]
	}
	return "", nil
}

// checkLiveness returns whether another instance is alive. While that is unknown, it
// also returns when to check again.
func (p *presence) checkLiveness(ctx context.Context, instance string) (approval.Liveness, time.Duration, error) {
	p.mu.Lock()
	dead, now := p.dead[instance], time.Now()
	wait, gap := p.judgeFrom.Sub(now), now.Sub(p.sent) > p.ttl*2/3
	var since uint64
	for _, b := range p.recent {
		if now.Sub(b.at) >= p.ttl*2/3 {
			since = b.revision
		}
	}
	p.mu.Unlock()
	switch {
	case dead:
		return approval.InstanceDead, 0, nil
	case wait > 0:
		return approval.InstanceUnknown, wait, nil
	case gap || since == 0:
		return approval.InstanceUnknown, p.ttl / 3, nil
	}
	is, err := p.store.CheckLiveness(ctx, instance, since)
	if err != nil {
		return approval.InstanceUnknown, 0, fmt.Errorf("check whether the worker %s is alive: %w", instance, err)
	}
	if is == approval.InstanceDead {
		p.mu.Lock()
		defer p.mu.Unlock()
		if len(p.dead) >= maxDead {
			clear(p.dead)
		}
		p.dead[instance] = true
	}
	return is, p.ttl / 3, nil
}

// sendHeartbeats sends a heartbeat each third of the TTL, and after a reconnection,
// until ctx ends.
func (c *consumeLoop) sendHeartbeats(ctx context.Context) {
	t := time.NewTicker(c.present.ttl / 3)
	defer t.Stop()
	warned := false
	for {
		select {
		case <-ctx.Done():
			return
		case <-t.C:
		case <-c.heartbeatNow:
		}
		if !c.set.Load() {
			continue
		}
		if c.nc.IsConnected() {
			c.sendHeartbeat(ctx)
		}
		switch lapsed := c.present.lapsed(); {
		case lapsed && !warned:
			warned = true
			c.interrupt() // the pull
			c.cfg.Log.Warn().Err(errLapsed).Msg("taking no new requests")
		case !lapsed && warned:
			warned = false
			c.cfg.Log.Info().Str("instance", c.present.instance()).Msg("heartbeats are stored again; taking new requests")
		}
	}
}

var errLapsed = errors.New("no heartbeat of this worker was stored for one TTL; other workers may declare it dead")

// sendHeartbeat sends one heartbeat, and writes pending edits of delivery records.
func (c *consumeLoop) sendHeartbeat(ctx context.Context) {
	// A slower one would delay the next.
	ctx, cancel := context.WithTimeout(ctx, max(c.present.ttl/3, time.Second))
	defer cancel()
	lapsed := c.present.lapsed()
	former, err := c.present.send(ctx, c.describe)
	if former != "" {
		c.warn(err, "continuing as a new instance")
		_, err = c.present.send(ctx, c.describe)
	}
	if err != nil {
		if !errors.Is(err, context.Canceled) {
			c.warn(err, "storing a heartbeat failed")
		}
		if errors.Is(err, jetstream.ErrNoStreamResponse) || errors.Is(err, nats.ErrNoResponders) {
			c.markSetupDirty() // the bucket may be deleted
		}
		return
	}
	if lapsed { // the consume loop waits for it
		select {
		case c.wake <- struct{}{}:
		default:
		}
	}
	if former != "" {
		c.moveMarks(ctx)
	}
	c.flushPendingEdits(ctx)
}

// describe fills in the variable part of s.
func (c *consumeLoop) describe(s *approval.WorkerStatus) {
	s.State, s.InFlight = approval.WorkerRunning, len(c.inFlight())
	if c.stopping.Load() {
		s.State = approval.WorkerStopping
	}
	if c.cfg.Describe != nil {
		c.cfg.Describe(s)
	}
}

// reportStopped sends the last heartbeat, which says that this worker ended with
// nothing in flight: a mark that it left is not a strike.
func (c *consumeLoop) reportStopped(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, flushWithin)
	defer cancel()
	c.flushPendingEdits(ctx)
	if c.present.lapsed() {
		return
	}
	_, err := c.present.send(ctx, func(s *approval.WorkerStatus) {
		c.describe(s)
		s.State = approval.WorkerStopped
	})
	if err != nil {
		c.warn(err, "storing the last heartbeat failed")
	}
}

// noLedger replaces stores that are not configured.
type noLedger struct{}

var errNoLedger = errors.New("no ledger is configured for the bus")

func (noLedger) Store(context.Context, approval.WorkerStatus, uint64) (uint64, error) {
	return 0, errNoLedger
}

func (noLedger) CheckLiveness(context.Context, string, uint64) (approval.Liveness, error) {
	return approval.InstanceUnknown, errNoLedger
}

func (noLedger) Revise(context.Context, *approval.DeliveryRecord, func(*approval.DeliveryRecord) error) error {
	return errNoLedger
}
func (noLedger) Poison(context.Context, string) (uint64, error)  { return 0, errNoLedger }
func (noLedger) SetPoison(context.Context, string, uint64) error { return errNoLedger }
