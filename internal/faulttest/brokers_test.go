package faulttest

import (
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/vpcep-approver/vpcep-approver/internal/cloud/simulator"
	"github.com/vpcep-approver/vpcep-approver/internal/natstest"
)

// withoutRight is how the users begin that lack one right of the worker.
const withoutRight = "without-"

// otherBroker is a broker that is configured otherwise than it should be.
type otherBroker struct {
	name   string
	change func(w *world) error
	repair func(w *world) error
	want   string // in what `bus status` and `doctor` write
}

// changeStream changes a stream that is set up.
func changeStream(name string, edit func(*jetstream.StreamConfig)) func(*world) error {
	return func(w *world) error {
		s, err := w.js.Stream(w.t.Context(), name)
		if err != nil {
			return err
		}
		cfg := s.CachedInfo().Config
		edit(&cfg)
		_, err = w.js.UpdateStream(w.t.Context(), cfg)
		return err
	}
}

// changeConsumer makes the consumer again with another setting.
func changeConsumer(edit func(*jetstream.ConsumerConfig)) func(*world) error {
	return func(w *world) error {
		c, err := w.js.Consumer(w.t.Context(), requestsStream, consumerName)
		if err != nil {
			return err
		}
		cfg := c.CachedInfo().Config
		edit(&cfg)
		if err := w.js.DeleteConsumer(w.t.Context(), requestsStream, consumerName); err != nil {
			return err
		}
		_, err = w.js.CreateConsumer(w.t.Context(), requestsStream, cfg)
		return err
	}
}

// setUpAgain makes what is missing as it should be.
func setUpAgain(w *world) error {
	if out, code := w.command(options{user: "vpcep-setup"}, "bus", "setup"); code != 0 {
		return fmt.Errorf("bus setup ended with %d: %s", code, out)
	}
	return nil
}

func otherBrokers() []otherBroker {
	consumerAgain := func(w *world) error {
		if err := w.js.DeleteConsumer(w.t.Context(), requestsStream, consumerName); err != nil {
			return err
		}
		return setUpAgain(w)
	}
	return []otherBroker{
		{"pulls are refused", changeConsumer(func(c *jetstream.ConsumerConfig) {
			c.PriorityPolicy, c.PriorityGroups = jetstream.PriorityPolicyPinned, []string{"others"}
			c.PinnedTTL = time.Minute
		}), consumerAgain, "priority"},
		{"the consumer is paused", func(w *world) error {
			s, err := w.js.Stream(w.t.Context(), requestsStream)
			if err != nil {
				return err
			}
			_, err = s.PauseConsumer(w.t.Context(), consumerName, time.Now().Add(time.Hour))
			return err
		}, func(w *world) error {
			s, err := w.js.Stream(w.t.Context(), requestsStream)
			if err != nil {
				return err
			}
			_, err = s.ResumeConsumer(w.t.Context(), consumerName)
			return err
		}, "paused"},
		{
			"results are small", changeStream(resultsStream, func(c *jetstream.StreamConfig) { c.MaxMsgSize = 64 }),
			changeStream(resultsStream, func(c *jetstream.StreamConfig) { c.MaxMsgSize = -1 }), "max message size",
		},
		{
			"requests can be rolled up", changeStream(requestsStream, func(c *jetstream.StreamConfig) { c.AllowRollup = true }),
			changeStream(requestsStream, func(c *jetstream.StreamConfig) { c.AllowRollup = false }), "rollup",
		},
		{"the consumer gives up", changeConsumer(func(c *jetstream.ConsumerConfig) { c.MaxDeliver = 2 }), consumerAgain, "max deliver"},
		{"few are pending", changeConsumer(func(c *jetstream.ConsumerConfig) { c.MaxAckPending = 2 }), consumerAgain, "max ack pending"},
		{"the consumer steps back", changeConsumer(func(c *jetstream.ConsumerConfig) {
			c.BackOff = []time.Duration{time.Second, 5 * time.Second}
			c.AckWait = time.Second
		}), consumerAgain, "backoff"},
		{"a part of the requests", changeConsumer(func(c *jetstream.ConsumerConfig) { c.FilterSubject = "vpcep.requests.payments" }), consumerAgain, "filter"},
		{"results are copied elsewhere", changeStream(resultsStream, func(c *jetstream.StreamConfig) {
			c.RePublish = &jetstream.RePublish{Source: ">", Destination: "copy.>"}
		}), changeStream(resultsStream, func(c *jetstream.StreamConfig) { c.RePublish = nil }), "republish"},
		{
			"one dead letter", changeStream(deadStream, func(c *jetstream.StreamConfig) { c.MaxMsgs = 1 }),
			changeStream(deadStream, func(c *jetstream.StreamConfig) { c.MaxMsgs = -1 }), "max messages",
		},
	}
}

// workerRights are the permissions of the worker in deploy/nats.
func workerRights(t *testing.T) *server.Permissions {
	t.Helper()
	opts := natstest.Options(t, root+"/deploy/nats/nats-server.conf")
	i := slices.IndexFunc(opts.Users, func(u *server.User) bool { return u.Username == "vpcep-worker" })
	if i < 0 {
		t.Fatal("deploy/nats has no user for the worker")
	}
	return opts.Users[i].Permissions
}

// mostMessages is how many messages a second a worker may send that can do nothing.
const mostMessages = 100

// rate is how many messages a second the broker takes from everybody, for a while.
func (w *world) rate(d time.Duration) float64 {
	w.t.Helper()
	count := func() int64 {
		v, err := w.guarded.Varz(nil)
		if err != nil {
			w.t.Fatal(err)
		}
		return v.InMsgs
	}
	before, begin := count(), time.Now()
	pass(w.t.Context(), d)
	return float64(count()-before) / time.Since(begin).Seconds()
}

// endure lets a worker work as the user for a while, on a broker that does not let
// it, and returns how many messages a second it sent then.
func (w *world) endure(o options) float64 {
	w.t.Helper()
	p := w.start("worker", o)
	until(w.t.Context(), time.Minute, func() bool { return p.ended() || p.answers("/livez") })
	pass(w.t.Context(), 2*time.Second)
	rate := w.rate(4 * time.Second)
	if !p.ended() {
		if _, _, err := p.terminate(20 * time.Second); err != nil {
			w.t.Error(err)
		}
	}
	return rate
}

// TestOtherBrokers is F29: the broker is configured otherwise than it should be, or
// denies the worker one right. It is told by name, the worker does not spin, and
// nothing is lost when it is put right.
func TestOtherBrokers(t *testing.T) {
	t.Parallel()
	brokers, rights := otherBrokers(), workerRights(t)
	subjects := slices.Concat(rights.Publish.Allow, rights.Subscribe.Allow)
	if !counts.full {
		n := times(1, 3, 0)
		brokers = brokers[:n]
		subjects = []string{"$JS.API.CONSUMER.MSG.NEXT.VPCEP_REQUESTS.vpcep-approver", "vpcep.results.>", "$JS.ACK.VPCEP_REQUESTS.vpcep-approver.>"}[:n]
	}
	var mu sync.Mutex
	var f findings
	highest, begin := 0.0, time.Now()
	done := func(name string, rate float64, found findings) {
		mu.Lock()
		defer mu.Unlock()
		if highest = max(highest, rate); rate > mostMessages {
			found.wrong("a worker that can do nothing sent %.0f messages a second", rate)
		}
		for _, kind := range []*[]string{&found.Lost, &found.Doubled, &found.Wrong} {
			for i, text := range *kind {
				(*kind)[i] = name + ": " + text
			}
		}
		f.join(found)
	}
	t.Run("all", func(t *testing.T) {
		for _, b := range brokers {
			t.Run(b.name, func(t *testing.T) {
				t.Parallel()
				rate, found := configuredOtherwise(t, b)
				done(b.name, rate, found)
			})
		}
		for _, subject := range subjects {
			t.Run("without "+subject, func(t *testing.T) {
				t.Parallel()
				rate, found := oneRightLess(t, rights, subject)
				done("without "+subject, rate, found)
			})
		}
	})
	table.add(t, row{Name: "F29 other brokers and rights", Tries: len(brokers) + len(subjects), findings: f, Took: time.Since(begin), Note: fmt.Sprintf("at most %.0f messages a second", highest)})
}

func configuredOtherwise(t *testing.T, b otherBroker) (rate float64, f findings) {
	t.Helper()
	w := newGuardedWorld(t, simulator.Config{}, nil)
	if err := setUpAgain(w); err != nil {
		t.Fatal(err)
	}
	if err := b.change(w); err != nil {
		t.Fatal(err)
	}
	w.mixed(6, "otherwise")
	rate = w.endure(options{})
	for _, command := range [][]string{{"bus", "status"}, {"doctor"}} {
		if out, _ := w.command(options{}, command...); !strings.Contains(strings.ToLower(out), b.want) {
			f.wrong("worker %s does not tell of %q:\n%s", strings.Join(command, " "), b.want, out)
		}
	}
	if err := b.repair(w); err != nil {
		t.Fatal(err)
	}
	w.start("after", options{}).ready()
	w.settled(time.Minute)
	f.join(w.judge())
	return rate, f
}

func oneRightLess(t *testing.T, rights *server.Permissions, subject string) (rate float64, f findings) {
	t.Helper()
	user := withoutRight + "one"
	w := newGuardedWorld(t, simulator.Config{}, func(o *server.Options) {
		is := func(s string) bool { return s == subject }
		less := &server.Permissions{
			Publish:   &server.SubjectPermission{Allow: slices.DeleteFunc(slices.Clone(rights.Publish.Allow), is)},
			Subscribe: &server.SubjectPermission{Allow: slices.DeleteFunc(slices.Clone(rights.Subscribe.Allow), is)},
		}
		if len(less.Subscribe.Allow) == 0 {
			less.Subscribe.Deny = []string{">"}
		}
		o.Users = append(o.Users, &server.User{Username: user, Password: rolePassword, Permissions: less})
	})
	if err := setUpAgain(w); err != nil {
		t.Fatal(err)
	}
	w.mixed(6, "less")
	rate = w.endure(options{user: user})
	if out, code := w.command(options{user: user}, "doctor"); code == 0 || !strings.Contains(out, subject) {
		f.wrong("doctor ended with %d and does not name the right:\n%s", code, out)
	}
	if out, code := w.command(options{user: user}, "bus", "status"); code == 0 && !strings.Contains(out, subject) {
		t.Logf("worker bus status says nothing of %s:\n%s", subject, out)
	}
	w.start("after", options{}).ready()
	w.settled(time.Minute)
	f.join(w.judge())
	return rate, f
}
