package cloud

import (
	"context"
	"math/rand/v2"
	"sync"
	"time"

	"golang.org/x/time/rate"
)

const (
	minThrottlePause = 2 * time.Second  // after a throttling answer that names no time; doubles
	maxThrottlePause = 30 * time.Second // of such a pause
	maxRetryAfter    = time.Hour        // what more the cloud asks for is cut to this
	recoveryTime     = 30 * time.Second // from nothing up to the set rate
	maxRateCut       = 64               // the rate never falls below the set one divided by this
	maxPauseWait     = 5 * time.Second  // a longer pause is an error for the caller instead of a wait
	maxRateWait      = 30 * time.Second // so is a longer wait for a rate below one a second; see join
	maxRetryHint     = time.Minute      // what a caller who would wait longer is told to wait
)

// limit holds the calls to one API host to a rate and to a number at once.
//
// A throttling answer pauses all calls and halves the rate, which then rises
// steadily again up to the set one. Callers pass one after the other, in the
// order of their coming, so that a change of the rate or a pause holds from the
// very next call on.
type limit struct {
	api        string
	configured rate.Limit
	observer   Observer
	head       chan struct{} // held by the one whose turn it is to wait
	slots      chan struct{} // one for each call on its way

	mu          sync.Mutex
	limiter     *rate.Limiter
	queue       int           // callers who wait for the rate
	nextRetry   time.Time     // up to when calls are spoken for by callers who were sent away
	pausedUntil time.Time     // until then nobody calls
	cutAt       time.Time     // when the rate was lowered last
	recoveredAt time.Time     // up to when the rise has been added
	lastPause   time.Duration // the last one that we chose ourselves
}

func newLimit(api string, perSecond float64, concurrency int, obs Observer) *limit {
	burst := max(1, int(perSecond/10))
	if perSecond < 1 {
		perSecond *= 0.999 // rounding must not make one call more in a minute
	}
	return &limit{
		api: api, configured: rate.Limit(perSecond), observer: obs,
		head: make(chan struct{}, 1), slots: make(chan struct{}, concurrency),
		limiter: rate.NewLimiter(rate.Limit(perSecond), burst),
	}
}

// enter waits until a call may be made and counts it as on its way; leave ends
// that. It returns an error immediately if the host is paused for long, or if it
// would wait for a slow rate, see join.
func (l *limit) acquire(ctx context.Context, patient bool) error {
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
	select {
	case l.head <- struct{}{}:
		defer func() { <-l.head }()
	case <-ctx.Done():
		return ctx.Err()
	}
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

// join takes a place in the queue for the rate. Where calls are seldom nobody waits
// but one patient caller: requests must not hold their slots for minutes, and what
// follows a read, such as the creation that was looked for, must come next. Callers
// who are sent away are told different times, one call apart.
func (l *limit) enqueue(ctx context.Context, patient bool) error {
	_, pace := l.next() // raises the rate, if it is time
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
	e := &Error{API: l.api, Class: ClassThrottle, Text: "the set rate of calls is used up", Wait: l.nextRetry.Sub(now), notSent: true}
	if until, has := ctx.Deadline(); has && until.Before(now.Add(wait)) {
		e.Err = context.DeadlineExceeded
	}
	return e
}

func (l *limit) release() {
	l.observer.CloudInFlight(l.api, -1)
	<-l.slots
}

// wait waits for the end of a pause, then for the rate, and starts again if the
// host was paused meanwhile. dequeue is called when the call has its time.
func (l *limit) wait(ctx context.Context, dequeue func()) error {
	for {
		pause, pace := l.next()
		switch {
		case pause > maxPauseWait:
			return &Error{API: l.api, Class: ClassThrottle, Text: "the API asked for a pause", Wait: pause, notSent: true}
		case pause > 0:
			if err := sleep(ctx, pause); err != nil {
				return err
			}
			continue
		}
		if err := ctx.Err(); err != nil {
			return err
		}
		call := pace.Reserve()
		dequeue()
		delay := call.Delay()
		if until, has := ctx.Deadline(); has && until.Before(time.Now().Add(delay)) {
			call.Cancel()
			return context.DeadlineExceeded // it would end before our turn
		}
		if delay > 0 {
			if err := sleep(ctx, delay); err != nil {
				call.Cancel()
				return err
			}
		}
		if pause, _ := l.next(); pause <= 0 {
			return ctx.Err() // a call that nobody wants any more is not begun
		}
	}
}

// next returns what remains of a pause, and the pace as it is now.
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

// throttled takes note of a throttling answer to a call begun at start. after is
// the cloud's Retry-After, 0 if there was none. It returns how long to wait.
func (l *limit) throttled(start time.Time, after time.Duration) time.Duration {
	l.mu.Lock()
	now := time.Now()
	if !start.Before(l.cutAt) { // else it tells of the rate before the last cut
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

// rest takes note of a Retry-After in an answer that does not mean throttling.
func (l *limit) pauseFor(after time.Duration) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.extendPause(time.Now(), after)
}

// hold pauses the host for d, or for longer if it is already; with l.mu held.
func (l *limit) extendPause(now time.Time, d time.Duration) time.Duration {
	if until := now.Add(min(d, maxRetryAfter)); until.After(l.pausedUntil) {
		l.pausedUntil = until
	}
	if l.pausedUntil.After(l.recoveredAt) {
		l.recoveredAt = l.pausedUntil // the rise begins after the pause
	}
	return max(0, l.pausedUntil.Sub(now))
}

// served takes note of an answer that was none of throttling.
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
