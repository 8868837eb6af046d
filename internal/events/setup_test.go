package events

import (
	"errors"
	"strings"
	"testing"
	"time"

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
		{"a bucket that forgets", func(t *testing.T, b *Bus) {
			cfg := b.bucket()
			cfg.TTL = time.Hour
			if _, err := b.js.CreateKeyValue(t.Context(), cfg); err != nil {
				t.Fatal(err)
			}
		}, "bucket vpcep-ledger: time to live is 1h0m0s, should be 9600h0m0s", true},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			b, err := Connect(t.Context(), testConfig(natstest.Start(t), nil))
			if err != nil {
				t.Fatal(err)
			}
			defer b.Close() //nolint:errcheck // not what is tested
			tt.prepare(t, b)
			err = b.Setup(t.Context())
			if (err != nil) != tt.matters || tt.matters && !strings.Contains(err.Error(), tt.want) {
				t.Errorf("Setup: %v, want an error (%t) with %q", err, tt.matters, tt.want)
			}
			d, err := b.Status(t.Context())
			if err != nil || len(d) != 1 || d[0].Matters != tt.matters || !strings.Contains(d[0].String(), tt.want) {
				t.Errorf("Status: %v, %v, want one difference with %q", d, err, tt.want)
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
		{"nobody there", func(*Config) {}, "is the broker up"},
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
