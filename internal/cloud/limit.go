package cloud

import (
	"context"
	"math"
	"math/rand/v2"
	"sync"
	"time"

	"golang.org/x/time/rate"
)

const (
	minThrottlePause = 2 * time.Second  // after a throttling response without Retry-After; doubles
	maxThrottlePause = 30 * time.Second // upper limit of such a pause
	maxRetryAfter    = time.Hour        // longer values of Retry-After are cut
	recoveryTime     = 30 * time.Second // from zero to the configured rate
	maxRateCut       = 64               // the rate stays above the configured one divided by this
	maxPauseWait     = 5 * time.Second  // a longer pause is returned as an error
	maxRateWait      = 30 * time.Second // as is a longer wait for a rate below one call per second, see enqueue
	maxRetryHint     = time.Minute      // longest retry time in such an error

	// A call leaves a moment after it was let pass, so a second counts with this margin.
	countedFor = time.Second + time.Second/50
)

// limit limits the rate and the concurrency of the calls to one API host. It is safe
// for concurrent use.
//
// A throttling response pauses all calls and halves the rate, which then rises
// linearly to the configured one. Callers pass one by one, see turns, so that a pause or
// a new rate applies from the next call on.
//
// The limiter keeps the mean rate and catches up after a delay. That alone lets more
// calls pass within one second, so the calls of the latest second are counted, too.
type limit struct {
	api      string
	fleet    rate.Limit // the configured rate, of all workers
	observer Observer
	head     turns         // held by the first in the queue
	slots    chan struct{} // one for each call in flight
	counted  chan struct{} // gets a token when an admitted call was sent, or will not be

	mu          sync.Mutex
	configured  rate.Limit    // this worker's share of the rate
	held        chan struct{} // closed when this worker gets a share; nil: it has one
	limiter     *rate.Limiter
	most        int         // calls within any second
	admitted    int         // calls that are neither sent nor given up yet
	sentAt      []time.Time // of the calls of the latest second, oldest first
	queue       int         // callers that wait for the rate
	nextRetry   time.Time   // latest retry time given to a rejected caller
	pausedUntil time.Time
	cutAt       time.Time     // last reduction of the rate
	recoveredAt time.Time     // the rise is applied up to this time
	lastPause   time.Duration // last one without Retry-After
}

func newLimit(api string, perSecond float64, concurrency int, obs Observer) *limit {
	if perSecond < 1 {
		perSecond *= 0.999 // rounding must not allow an extra call per minute
	}
	l := &limit{
		api: api, fleet: rate.Limit(perSecond), observer: obs,
		slots: make(chan struct{}, concurrency), counted: make(chan struct{}, 1),
	}
	l.configured, l.most = l.shareOf(1, 0)
	l.limiter = rate.NewLimiter(l.configured, burstOf(l.configured))
	return l
}

func burstOf(perSecond rate.Limit) int { return max(1, int(perSecond/10)) }

// shareOf returns the share of one of so many workers, of which rank come before it: its
// rate, and its most calls within any second. Whole calls are divided, so that all
// workers together make no more than the rate allows; only if there are more workers
// than calls, each may make one.
func (l *limit) shareOf(workers, rank int) (perSecond rate.Limit, most int) {
	all := int(math.Ceil(float64(l.fleet)))
	if workers > all {
		return l.fleet / rate.Limit(workers), 1
	}
	most = (all-1-rank)/workers + 1
	return l.fleet * rate.Limit(most) / rate.Limit(all), most
}

// divide gives this worker the share of one of so many workers, see shareOf; 0: none, so
// that calls wait until there is one.
func (l *limit) divide(workers, rank int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if workers == 0 {
		if l.held == nil {
			l.held = make(chan struct{})
		}
		return
	}
	share, most := l.shareOf(workers, min(rank, workers-1))
	now := time.Now()
	l.most = most
	if at := l.limiter.Limit(); at >= l.configured || at > share { // else it was throttled, and rises
		l.limiter.SetLimitAt(now, share)
	}
	l.limiter.SetBurstAt(now, burstOf(share))
	l.configured = share
	if l.held != nil {
		close(l.held)
		l.held = nil
	}
}

// perSecond is this worker's share of the rate.
func (l *limit) perSecond() float64 {
	l.mu.Lock()
	defer l.mu.Unlock()
	return float64(l.configured)
}

// waitForShare waits until this worker has a share of the rate.
func (l *limit) waitForShare(ctx context.Context) error {
	l.mu.Lock()
	held := l.held
	l.mu.Unlock()
	if held == nil {
		return nil
	}
	select {
	case <-held:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// acquire waits until a call may be made. The caller must call sent and, after the call,
// release; or releaseUnused.
// acquire returns an error immediately if the host is paused for long, or if the wait
// for a slow rate is long, see enqueue.
func (l *limit) acquire(ctx context.Context, of lane, patient bool) error {
	if err := l.waitForShare(ctx); err != nil {
		return err
	}
	if err := l.enqueue(ctx, patient); err != nil {
		return err
	}
	queued := true
	dequeue := func() {
		if queued {
			l.mu.Lock()
			l.queue--
			l.mu.Unlock()
			queued = false
		}
	}
	defer dequeue()
	if err := l.head.enter(ctx, of); err != nil {
		return err
	}
	defer l.head.leave()
	select {
	case l.slots <- struct{}{}:
	case <-ctx.Done():
		return ctx.Err()
	}
	if err := l.wait(ctx, dequeue); err != nil {
		<-l.slots
		return err
	}
	l.observer.CloudInFlight(l.api, 1)
	return nil
}

// enqueue joins the queue for the rate. Below one call per second only one patient
// caller may wait: requests must not occupy their slots for minutes, and the call
// that follows a read, such as a creation, must come next. Other callers get an error
// with a retry time, each a different one.
func (l *limit) enqueue(ctx context.Context, patient bool) error {
	_, pace := l.next() // applies the rise of the rate
	l.mu.Lock()
	defer l.mu.Unlock()
	now := time.Now()
	each := time.Duration(float64(time.Second) / float64(pace.Limit()))
	wait := time.Duration((float64(l.queue+1) - pace.TokensAt(now)) * float64(each))
	most := time.Second
	if patient {
		most = min(maxRateWait, each+time.Second)
	}
	if l.configured >= 1 || wait <= most {
		l.queue++
		return nil
	}
	l.nextRetry = l.nextRetry.Add(each)
	if first := now.Add(wait); l.nextRetry.Before(first) {
		l.nextRetry = first
	}
	if last := now.Add(maxRetryHint); l.nextRetry.After(last) {
		l.nextRetry = last
	}
	e := &Error{API: l.api, Class: ClassThrottle, Text: "the configured call rate is exhausted", Wait: l.nextRetry.Sub(now), notSent: true}
	if until, has := ctx.Deadline(); has && until.Before(now.Add(wait)) {
		e.Err = context.DeadlineExceeded
	}
	return e
}

func (l *limit) release() {
	l.observer.CloudInFlight(l.api, -1)
	<-l.slots
}

// releaseUnused is release for a call that was not made: the next one need not wait for it.
func (l *limit) releaseUnused() {
	_, pace := l.next()
	pace.ReserveN(time.Now(), -1)
	l.decided()
	l.release()
}

// wait waits for the end of a pause, then for the rate, and starts again if the host
// was paused meanwhile. It calls dequeue when the rate admits the call.
func (l *limit) wait(ctx context.Context, dequeue func()) error {
	for {
		pause, pace := l.next()
		switch {
		case pause > maxPauseWait:
			return &Error{API: l.api, Class: ClassThrottle, Text: "the API requested a pause", Wait: pause, notSent: true}
		case pause > 0:
			if err := sleep(ctx, pause); err != nil {
				return err
			}
			continue
		}
		if err := l.waitForSecond(ctx); err != nil {
			return err
		}
		call := pace.Reserve()
		dequeue()
		delay := call.Delay()
		if until, has := ctx.Deadline(); has && until.Before(time.Now().Add(delay)) {
			call.Cancel()
			return context.DeadlineExceeded // it would end during the wait
		}
		if delay > 0 {
			if err := sleep(ctx, delay); err != nil {
				call.Cancel()
				return err
			}
		}
		if pause, _ := l.next(); pause <= 0 {
			if err := ctx.Err(); err != nil {
				return err // a canceled call is not made
			}
			l.mu.Lock()
			l.admitted++
			l.mu.Unlock()
			return nil
		}
	}
}

// waitForSecond waits until another call may be made within the latest second. Only the
// first in the queue calls it.
func (l *limit) waitForSecond(ctx context.Context) error {
	for {
		wait := l.untilNext()
		if wait <= 0 {
			return ctx.Err()
		}
		timer := time.NewTimer(wait)
		select {
		case <-timer.C:
		case <-l.counted:
		case <-ctx.Done():
		}
		timer.Stop()
		if err := ctx.Err(); err != nil {
			return err
		}
	}
}

// untilNext returns how long no call may be made because of those of the latest second.
// A call that is given up may shorten that.
func (l *limit) untilNext() time.Duration {
	l.mu.Lock()
	defer l.mu.Unlock()
	now := time.Now()
	for len(l.sentAt) > 0 && now.Sub(l.sentAt[0]) >= countedFor {
		l.sentAt = l.sentAt[1:]
	}
	switch {
	case len(l.sentAt)+l.admitted < l.most:
		return 0
	case len(l.sentAt) == 0: // all of them are about to be sent
		return countedFor
	}
	return countedFor - now.Sub(l.sentAt[0])
}

// sent counts a call that is being sent.
func (l *limit) sent(at time.Time) {
	l.mu.Lock()
	l.sentAt = append(l.sentAt, at)
	l.mu.Unlock()
	l.decided()
}

// decided ends the admission of a call: it was sent, or it will not be.
func (l *limit) decided() {
	l.mu.Lock()
	l.admitted--
	l.mu.Unlock()
	select {
	case l.counted <- struct{}{}:
	default:
	}
}

// next returns the rest of the pause and the limiter with its current rate.
func (l *limit) next() (time.Duration, *rate.Limiter) {
	l.mu.Lock()
	defer l.mu.Unlock()
	now := time.Now()
	if now.Before(l.pausedUntil) {
		return l.pausedUntil.Sub(now), l.limiter
	}
	if at := l.limiter.Limit(); at < l.configured {
		rise := l.configured * rate.Limit(now.Sub(l.recoveredAt).Seconds()/recoveryTime.Seconds())
		l.limiter.SetLimitAt(now, min(l.configured, at+max(0, rise)))
		l.recoveredAt = now
	}
	return 0, l.limiter
}

// throttled handles a throttling response to a call that began at start. after is the
// Retry-After of the response, or 0. It returns the time to wait.
func (l *limit) throttled(start time.Time, after time.Duration) time.Duration {
	l.mu.Lock()
	now := time.Now()
	if !start.Before(l.cutAt) { // else the call was made before the last reduction
		l.lastPause = min(max(minThrottlePause, 2*l.lastPause), maxThrottlePause)
		l.limiter.SetLimitAt(now, max(l.limiter.Limit()/2, l.configured/maxRateCut))
		l.cutAt = now
		if after == 0 {
			after = l.lastPause + rand.N(l.lastPause/4) //nolint:gosec // jitter is no secret
		}
	}
	wait := l.extendPause(now, after)
	l.mu.Unlock()
	l.observer.CloudThrottled(l.api, wait)
	return wait
}

// pauseFor handles a Retry-After in a response that is not throttling.
func (l *limit) pauseFor(after time.Duration) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.extendPause(time.Now(), after)
}

// extendPause pauses the host for at least d. The caller holds l.mu.
func (l *limit) extendPause(now time.Time, d time.Duration) time.Duration {
	if until := now.Add(min(d, maxRetryAfter)); until.After(l.pausedUntil) {
		l.pausedUntil = until
	}
	if l.pausedUntil.After(l.recoveredAt) {
		l.recoveredAt = l.pausedUntil // the rise starts after the pause
	}
	return max(0, l.pausedUntil.Sub(now))
}

// succeeded handles a response that is not throttling.
func (l *limit) succeeded() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.lastPause = 0
}

// sleep waits for d or until ctx ends.
func sleep(ctx context.Context, d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}
