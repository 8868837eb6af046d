package events

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/nats-io/nats.go"

	"github.com/vpcep-approver/vpcep-approver/internal/approval"
	"github.com/vpcep-approver/vpcep-approver/internal/natstest"
)

// TestHeldIsReadWithoutALookAtOthers: few results among many sequences are read by their
// subjects, and each read from a sequence on is one of what is new, of one subject, or of all:
// else the broker looks at all messages until one matches, and takes no results meanwhile.
func TestHeldIsReadWithoutALookAtOthers(t *testing.T) {
	t.Parallel()
	b := connect(t, natstest.Start(t), nil)
	stream, err := b.js.Stream(t.Context(), ResultsStream)
	if err != nil {
		t.Fatal(err)
	}
	cfg := stream.CachedInfo().Config
	if err := b.js.DeleteStream(t.Context(), ResultsStream); err != nil {
		t.Fatal(err)
	}
	cfg.FirstSeq = maxFollow + 1 // as if as many had expired
	if _, err := b.js.CreateStream(t.Context(), cfg); err != nil {
		t.Fatal(err)
	}
	publish := func(n int, o approval.Outcome) approval.Result {
		t.Helper()
		r := result(fmt.Sprint(n), o)
		if err := b.Publish(t.Context(), r); err != nil {
			t.Fatal(err)
		}
		return r
	}
	first := publish(0, approval.OutcomeHeld)
	publish(1, approval.OutcomeAccepted)
	publish(2, approval.OutcomeIgnored)
	publish(3, approval.OutcomeAccepted)
	// Another message on the subject of a result does not hide it.
	if _, err := b.js.Publish(t.Context(), resultSubject("held", "payments", first.Decision.ID), []byte("forged")); err != nil {
		t.Fatal(err)
	}
	reads, err := b.nc.SubscribeSync(b.api("DIRECT.GET." + ResultsStream))
	if err != nil {
		t.Fatal(err)
	}
	position := uint64(0)
	held := func() (ids []string) {
		t.Helper()
		var err error
		position, err = b.Held(t.Context(), position, func(h approval.Held) { ids = append(ids, h.RequestID) }, approval.OutcomeHeld, approval.OutcomeIgnored)
		if err != nil {
			t.Fatal(err)
		}
		slices.Sort(ids)
		return ids
	}
	want := []string{connection("0").ID, connection("2").ID}
	slices.Sort(want)
	if got := held(); !slices.Equal(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}
	for _, read := range requests(t, b, reads) {
		if strings.Contains(read, `.*`) && !strings.Contains(read, `"seq":1,`) {
			t.Errorf("the broker is to look at each message until one matches: %s", read)
		}
	}
	publish(4, approval.OutcomeHeld)
	publish(5, approval.OutcomeAccepted)
	if got := held(); !slices.Equal(got, []string{connection("4").ID}) {
		t.Errorf("got %v, want what is new", got)
	}
	if got := requests(t, b, reads); len(got) != 2 {
		t.Errorf("what is new was read by %q", got)
	}
	if got := held(); len(got) != 0 || len(requests(t, b, reads)) != 0 {
		t.Errorf("got %v where nothing is new", got)
	}
}

// requests returns what was published to a subscription.
func requests(t *testing.T, b *Bus, sub *nats.Subscription) (all []string) {
	t.Helper()
	if err := b.nc.FlushTimeout(natstest.Hang); err != nil {
		t.Fatal(err)
	}
	for {
		n, _, err := sub.Pending()
		if err != nil {
			t.Fatal(err)
		}
		if n == 0 {
			return all
		}
		m, err := sub.NextMsg(natstest.Hang)
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, string(m.Data))
	}
}

// TestManyOfMany: where many match, all messages are read, each once.
func TestManyOfMany(t *testing.T) {
	t.Parallel()
	b := connect(t, natstest.Start(t), nil)
	const each = 3
	for n := range 2 * (each + 1) {
		if err := b.Publish(t.Context(), result(fmt.Sprint(n), []approval.Outcome{approval.OutcomeHeld, approval.OutcomeAccepted}[n%2])); err != nil {
			t.Fatal(err)
		}
	}
	for _, limit := range []int{each, each + 1} {
		subjects := map[string]int{}
		// As if the stream had many more.
		for m, err := range b.matching(t.Context(), ResultsStream, resultSubject("held", "*", "*"), 0, maxFollow+1, limit) {
			if err != nil {
				t.Fatal(err)
			}
			subjects[m.Subject]++
		}
		for n := range each + 1 {
			if got := subjects[resultSubject("held", "payments", approval.DecisionID(connection(fmt.Sprint(2*n)).ID))]; got != 1 {
				t.Errorf("result %d was read %d times", 2*n, got)
			}
		}
		if all := len(subjects) == 2*(each+1); all != (limit == each) {
			t.Errorf("%d subjects were read with up to %d one by one", len(subjects), limit)
		}
	}
}

// TestALongReadIsPatient: a broker that is slow now and then does not end it, and one that
// never answers, or another error, does.
func TestALongReadIsPatient(t *testing.T) {
	t.Parallel()
	other := errors.New("other")
	for _, tt := range []struct {
		slow  int // answers
		then  error
		want  error
		tries int
	}{
		{0, nil, nil, 1},
		{maxSlow, nil, nil, maxSlow + 1},
		{maxSlow + 1, nil, context.DeadlineExceeded, maxSlow + 1},
		{1, other, other, 2},
	} {
		tries := 0
		err := patiently(t.Context(), func() error {
			if tries++; tries <= tt.slow {
				return fmt.Errorf("slow: %w", context.DeadlineExceeded)
			}
			return tt.then
		})
		if !errors.Is(err, tt.want) || tries != tt.tries {
			t.Errorf("%d slow answers, then %v: %v after %d tries", tt.slow, tt.then, err, tries)
		}
	}
	ctx, cancel := context.WithCancel(t.Context())
	tries := 0
	_ = patiently(ctx, func() error {
		tries++
		cancel()
		return context.DeadlineExceeded
	})
	if tries != 1 {
		t.Errorf("%d tries for a reader that is gone", tries)
	}
}
