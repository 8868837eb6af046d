package ledger

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"strings"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/vpcep-approver/vpcep-approver/internal/approval"
)

// storedReview is an approval.ReviewRecord as it is stored.
type storedReview struct {
	V       int `json:"v"`
	Request approval.Request
	Facts   approval.Facts
	Reviews approval.Reviews
	Closed  string
	Round   int
}

func (s storedReview) version() int { return s.V }

func newStoredReview(r *approval.ReviewRecord) storedReview {
	return storedReview{V: format, Request: r.Request, Facts: r.Facts, Reviews: r.Reviews, Closed: r.Closed, Round: r.Round}
}

func (s storedReview) record(rev uint64) *approval.ReviewRecord {
	return &approval.ReviewRecord{Request: s.Request, Facts: s.Facts, Reviews: s.Reviews, Closed: s.Closed, Round: s.Round, Revision: rev}
}

func reviewKey(subject string) string { return "review." + subject }

// Review returns what is known of the reviews of a subject; nil if nobody can
// review it.
func (l *Ledger) Review(ctx context.Context, subject string) (*approval.ReviewRecord, error) {
	var s storedReview
	rev, ok, err := l.read(ctx, reviewKey(subject), &s)
	if err != nil || !ok {
		return nil, err
	}
	return s.record(rev), nil
}

// ReviewRecords yields every record of reviews, in the order of their last change; of one
// target if target is set. One that cannot be read is yielded as an *UnreadableError,
// and the list goes on; any other error is the last thing it yields.
func (l *Ledger) ReviewRecords(ctx context.Context, target string) iter.Seq2[*approval.ReviewRecord, error] {
	pattern := reviewKey(">")
	if target != "" {
		pattern = reviewKey(target + ".*")
	}
	return func(yield func(*approval.ReviewRecord, error) bool) {
		for found, err := range l.stored(ctx, pattern) {
			var s storedReview
			if err == nil {
				err = decode(found.Key(), found.Revision(), found.Value(), &s)
			}
			if err != nil {
				if !yield(nil, err) {
					return
				}
				continue
			}
			if !yield(s.record(found.Revision()), nil) {
				return
			}
		}
	}
}

// ReviewChange is a record of reviews that was stored or removed.
type ReviewChange struct {
	Subject string
	Record  *approval.ReviewRecord // nil: it was removed
	Stored  bool                   // only that: all that was stored before has been yielded
}

// FollowReviews yields every record of reviews, a change with Stored, and what changes
// after that, until ctx ends. One that cannot be read is yielded with its subject and an
// *UnreadableError; any other error is the last thing it yields. What was removed by
// DropReview leaves no trace; ReviewRevisions tells.
func (l *Ledger) FollowReviews(ctx context.Context) iter.Seq2[ReviewChange, error] {
	return func(yield func(ReviewChange, error) bool) {
		ctx, cancel := context.WithCancel(ctx)
		defer cancel()
		watch, err := l.kv.Watch(ctx, reviewKey(">"))
		if err != nil {
			yield(ReviewChange{}, fmt.Errorf("follow the reviews: %w", err))
			return
		}
		defer watch.Stop() //nolint:errcheck // nothing depends on the end of a read
		for {
			select {
			case <-ctx.Done():
				yield(ReviewChange{}, fmt.Errorf("follow the reviews: %w", ctx.Err()))
				return
			case found, ok := <-watch.Updates():
				change, err := reviewChange(found, ok)
				_, unreadable := errors.AsType[*UnreadableError](err)
				if !yield(change, err) || err != nil && !unreadable {
					return
				}
			}
		}
	}
}

func reviewChange(found jetstream.KeyValueEntry, ok bool) (ReviewChange, error) {
	switch {
	case !ok:
		return ReviewChange{}, errors.New("follow the reviews: the broker ended the list early")
	case found == nil:
		return ReviewChange{Stored: true}, nil
	}
	change := ReviewChange{Subject: strings.TrimPrefix(found.Key(), reviewKey(""))}
	if found.Operation() != jetstream.KeyValuePut {
		return change, nil
	}
	var s storedReview
	if err := decode(found.Key(), found.Revision(), found.Value(), &s); err != nil {
		return change, err
	}
	change.Record = s.record(found.Revision())
	return change, nil
}

// ReviewRevisions returns the revision of each record of reviews, by subject, without
// reading the records.
func (l *Ledger) ReviewRevisions(ctx context.Context) (map[string]uint64, error) {
	out := map[string]uint64{}
	for found, err := range l.stored(ctx, reviewKey(">"), jetstream.MetaOnly()) {
		if err != nil {
			return nil, err
		}
		out[strings.TrimPrefix(found.Key(), reviewKey(""))] = found.Revision()
	}
	return out, nil
}

// PutReview stores r, and sets its revision, unless it was changed since it was
// read, which is approval.ErrConflict; revision 0 means that there must be none.
func (l *Ledger) PutReview(ctx context.Context, r *approval.ReviewRecord) error {
	key := reviewKey(r.Request.Subject())
	var err error
	var rev uint64
	if r.Revision == 0 {
		rev, err = l.create(ctx, key, newStoredReview(r))
	} else {
		rev, err = l.update(ctx, key, newStoredReview(r), r.Revision)
	}
	if err != nil {
		return err
	}
	r.Revision = rev
	return nil
}

// Reviews is a ledger that can also remove records of reviews.
type Reviews struct {
	*Ledger

	remove func(ctx context.Context, key string, revision uint64) error
}

// NewReviews returns l with the means to remove.
func NewReviews(l *Ledger, b Buckets) Reviews { return Reviews{Ledger: l, remove: b.RemoveKey} }

// DropReview removes r, and leaves what was written since it was read. No marker is
// left: the results keep what was decided.
func (r Reviews) DropReview(ctx context.Context, record *approval.ReviewRecord) error {
	return r.remove(ctx, reviewKey(record.Request.Subject()), record.Revision)
}
