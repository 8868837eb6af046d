package broker_test

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/rs/zerolog"

	"github.com/vpcep-approver/vpcep-approver/internal/events/broker"
)

func TestKeepsItsStreams(t *testing.T) {
	t.Parallel()
	opts := broker.Options{Dir: t.TempDir(), Listen: "127.0.0.1:0", SyncAlways: true, MaxStore: 64 << 20}
	for _, want := range []uint64{1, 2} {
		s, err := broker.Start(opts)
		if err != nil {
			t.Fatal(err)
		}
		nc, err := nats.Connect(s.URL())
		if err != nil {
			t.Fatal(err)
		}
		js, err := jetstream.New(nc)
		if err != nil {
			t.Fatal(err)
		}
		kv, err := js.CreateOrUpdateKeyValue(t.Context(), jetstream.KeyValueConfig{Bucket: "b"})
		if err != nil {
			t.Fatal(err)
		}
		rev, err := kv.Put(t.Context(), "k", []byte("v"))
		if err != nil || rev != want {
			t.Errorf("stored as revision %d, %v, want %d", rev, err, want)
		}
		nc.Close()
		s.Shutdown()
		s.Shutdown() // again is nothing
	}
}

func TestStartSaysWhatIsWrong(t *testing.T) {
	t.Parallel()
	file := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	taken, err := broker.Start(broker.Options{Dir: t.TempDir(), Listen: "127.0.0.1:0"})
	if err != nil {
		t.Fatal(err)
	}
	defer taken.Shutdown()
	tests := []struct {
		name string
		opts broker.Options
		want string
	}{
		{"no folder", broker.Options{}, "directory"},
		{"a file for a folder", broker.Options{Dir: file}, file},
		{"no address", broker.Options{Dir: t.TempDir(), Listen: "nowhere"}, `"nowhere"`},
		{"no port", broker.Options{Dir: t.TempDir(), Listen: "127.0.0.1:http"}, "the port is no number"},
		{"an address that is taken", broker.Options{Dir: t.TempDir(), Listen: strings.TrimPrefix(taken.URL(), "nats://")}, "address already in use"},
	}
	for _, tt := range tests {
		s, err := broker.Start(tt.opts)
		if err == nil {
			s.Shutdown()
		}
		if err == nil || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%s: %v, want %q in it", tt.name, err, tt.want)
		}
	}
}

func TestPassword(t *testing.T) {
	t.Parallel()
	var log bytes.Buffer
	s, err := broker.Start(broker.Options{Dir: t.TempDir(), Listen: "127.0.0.1:0", User: "u", Password: "secret", Log: zerolog.New(&log)})
	if err != nil {
		t.Fatal(err)
	}
	if nc, err := nats.Connect(s.URL()); err == nil {
		nc.Close()
		t.Error("connected without a password")
	}
	nc, err := nats.Connect(s.URL(), nats.UserInfo("u", "secret"))
	if err != nil {
		t.Fatal(err)
	}
	nc.Close()
	s.Shutdown()
	if !strings.Contains(log.String(), "authentication error") || strings.Contains(log.String(), "secret") {
		t.Errorf("logged:\n%s", log.String())
	}
}
