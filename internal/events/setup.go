package events

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/nats-io/nats.go/jetstream"
)

// minPayload is the least that the broker must take as one message, in bytes:
// the record of a request holds the event and what became of it.
const minPayload = 2 * MaxEvent

// ledgerHistory is how many versions of a value the ledger keeps.
const ledgerHistory = 8

// Difference is one thing on the broker that is not as this package makes it.
type Difference struct {
	Resource string // such as "stream VPCEP_RESULTS"
	Field    string // "" if the resource is missing
	Have     string
	Want     string
	Matters  bool // a promise would break; else it is the operator's choice
}

func (d Difference) String() string {
	if d.Field == "" {
		return d.Resource + " is missing"
	}
	return fmt.Sprintf("%s: %s is %s, should be %s", d.Resource, d.Field, d.Have, d.Want)
}

// SetupError says what on the broker must change before the worker can run.
type SetupError struct {
	Differences []Difference // those that matter
}

func (e *SetupError) Error() string {
	lines := make([]string, len(e.Differences))
	for i, d := range e.Differences {
		lines[i] = d.String()
	}
	return "the broker is not set up as needed: " + strings.Join(lines, "; ") +
		"; make what is missing by `worker bus setup`, change the rest with the nats tool"
}

// streams is what this package makes. When one is full, the broker refuses what
// is new, and nothing that was stored is lost.
func (b *Bus) streams() []jetstream.StreamConfig {
	stream := func(name, subject, what string, age, window time.Duration) jetstream.StreamConfig {
		return jetstream.StreamConfig{
			Name: name, Description: what, Subjects: []string{subject + ".>"},
			Retention: jetstream.LimitsPolicy, Storage: jetstream.FileStorage, Discard: jetstream.DiscardNew,
			MaxAge: age, Duplicates: window, Replicas: b.cfg.Replicas, AllowDirect: true,
		}
	}
	return []jetstream.StreamConfig{
		stream(RequestsStream, RequestsSubject, "Requests to the VPC endpoint approver", b.cfg.RequestsMaxAge, 2*time.Minute),
		stream(ResultsStream, ResultsSubject, "How requests to the VPC endpoint approver ended", b.cfg.ResultsMaxAge, 2*time.Minute),
		stream(DeadLettersStream, DeadLettersSubject, "Messages that are no requests", b.cfg.DeadLettersMaxAge, time.Hour),
	}
}

func (b *Bus) bucket() jetstream.KeyValueConfig {
	return jetstream.KeyValueConfig{
		Bucket: LedgerBucket, Description: "What the VPC endpoint approver decided", History: ledgerHistory,
		TTL: ledgerMaxAge, Storage: jetstream.FileStorage, Replicas: b.cfg.Replicas,
	}
}

// ledgerMaxAge bounds the ledger. It is longer than anything is stored that
// could come again.
const ledgerMaxAge = 400 * 24 * time.Hour

// bucketStream is the stream in which the broker keeps the bucket.
const bucketStream = "KV_" + LedgerBucket

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

// Setup makes the streams, the bucket and the consumer that are missing, if
// Config.Create allows it, and checks the others. It changes and deletes nothing
// that is there; what differs in a way that matters is a *SetupError.
func (b *Bus) Setup(ctx context.Context) error {
	if b.cfg.Create {
		if err := b.create(ctx); err != nil {
			return err
		}
	}
	differences, err := b.Status(ctx)
	if err != nil {
		return err
	}
	differences = slices.DeleteFunc(differences, func(d Difference) bool { return !d.Matters })
	if len(differences) > 0 {
		return &SetupError{Differences: differences}
	}
	return nil
}

// create makes what is missing. That another worker was quicker is no error.
func (b *Bus) create(ctx context.Context) error {
	for _, want := range b.streams() {
		_, err := b.js.Stream(ctx, want.Name)
		if errors.Is(err, jetstream.ErrStreamNotFound) {
			_, err = b.js.CreateStream(ctx, want)
			if errors.Is(err, jetstream.ErrStreamNameAlreadyInUse) {
				err = nil
			}
		}
		if err != nil {
			return apiError("make the stream "+want.Name, err)
		}
	}
	_, err := b.js.KeyValue(ctx, LedgerBucket)
	if errors.Is(err, jetstream.ErrBucketNotFound) {
		_, err = b.js.CreateKeyValue(ctx, b.bucket())
		if errors.Is(err, jetstream.ErrBucketExists) {
			err = nil
		}
	}
	if err != nil {
		return apiError("make the bucket "+LedgerBucket, err)
	}
	_, err = b.js.Consumer(ctx, RequestsStream, ConsumerName)
	if errors.Is(err, jetstream.ErrConsumerNotFound) {
		_, err = b.js.CreateConsumer(ctx, RequestsStream, b.consumer())
		if errors.Is(err, jetstream.ErrConsumerExists) {
			err = nil
		}
	}
	if err != nil {
		return apiError("make the consumer "+ConsumerName, err)
	}
	return nil
}

// apiError adds what an operator can do about an error of JetStream's API.
func apiError(what string, err error) error {
	switch {
	case errors.Is(err, jetstream.ErrJetStreamNotEnabled), errors.Is(err, jetstream.ErrJetStreamNotEnabledForAccount):
		return fmt.Errorf("%s: switch JetStream on for this account: %w", what, err)
	case errors.Is(err, context.DeadlineExceeded):
		return fmt.Errorf("%s: no answer; the user may lack the permission, or JetStream has no leader: %w", what, err)
	}
	return fmt.Errorf("%s: %w", what, err)
}

// Status returns in what the broker differs from what Setup would make; nothing
// if it does not. The error says that it could not be told.
func (b *Bus) Status(ctx context.Context) ([]Difference, error) {
	var out []Difference
	if have := b.nc.MaxPayload(); have < minPayload {
		out = append(out, Difference{Resource: "broker", Field: "max payload", Have: text(have), Want: text(minPayload), Matters: true})
	}
	for _, want := range b.streams() {
		have, err := b.streamInfo(ctx, want.Name)
		if err != nil {
			return nil, err
		}
		resource := "stream " + want.Name
		if have == nil {
			out = append(out, Difference{Resource: resource, Matters: true})
			continue
		}
		out = append(out, streamDifferences(resource, have.Config, want)...)
	}
	have, err := b.streamInfo(ctx, bucketStream)
	switch {
	case err != nil:
		return nil, err
	case have == nil:
		out = append(out, Difference{Resource: "bucket " + LedgerBucket, Matters: true})
	default:
		out = append(out, bucketDifferences(have.Config, b.bucket())...)
	}
	consumer, err := b.consumerInfo(ctx)
	switch {
	case err != nil:
		return nil, err
	case consumer == nil:
		out = append(out, Difference{Resource: "consumer " + ConsumerName, Matters: true})
	default:
		out = append(out, consumerDifferences(consumer.Config, b.consumer(), b.cfg.Slots)...)
	}
	return out, nil
}

// streamInfo is nil if there is no such stream.
func (b *Bus) streamInfo(ctx context.Context, name string) (*jetstream.StreamInfo, error) {
	s, err := b.js.Stream(ctx, name)
	if errors.Is(err, jetstream.ErrStreamNotFound) {
		return nil, nil
	}
	if err != nil {
		return nil, apiError("look at the stream "+name, err)
	}
	return s.CachedInfo(), nil
}

// consumerInfo is nil if there is no such consumer, or no stream for it.
func (b *Bus) consumerInfo(ctx context.Context) (*jetstream.ConsumerInfo, error) {
	c, err := b.js.Consumer(ctx, RequestsStream, ConsumerName)
	switch {
	case errors.Is(err, jetstream.ErrConsumerNotFound), errors.Is(err, jetstream.ErrStreamNotFound):
		return nil, nil
	case err != nil:
		return nil, apiError("look at the consumer "+ConsumerName, err)
	}
	return c.CachedInfo(), nil
}

// comparison collects the differences of one resource.
type comparison struct {
	resource string
	out      []Difference
}

// field notes a difference unless have is want; matters unless accept says that
// have is as good or better.
func field[T comparable](c *comparison, name string, have, want T, accept bool) {
	if have != want {
		c.out = append(c.out, Difference{
			Resource: c.resource, Field: name, Have: text(have), Want: text(want), Matters: !accept,
		})
	}
}

func text(v any) string {
	switch v := v.(type) {
	case string:
		return strconv.Quote(v)
	case fmt.Stringer:
		return v.String()
	}
	return fmt.Sprint(v)
}

func streamDifferences(resource string, have, want jetstream.StreamConfig) []Difference {
	c := &comparison{resource: resource}
	subject := want.Subjects[0]
	field(c, "subjects", strings.Join(have.Subjects, ","), subject, slices.Contains(have.Subjects, subject))
	field(c, "retention", have.Retention, want.Retention, false)
	field(c, "storage", have.Storage, want.Storage, false)
	field(c, "discard", have.Discard, want.Discard, false)
	field(c, "max age", have.MaxAge, want.MaxAge, have.MaxAge == 0 || have.MaxAge > want.MaxAge)
	field(c, "max messages per subject", max(have.MaxMsgsPerSubject, 0), 0, false)
	field(c, "max message size", max(have.MaxMsgSize, 0), 0, have.MaxMsgSize >= 2*MaxEvent)
	field(c, "max messages", max(have.MaxMsgs, 0), 0, true)
	field(c, "max bytes", max(have.MaxBytes, 0), 0, true)
	field(c, "duplicate window", have.Duplicates, want.Duplicates, have.Duplicates > want.Duplicates)
	field(c, "replicas", max(have.Replicas, 1), want.Replicas, have.Replicas > want.Replicas)
	field(c, "acknowledgements", !have.NoAck, true, false)
	field(c, "sealed", have.Sealed, false, false)
	field(c, "mirror of another stream", have.Mirror != nil, false, false)
	return c.out
}

func bucketDifferences(have jetstream.StreamConfig, want jetstream.KeyValueConfig) []Difference {
	c := &comparison{resource: "bucket " + want.Bucket}
	field(c, "history", have.MaxMsgsPerSubject, int64(want.History), have.MaxMsgsPerSubject > 0)
	field(c, "time to live", have.MaxAge, want.TTL, false)
	field(c, "storage", have.Storage, want.Storage, false)
	field(c, "discard", have.Discard, jetstream.DiscardNew, false)
	field(c, "max bytes", max(have.MaxBytes, 0), 0, true)
	field(c, "replicas", max(have.Replicas, 1), want.Replicas, have.Replicas > want.Replicas)
	return c.out
}

func consumerDifferences(have, want jetstream.ConsumerConfig, slots int) []Difference {
	c := &comparison{resource: "consumer " + want.Durable}
	filter := strings.Join(append(slices.Clone(have.FilterSubjects), slices.DeleteFunc([]string{have.FilterSubject}, func(s string) bool { return s == "" })...), ",")
	field(c, "filter", cmp.Or(filter, want.FilterSubject), want.FilterSubject, false)
	field(c, "ack policy", have.AckPolicy, want.AckPolicy, false)
	field(c, "ack wait", have.AckWait, want.AckWait, false)
	field(c, "deliver policy", have.DeliverPolicy, want.DeliverPolicy, false)
	field(c, "max deliver", max(have.MaxDeliver, -1), want.MaxDeliver, false)
	field(c, "backoff steps", len(have.BackOff), 0, false)
	unbounded := have.MaxAckPending <= 0
	field(c, "max ack pending", have.MaxAckPending, want.MaxAckPending, unbounded || have.MaxAckPending >= 10*slots)
	field(c, "headers only", have.HeadersOnly, false, false)
	field(c, "rate limit", have.RateLimit, 0, false)
	field(c, "inactive threshold", have.InactiveThreshold, 0, false)
	field(c, "max request batch", max(have.MaxRequestBatch, 0), 0, have.MaxRequestBatch >= slots)
	field(c, "deliver subject", have.DeliverSubject, "", false)
	return c.out
}

// Bucket returns the ledger's bucket.
func (b *Bus) Bucket(ctx context.Context) (jetstream.KeyValue, error) {
	kv, err := b.js.KeyValue(ctx, LedgerBucket)
	if err != nil {
		return nil, apiError("open the bucket "+LedgerBucket, err)
	}
	return kv, nil
}
