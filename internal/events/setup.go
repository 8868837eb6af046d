package events

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"iter"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

// minPayload is the least that the broker must take as one message, in bytes:
// the record of a request holds the event and what became of it.
const minPayload = 2 * MaxEvent

// ledgerHistory is how many versions of a value the ledger keeps.
const ledgerHistory = 8

// SetupError says what on the broker must change before the worker can run.
type SetupError struct {
	Differences []Difference // those that matter
}

func (e *SetupError) Error() string {
	var lines []string
	for _, d := range e.Differences {
		line := d.String()
		if d.Fix != "" {
			line += ": " + d.Fix
		}
		lines = append(lines, line)
	}
	return "the broker is not set up as needed: " + strings.Join(lines, "; ")
}

// streams is what this package makes, buckets included. When one is full, the
// broker refuses what is new, and nothing that was stored is lost.
func (b *Bus) streams() []jetstream.StreamConfig {
	stream := func(name, subject, what string, age, window time.Duration) jetstream.StreamConfig {
		return jetstream.StreamConfig{
			Name: name, Description: what, Subjects: []string{subject + ".>"},
			Retention: jetstream.LimitsPolicy, Storage: jetstream.FileStorage, Discard: jetstream.DiscardNew,
			MaxAge: age, Duplicates: window, Replicas: b.cfg.Replicas, AllowDirect: true, MaxBytes: b.cfg.MaxBytes,
		}
	}
	ledger := stream(bucketStream, "$KV."+LedgerBucket, "What the VPC endpoint approver decided", b.cfg.LedgerMaxAge, 2*time.Minute)
	ledger.MaxMsgsPerSubject, ledger.AllowRollup, ledger.DenyDelete = ledgerHistory, true, true
	ttl := b.cfg.heartbeatTTL()
	workers := stream(bucketPrefix+WorkersBucket, "$KV."+WorkersBucket, "Heartbeats of the workers of the VPC endpoint approver", ttl, ttl)
	workers.MaxMsgsPerSubject, workers.AllowRollup, workers.DenyDelete = 1, true, true
	return []jetstream.StreamConfig{
		stream(RequestsStream, RequestsSubject, "Requests to the VPC endpoint approver", b.cfg.RequestsMaxAge, 2*time.Minute),
		stream(ResultsStream, ResultsSubject, "How requests to the VPC endpoint approver ended", b.cfg.ResultsMaxAge, 2*time.Minute),
		stream(DeadLettersStream, DeadLettersSubject, "Messages that are no requests", b.cfg.DeadLettersMaxAge, time.Hour),
		ledger, workers,
		stream(ReviewsStream, ReviewsSubject, "What people say of held requests", b.cfg.ResultsMaxAge, 2*time.Minute),
	}
}

const (
	bucketPrefix = "KV_" // of the stream in which the broker keeps a bucket
	bucketStream = bucketPrefix + LedgerBucket
)

// resourceOf is what a stream is called in texts.
func resourceOf(stream string) string {
	if bucket, ok := strings.CutPrefix(stream, bucketPrefix); ok {
		return "bucket " + bucket
	}
	return "stream " + stream
}

// consumer is shared by all workers. It has no BackOff, which would add to the
// delays that requests are given back with, and no MaxDeliver, which would leave
// a request behind in silence.
func (b *Bus) consumer() jetstream.ConsumerConfig {
	return jetstream.ConsumerConfig{
		Durable: ConsumerName, Description: "The workers of the VPC endpoint approver",
		DeliverPolicy: jetstream.DeliverAllPolicy, AckPolicy: jetstream.AckExplicitPolicy,
		AckWait: b.cfg.AckWait, MaxDeliver: -1, MaxAckPending: b.cfg.MaxAckPending,
		ReplayPolicy: jetstream.ReplayInstantPolicy, FilterSubject: RequestsSubject + ".>",
	}
}

// reviewsConsumer is shared by all workers, too.
func (b *Bus) reviewsConsumer() jetstream.ConsumerConfig {
	c := b.consumer()
	c.Durable, c.Description = ReviewsConsumerName, "Reviews for the workers of the VPC endpoint approver"
	c.FilterSubject = ReviewsSubmittedSubject + ".>"
	return c
}

// Setup makes the streams, the bucket and the consumer that are missing, if
// Config.Create allows it, and checks the others. It changes and deletes nothing
// that is there; what differs in a way that matters is a *SetupError.
func (b *Bus) Setup(ctx context.Context) error {
	differences, err := b.Status(ctx)
	if err == nil && b.cfg.Create && slices.ContainsFunc(differences, Difference.missing) {
		if err := b.create(ctx); err != nil {
			return err
		}
		differences, err = b.Status(ctx)
	}
	if err != nil {
		return err
	}
	differences = slices.DeleteFunc(differences, func(d Difference) bool { return !d.Matters })
	if len(differences) > 0 {
		return &SetupError{Differences: differences}
	}
	b.setupAt.Store(time.Now().UnixNano())
	return nil
}

// setupFor is how long nothing is looked at again that Setup found well, unless something
// goes wrong meanwhile.
const setupFor = 5 * time.Second

// justSetUp reports whether Setup succeeded a moment ago, over this connection.
func (b *Bus) justSetUp() bool {
	at := b.setupAt.Load()
	return at != 0 && time.Since(time.Unix(0, at)) < setupFor
}

// create makes what is missing. That another worker was quicker is no error.
func (b *Bus) create(ctx context.Context) error {
	for _, want := range b.streams() {
		have, err := b.streamInfo(ctx, want.Name)
		if err == nil && have == nil {
			err = b.createStream(ctx, want)
		}
		if err != nil {
			return err
		}
	}
	for stream := range consumerNames() {
		want := b.consumers()[stream]
		have, err := b.lookupConsumer(ctx, stream, want.Durable)
		if err != nil {
			return err
		}
		if have != nil {
			continue
		}
		_, err = b.js.CreateConsumer(ctx, stream, want)
		if err != nil && !errors.Is(err, jetstream.ErrConsumerExists) {
			return apiError("make the consumer "+want.Durable, err)
		}
	}
	return nil
}

// consumerNames yields the consumers of the workers with their streams, in one order.
func consumerNames() iter.Seq2[string, string] {
	return func(yield func(stream, name string) bool) {
		_ = yield(RequestsStream, ConsumerName) && yield(ReviewsStream, ReviewsConsumerName)
	}
}

// consumers are those of the workers, by stream.
func (b *Bus) consumers() map[string]jetstream.ConsumerConfig {
	return map[string]jetstream.ConsumerConfig{RequestsStream: b.consumer(), ReviewsStream: b.reviewsConsumer()}
}

// createStream makes a stream, with the longest duplicate window that the broker
// allows if that is less than what is wanted.
func (b *Bus) createStream(ctx context.Context, want jetstream.StreamConfig) error {
	_, err := b.js.CreateStream(ctx, want)
	const invalidConfig = 10052
	if refused, ok := errors.AsType[*jetstream.APIError](err); ok && refused.ErrorCode == invalidConfig && strings.Contains(refused.Description, "duplicates window") {
		want.Duplicates = 0 // the broker's choice
		_, err = b.js.CreateStream(ctx, want)
	}
	if err != nil && !errors.Is(err, jetstream.ErrStreamNameAlreadyInUse) {
		return apiError("make the "+resourceOf(want.Name), err)
	}
	return nil
}

// apiError adds what an operator can do about an error of JetStream's API.
func apiError(what string, err error) error {
	switch {
	case errors.Is(err, jetstream.ErrJetStreamNotEnabled), errors.Is(err, jetstream.ErrJetStreamNotEnabledForAccount):
		return fmt.Errorf("%s: switch JetStream on for this account: %w", what, err)
	case errors.Is(err, nats.ErrNoResponders):
		return fmt.Errorf("%s: JetStream does not answer; is it switched on for this account, and is nats.domain right? %w", what, err)
	case errors.Is(err, context.DeadlineExceeded):
		return fmt.Errorf("%s: no answer; the user may lack the permission, or JetStream has no leader: %w", what, err)
	case strings.Contains(err.Error(), "max bytes"):
		return fmt.Errorf("%s: the account wants limits: set nats.max_bytes: %w", what, err)
	case strings.Contains(err.Error(), "max ack pending exceeds"):
		return fmt.Errorf("%s: the broker allows fewer unacknowledged requests: make the consumer with the nats tool, with a max ack pending of at least ten times worker.slots: %w", what, err)
	}
	return fmt.Errorf("%s: %w", what, err)
}

// Status returns in what the broker differs from what Setup would make; nothing
// if it does not. The error says that it could not be told.
func (b *Bus) Status(ctx context.Context) ([]Difference, error) {
	var out []Difference
	if have := b.nc.MaxPayload(); have < minPayload {
		out = append(out, Difference{
			Resource: "broker", Field: "max payload", Have: text(have), Want: text(minPayload), Matters: true,
			Effect: "records and results of large requests are refused", Fix: "set max_payload in the server's configuration",
		})
	}
	// They are independent of each other, so the broker is asked about all concurrently.
	var looks []func() ([]Difference, error)
	for _, want := range b.streams() {
		looks = append(looks, func() ([]Difference, error) { return b.streamStatus(ctx, want) })
	}
	for stream := range consumerNames() {
		want := b.consumers()[stream]
		looks = append(looks, func() ([]Difference, error) { return b.consumerStatus(ctx, stream, want) })
	}
	differences, errs := make([][]Difference, len(looks)), make([]error, len(looks))
	var looking sync.WaitGroup
	for i, look := range looks {
		looking.Go(func() { differences[i], errs[i] = look() })
	}
	looking.Wait()
	if i := slices.IndexFunc(errs, func(err error) bool { return err != nil }); i >= 0 {
		return nil, errs[i]
	}
	return append(out, slices.Concat(differences...)...), nil
}

func (b *Bus) streamStatus(ctx context.Context, want jetstream.StreamConfig) ([]Difference, error) {
	resource := resourceOf(want.Name)
	have, err := b.streamInfo(ctx, want.Name)
	switch {
	case err != nil:
		return nil, err
	case have == nil:
		return []Difference{missing(resource)}, nil
	}
	return streamDifferences(resource, have.raw, have.info.Config, want, b.cfg.Slots), nil
}

func (b *Bus) consumerStatus(ctx context.Context, stream string, want jetstream.ConsumerConfig) ([]Difference, error) {
	have, err := b.lookupConsumer(ctx, stream, want.Durable)
	switch {
	case err != nil:
		return nil, err
	case have == nil:
		return []Difference{missing("consumer " + want.Durable)}, nil
	}
	return consumerDifferences(have.raw, have.info.Config, want, b.cfg.Slots, max(b.cfg.Replicas, 1)), nil
}

func missing(resource string) Difference {
	return Difference{Resource: resource, Matters: true, Fix: "make it with: worker bus setup"}
}

// missing reports whether the resource is not there at all.
func (d Difference) missing() bool { return d.Field == "" }

// found is what the broker says of a stream or a consumer; raw is its
// configuration with the fields that the client library does not know.
type found[T any] struct {
	info *T
	raw  map[string]json.RawMessage
}

// lookup asks the broker about a stream or a consumer; body may be nil. It returns nil if
// what is asked for is not there.
func lookup[T any](ctx context.Context, b *Bus, what, operation string, body []byte) (*found[T], error) {
	msg, err := b.request(ctx, b.api(operation), body)
	if err != nil {
		return nil, apiError(what, err)
	}
	var answer struct {
		Error  *jetstream.APIError        `json:"error"`
		Config map[string]json.RawMessage `json:"config"`
	}
	info := new(T)
	err = json.Unmarshal(msg.Data, &answer)
	if err == nil && answer.Error == nil {
		err = json.Unmarshal(msg.Data, info)
	}
	switch {
	case err != nil:
		return nil, fmt.Errorf("%s: the broker's answer cannot be read: %w", what, err)
	case answer.Error != nil && (answer.Error.ErrorCode == jetstream.JSErrCodeStreamNotFound || answer.Error.ErrorCode == jetstream.JSErrCodeConsumerNotFound):
		return nil, nil
	case answer.Error != nil:
		return nil, apiError(what, answer.Error)
	}
	return &found[T]{info, answer.Config}, nil
}

// streamInfo is nil if there is no such stream.
func (b *Bus) streamInfo(ctx context.Context, name string) (*found[jetstream.StreamInfo], error) {
	return lookup[jetstream.StreamInfo](ctx, b, "look at the "+resourceOf(name), "STREAM.INFO."+name, nil)
}

// consumerLookup is nil if there is no such consumer, or no stream for it.
func (b *Bus) consumerLookup(ctx context.Context) (*found[jetstream.ConsumerInfo], error) {
	return b.lookupConsumer(ctx, RequestsStream, ConsumerName)
}

func (b *Bus) lookupConsumer(ctx context.Context, stream, name string) (*found[jetstream.ConsumerInfo], error) {
	return lookup[jetstream.ConsumerInfo](ctx, b, "look at the consumer "+name, "CONSUMER.INFO."+stream+"."+name, nil)
}

// consumerInfo is consumerLookup for those who do not compare.
func (b *Bus) consumerInfo(ctx context.Context) (*jetstream.ConsumerInfo, error) {
	have, err := b.consumerLookup(ctx)
	if err != nil || have == nil {
		return nil, err
	}
	return have.info, nil
}

// Bucket returns the ledger's bucket.
func (b *Bus) Bucket(ctx context.Context) (jetstream.KeyValue, error) {
	return b.openBucket(ctx, LedgerBucket)
}

// WorkersBucket returns the bucket of the heartbeats.
func (b *Bus) WorkersBucket(ctx context.Context) (jetstream.KeyValue, error) {
	return b.openBucket(ctx, WorkersBucket)
}

// WorkerKeys returns the keys of the bucket of the heartbeats.
func (b *Bus) WorkerKeys(ctx context.Context) ([]string, error) {
	have, err := lookup[jetstream.StreamInfo](ctx, b, "list the keys of the bucket "+WorkersBucket, "STREAM.INFO."+bucketPrefix+WorkersBucket, []byte(`{"subjects_filter":">"}`))
	if err != nil {
		return nil, err
	}
	if have == nil {
		return nil, fmt.Errorf("the bucket %s is missing", WorkersBucket)
	}
	var keys []string
	for subject := range have.info.State.Subjects {
		keys = append(keys, strings.TrimPrefix(subject, "$KV."+WorkersBucket+"."))
	}
	return keys, nil
}

// openBuckets are the buckets that are open, by name.
type openBuckets map[string]jetstream.KeyValue

func (b *Bus) openBucket(ctx context.Context, name string) (kv jetstream.KeyValue, err error) {
	b.mu.Lock()
	kv = b.buckets[name]
	b.mu.Unlock()
	if kv != nil {
		return kv, nil
	}
	err = b.abortOnDenial(ctx, b.api("STREAM.INFO."+bucketPrefix+name), func(ctx context.Context) (err error) {
		kv, err = b.js.KeyValue(ctx, name)
		return err
	})
	if err != nil {
		return nil, apiError("open the bucket "+name, err)
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	b.buckets[name] = kv
	return kv, nil
}

// ledgerSubject is the subject of a key of the ledger's bucket.
func ledgerSubject(key string) string { return "$KV." + LedgerBucket + "." + key }

// RemoveKey removes the values of a key of the ledger's bucket up to a revision,
// and leaves no marker.
func (b *Bus) RemoveKey(ctx context.Context, key string, revision uint64) error {
	s, err := b.js.Stream(ctx, bucketStream)
	if err == nil {
		err = s.Purge(ctx, jetstream.WithPurgeSubject(ledgerSubject(key)), jetstream.WithPurgeSequence(revision+1))
	}
	if err != nil {
		return fmt.Errorf("remove %s from the bucket: %w", key, err)
	}
	return nil
}
