package events

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/vpcep-approver/vpcep-approver/internal/approval"
)

// Right is a permission that the worker needs on the broker.
type Right struct {
	Operation string // "publish" or "subscribe"
	Subject   string // as it is granted, with wildcards
	Purpose   string
}

func (r Right) String() string { return r.Operation + " " + r.Subject }

// RightCheck is the result of checking a right.
type RightCheck struct {
	Right
	Err     error  // nil if the user has it
	Skipped string // why it was not checked; empty: it was
}

// probeTimeout bounds one try; all run at the same time. A denial comes as quickly as an
// answer, and a slow machine or broker is no missing right.
const probeTimeout = 10 * time.Second

// try is a right with the messages that show it: whichever way they are answered,
// the broker has let them through.
type try struct {
	Right
	messages []*nats.Msg
	needs    string // the stream, or the bucket's stream, that answers; empty: JetStream itself
	quiet    bool   // nobody answers
}

// Rights tries each right that `worker run` needs, and nothing is changed by it:
// requests are malformed and what is published expects another stream, so that
// the broker refuses all of it after it has let it through. The rights to make
// what is missing are among them if Config.Create is set.
func (b *Bus) Rights(ctx context.Context) []RightCheck {
	inbox := RightCheck{Right: Right{"subscribe", b.inboxPrefix() + ".>", "receive replies"}, Err: b.probeInbox(ctx)}
	out := []RightCheck{inbox}
	if inbox.Err != nil {
		return out // without answers no other can be told
	}
	have := map[string]*found[jetstream.StreamInfo]{}
	var absent []string
	for _, want := range b.streams() {
		info, err := b.streamInfo(ctx, want.Name)
		out = append(out, RightCheck{Right: right(b.api("STREAM.INFO."+want.Name), "look at the "+resourceOf(want.Name)), Err: err})
		if have[want.Name] = info; err == nil && info == nil {
			absent = append(absent, want.Name)
		}
	}
	for stream, name := range consumerNames() {
		consumer, err := b.lookupConsumer(ctx, stream, name)
		out = append(out, RightCheck{Right: right(b.api("CONSUMER.INFO."+stream+"."+name), "look at the consumer "+name), Err: err})
		if err == nil && consumer == nil {
			absent = append(absent, name)
		}
	}
	if b.cfg.Create {
		out = append(out, b.probeAll(ctx, b.rightsToCreate(absent), nil)...)
	}
	return append(out, b.probeAll(ctx, b.rightsToWork(have), absent)...)
}

// probeInbox subscribes as a request does.
func (b *Bus) probeInbox(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, probeTimeout)
	defer cancel()
	subject := b.nc.NewInbox()
	sub, err := b.nc.SubscribeSync(subject)
	if err != nil {
		return err
	}
	defer sub.Unsubscribe() //nolint:errcheck // nothing depends on it
	if err := b.nc.FlushWithContext(ctx); err != nil {
		return err
	}
	// The denial, if there is one, came before the answer to the flush.
	if denied := deniedBy(b.nc.LastError()); denied != nil && denied.Subject == subject {
		return denied
	}
	return nil
}

func right(subject, purpose string) Right { return Right{"publish", subject, purpose} }

// malformed is no JSON: JetStream's API says so before it does anything.
const malformed = "{"

func (b *Bus) rightsToCreate(absent []string) []try {
	var out []try
	for _, name := range absent {
		subject, what := b.api("STREAM.CREATE."+name), resourceOf(name)
		sent := subject
		for stream, consumer := range consumerNames() {
			if name == consumer {
				subject, what = b.api("CONSUMER.CREATE."+stream+"."+name+".>"), "consumer "+name
				sent = strings.TrimSuffix(subject, ">") + b.consumers()[stream].FilterSubject
			}
		}
		out = append(out, try{
			Right: right(subject, "make the "+what+", which `worker bus setup` does with another user"), messages: []*nats.Msg{{Subject: sent, Data: []byte(malformed)}},
		})
	}
	return out
}

// rightsToWork are those for which something must be there. have tells which
// streams answer direct reads; nil: that is not known.
func (b *Bus) rightsToWork(have map[string]*found[jetstream.StreamInfo]) []try {
	pull := b.api("CONSUMER.MSG.NEXT." + RequestsStream + "." + ConsumerName)
	ack := "$JS.ACK." + RequestsStream + "." + ConsumerName + "."
	// Progress of a delivery that is not under way changes nothing.
	const progress, noSuchDelivery = "+WPI", "1.1152921504606846976.1152921504606846976.1.0"
	out := []try{
		{right(pull, "take requests"), []*nats.Msg{{Subject: pull, Data: []byte(malformed)}}, ConsumerName, false},
		{right(ack+">", "acknowledge requests, or ask for redelivery"), []*nats.Msg{{Subject: ack + noSuchDelivery, Data: []byte(progress)}}, ConsumerName, false},
	}
	pull = b.api("CONSUMER.MSG.NEXT." + ReviewsStream + "." + ReviewsConsumerName)
	ack = "$JS.ACK." + ReviewsStream + "." + ReviewsConsumerName + "."
	out = append(out,
		try{right(pull, "take reviews"), []*nats.Msg{{Subject: pull, Data: []byte(malformed)}}, ReviewsConsumerName, false},
		try{right(ack+">", "acknowledge reviews, or ask for redelivery"), []*nats.Msg{{Subject: ack + noSuchDelivery, Data: []byte(progress)}}, ReviewsConsumerName, false},
	)
	reads := map[string]string{
		RequestsStream: "see how long requests wait", ResultsStream: "see whether a result is stored",
		DeadLettersStream: "see whether a dead letter is stored",
	}
	for _, want := range b.streams() {
		if want.Name == ReviewsStream {
			continue // reviews are pulled only
		}
		bucket, isBucket := strings.CutPrefix(want.Name, bucketPrefix)
		subject, purpose := b.api("DIRECT.GET."+want.Name), reads[want.Name]
		message := &nats.Msg{Subject: subject, Data: []byte(malformed)}
		if isBucket {
			subject, purpose = subject+".>", "read the bucket "+bucket
			message = &nats.Msg{Subject: strings.TrimSuffix(subject, ">") + "$KV." + bucket + ".doctor"}
		}
		if info := have[want.Name]; info != nil && !info.info.Config.AllowDirect {
			subject = b.api("STREAM.MSG.GET." + want.Name)
			message = &nats.Msg{Subject: subject, Data: []byte(malformed)}
		}
		out = append(out, try{right(subject, purpose), []*nats.Msg{message}, want.Name, false})
		if isBucket {
			prefix := "$KV." + bucket + "."
			if b.cfg.Domain != "" {
				prefix = b.api("") + prefix
			}
			out = append(out, try{right(prefix+">", "write to the bucket "+bucket), []*nats.Msg{refusedMessage(prefix + "doctor")}, want.Name, false})
		}
	}
	purge := b.api("STREAM.PURGE." + bucketStream)
	create, remove := b.api("CONSUMER.CREATE."+bucketStream+"."), b.api("CONSUMER.DELETE."+bucketStream+".")
	flow := "$JS.FC." + bucketStream + "."
	const list = "list the ledger"
	out = append(out,
		try{right(purge, "remove records of deliveries that are done"), []*nats.Msg{{Subject: purge, Data: []byte(malformed)}}, bucketStream, false},
		try{right(create+">", list), []*nats.Msg{{Subject: create + "doctor.$KV." + LedgerBucket + ".doctor", Data: []byte(malformed)}}, bucketStream, false},
		try{right(remove+"*", list), []*nats.Msg{{Subject: remove + "doctor", Data: []byte(malformed)}}, bucketStream, false},
		try{right(flow+">", list), []*nats.Msg{{Subject: flow + "doctor.doctor"}}, bucketStream, true},
	)
	var results, letters, swept, refused []*nats.Msg
	targets := []string{"doctor"}
	if len(b.cfg.Targets) > 0 {
		targets = nil
		for _, t := range b.cfg.Targets {
			targets = append(targets, t.Name)
		}
	}
	for i, target := range targets {
		outcomes := approval.Outcomes()
		if i > 0 {
			outcomes = outcomes[i%len(outcomes):][:1]
		}
		for _, outcome := range outcomes {
			results = append(results, refusedMessage(resultSubject(string(outcome), target, "doctor")))
		}
		swept = append(swept, refusedMessage(SweepSubject+"."+target))
		refused = append(refused, refusedMessage(ReviewsRefusedSubject+"."+target+".doctor"))
	}
	for _, reason := range DeadLetterReasons() {
		letters = append(letters, refusedMessage(DeadLettersSubject+"."+reason))
	}
	return append(out,
		try{right(ResultsSubject+".>", "publish results"), results, ResultsStream, false},
		try{right(DeadLettersSubject+".>", "publish dead letters"), letters, DeadLettersStream, false},
		try{right(SweepSubject+".>", "submit connections without an event"), swept, RequestsStream, false},
		try{right(ReviewsRefusedSubject+".>", "publish why a review does not count"), refused, ReviewsStream, false},
	)
}

// refusedMessage is a message that no stream stores.
func refusedMessage(subject string) *nats.Msg {
	return &nats.Msg{Subject: subject, Header: nats.Header{jetstream.ExpectedStreamHeader: {"none-doctor-only-tries"}}}
}

// probeAll tries rights, but those for which something is absent.
func (b *Bus) probeAll(ctx context.Context, tries []try, absent []string) []RightCheck {
	out := make([]RightCheck, len(tries))
	var running sync.WaitGroup
	slots := make(chan struct{}, 8)
	for i, t := range tries {
		out[i].Right = t.Right
		if slices.Contains(absent, t.needs) {
			what := resourceOf(t.needs)
			if t.needs == ConsumerName {
				what = "consumer " + t.needs
			}
			out[i].Skipped = "the " + what + " does not exist yet"
			continue
		}
		running.Go(func() {
			for _, msg := range t.messages {
				slots <- struct{}{}
				err := b.probeMessage(ctx, msg)
				<-slots
				if err != nil && (!t.quiet || !errors.Is(err, nats.ErrNoResponders)) {
					out[i].Err = err
					return
				}
			}
		})
	}
	running.Wait()
	return out
}

// probeMessage is nil if anything answers.
func (b *Bus) probeMessage(ctx context.Context, msg *nats.Msg) error {
	ctx, cancel := context.WithTimeout(ctx, probeTimeout)
	defer cancel()
	_, err := b.requestMsg(ctx, msg)
	switch {
	case errors.Is(err, nats.ErrNoResponders):
		return fmt.Errorf("nobody listens on %s: %w; check that JetStream is enabled for this account, and nats.domain", msg.Subject, err)
	case errors.Is(err, context.DeadlineExceeded):
		return fmt.Errorf("no answer on %s within %s", msg.Subject, probeTimeout)
	}
	return err
}
