package policy

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/vpcep-approver/vpcep-approver/internal/approval"
)

// Observer is called after every attempt to load the policies; metrics.Reloads
// implements it. digest, policies and rules are those of the set in use, which is
// the last good one if ok is false.
type Observer interface {
	PolicyReloaded(ok bool, digest string, policies, rules int)
}

// Source holds the set in use and loads a new one when the files change. A folder
// that changes may still be being written, and a part of a deny list looks like a
// whole one: content is loaded once it has been the same for StableFor. A set with an
// error is not taken: the last good one stays. Until one was loaded everything is
// held. It is safe for concurrent use.
type Source struct {
	dir     string
	targets approval.Targets
	obs     Observer
	current atomic.Pointer[Set]

	// StableFor is how long the content of the folder must have been the same before
	// it is loaded. Set before first use.
	StableFor time.Duration
	// OnError, if set, is called with the reason why policies were not loaded, once for
	// each content of the folder. Set before Load.
	OnError func(error)
	// Shadow, if set, is a source of candidate policies, in addition to those in force.
	// Decision.Shadow reports what they would decide, instead of what the shadow
	// policies of the set in force would. They never act. Set it before Load, and load
	// and watch it like any other source.
	Shadow *Source
	// Check, if set, may refuse a set that loads, before it is in use. Set
	// before Load.
	Check func(*Set) error
	// OnReload, if set, is called with each new set after it is in use. Set before
	// Load.
	OnReload func(*Set)

	wake          chan struct{} // wakes Watch when a change is pending
	loading       sync.Mutex    // one load at a time
	tried         string        // the content that was loaded or refused last
	seen          string        // the content and the times of files at the last look: the same content could be that of two writes
	since         time.Time     // when seen was first seen
	version       string        // where ..data pointed at the last look
	changingSince time.Time     // since when the folder has not come to rest; zero: it has, or that was reported
}

// DefaultStableFor is StableFor of a new source.
const DefaultStableFor = 5 * time.Second

// NewSource returns a source of the policies in the folder dir. It reads nothing
// yet. obs may be nil.
func NewSource(dir string, targets approval.Targets, obs Observer) *Source {
	return &Source{dir: dir, targets: targets, obs: obs, StableFor: DefaultStableFor, wake: make(chan struct{}, 1)}
}

// Current returns the set in use; nil before the first good Load.
func (s *Source) Current() *Set { return s.current.Load() }

// Evaluate decides in by the set in use.
func (s *Source) Evaluate(in *approval.Input) approval.Decision {
	d := s.Current().Evaluate(in)
	if s.Shadow != nil && s.Shadow.Loaded() {
		d.Shadow = s.Shadow.Current().Would(in)
	}
	return d
}

// Loaded reports whether there is a set in use.
func (s *Source) Loaded() bool { return s.Current() != nil }

// UnstableError means that the folder has changed a moment ago, so that it may
// still be being written. It is loaded by Watch once it has come to rest.
type UnstableError struct {
	Dir string
	For time.Duration // how long it must stay the same
}

func (e *UnstableError) Error() string {
	return fmt.Sprintf("policies in %s: the folder changed within the last %s, so a write may be in progress; it is loaded once it has not changed for that long", e.Dir, e.For)
}

// Load reads the folder now, whether or not it changed: at the start, and when
// an operator asks for it. An error leaves the set in use as it is; it is an
// UnstableError unless the change times of all files prove that they are complete,
// or the content is known already.
func (s *Source) Load(ctx context.Context) error {
	s.loading.Lock()
	defer s.loading.Unlock()
	snap, err := s.read(ctx)
	switch {
	case ctx.Err() != nil:
		return err
	case errors.Is(err, errChanging):
		return s.unstable()
	case err != nil:
		s.note(err.Error(), snap)
		return s.refuse(err.Error(), err)
	}
	content := snap.fingerprint()
	wait, swapped := s.note(content, snap)
	if content != s.tried && !swapped && wait > 0 && !snap.stableAt(time.Now(), s.StableFor) {
		return s.unstable()
	}
	return s.take(snap, content)
}

func (s *Source) unstable() error {
	select {
	case s.wake <- struct{}{}:
	default:
	}
	return &UnstableError{Dir: s.dir, For: s.StableFor}
}

// LoadStable is Load for a start: where the folder may still be being written, it
// waits for the end of that, for as long as maxWait.
func (s *Source) LoadStable(ctx context.Context, maxWait time.Duration) error {
	end := time.Now().Add(maxWait)
	for {
		err := s.Load(ctx)
		if _, unstable := errors.AsType[*UnstableError](err); !unstable || !time.Now().Before(end) {
			return err
		}
		select {
		case <-time.After(min(max(s.StableFor/4, minInterval), time.Second)):
		case <-ctx.Done():
			return err
		}
	}
}

// minInterval is the shortest time between two looks at the folder.
const minInterval = 100 * time.Millisecond

// Watch looks at the folder every interval and loads what changed and came to
// rest, until ctx ends. It compares contents, so it sees edits and renames alike.
// The way Kubernetes swaps a mounted folder is complete by its nature, and is
// loaded when it is seen.
func (s *Source) Watch(ctx context.Context, interval time.Duration) {
	interval = max(interval, minInterval)
	timer := time.NewTimer(interval)
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-timer.C:
		case <-s.wake:
		}
		next := interval
		if wait := s.look(ctx); wait > 0 {
			next = min(interval, max(wait, minInterval))
		}
		timer.Reset(next)
	}
}

// look loads the folder if its content changed and came to rest. Else it returns
// how long that still takes; 0: there is nothing to wait for.
func (s *Source) look(ctx context.Context) time.Duration {
	s.loading.Lock()
	defer s.loading.Unlock()
	snap, err := s.read(ctx)
	if ctx.Err() != nil {
		return 0
	}
	var content string
	switch {
	case errors.Is(err, errChanging):
		s.note("", nil) // like no other content
		return s.waiting(s.StableFor)
	case err != nil:
		content = err.Error()
	default:
		content = snap.fingerprint()
	}
	wait, swapped := s.note(content, snap)
	switch {
	case content == s.tried:
		s.changingSince = time.Time{}
		return 0
	case wait > 0 && !swapped:
		return s.waiting(wait)
	case err != nil:
		_ = s.refuse(content, err) // OnError is called
	default:
		_ = s.take(snap, content) // OnError is called
	}
	return 0
}

// note remembers what the folder shows. It returns how long it must still show
// the same to count, and whether Kubernetes has swapped it since the last look.
func (s *Source) note(content string, snap *snapshot) (wait time.Duration, swapped bool) {
	now := time.Now() // differences are those of the monotonic clock
	if snap != nil {
		content += string(snap.stamps)
	}
	if content != s.seen || s.since.IsZero() {
		s.seen, s.since = content, now
	}
	if snap != nil {
		swapped = s.version != "" && snap.version != "" && snap.version != s.version
		s.version = snap.version
	}
	return s.StableFor - now.Sub(s.since), swapped
}

// maxChanging is how long a folder may keep changing before that is reported.
const maxChanging = time.Minute

// waiting returns wait, and reports a folder that has been changing for long.
func (s *Source) waiting(wait time.Duration) time.Duration {
	switch now := time.Now(); {
	case s.changingSince.IsZero():
		s.changingSince = now
	case now.Sub(s.changingSince) > max(maxChanging, 4*s.StableFor):
		s.changingSince = now
		s.report(false)
		if s.OnError != nil {
			s.OnError(fmt.Errorf("policies in %s: the folder keeps changing; replace files by renaming complete files over them", s.dir))
		}
	}
	return wait
}

// read returns the content of the folder.
func (s *Source) read(ctx context.Context) (*snapshot, error) {
	if err := ctx.Err(); err != nil {
		return nil, fmt.Errorf("policies in %s: %w", s.dir, err)
	}
	return readDir(s.dir)
}

// take loads snap, whose fingerprint is content, and puts the set into use.
func (s *Source) take(snap *snapshot, content string) error {
	set, err := snap.load(s.dir, s.targets)
	if err == nil && s.Check != nil {
		err = s.Check(set)
	}
	if err != nil {
		return s.refuse(content, err)
	}
	s.tried, s.changingSince = content, time.Time{}
	old := s.current.Swap(set)
	s.report(true)
	if s.OnReload != nil && old.Digest() != set.digest {
		s.OnReload(set)
	}
	return nil
}

// refuse reports err, which tried led to, and returns it.
func (s *Source) refuse(tried string, err error) error {
	s.tried, s.changingSince = tried, time.Time{}
	s.report(false)
	if s.OnError != nil {
		s.OnError(err)
	}
	return err
}

func (s *Source) report(ok bool) {
	if s.obs == nil {
		return
	}
	cur := s.Current()
	s.obs.PolicyReloaded(ok, cur.Digest(), cur.Policies(), cur.Rules())
}
