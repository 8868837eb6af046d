package events

import (
	"net"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/rs/zerolog"

	"github.com/vpcep-approver/vpcep-approver/internal/natstest"
)

// lostNode starts a node of a cluster of three whose other nodes cannot be
// reached: it takes connections, and its JetStream has no leader. It returns
// where it listens.
func lostNode(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0") // where nobody speaks NATS
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close() })
	var others []*url.URL
	for _, host := range []string{"127.0.0.1", "localhost"} {
		_, port, err := net.SplitHostPort(l.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		others = append(others, &url.URL{Scheme: "nats-route", Host: net.JoinHostPort(host, port)})
	}
	s, err := server.NewServer(&server.Options{
		ServerName: "lost", Host: "127.0.0.1", Port: -1, JetStream: true, StoreDir: t.TempDir(), NoLog: true, NoSigs: true,
		Cluster: server.ClusterOpts{Name: "cluster", Host: "127.0.0.1", Port: -1}, Routes: others,
	})
	if err != nil {
		t.Fatal(err)
	}
	s.Start()
	t.Cleanup(func() {
		s.Shutdown()
		s.WaitForShutdown()
	})
	if !s.ReadyForConnections(natstest.Hang) {
		t.Fatal("the node does not come up")
	}
	return s.ClientURL()
}

// TestConsumeLeavesALostNode connects to a node that is cut off from its
// cluster. It keeps the connection up and answers nothing, so nobody but the
// worker can tell that it has to go to another.
func TestConsumeLeavesALostNode(t *testing.T) {
	t.Parallel()
	lost := lostNode(t)
	good, seen, log := natstest.Start(t), newWatcher(), &safeBuffer{}
	good.Stop() // so that the first connection is to the other
	b, err := Connect(t.Context(), testConfig(good, func(c *Config) {
		c.URL = lost + "," + good.URL
		c.Observer, c.Log = seen, zerolog.New(log)
	}))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := b.Close(); err != nil {
			t.Errorf("Close: %v", err)
		}
	})
	good.Start()
	begin := time.Now()
	consume(t, b, done)
	seen.exactly(t, "bound", 1)
	if took := time.Since(begin); took < nodePatience {
		t.Errorf("it left after %s, and a cluster may take %s to elect a leader", took, nodePatience)
	}
	if err := b.Submit(t.Context(), connection("1")); err != nil {
		t.Fatal(err)
	}
	seen.atLeast(t, "delivered connection", 1)
	if n := seen.get("reconnected"); n != 1 || !strings.Contains(log.String(), "trying another") {
		t.Errorf("connected %d times again, want once:\n%s", n, log)
	}
}
