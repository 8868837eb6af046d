// Package natstest runs NATS servers with JetStream inside tests.
package natstest

import (
	"net"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/vpcep-approver/vpcep-approver/internal/events/broker"
)

// Hang is how long a test waits for what must come. Only a hang takes longer, also
// on a machine that is busy with other tests under the race detector.
const Hang = 2 * time.Minute

// Server is a server that can be stopped and started again on the same port and
// with the same streams.
type Server struct {
	URL string // of the first start; stays the same

	t    testing.TB
	opts broker.Options
	run  runner
}

// Start starts a server in a folder of its own; it ends with the test.
func Start(t testing.TB) *Server {
	t.Helper()
	return StartWith(t, broker.Options{})
}

// StartWith is Start with options; Dir and Listen are chosen unless set.
func StartWith(t testing.TB, opts broker.Options) *Server {
	t.Helper()
	if opts.Dir == "" {
		opts.Dir = t.TempDir()
	}
	if opts.Listen == "" {
		opts.Listen = "127.0.0.1:0"
	}
	s := &Server{t: t, opts: opts}
	s.Start()
	s.URL = s.run.URL()
	_, port, err := net.SplitHostPort(s.URL[len("nats://"):])
	if err != nil {
		t.Fatalf("the server says %q of its address: %v", s.URL, err)
	}
	s.opts.Listen = "127.0.0.1:" + port
	t.Cleanup(s.Stop)
	return s
}

// Start starts the server again after Stop.
func (s *Server) Start() {
	s.t.Helper()
	var err error
	if program := External(); program != "" {
		s.run, err = startExternal(program, s.opts)
	} else {
		s.run, err = broker.Start(s.opts)
	}
	if err != nil {
		s.run = nil
		s.t.Fatal(err)
	}
}

// StartAs is Start with options that edit changes for this and later starts.
func (s *Server) StartAs(edit func(*broker.Options)) {
	s.t.Helper()
	edit(&s.opts)
	s.Start()
}

// Stop stops the server as a crash would be seen from outside: all connections
// end. What it stored stays. It may be called again.
func (s *Server) Stop() {
	if s.run != nil {
		s.run.Shutdown()
		s.run = nil
	}
}

// Restart is Stop and Start.
func (s *Server) Restart() {
	s.t.Helper()
	s.Stop()
	s.Start()
}

// InProcessConn opens a connection without a network.
func (s *Server) InProcessConn() (net.Conn, error) { return s.run.InProcessConn() }

// Connect returns a client's connection, which ends with the test.
func (s *Server) Connect() *nats.Conn {
	s.t.Helper()
	nc, err := nats.Connect(s.URL, nats.MaxReconnects(-1), nats.ReconnectWait(nats.DefaultReconnectJitter))
	if err != nil {
		s.t.Fatalf("connect to the test's NATS server: %v", err)
	}
	s.t.Cleanup(nc.Close)
	return nc
}

// JetStream returns a JetStream client of a connection that ends with the test.
func (s *Server) JetStream() jetstream.JetStream {
	s.t.Helper()
	js, err := jetstream.New(s.Connect())
	if err != nil {
		s.t.Fatalf("JetStream of the test's NATS server: %v", err)
	}
	return js
}

// Bucket makes a bucket that keeps eight values of a key, as the ledger's does.
func (s *Server) Bucket(name string) jetstream.KeyValue {
	s.t.Helper()
	kv, err := s.JetStream().CreateKeyValue(s.t.Context(), jetstream.KeyValueConfig{Bucket: name, History: 8})
	if err != nil {
		s.t.Fatalf("make the bucket %s: %v", name, err)
	}
	return kv
}
