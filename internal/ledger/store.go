package ledger

import (
	"context"
	"errors"
	"fmt"
	"reflect"
	"time"

	"github.com/go-json-experiment/json"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/vpcep-approver/vpcep-approver/internal/approval"
)

// format is the version of what is stored. A reader refuses any other.
const format = 1

// storedEntry is an approval.Entry as it is stored, with Go's field names and
// without zero values. What the result repeats of the entry is left out.
type storedEntry struct {
	V        int `json:"v"`
	Request  approval.Request
	Decision approval.Decision
	SentAt   time.Time
	ActedAt  time.Time
	Intent   *approval.Intent
	Progress approval.Progress
	Wait     *approval.Wait
	Result   *approval.Result
}

func newStoredEntry(e *approval.Entry) *storedEntry {
	s := &storedEntry{
		V: format, Request: e.Request, Decision: e.Decision, SentAt: e.SentAt, ActedAt: e.ActedAt,
		Intent: e.Intent, Progress: e.Progress, Wait: e.Wait,
	}
	if e.Result != nil {
		r := *e.Result
		if reflect.DeepEqual(&r.Request, &e.Request) {
			r.Request = approval.Request{}
		}
		if reflect.DeepEqual(&r.Decision, &e.Decision) {
			r.Decision = approval.Decision{}
		}
		s.Result = &r
	}
	return s
}

func (s *storedEntry) entry(rev uint64) *approval.Entry {
	if r := s.Result; r != nil {
		if r.Request.ID == "" {
			r.Request = s.Request
		}
		if r.Decision.ID == "" {
			r.Decision = s.Decision
		}
	}
	return &approval.Entry{
		Request: s.Request, Decision: s.Decision, SentAt: s.SentAt, ActedAt: s.ActedAt,
		Intent: s.Intent, Progress: s.Progress, Wait: s.Wait, Result: s.Result, Revision: rev,
	}
}

// storedLock is an approval.Lock as it is stored.
type storedLock struct {
	V         int `json:"v"`
	RequestID string
	Verdict   approval.Verdict
	Digest    string
	Outcome   approval.Outcome
	At        time.Time
	Created   *approval.Created
}

func newStoredLock(c approval.Lock) storedLock {
	return storedLock{
		V: format, RequestID: c.RequestID, Verdict: c.Verdict, Digest: c.Digest,
		Outcome: c.Outcome, At: c.At, Created: c.Created,
	}
}

func (s storedLock) lock(rev uint64) approval.Lock {
	return approval.Lock{
		RequestID: s.RequestID, Verdict: s.Verdict, Digest: s.Digest,
		Outcome: s.Outcome, At: s.At, Created: s.Created, Revision: rev,
	}
}

// storedLease is who has a lease, and until when.
type storedLease struct {
	V      int `json:"v"`
	Holder string
	Until  time.Time
}

func (s *storedEntry) version() int { return s.V }
func (s storedLock) version() int   { return s.V }
func (s storedLease) version() int  { return s.V }
func (s storedLimit) version() int  { return s.V }

// UnreadableError says that the ledger holds something under Key that this
// worker cannot read: it was damaged, or written by a newer worker. It is left
// as it is; what needs it waits until it can be read.
type UnreadableError struct {
	Key      string
	Revision uint64
	Err      error
}

func (e *UnreadableError) Error() string {
	return fmt.Sprintf("the ledger's %s cannot be read at revision %d; a newer worker may have written it, "+
		"else restore it from its history: %v", e.Key, e.Revision, e.Err)
}

// Unwrap returns what is wrong with the value.
func (e *UnreadableError) Unwrap() error { return e.Err }

// Retryable reports true: nothing may be decided without the entry, and nothing
// is lost by waiting for it.
func (e *UnreadableError) Retryable() bool { return true }

// UnstorableError says that something can never be written to the ledger: it has no
// form there, or it is larger than a message of the broker.
type UnstorableError struct {
	Key string
	Err error
}

func (e *UnstorableError) Error() string {
	return fmt.Sprintf("the ledger cannot hold %s: %v", e.Key, e.Err)
}

// Unwrap returns why.
func (e *UnstorableError) Unwrap() error { return e.Err }

// Unstorable reports true: the same value is refused however often it comes.
func (e *UnstorableError) Unstorable() bool { return true }

// encode returns v, an entry or one of the stored forms, as JSON.
func encode(v any) ([]byte, error) {
	if e, ok := v.(*approval.Entry); ok {
		if data, ok := encodeEntry(e); ok {
			return data, nil
		}
		v = newStoredEntry(e)
	}
	data, err := json.Marshal(v, omitZero(), json.Deterministic(true))
	if err != nil {
		return nil, fmt.Errorf("encode for the ledger: %w", err)
	}
	return data, nil
}

func decode(key string, rev uint64, data []byte, into interface{ version() int }) error {
	if err := json.Unmarshal(data, into); err != nil {
		return &UnreadableError{Key: key, Revision: rev, Err: err}
	}
	if v := into.version(); v != format {
		return &UnreadableError{Key: key, Revision: rev, Err: fmt.Errorf("its format is %d, this worker knows %d", v, format)}
	}
	return nil
}

// read decodes the value of key into the value that into points to.
func (l *Ledger) read(ctx context.Context, key string, into interface{ version() int }) (uint64, bool, error) {
	found, err := l.kv.Get(ctx, key)
	if errors.Is(err, jetstream.ErrKeyNotFound) {
		return 0, false, nil
	}
	if err != nil {
		return 0, false, fmt.Errorf("read %s of the ledger: %w", key, err)
	}
	if err := decode(key, found.Revision(), found.Value(), into); err != nil {
		return 0, false, err
	}
	return found.Revision(), true, nil
}

func (l *Ledger) create(ctx context.Context, key string, v any) (uint64, error) {
	rev, err := l.tryCreate(ctx, key, v)
	return rev, l.observed(err)
}

// tryCreate is create where it is no surprise that the key is there.
func (l *Ledger) tryCreate(ctx context.Context, key string, v any) (uint64, error) {
	data, err := encode(v)
	if err != nil {
		return 0, &UnstorableError{Key: key, Err: err}
	}
	rev, err := l.kv.Create(ctx, key, data)
	if tooLarge(err) {
		// Nothing is done yet by what is written for the first time. What grows
		// too large later waits until the broker takes more.
		return 0, &UnstorableError{Key: key, Err: fmt.Errorf("%d bytes: %w", len(data), err)}
	}
	return rev, written(key, err)
}

func (l *Ledger) update(ctx context.Context, key string, v any, rev uint64) (uint64, error) {
	data, err := encode(v)
	if err != nil {
		return 0, &UnstorableError{Key: key, Err: err}
	}
	rev, err = l.kv.Update(ctx, key, data, rev)
	return rev, l.observed(written(key, err))
}

// constantMismatch is the code of a lost compare-and-set while another write of
// the key is under way in a cluster.
const constantMismatch jetstream.ErrorCode = 10164

// insufficientResources is the code of a broker that may store no more.
const insufficientResources jetstream.ErrorCode = 10023

// messageTooLarge is the code of a stream that takes no message of that size.
const messageTooLarge jetstream.ErrorCode = 10054

func tooLarge(err error) bool {
	refused, ok := errors.AsType[*jetstream.APIError](err)
	return errors.Is(err, nats.ErrMaxPayload) || ok && refused.ErrorCode == messageTooLarge
}

// observed returns err, after the observer heard of a write that failed.
func (l *Ledger) observed(err error) error {
	switch {
	case errors.Is(err, approval.ErrConflict):
		l.obs.LedgerConflict()
	case err != nil && !errors.Is(err, context.Canceled): // the worker stops, or the caller did not wait
		l.obs.LedgerWriteFailed()
	}
	return err
}

// written tells what became of a write.
func written(key string, err error) error {
	if err == nil {
		return nil
	}
	refused, ok := errors.AsType[*jetstream.APIError](err)
	if errors.Is(err, jetstream.ErrKeyExists) || ok &&
		(refused.ErrorCode == jetstream.JSErrCodeStreamWrongLastSequence || refused.ErrorCode == constantMismatch) {
		return fmt.Errorf("write %s: %w", key, approval.ErrConflict)
	}
	if ok && refused.ErrorCode == insufficientResources {
		return fmt.Errorf("write %s of the ledger: the broker has reached its disk or storage limit; free some space: %w", key, err)
	}
	return fmt.Errorf("write %s of the ledger: %w", key, err)
}

// requestKey is the key of a request's entry.
func requestKey(id string) (string, error) {
	if id == "" || len(id) > 128 || token(id) != id {
		return "", fmt.Errorf("%.80q is no id of a request", id)
	}
	return "request." + id[:min(prefixLen, len(id))] + "." + id, nil
}

// prefixLen is how long the beginning of an id is that is a token of its own in the
// key, so that the broker can find requests by it.
const prefixLen = 4

// RequestKeys matches the keys of the requests whose ids may begin with prefix.
func RequestKeys(prefix string) string {
	if len(prefix) < prefixLen {
		return "request." + ">"
	}
	return "request." + prefix[:prefixLen] + ".*"
}

func lockKey(subject string) string { return "lock." + subject }
