// Package exampletest starts a NATS server with the stream of results for the tests of
// the examples.
package exampletest

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

// Start starts a server with JetStream and returns its address.
func Start(t *testing.T) string {
	t.Helper()
	s, err := server.NewServer(&server.Options{Host: "127.0.0.1", Port: server.RANDOM_PORT, JetStream: true, StoreDir: t.TempDir(), NoSigs: true})
	if err != nil {
		t.Fatal(err)
	}
	s.Start()
	t.Cleanup(func() {
		s.Shutdown()
		s.WaitForShutdown()
	})
	if !s.ReadyForConnections(20 * time.Second) {
		t.Fatal("the server is not ready")
	}
	if _, err := stream(t, s.ClientURL()).CreateStream(t.Context(), jetstream.StreamConfig{Name: "VPCEP_RESULTS", Subjects: []string{"vpcep.results.>"}}); err != nil {
		t.Fatal(err)
	}
	return s.ClientURL()
}

func stream(t *testing.T, url string) jetstream.JetStream {
	t.Helper()
	nc, err := nats.Connect(url)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(nc.Close)
	js, err := jetstream.New(nc)
	if err != nil {
		t.Fatal(err)
	}
	return js
}

// Publish publishes results.
func Publish(t *testing.T, url string, events ...[]byte) {
	t.Helper()
	js := stream(t, url)
	for _, event := range events {
		outcome := "accepted"
		for _, other := range []string{"held", "refused"} {
			if strings.Contains(string(event), `"vpcep.request.`+other+`"`) {
				outcome = other
			}
		}
		if _, err := js.Publish(t.Context(), "vpcep.results."+outcome+".payments.0", event); err != nil {
			t.Fatal(err)
		}
	}
}

// Golden returns the golden results of the worker by name.
func Golden(t *testing.T) map[string][]byte {
	t.Helper()
	out := map[string][]byte{}
	files, err := filepath.Glob("../../../internal/events/testdata/result-*.golden")
	if err != nil || len(files) < 3 {
		t.Fatalf("%d golden results: %v", len(files), err)
	}
	for _, file := range files {
		text, err := os.ReadFile(file) //nolint:gosec // G304: a file of this repository
		if err != nil {
			t.Fatal(err)
		}
		name := strings.TrimSuffix(strings.TrimPrefix(filepath.Base(file), "result-"), ".golden")
		out[name] = text
	}
	return out
}
