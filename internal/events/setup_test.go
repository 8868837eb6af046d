package events

import (
	"encoding/json"
	"errors"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/vpcep-approver/vpcep-approver/internal/events/broker"
	"github.com/vpcep-approver/vpcep-approver/internal/natstest"
)

func TestSetupMakesWhatIsMissing(t *testing.T) {
	t.Parallel()
	s := natstest.Start(t)
	b := connect(t, s, nil)
	for range 2 { // again is nothing new
		if err := b.Setup(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	if d, err := b.Status(t.Context()); err != nil || len(d) != 0 {
		t.Errorf("what Setup made differs from what it wants: %v, %v", d, err)
	}
	// A worker that may not make anything is content with it.
	connect(t, s, func(c *Config) { c.Create = false })
}

func TestSetupNamesWhatIsMissing(t *testing.T) {
	t.Parallel()
	b, err := Connect(t.Context(), testConfig(natstest.Start(t), func(c *Config) { c.Create = false }))
	if err != nil {
		t.Fatal(err)
	}
	defer b.Close() //nolint:errcheck // not what is tested
	err = b.Setup(t.Context())
	if _, ok := errors.AsType[*SetupError](err); !ok {
		t.Fatalf("Setup: %v", err)
	}
	for _, want := range []string{RequestsStream, ResultsStream, DeadLettersStream, LedgerBucket, ConsumerName, "worker bus setup"} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("the error does not name %s: %v", want, err)
		}
	}
}

// TestSetupKeepsWhatDiffers changes one thing a row and wants it named and kept.
func TestSetupKeepsWhatDiffers(t *testing.T) {
	t.Parallel()
	stream := func(i int, edit func(*jetstream.StreamConfig)) func(*testing.T, *Bus) {
		return func(t *testing.T, b *Bus) {
			cfg := b.streams()[i]
			edit(&cfg)
			if _, err := b.js.CreateStream(t.Context(), cfg); err != nil {
				t.Fatal(err)
			}
		}
	}
	consumer := func(edit func(*jetstream.ConsumerConfig)) func(*testing.T, *Bus) {
		return func(t *testing.T, b *Bus) {
			cfg := b.consumer()
			edit(&cfg)
			if _, err := b.js.CreateStream(t.Context(), b.streams()[0]); err != nil {
				t.Fatal(err)
			}
			if _, err := b.js.CreateConsumer(t.Context(), RequestsStream, cfg); err != nil {
				t.Fatal(err)
			}
		}
	}
	tests := []struct {
		name    string
		prepare func(*testing.T, *Bus)
		want    string // a difference, as it reads
		matters bool
	}{
		{"other subjects", stream(0, func(c *jetstream.StreamConfig) { c.Subjects = []string{"vpcep.requests.one"} }), `stream VPCEP_REQUESTS: subjects is "vpcep.requests.one", should be "vpcep.requests.>"`, true},
		{"more subjects", stream(0, func(c *jetstream.StreamConfig) { c.Subjects = append(c.Subjects, "mine.>") }), `subjects is "vpcep.requests.>,mine.>"`, false},
		{"work queue", stream(0, func(c *jetstream.StreamConfig) { c.Retention = jetstream.WorkQueuePolicy }), "retention is WorkQueue, should be Limits", true},
		{"in memory", stream(1, func(c *jetstream.StreamConfig) { c.Storage = jetstream.MemoryStorage }), "stream VPCEP_RESULTS: storage is Memory, should be File", true},
		{"drops the old", stream(1, func(c *jetstream.StreamConfig) { c.Discard = jetstream.DiscardOld }), "discard is DiscardOld, should be DiscardNew", true},
		{"shorter", stream(2, func(c *jetstream.StreamConfig) { c.MaxAge = 2 * time.Hour }), "stream VPCEP_DEADLETTERS: max age is 2h0m0s, should be 8760h0m0s", true},
		{"longer", stream(2, func(c *jetstream.StreamConfig) { c.MaxAge = 0 }), "max age is 0s", false},
		{"bounded", stream(1, func(c *jetstream.StreamConfig) { c.MaxBytes = 1 << 20 }), "max bytes is 1048576", false},
		{"one a subject", stream(0, func(c *jetstream.StreamConfig) { c.MaxMsgsPerSubject = 1 }), "max messages per subject is 1, should be 0", true},
		{"small messages", stream(0, func(c *jetstream.StreamConfig) { c.MaxMsgSize = 1024 }), "max message size is 1024", true},
		{"backoff", consumer(func(c *jetstream.ConsumerConfig) {
			c.BackOff = []time.Duration{time.Second, 2 * time.Second}
			c.AckWait = time.Second
		}), "consumer vpcep-approver: backoff steps is 2, should be 0", true},
		{"ack wait", consumer(func(c *jetstream.ConsumerConfig) { c.AckWait = time.Minute }), "ack wait is 1m0s, should be 1s", true},
		{"gives up", consumer(func(c *jetstream.ConsumerConfig) { c.MaxDeliver = 5 }), "max deliver is 5, should be -1", true},
		{"a part only", consumer(func(c *jetstream.ConsumerConfig) { c.FilterSubject = "vpcep.requests.payments" }), `filter is "vpcep.requests.payments", should be "vpcep.requests.>"`, true},
		{"skips the old", consumer(func(c *jetstream.ConsumerConfig) { c.DeliverPolicy = jetstream.DeliverNewPolicy }), "deliver policy is new, should be all", true},
		{"few pending", consumer(func(c *jetstream.ConsumerConfig) { c.MaxAckPending = 10 }), "max ack pending is 10, should be 100000", true},
		{"fewer pending", consumer(func(c *jetstream.ConsumerConfig) { c.MaxAckPending = 1000 }), "max ack pending is 1000", false},
		{"a bucket that forgets", stream(3, func(c *jetstream.StreamConfig) { c.MaxAge = time.Hour }), "bucket vpcep-ledger: time to live is 1h0m0s, should be 9600h0m0s", true},
		{"a bucket that forgets later", stream(3, func(c *jetstream.StreamConfig) { c.MaxAge = 9601 * time.Hour }), "time to live is 9601h0m0s", false},
		{"a bucket in which keys fill up", stream(3, func(c *jetstream.StreamConfig) { c.DiscardNewPerSubject = true }), "discard new per subject is true, should be false", true},
		{"a bucket of which nothing can be purged", stream(3, func(c *jetstream.StreamConfig) { c.DenyPurge, c.AllowRollup = true, false }), "deny purge is true, should be false", true},
		{"a bucket without direct reads", stream(3, func(c *jetstream.StreamConfig) { c.AllowDirect = false }), "$JS.API.STREAM.MSG.GET.KV_vpcep-ledger", false},
		{"rollup", stream(0, func(c *jetstream.StreamConfig) { c.AllowRollup = true }), "stream VPCEP_REQUESTS: rollup headers is true, should be false (any publisher can remove", true},
		{"message TTLs", stream(0, func(c *jetstream.StreamConfig) { c.AllowMsgTTL = true }), "message TTLs is true, should be false", true},
		{"message schedules", stream(0, func(c *jetstream.StreamConfig) { c.AllowMsgSchedules, c.Discard = true, jetstream.DiscardOld }), "message schedules is true, should be false", true},
		{"counters", stream(1, func(c *jetstream.StreamConfig) { c.AllowMsgCounter, c.Discard = true, jetstream.DiscardOld }), "counters is true, should be false", true},
		{"transform", stream(0, func(c *jetstream.StreamConfig) {
			c.SubjectTransform = &jetstream.SubjectTransformConfig{Source: "vpcep.requests.>", Destination: "mine.>"}
		}), "subject transform is true, should be false", true},
		{"a copy elsewhere", stream(1, func(c *jetstream.StreamConfig) {
			c.RePublish = &jetstream.RePublish{Source: ">", Destination: "copy.>"}
		}), `republish is "copy.>", should be unset`, false},
		{"a copy into another of ours", stream(0, func(c *jetstream.StreamConfig) {
			c.RePublish = &jetstream.RePublish{Source: "vpcep.requests.>", Destination: "vpcep.results.>"}
		}), `republish is "vpcep.results.>", should be unset`, true},
		{"deny delete", stream(2, func(c *jetstream.StreamConfig) { c.DenyDelete = true }), "dead letters can be neither dropped nor replayed", true},
		{"deny delete of requests", stream(0, func(c *jetstream.StreamConfig) { c.DenyDelete = true }), "deny delete is true, should be false", false},
		{"deny purge", stream(0, func(c *jetstream.StreamConfig) { c.DenyPurge = true }), "deny purge is true, should be false", false},
		{"acknowledged before it is written", stream(0, func(c *jetstream.StreamConfig) { c.PersistMode = jetstream.AsyncPersistMode }), "persist mode is Async, should be Default", true},
		{"a short window", stream(0, func(c *jetstream.StreamConfig) { c.Duplicates = time.Second }), "duplicate window is 1s, should be 2m0s", false},
		{"nothing acknowledged", stream(0, func(c *jetstream.StreamConfig) { c.NoAck = true }), "acknowledgements is false, should be true", true},
		{"a source of anything", stream(0, func(c *jetstream.StreamConfig) { c.Sources = []*jetstream.StreamSource{{Name: "OTHER"}} }), "source OTHER is set, should be unset (its messages keep subjects outside", true},
		{"a source of requests", stream(0, func(c *jetstream.StreamConfig) {
			c.Sources = []*jetstream.StreamSource{{Name: "OTHER", SubjectTransforms: []jetstream.SubjectTransformConfig{{Source: "leaf.>", Destination: "vpcep.requests.>"}}}}
		}), "source OTHER is set", false},
		{"a source of results", stream(1, func(c *jetstream.StreamConfig) { c.Sources = []*jetstream.StreamSource{{Name: "OTHER"}} }), "taken for what workers wrote", true},
		{"a mirror", stream(1, func(c *jetstream.StreamConfig) {
			c.Mirror, c.Subjects = &jetstream.StreamSource{Name: "OTHER"}, nil
			c.Discard = jetstream.DiscardNew
		}), "mirror of another stream is true, should be false", true},
		{"consumer limits", stream(0, func(c *jetstream.StreamConfig) { c.ConsumerLimits.InactiveThreshold = time.Hour }), "consumer limits: inactive threshold is 1h0m0s", true},
		{"priority group", consumer(func(c *jetstream.ConsumerConfig) {
			c.PriorityPolicy, c.PriorityGroups = jetstream.PriorityPolicyOverflow, []string{"g"}
		}), `priority groups is ["g"], should be unset`, true},
		{"paused", consumer(func(c *jetstream.ConsumerConfig) {
			until := time.Now().Add(time.Hour)
			c.PauseUntil = &until
		}), "paused is until ", true},
		{"paused once", consumer(func(c *jetstream.ConsumerConfig) {
			until := time.Now().Add(-time.Hour)
			c.PauseUntil = &until
		}), "", false},
		{"in memory only", consumer(func(c *jetstream.ConsumerConfig) { c.MemoryStorage = true }), "memory storage is true, should be false", true},
		{"slow replay", consumer(func(c *jetstream.ConsumerConfig) { c.ReplayPolicy = jetstream.ReplayOriginalPolicy }), "replay policy is original, should be instant", true},
		{"few waiting", consumer(func(c *jetstream.ConsumerConfig) { c.MaxWaiting = 1 }), "max waiting is 1, should be 512", true},
		{"short pulls", consumer(func(c *jetstream.ConsumerConfig) { c.MaxRequestExpires = time.Second }), "max request expiry is 1s, should be 0s", true},
		{"small pulls", consumer(func(c *jetstream.ConsumerConfig) { c.MaxRequestBatch = 1 }), "max request batch is 1, should be 0", true},
		{"no acknowledgements of requests", consumer(func(c *jetstream.ConsumerConfig) { c.AckPolicy = jetstream.AckAllPolicy }), "ack policy is AckAll, should be AckExplicit", true},
		{"starts late", consumer(func(c *jetstream.ConsumerConfig) {
			c.DeliverPolicy, c.OptStartSeq = jetstream.DeliverByStartSequencePolicy, 5
		}), "start sequence is 5, should be 0", true},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			b, err := Connect(t.Context(), testConfig(natstest.Start(t), nil))
			if err != nil {
				t.Fatal(err)
			}
			defer b.Close() //nolint:errcheck // not what is tested
			if slices.Contains([]string{"acknowledged before it is written", "counters", "message schedules"}, tt.name) {
				natstest.NeedsCurrentServer(t) // 2.12 brought them
			}
			tt.prepare(t, b)
			err = b.Setup(t.Context())
			if (err != nil) != tt.matters || tt.matters && !strings.Contains(err.Error(), tt.want) {
				t.Errorf("Setup: %v, want an error (%t) with %q", err, tt.matters, tt.want)
			}
			found, err := b.Status(t.Context())
			found = slices.DeleteFunc(found, func(d Difference) bool { return d.Field == "" })
			told := slices.ContainsFunc(found, func(d Difference) bool {
				return d.Matters == tt.matters && strings.Contains(d.String(), tt.want) && d.Effect+d.Fix != "" && (d.Fix != "") == d.Matters
			})
			if err != nil || told != (tt.want != "") || tt.want == "" && len(found) > 0 {
				t.Errorf("Status: %v, %v, want a difference with %q", found, err, tt.want)
			}
			for _, d := range found {
				if d.Matters && !tt.matters {
					t.Errorf("Status: %v matters", d)
				}
			}
		})
	}
}

func TestSetupWantsRoomForARecord(t *testing.T) {
	t.Parallel()
	b, err := Connect(t.Context(), testConfig(natstest.StartWith(t, broker.Options{MaxPayload: 16 << 10}), nil))
	if err != nil {
		t.Fatal(err)
	}
	defer b.Close() //nolint:errcheck // not what is tested
	if err := b.Setup(t.Context()); err == nil || !strings.Contains(err.Error(), "broker: max payload is 16384, should be 131072") {
		t.Errorf("Setup: %v", err)
	}
}

func TestConnectSaysWhatIsWrong(t *testing.T) {
	t.Parallel()
	s := natstest.Start(t)
	s.Stop()
	tests := []struct {
		name string
		edit func(*Config)
		want string
	}{
		{"nobody there", func(*Config) {}, "check that the broker runs"},
		{"no such file", func(c *Config) { c.CredentialsFile = "/nowhere/user.creds" }, "/nowhere/user.creds"},
		{"no such seed", func(c *Config) { c.NKeySeedFile = "/nowhere/seed" }, "/nowhere/seed"},
		{"no such authority", func(c *Config) { c.TLSCA = "/nowhere/ca.pem" }, "/nowhere/ca.pem"},
		{"half a certificate", func(c *Config) { c.TLSCert = "cert.pem" }, "needs its key"},
		{"two credentials", func(c *Config) { c.Login = login("u", ""); c.CredentialsFile = "setup_test.go" }, "more than one"},
		{"password in the address", func(c *Config) { c.URL = strings.Replace(c.URL, "nats://", "nats://user:hunter2@", 1) }, "xxxxx@"},
		{"broken address", func(c *Config) { c.URL = "nats://user:hunter2@%zz" }, "address"},
	}
	for _, tt := range tests {
		b, err := Connect(t.Context(), testConfig(s, tt.edit))
		if err == nil {
			_ = b.Close()
		}
		if err == nil || !strings.Contains(err.Error(), tt.want) || strings.Contains(err.Error(), "hunter2") {
			t.Errorf("%s: %v, want %q in it", tt.name, err, tt.want)
		}
	}
}

// TestEveryFieldIsCompared holds the comparison to the server's own types: each
// field is either compared or listed as harmless with the reason.
func TestEveryFieldIsCompared(t *testing.T) {
	t.Parallel()
	b := &Bus{cfg: Config{}.withDefaults()}
	stream, consumer := b.streams()[0], b.consumer()
	for _, tt := range []struct {
		of       reflect.Type
		harmless map[string]string
		compare  func(raw map[string]json.RawMessage) []Difference
	}{
		{reflect.TypeFor[server.StreamConfig](), ignoredStreamFields(), func(raw map[string]json.RawMessage) []Difference {
			return streamDifferences("stream", raw, stream, stream, 8)
		}},
		{reflect.TypeFor[server.ConsumerConfig](), ignoredConsumerFields(), func(raw map[string]json.RawMessage) []Difference {
			return consumerDifferences(raw, consumer, consumer, 8, 1)
		}},
	} {
		raw := map[string]json.RawMessage{"something_new": json.RawMessage("true")}
		for f := range tt.of.Fields() {
			key, _, _ := strings.Cut(f.Tag.Get("json"), ",")
			raw[key] = json.RawMessage(`"canary"`)
			if reason, ok := tt.harmless[key]; ok && reason == "" {
				t.Errorf("%s.%s is harmless, but why?", tt.of, key)
			}
		}
		for _, d := range tt.compare(raw) {
			if strings.Contains(d.Effect, "does not know") != (d.Field == "something_new") {
				t.Errorf("%s: %v", tt.of, d)
			}
		}
	}
}
