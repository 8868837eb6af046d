package events

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/go-json-experiment/json"
	"github.com/nats-io/nats.go/jetstream"
)

// BuriedError says that a request was not handed in, because an earlier event of
// it became a dead letter as poison: handed in again it would end workers again.
type BuriedError struct {
	RequestID  string
	DeadLetter uint64 // its sequence, which names it
}

func (e *BuriedError) Error() string {
	return fmt.Sprintf("the request %s is not handed in, for its handling ended workers; once that is mended hand it in by worker deadletters replay %d",
		e.RequestID, e.DeadLetter)
}

// Retryable reports false: only a replay of the dead letter helps.
func (e *BuriedError) Retryable() bool { return false }

// Buried reports true. A sweep need not tell of what will not change by itself.
func (e *BuriedError) Buried() bool { return true }

// burial is what is noted of a request that is poison, in the ledger's bucket
// under buried.<request id>.
type burial struct {
	V          int       `json:"v"`
	DeadLetter uint64    `json:"dead_letter"`
	At         time.Time `json:"at"`
}

func buriedKey(requestID string) string { return "buried." + requestID }

// markBuried notes that a request is poison. It may be repeated.
func (b *Bus) markBuried(ctx context.Context, requestID string, deadLetter uint64) error {
	data, err := json.Marshal(burial{V: 1, DeadLetter: deadLetter, At: time.Now().UTC()})
	if err != nil {
		return fmt.Errorf("encode that a request is poison: %w", err)
	}
	kv, err := b.marks(ctx)
	if err != nil {
		return err
	}
	if _, err := kv.Put(ctx, buriedKey(requestID), data); err != nil {
		return fmt.Errorf("note that the request %s is poison: %w", requestID, err)
	}
	return nil
}

// marks is the bucket, looked up once.
func (b *Bus) marks(ctx context.Context) (jetstream.KeyValue, error) {
	b.mu.Lock()
	kv := b.kv
	b.mu.Unlock()
	if kv != nil {
		return kv, nil
	}
	kv, err := b.Bucket(ctx)
	if err != nil {
		return nil, err
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	b.kv = kv
	return kv, nil
}

// unmarkBuried makes a request one that may be handed in again.
func (b *Bus) unmarkBuried(ctx context.Context, requestID string) error {
	if err := token(requestID); err != nil {
		return fmt.Errorf("the id of its request: %w", err)
	}
	return b.erase(ctx, buriedKey(requestID))
}

// refuseBuried is a *BuriedError if the request is poison.
func (b *Bus) refuseBuried(ctx context.Context, requestID string) error {
	kv, err := b.marks(ctx)
	if errors.Is(err, jetstream.ErrBucketNotFound) {
		return nil // no worker has run here
	}
	if err != nil {
		return err
	}
	found, err := kv.Get(ctx, buriedKey(requestID))
	if errors.Is(err, jetstream.ErrKeyNotFound) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("look whether the request %s is poison: %w", requestID, err)
	}
	var mark burial
	if err := json.Unmarshal(found.Value(), &mark); err != nil {
		return fmt.Errorf("read the mark that the request %s is poison: %w", requestID, err)
	}
	return &BuriedError{RequestID: requestID, DeadLetter: mark.DeadLetter}
}
