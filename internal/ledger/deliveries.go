package ledger

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"sync"
	"time"

	"github.com/go-json-experiment/json"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/vpcep-approver/vpcep-approver/internal/approval"
)

// Buckets opens the buckets in which this package keeps its records;
// *events.Bus provides it.
type Buckets interface {
	// Bucket opens the ledger's bucket.
	Bucket(ctx context.Context) (jetstream.KeyValue, error)
	// WorkersBucket opens the bucket of the heartbeats.
	WorkersBucket(ctx context.Context) (jetstream.KeyValue, error)
	// WorkerKeys returns the keys of the bucket of the heartbeats, in any order.
	WorkerKeys(ctx context.Context) ([]string, error)
	// RemoveKey removes the values of a key of the ledger's bucket up to a
	// revision, and leaves no marker.
	RemoveKey(ctx context.Context, key string, revision uint64) error
}

// bucket is a bucket that is opened when it is first needed.
type bucket struct {
	open func(ctx context.Context) (jetstream.KeyValue, error)

	mu sync.Mutex
	kv jetstream.KeyValue
}

func (b *bucket) get(ctx context.Context) (jetstream.KeyValue, error) {
	b.mu.Lock()
	kv := b.kv
	b.mu.Unlock()
	if kv != nil {
		return kv, nil
	}
	kv, err := b.open(ctx)
	if err != nil {
		return nil, err
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	b.kv = kv
	return kv, nil
}

// Deliveries keeps the delivery marks by which requests are found that crash
// workers, and the requests that became dead letters as poison. It is safe for
// concurrent use. Every error may pass; what a method has returned without an
// error is stored.
type Deliveries struct {
	bucket bucket
	remove func(ctx context.Context, key string, revision uint64) error
}

// NewDeliveries returns the records in the ledger's bucket, which is opened when
// it is first needed.
func NewDeliveries(b Buckets) *Deliveries {
	return &Deliveries{bucket: bucket{open: b.Bucket}, remove: b.RemoveKey}
}

// storedDelivery is an approval.DeliveryRecord as it is stored.
type storedDelivery struct {
	V               int `json:"v"`
	StoredAt        time.Time
	Marks           []approval.DeliveryMark
	Panics          int
	RequestID       string
	Cleared         int
	DeadLetterAfter time.Time
}

// storedPoison is which dead letter a request became.
type storedPoison struct {
	V          int `json:"v"`
	DeadLetter uint64
	At         time.Time
}

func (s storedDelivery) version() int { return s.V }
func (s storedPoison) version() int   { return s.V }

func deliveryKey(sequence uint64) string { return "delivery." + strconv.FormatUint(sequence, 10) }

// poisonKey is the key of the poison record of a request.
func poisonKey(requestID string) (string, error) {
	if _, err := requestKey(requestID); err != nil {
		return "", err
	}
	return "poison." + requestID, nil
}

// ErrMessageGone says that the stream was made again and holds another message
// under the number of the one that was asked for.
var ErrMessageGone = errors.New("the stream was made again, and holds another message there")

// Revise changes the record of the message that r names by edit, and makes r what
// is stored then. r holds the record as it was last known, or nothing but the
// name; edit is called again when that has changed meanwhile. An error of edit is
// returned as it is, and nothing is changed. A record that becomes empty is
// removed.
func (d *Deliveries) Revise(ctx context.Context, r *approval.DeliveryRecord, edit func(*approval.DeliveryRecord) error) error {
	kv, err := d.bucket.get(ctx)
	if err != nil {
		return err
	}
	key, known := deliveryKey(r.Sequence), r.Revision > 0
	for range tries {
		next := *r
		next.Marks = slices.Clone(r.Marks)
		if err := edit(&next); err != nil {
			return err
		}
		// Without a read, the guess is that nothing is stored: `create` finds out.
		if !next.Empty() || known {
			err = d.write(ctx, kv, key, r, &next)
			if !errors.Is(err, approval.ErrConflict) {
				return err
			}
		}
		if err := d.read(ctx, kv, key, r); err != nil {
			return err
		}
		known = true
	}
	return fmt.Errorf("%s after %d tries: %w", key, tries, approval.ErrConflict)
}

// write stores next in place of r, and makes r what is stored.
func (d *Deliveries) write(ctx context.Context, kv jetstream.KeyValue, key string, r, next *approval.DeliveryRecord) error {
	before, err := encode(stored(r))
	if err != nil {
		return err
	}
	after, err := encode(stored(next))
	if err != nil {
		return err
	}
	switch {
	case string(before) == string(after):
	case r.Revision == 0 && next.Empty():
	case r.Revision == 0:
		next.Revision, err = kv.Create(ctx, key, after)
	default:
		next.Revision, err = kv.Update(ctx, key, after, r.Revision)
	}
	if err := written(key, err); err != nil {
		return err
	}
	*r = *next
	if next.Empty() && next.Revision > 0 {
		// Changed first and then removed, so that a mark which another worker
		// sets meanwhile is not removed with it.
		if err := d.remove(ctx, key, next.Revision); err != nil {
			return err
		}
		r.Revision = 0
	}
	return nil
}

func stored(r *approval.DeliveryRecord) storedDelivery {
	return storedDelivery{
		V: format, StoredAt: r.StoredAt.UTC(), Marks: r.Marks, Panics: r.Panics, RequestID: r.RequestID,
		Cleared: r.Cleared, DeadLetterAfter: r.DeadLetterAfter.UTC(),
	}
}

// decodeDelivery returns what stored made; false if it was written otherwise.
func decodeDelivery(data []byte) (storedDelivery, bool) {
	var s storedDelivery
	err := json.Unmarshal(data, &s)
	return s, err == nil && s.V == format
}

// read makes r what is stored of the message that it names.
func (d *Deliveries) read(ctx context.Context, kv jetstream.KeyValue, key string, r *approval.DeliveryRecord) error {
	blank := approval.DeliveryRecord{Sequence: r.Sequence, StoredAt: r.StoredAt}
	found, err := kv.Get(ctx, key)
	if errors.Is(err, jetstream.ErrKeyNotFound) {
		*r = blank
		return nil
	}
	if err != nil {
		return fmt.Errorf("read %s of the ledger: %w", key, err)
	}
	blank.Revision = found.Revision()
	s, ok := decodeDelivery(found.Value())
	if !ok {
		// The request must not wait for a record that only counts crashes.
		*r = blank
		return nil
	}
	switch {
	case s.StoredAt.After(r.StoredAt):
		return fmt.Errorf("%s of the ledger: %w", key, ErrMessageGone)
	case s.StoredAt.Before(r.StoredAt): // of a message that is gone
		*r = blank
		return nil
	}
	blank.Marks, blank.Panics, blank.RequestID = s.Marks, s.Panics, s.RequestID
	blank.Cleared, blank.DeadLetterAfter = s.Cleared, s.DeadLetterAfter
	*r = blank
	return nil
}

// Poison returns the number of the dead letter that a request became as poison;
// 0 if it did not.
func (d *Deliveries) Poison(ctx context.Context, requestID string) (uint64, error) {
	key, err := poisonKey(requestID)
	if err != nil {
		return 0, err
	}
	kv, err := d.bucket.get(ctx)
	if errors.Is(err, jetstream.ErrBucketNotFound) {
		return 0, nil // no worker has run here
	}
	if err != nil {
		return 0, err
	}
	found, err := kv.Get(ctx, key)
	if errors.Is(err, jetstream.ErrKeyNotFound) {
		return 0, nil
	}
	if err != nil {
		return 0, fmt.Errorf("read %s of the ledger: %w", key, err)
	}
	var s storedPoison
	if err := decode(key, found.Revision(), found.Value(), &s); err != nil {
		return 0, err
	}
	return s.DeadLetter, nil
}

// SetPoison records which dead letter a request became as poison; 0 removes the
// record. It may be repeated.
func (d *Deliveries) SetPoison(ctx context.Context, requestID string, deadLetter uint64) error {
	key, err := poisonKey(requestID)
	if err != nil {
		return err
	}
	kv, err := d.bucket.get(ctx)
	if err != nil {
		return err
	}
	if deadLetter == 0 {
		found, err := kv.Get(ctx, key)
		if errors.Is(err, jetstream.ErrKeyNotFound) {
			return nil
		}
		if err != nil {
			return fmt.Errorf("read %s of the ledger: %w", key, err)
		}
		return d.remove(ctx, key, found.Revision())
	}
	data, err := encode(storedPoison{V: format, DeadLetter: deadLetter, At: time.Now().UTC()})
	if err != nil {
		return err
	}
	_, err = kv.Put(ctx, key, data)
	return written(key, err)
}
