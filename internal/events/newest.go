package events

import (
	"cmp"
	"context"
	"crypto/sha256"
	"fmt"
	"iter"
	"math"
	"slices"
	"strings"
	"time"

	"github.com/vpcep-approver/vpcep-approver/internal/approval"
)

// The broker reads forward only, so what is newest is read in windows of sequences, each
// before the one that was read last. Sequences have holes, so windows grow while they
// hold little.
const (
	firstWindow = 64         // sequences
	fewMessages = directScan // a window with fewer is followed by one twice as wide
	maxMessages = 2048
)

// backwards yields the stored messages of a subject, newest first, as of the first
// read. An error is the last item; ErrNotDirect if the stream cannot be read so.
func (b *Bus) backwards(ctx context.Context, stream, subject string) iter.Seq2[message, error] {
	return func(yield func(message, error) bool) {
		// The last message of a subject with wildcards would cost a look at each subject.
		have, err := b.streamInfo(ctx, stream)
		if err != nil || have == nil {
			yield(message{}, cmp.Or(err, ErrNotDirect))
			return
		}
		before := have.info.State.LastSeq + 1
		for width := uint64(firstWindow); before > 1; {
			from := uint64(1)
			if before > width {
				from = before - width
			}
			found, fits, err := b.window(ctx, stream, subject, from, before)
			if err != nil {
				yield(message{}, err)
				return
			}
			if !fits {
				width = (before - from) / 2
				continue
			}
			for _, m := range slices.Backward(found) {
				if !yield(m, nil) {
					return
				}
			}
			if before = from; len(found) < fewMessages {
				width *= 2
			}
		}
	}
}

// newest is backwards, also where few messages match.
func (b *Bus) newest(ctx context.Context, stream, subject string) iter.Seq2[message, error] {
	return func(yield func(message, error) bool) {
		found, ok, err := b.few(ctx, stream, subject)
		if err != nil {
			yield(message{}, err)
			return
		}
		if !ok {
			b.backwards(ctx, stream, subject)(yield)
			return
		}
		for _, m := range slices.Backward(found) {
			if !yield(m, nil) {
				return
			}
		}
	}
}

// window reads the messages of a subject with sequences from one until before
// another. fits is false if they are too many to be held.
func (b *Bus) window(ctx context.Context, stream, subject string, from, before uint64) (found []message, fits bool, err error) {
	for more := true; more && from < before; {
		var batch []message
		get := directGet{From: from, Next: subject, Batch: int(min(directScan, before-from)), MaxBytes: directMaxBytes}
		if batch, more, err = b.patient(ctx, stream, get); err != nil {
			return nil, false, err
		}
		for _, m := range batch {
			if m.sequence >= before {
				return found, true, nil
			}
			found, from = append(found, m), m.sequence+1
		}
		if len(found) > maxMessages {
			return nil, false, nil
		}
	}
	return found, true, nil
}

// maxFew is how many messages are read one by one.
const maxFew = 1024

// few returns the messages of a subject with wildcards, oldest first, if they are at most
// maxFew. ok is false if they are more.
func (b *Bus) few(ctx context.Context, stream, subject string) (found []message, ok bool, err error) {
	all, err := b.count(ctx, stream, subject)
	if err != nil || all > maxFew {
		return nil, false, err
	}
	for m, err := range b.ofSubjects(ctx, stream, subject) {
		if err != nil {
			return nil, false, err
		}
		found = append(found, m)
	}
	slices.SortFunc(found, func(a, b message) int { return cmp.Compare(a.sequence, b.sequence) })
	return found, true, nil
}

// LedgerChange is the value of a key of the ledger as of its latest change.
type LedgerChange struct {
	Key      string
	Value    []byte
	Revision uint64
	At       time.Time
}

// LedgerChanges yields the values of the keys of the ledger that begin with prefix, the
// latest change first and each key once. An error is the last item; ErrNotDirect if the
// ledger cannot be read so.
func (b *Bus) LedgerChanges(ctx context.Context, prefix string) iter.Seq2[LedgerChange, error] {
	return func(yield func(LedgerChange, error) bool) {
		seen := map[[16]byte]struct{}{} // beginnings of hashes: there may be millions
		// The broker counts what is left after each batch, which only takes no time for all.
		for m, err := range b.backwards(ctx, bucketStream, ">") {
			if err != nil {
				yield(LedgerChange{}, fmt.Errorf("read the latest changes of the ledger: %w", err))
				return
			}
			key := strings.TrimPrefix(m.Subject, ledgerSubject(""))
			if !strings.HasPrefix(key, prefix) {
				continue
			}
			hash := sha256.Sum256([]byte(key))
			short := [16]byte(hash[:])
			if _, ok := seen[short]; ok {
				continue
			}
			seen[short] = struct{}{}
			if m.Header.Get("KV-Operation") != "" { // it was deleted
				continue
			}
			if !yield(LedgerChange{key, m.Data, m.sequence, m.at}, nil) {
				return
			}
		}
	}
}

// NewestResults yields the results with an outcome, of one target if it is not empty,
// the newest first. Results that are no results of a worker are left out. An error is
// the last item.
func (b *Bus) NewestResults(ctx context.Context, outcome approval.Outcome, target string) iter.Seq2[approval.Result, error] {
	if target == "" {
		target = "*"
	}
	subject := resultSubject(string(outcome), target, "*")
	return func(yield func(approval.Result, error) bool) {
		for m, err := range b.newest(ctx, ResultsStream, subject) {
			if err != nil {
				yield(approval.Result{}, fmt.Errorf("read the newest results: %w", err))
				return
			}
			r, err := DecodeResult(m.Header, m.Data)
			if err != nil || m.Subject != resultSubject(string(outcome), r.Request.Target.Name, r.Decision.ID) {
				continue
			}
			if !yield(r, nil) {
				return
			}
		}
	}
}

// LastResult returns the place of the last result in the stream; 0 if there is none.
func (b *Bus) LastResult(ctx context.Context) (uint64, error) {
	have, err := b.streamInfo(ctx, ResultsStream)
	if err != nil || have == nil {
		return 0, err
	}
	return have.info.State.LastSeq, nil
}

// ResultsSince returns from when on all results are stored that were published.
func (b *Bus) ResultsSince(ctx context.Context) (time.Time, error) {
	have, err := b.streamInfo(ctx, ResultsStream)
	switch {
	case err != nil:
		return time.Time{}, err
	case have == nil:
		return time.Now(), nil
	case have.info.State.FirstSeq <= 1:
		return have.info.Created, nil
	case have.info.State.Msgs == 0:
		return time.Now(), nil
	}
	return have.info.State.FirstTime, nil
}

// LedgerSince returns when the oldest change was made that the ledger has.
func (b *Bus) LedgerSince(ctx context.Context) (time.Time, error) {
	have, err := b.streamInfo(ctx, bucketStream)
	if err != nil || have == nil {
		return time.Time{}, err
	}
	return have.info.State.FirstTime, nil
}

// LedgerVersions yields the stored versions of the keys of the ledger that begin with
// prefix, oldest first, with those that were superseded. A deletion has no value. An
// error is the last item; ErrNotDirect if the ledger cannot be read so.
func (b *Bus) LedgerVersions(ctx context.Context, prefix string) iter.Seq2[LedgerChange, error] {
	return func(yield func(LedgerChange, error) bool) {
		// The broker counts what is left after each batch, which only takes no time for all.
		for m, err := range b.behind(ctx, bucketStream, ">", 0, math.MaxUint64) {
			if err != nil {
				yield(LedgerChange{}, fmt.Errorf("read the versions of the ledger: %w", err))
				return
			}
			key, value := strings.TrimPrefix(m.Subject, ledgerSubject("")), m.Data
			if !strings.HasPrefix(key, prefix) {
				continue
			}
			if m.Header.Get("KV-Operation") != "" {
				value = nil
			}
			if !yield(LedgerChange{key, value, m.sequence, m.at}, nil) {
				return
			}
		}
	}
}

// Published returns a time before which every request was submitted whose result may not
// be published yet.
func (b *Bus) Published(ctx context.Context) (time.Time, error) {
	info, err := b.consumerInfo(ctx)
	if err != nil {
		return time.Time{}, err
	}
	if info == nil || info.NumAckPending == 0 {
		return time.Now(), nil
	}
	oldest, _, err := b.patient(ctx, RequestsStream, directGet{From: info.AckFloor.Stream + 1, Next: RequestsSubject + ".>"})
	if err != nil || len(oldest) == 0 {
		return time.Now(), err
	}
	return oldest[0].at, nil
}
