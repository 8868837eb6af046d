package policy

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"time"

	"github.com/vpcep-approver/vpcep-approver/internal/approval"
)

// Observer is told of every attempt to load the policies; *metrics.Metrics
// provides it. digest, policies and rules are those of the set in use, which is
// the last good one if ok is false.
type Observer interface {
	PolicyReloaded(ok bool, digest string, policies, rules int)
}

// Source holds the set in use and loads a new one when the files change. A set
// with an error is not taken: the last good one stays. Until one was loaded
// everything is held. All methods may be used at once.
type Source struct {
	dir     string
	targets approval.Targets
	obs     Observer
	current atomic.Pointer[Set]

	// OnError is told why policies were not loaded, once for each content of the
	// folder. Set it before Load; nil: nobody.
	OnError func(error)
	// Shadow, if set, is a source of candidate policies beside those in force.
	// What they would decide is reported in Decision.Shadow, in place of what the
	// shadow policies of the set in force say; nothing is done by it. Set it
	// before Load, and load and watch it like any other.
	Shadow *Source
	// Check, if set, may refuse a set that loads, before it is in use. Set it
	// before Load.
	Check func(*Set) error
	// OnReload is told of each new set after it is in use. Set it before Load;
	// nil: nobody.
	OnReload func(*Set)

	loading sync.Mutex // one load at a time
	tried   string     // what the last load found: a fingerprint of the content, or why it could not be read
}

// NewSource returns a source of the policies in the folder dir. It reads nothing
// yet. obs may be nil.
func NewSource(dir string, targets approval.Targets, obs Observer) *Source {
	return &Source{dir: dir, targets: targets, obs: obs}
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

// Load reads the folder now, whether or not it changed: at the start, and when
// an operator asks for it. An error leaves the set in use as it is.
func (s *Source) Load(ctx context.Context) error {
	s.loading.Lock()
	defer s.loading.Unlock()
	snap, err := s.read(ctx)
	if err != nil {
		return s.refuse(err.Error(), err)
	}
	return s.take(snap)
}

// Reload is Load by another name, for SIGHUP.
func (s *Source) Reload(ctx context.Context) error { return s.Load(ctx) }

// minInterval is the shortest time between two looks at the folder.
const minInterval = 100 * time.Millisecond

// Watch looks at the folder every interval and loads what changed, until ctx
// ends. It compares contents, so it sees edits, renames and the way Kubernetes
// swaps a mounted folder alike. Content counts as changed once two reads in a
// row agree on it: a folder that is just being written is left alone.
func (s *Source) Watch(ctx context.Context, interval time.Duration) {
	tick := time.NewTicker(max(interval, minInterval))
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
			s.look(ctx)
		}
	}
}

// look loads the folder if its content changed.
func (s *Source) look(ctx context.Context) {
	s.loading.Lock()
	defer s.loading.Unlock()
	snap, err := s.read(ctx)
	switch {
	case ctx.Err() != nil:
		return
	case err != nil && err.Error() != s.tried:
		_ = s.refuse(err.Error(), err) // OnError is told
		return
	case err != nil || snap.fingerprint() == s.tried:
		return
	}
	again, err := s.read(ctx)
	if err != nil || again.fingerprint() != snap.fingerprint() {
		return // being written; the next look sees the end of it
	}
	_ = s.take(snap) // OnError is told
}

// read returns the content of the folder. A folder that Kubernetes mounts is
// read through the one link that it swaps, so that no read mixes two versions.
func (s *Source) read(ctx context.Context) (snapshot, error) {
	if err := ctx.Err(); err != nil {
		return nil, fmt.Errorf("policies in %s: %w", s.dir, err)
	}
	dir := s.dir
	if version, err := filepath.EvalSymlinks(filepath.Join(s.dir, "..data")); err == nil {
		dir = version
	}
	snap, err := readFolder(os.DirFS(dir))
	if err != nil {
		return nil, fmt.Errorf("policies in %s: %w", s.dir, err)
	}
	return snap, nil
}

// take loads snap and puts the set into use.
func (s *Source) take(snap snapshot) error {
	set, err := snap.load(s.dir, s.targets)
	if err == nil && s.Check != nil {
		err = s.Check(set)
	}
	if err != nil {
		return s.refuse(snap.fingerprint(), err)
	}
	s.tried = snap.fingerprint()
	old := s.current.Swap(set)
	s.report(true)
	if s.OnReload != nil && old.Digest() != set.digest {
		s.OnReload(set)
	}
	return nil
}

// refuse tells of err, which tried led to, and returns it.
func (s *Source) refuse(tried string, err error) error {
	s.tried = tried
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
