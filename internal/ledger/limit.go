package ledger

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"maps"
	"time"

	"github.com/vpcep-approver/vpcep-approver/internal/approval"
)

// storedLimit is what the ledger knows of the accepted connections of a domain
// on a target. Base and Reserved together are all that are, or may yet be,
// accepted: the cloud's own count lags behind our accepts and says nothing of
// those that are under way.
type storedLimit struct {
	V         int                  `json:"v"`
	Base      int                  // accepted, as counted by the cloud and grown by what ended since
	SettledAt time.Time            // when Base last grew
	Reserved  map[string]time.Time // request ids under way, and since when
}

const (
	// listLag is how long the cloud's lists may miss an accept that they showed
	// before; until then its count does not replace ours.
	listLag = time.Minute
	// lostAfter is the age of a reservation without an entry in the ledger: its
	// worker died between the two and the request never came again.
	lostAfter = time.Hour
	// endedAfter is the age of a reservation whose request never ends: its event
	// was lost, and no event is stored for longer.
	endedAfter = 31 * 24 * time.Hour
	// pruneAt bounds the reservations that are kept without asking how they ended.
	pruneAt = 64
)

// Reserve reports whether requestID may be the next accepted connection of
// domain on target, of which there shall be at most limit. counted is what the
// cloud counts now, without the connection that is asked for. A request that has
// its place keeps it until it ends: accepted, it stays counted, else it is taken
// out, by a later Reserve.
func (l *Ledger) Reserve(ctx context.Context, target, domain, requestID string, limit, counted int) (bool, error) {
	select {
	case l.reserving <- struct{}{}:
		defer func() { <-l.reserving }()
	case <-ctx.Done():
		return false, fmt.Errorf("wait to reserve: %w", ctx.Err())
	}
	key := limitKey(target, domain)
	for range tries {
		var s storedLimit
		rev, ok, err := l.read(ctx, key, &s)
		if err != nil {
			return false, err
		}
		if !ok {
			s = storedLimit{V: format, Base: counted}
		}
		if _, has := s.Reserved[requestID]; has {
			return true, nil
		}
		if s.total(counted) >= limit || len(s.Reserved) >= pruneAt {
			if err := l.prune(ctx, &s, counted); err != nil {
				return false, err
			}
		}
		if s.total(counted) >= limit {
			return false, nil
		}
		s.Reserved = maps.Clone(s.Reserved)
		if s.Reserved == nil {
			s.Reserved = map[string]time.Time{}
		}
		s.Reserved[requestID] = time.Now().UTC()
		if ok {
			_, err = l.update(ctx, key, s, rev)
		} else {
			_, err = l.create(ctx, key, s)
		}
		if !errors.Is(err, ErrConflict) {
			return err == nil, err
		}
	}
	return false, fmt.Errorf("%s after %d tries: %w", key, tries, ErrConflict)
}

// total is how many connections are, or may become, accepted. The cloud may know
// of more than we: people accept, too.
func (s storedLimit) total(counted int) int { return max(s.Base+len(s.Reserved), counted) }

// prune asks how the reserved requests ended. When none is under way and the
// lists had time to show the last one, the cloud's count is the whole truth.
func (l *Ledger) prune(ctx context.Context, s *storedLimit, counted int) error {
	now := time.Now()
	for id, since := range s.Reserved {
		e, ok, err := l.Get(ctx, id)
		if err != nil {
			return err
		}
		switch {
		case ok && e.Result != nil:
			delete(s.Reserved, id)
			if e.Result.Outcome == approval.OutcomeAccepted {
				s.Base++
				if e.Result.At.After(s.SettledAt) {
					s.SettledAt = e.Result.At
				}
			}
		case !ok && now.Sub(since) > lostAfter, ok && now.Sub(since) > endedAfter:
			delete(s.Reserved, id)
		}
	}
	if len(s.Reserved) == 0 && now.Sub(s.SettledAt) > listLag {
		s.Base = counted
	}
	return nil
}

func limitKey(target, domain string) string { return "limit." + token(target) + "." + token(domain) }

// token is s as a token of a key: s itself if it is made of letters, digits, "-"
// and "_" only, else its digest.
func token(s string) string {
	for _, r := range s {
		if ok := r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' || r == '-' || r == '_'; !ok {
			return digestOf(s)
		}
	}
	if s == "" {
		return digestOf(s)
	}
	return s
}

func digestOf(s string) string {
	sum := sha256.Sum256([]byte(s))
	return hex.EncodeToString(sum[:16])
}
