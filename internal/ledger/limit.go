package ledger

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/vpcep-approver/vpcep-approver/internal/approval"
)

// storedLimit is what the ledger knows of the accepted connections of a domain
// on a target. Base and Reserved together are all that are, or may yet be,
// accepted: the cloud's own count lags behind our accepts and says nothing of
// those that are under way.
type storedLimit struct {
	V        int                    `json:"v"`
	Base     int                    // accepted, as counted by the cloud and grown by what ended since
	Reserved map[string]reservation // by endpoint id; reservations of connections that are not in Base
}

// reservation is one connection's, whatever the number of requests for it. It lasts
// while any of them may yet have the connection accepted, and after an accept
// until nobody takes the connection for pending any more.
type reservation struct {
	Requests map[string]time.Time // ids of those under way, and since when
	Accepted time.Time            // when the last that ended so did; zero: none
	Unknown  time.Time            // when the last ended of which nobody knows whether it was accepted; zero: none
}

const (
	// listLag is how long the cloud's lists may miss an accept that they showed
	// before; until then its count does not replace ours.
	listLag = time.Minute
	// unknownFor is how long an accept that was not confirmed keeps its reservation. It
	// may be under way for long, and no list counts it meanwhile.
	unknownFor = 24 * time.Hour
	// lostAfter is the age of a reservation without an entry in the ledger: its
	// worker died between the two and the request never came again.
	lostAfter = time.Hour
	// endedAfter is the age of a reservation whose request never ends: its event
	// was lost, and no event is stored for longer.
	endedAfter = 31 * 24 * time.Hour
	// pruneAt bounds the reservations that are kept without asking how their requests ended.
	pruneAt = 64
	// maxShared is how many requests under way may share a reservation, so that events
	// without end about one connection do not fill the value.
	maxShared = 8
)

// Reserve reports whether req's may be the next accepted connection of domain on
// its target, of which there shall be at most limit. counted is what the cloud
// counts, without the connection that is asked for. It is approval.ErrCountUnclear if that
// depends on connections that are being created. Requests for the same connection share a
// reservation; it is an error, which passes, if too many of them are under way. A request
// that has its reservation keeps it until it ends; then a later Reserve counts the
// connection as accepted if any of them ended so, and frees the reservation once none is
// left.
func (l *Ledger) Reserve(ctx context.Context, req approval.Request, domain string, limit int, counted approval.AccountCount) (bool, error) {
	select {
	case l.reserving <- struct{}{}:
		defer func() { <-l.reserving }()
	case <-ctx.Done():
		return false, fmt.Errorf("wait to reserve: %w", ctx.Err())
	}
	key, endpoint := limitKey(req.Target.Name, approval.CanonicalID(domain)), approval.UUID(req.EndpointID)
	for range tries {
		var s storedLimit
		rev, ok, err := l.read(ctx, key, &s)
		if err != nil {
			return false, err
		}
		if !ok {
			s = storedLimit{V: format, Base: counted.Accepted}
		}
		if _, has := s.Reserved[endpoint].Requests[req.ID]; has {
			return true, nil
		}
		if _, most := s.others(endpoint, counted); most >= limit || len(s.Reserved) >= pruneAt || len(s.Reserved[endpoint].Requests) >= maxShared {
			if err := l.prune(ctx, &s, counted); err != nil {
				return false, err
			}
		}
		switch least, most := s.others(endpoint, counted); {
		case least >= limit:
			return false, nil
		case most >= limit:
			return false, fmt.Errorf("%s: %w", key, approval.ErrCountUnclear)
		}
		if n := len(s.Reserved[endpoint].Requests); n >= maxShared {
			return false, fmt.Errorf("%s: %d requests for endpoint %s are under way, and this one waits for their end", key, n, endpoint)
		}
		s.add(endpoint, req.ID)
		if ok {
			_, err = l.update(ctx, key, s, rev)
		} else {
			_, err = l.create(ctx, key, s)
		}
		if !errors.Is(err, approval.ErrConflict) {
			return err == nil, err
		}
	}
	return false, fmt.Errorf("%s after %d tries: %w", key, tries, approval.ErrConflict)
}

// others is how many connections other than endpoint's are, or may become, accepted, and
// how many at most, as far as the list does not tell. The cloud may know of more than we:
// people accept, too. What they accepted is counted next to our reservations.
func (s *storedLimit) others(endpoint string, counted approval.AccountCount) (least, most int) {
	reserved, accepted, creating := 0, 0, 0
	for id := range s.Reserved {
		if id == endpoint {
			continue
		}
		reserved++
		switch {
		case counted.State == nil: // the list may show all of them
			accepted++
		case counted.State(id) == approval.Accepted:
			accepted++
		case counted.State(id) == approval.Creating:
			creating++
		}
	}
	listed := reserved + max(0, counted.Accepted-accepted)
	least = max(s.Base+reserved, listed)
	return least, max(least, listed+max(0, counted.Creating-creating))
}

// add lets a request share the reservation of endpoint, which is new if there is none.
func (s *storedLimit) add(endpoint, requestID string) {
	if s.Reserved == nil {
		s.Reserved = map[string]reservation{}
	}
	p := s.Reserved[endpoint]
	if p.Requests == nil {
		p.Requests = map[string]time.Time{}
	}
	p.Requests[requestID] = time.Now().UTC()
	s.Reserved[endpoint] = p
}

// prune asks how the requests ended. When no reservation is left, the lists had time to
// show the last accept, and the cloud's count is the whole truth.
func (l *Ledger) prune(ctx context.Context, s *storedLimit, counted approval.AccountCount) error {
	now := time.Now()
	for endpoint, p := range s.Reserved {
		for id, since := range p.Requests {
			e, err := l.Get(ctx, id)
			if err != nil {
				return err
			}
			switch {
			case e != nil && e.Result != nil:
				delete(p.Requests, id)
				// Whatever the clocks say, it ended after it had its reservation.
				switch e.Result.Outcome {
				case approval.OutcomeAccepted:
					p.Accepted = latest(p.Accepted, since, e.Result.At.UTC())
				case approval.OutcomeUnknown:
					p.Unknown = latest(p.Unknown, since, e.Result.At.UTC())
				default:
				}
			case (e == nil || !e.Decided()) && now.Sub(since) > lostAfter, now.Sub(since) > endedAfter:
				delete(p.Requests, id)
			}
		}
		s.Reserved[endpoint] = p
		if len(p.Requests) > 0 || counted.At.Sub(p.Accepted) <= listLag || now.Sub(p.Unknown) <= unknownFor {
			continue
		}
		delete(s.Reserved, endpoint)
		if !p.Accepted.IsZero() {
			s.Base++
		}
	}
	if len(s.Reserved) == 0 {
		s.Base = counted.Accepted
	}
	return nil
}

func latest(times ...time.Time) time.Time { return slices.MaxFunc(times, time.Time.Compare) }

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
