package events

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/vpcep-approver/vpcep-approver/internal/approval"
	"github.com/vpcep-approver/vpcep-approver/internal/natstest"
)

// TestLedgerChangesAreNewestFirst: each key shows once with its latest value, over many
// windows and holes of any size, and keys that were deleted do not show.
func TestLedgerChangesAreNewestFirst(t *testing.T) {
	t.Parallel()
	b := connect(t, natstest.Start(t), nil)
	changes := func(prefix string) (keys []string) {
		t.Helper()
		last := uint64(0)
		for v, err := range b.LedgerChanges(t.Context(), prefix) {
			if err != nil {
				t.Fatal(err)
			}
			if last > 0 && v.Revision >= last || v.At.IsZero() {
				t.Errorf("%+v came after revision %d", v, last)
			}
			last = v.Revision
			keys = append(keys, v.Key+"="+string(v.Value))
		}
		return keys
	}
	if got := changes("request."); len(got) != 0 {
		t.Errorf("nothing is stored, and got %v", got)
	}
	js := natsJetStream(t, b)
	put := func(key string, value int) {
		t.Helper()
		if _, err := js.PublishAsync(ledgerSubject(key), []byte(fmt.Sprint(value)), jetstream.WithStallWait(natstest.Hang)); err != nil {
			t.Fatal(err)
		}
	}
	var want []string
	for n := range 3 * maxMessages {
		put(fmt.Sprintf("request.%04d.x", n), n)
		want = append(want, fmt.Sprintf("request.%04d.x=%d", n, n))
		if n == 500 { // a hole, and a key that was written before it and is again behind it
			for i := range 2 * firstWindow {
				put(fmt.Sprintf("lock.%d", i), i)
			}
			put("request.0003.x", 7)
			want = append(slices.DeleteFunc(want, func(s string) bool { return s == "request.0003.x=3" }), "request.0003.x=7")
		}
	}
	<-js.PublishAsyncComplete()
	bucket, err := b.Bucket(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if err := bucket.Delete(t.Context(), "request.0004.x"); err != nil {
		t.Fatal(err)
	}
	want = slices.DeleteFunc(want, func(s string) bool { return s == "request.0004.x=4" })
	slices.Reverse(want)
	if got := changes("request."); !slices.Equal(got, want) {
		t.Errorf("got %d changes, want %d; the first are %v", len(got), len(want), got[:min(3, len(got))])
	}
	if got := changes("request.0003."); !slices.Equal(got, []string{"request.0003.x=7"}) {
		t.Errorf("of one key: %v", got)
	}
	for _, err := range b.LedgerChanges(t.Context(), "request.") {
		if err != nil {
			t.Error(err)
		}
		break // the reader may stop at any time
	}
}

// TestLedgerVersions: all versions show, the oldest first, and deletions without a value.
func TestLedgerVersions(t *testing.T) {
	t.Parallel()
	b := connect(t, natstest.Start(t), nil)
	versions := func() (got []string) {
		t.Helper()
		for v, err := range b.LedgerVersions(t.Context(), "request.") {
			if err != nil {
				t.Fatal(err)
			}
			got = append(got, v.Key+"="+string(v.Value))
		}
		return got
	}
	if got := versions(); len(got) != 0 {
		t.Errorf("nothing is stored, and got %v", got)
	}
	bucket, err := b.Bucket(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	var want []string
	put := func(key, value string) {
		t.Helper()
		if _, err := bucket.PutString(t.Context(), key, value); err != nil {
			t.Fatal(err)
		}
		if strings.HasPrefix(key, "request.") {
			want = append(want, key+"="+value)
		}
	}
	for n := range directScan {
		put(fmt.Sprintf("request.%04d.x", n), "open")
		put(fmt.Sprintf("lock.%d", n), "x")
	}
	put("request.0003.x", "ended")
	if err := bucket.Delete(t.Context(), "request.0004.x"); err != nil {
		t.Fatal(err)
	}
	want = append(want, "request.0004.x=")
	if got := versions(); !slices.Equal(got, want) {
		t.Errorf("got %d versions, want %d; the last are %v", len(got), len(want), got[max(0, len(got)-3):])
	}
}

func natsJetStream(t *testing.T, b *Bus) jetstream.JetStream {
	t.Helper()
	js, err := jetstream.New(b.nc)
	if err != nil {
		t.Fatal(err)
	}
	return js
}

// TestNewestResults: the newest come first, of one outcome and target.
func TestNewestResults(t *testing.T) {
	t.Parallel()
	b := connect(t, natstest.Start(t), nil)
	begun := time.Now()
	for n := range 10 {
		outcome := []approval.Outcome{approval.OutcomeHeld, approval.OutcomeAccepted}[n%2]
		if err := b.Publish(t.Context(), result(fmt.Sprint(n), outcome)); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := b.js.Publish(t.Context(), resultSubject("held", "payments", "forged"), []byte("{}")); err != nil {
		t.Fatal(err)
	}
	for _, target := range []string{"", "payments", "other"} {
		var got []string
		for r, err := range b.NewestResults(t.Context(), approval.OutcomeHeld, target) {
			if err != nil {
				t.Fatal(err)
			}
			got = append(got, r.Request.EventID)
		}
		want := []string{"8", "6", "4", "2", "0"}
		if target == "other" {
			want = nil
		}
		if !slices.Equal(got, want) {
			t.Errorf("of target %q: %v, want %v", target, got, want)
		}
	}
	// All results are there since the stream was made, then since the oldest one that
	// was not removed.
	since, err := b.ResultsSince(t.Context())
	if err != nil || since.After(begun) {
		t.Errorf("all results since %s (%v), want before %s", since, err, begun)
	}
	stream, err := b.js.Stream(t.Context(), ResultsStream)
	if err != nil {
		t.Fatal(err)
	}
	if err := stream.Purge(t.Context(), jetstream.WithPurgeSequence(3)); err != nil {
		t.Fatal(err)
	}
	if since, err = b.ResultsSince(t.Context()); err != nil || since.Before(begun) {
		t.Errorf("some were removed, and all are there since %s (%v)", since, err)
	}
	if err := stream.Purge(t.Context()); err != nil {
		t.Fatal(err)
	}
	purged := time.Now()
	if since, err = b.ResultsSince(t.Context()); err != nil || since.Before(purged) {
		t.Errorf("all were removed, and all are there since %s (%v)", since, err)
	}
}

// TestNewestResultsOfMany: results are found whether few match or many.
func TestNewestResultsOfMany(t *testing.T) {
	t.Parallel()
	b := connect(t, natstest.Start(t), nil)
	held := 0
	for _, n := range []int{maxFew, 1} { // in total
		for range n {
			for _, outcome := range []approval.Outcome{approval.OutcomeHeld, approval.OutcomeAccepted} {
				if err := b.Publish(t.Context(), result(fmt.Sprint(outcome, held), outcome)); err != nil {
					t.Fatal(err)
				}
			}
			held++
		}
		found, ok, err := b.few(t.Context(), ResultsStream, resultSubject("held", "*", "*"))
		if err != nil || ok != (held <= maxFew) || ok && len(found) != held {
			t.Errorf("%d of %d one by one: %v, %v", len(found), held, ok, err)
		}
		next := held
		for r, err := range b.NewestResults(t.Context(), approval.OutcomeHeld, "") {
			if next--; err != nil || r.Request.EventID != fmt.Sprint(approval.OutcomeHeld, next) {
				t.Fatalf("%s (%v), want number %d", r.Request.EventID, err, next)
			}
		}
		if next != 0 {
			t.Errorf("%d of %d were not found", next, held)
		}
	}
}

// TestPublishedIsBeforeWhatIsInProgress: a request that a worker has may have ended
// without a result.
func TestPublishedIsBeforeWhatIsInProgress(t *testing.T) {
	t.Parallel()
	b := connect(t, natstest.Start(t), nil)
	for n := range 3 {
		if err := b.Submit(t.Context(), connection(fmt.Sprint(n))); err != nil {
			t.Fatal(err)
		}
	}
	submitted := time.Now()
	published := func() time.Time {
		t.Helper()
		at, err := b.Published(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		return at
	}
	if got := published(); got.Before(submitted) {
		t.Errorf("none is in progress: %s, want now", got)
	}
	consumer, err := b.js.Consumer(t.Context(), RequestsStream, ConsumerName)
	if err != nil {
		t.Fatal(err)
	}
	first, err := consumer.Next()
	if err != nil {
		t.Fatal(err)
	}
	if got := published(); got.After(submitted) {
		t.Errorf("one is in progress: %s, want before %s", got, submitted)
	}
	if err := first.DoubleAck(t.Context()); err != nil {
		t.Fatal(err)
	}
	if got := published(); got.Before(submitted) {
		t.Errorf("it has ended: %s, want now", got)
	}
}

// TestBackwardsNeedsDirectReads: a stream that does not answer them is told.
func TestBackwardsNeedsDirectReads(t *testing.T) {
	t.Parallel()
	b := connect(t, natstest.Start(t), nil)
	stream, err := b.js.Stream(t.Context(), bucketStream)
	if err != nil {
		t.Fatal(err)
	}
	cfg := stream.CachedInfo().Config
	cfg.AllowDirect = false
	if _, err := b.js.UpdateStream(t.Context(), cfg); err != nil {
		t.Fatal(err)
	}
	for _, err := range b.LedgerChanges(t.Context(), "request.") {
		if !errors.Is(err, ErrNotDirect) {
			t.Errorf("%v, want %v", err, ErrNotDirect)
		}
	}
}
