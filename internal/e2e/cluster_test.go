package e2e

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"net/netip"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/cloudevents/sdk-go/v2/event"
	"github.com/moby/moby/api/types/container"
	"github.com/moby/moby/api/types/network"
	"github.com/moby/moby/client"
	natsgo "github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/testcontainers/testcontainers-go"
	"github.com/testcontainers/testcontainers-go/modules/nats"
	tcnetwork "github.com/testcontainers/testcontainers-go/network"
)

const (
	requestsStream = "VPCEP_REQUESTS"
	resultsStream  = "VPCEP_RESULTS"
	ledgerStream   = "KV_vpcep-ledger"
	workerName     = "vpcep-approver" // of its connection and of its consumer

	monitorPort = "8222/tcp"

	sendEvery  = 400 * time.Millisecond
	fewestSent = 60
	mostSent   = 240
)

// TestCluster takes one node after the other from a cluster of three while
// requests come in: the leader of the requests is killed and started again, then
// the node that the worker is connected to is cut off from the two others, which
// it does not tell its clients. Requests go on being answered meanwhile, and at
// the end each was answered once and carried out once.
func TestCluster(t *testing.T) {
	c := startCluster(t)
	before := c.inspect()
	shop := c.open()

	c.takeAway("the leader of the requests is killed", shop, c.streamLeader(requestsStream, nil), (*cluster).kill, (*cluster).restart)
	c.takeAway("the worker's node is cut off", shop, c.workersNode(), (*cluster).cut, (*cluster).heal)

	shop.close()
	c.judge(shop)

	if status, text := c.get("/livez"); status != http.StatusOK {
		t.Errorf("/livez: status %d: %s", status, text)
	}
	c.sameWorker(before)
}

// node is one NATS server of the cluster.
type node struct {
	*nats.NATSContainer
	name  string // for clients
	route string // for the other nodes
}

// cluster is a stack with three NATS servers instead of one. They know each
// other in a network of their own, so that one can be cut off from the others
// and still be there for clients.
type cluster struct {
	*stack
	nodes  []*node
	routes *testcontainers.DockerNetwork
	docker client.APIClient

	next    uint64              // the first result that was not read yet
	answers map[string][]result // by event id
}

func startCluster(t *testing.T) *cluster {
	t.Helper()
	img := prepare(t)
	provider, err := engine(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = provider.Close() }) // its client only
	ctx, cancel := context.WithTimeout(t.Context(), 2*startTime)
	defer cancel()
	clients, err := tcnetwork.New(ctx)
	testcontainers.CleanupNetwork(t, clients)
	if err != nil {
		t.Fatalf("make the network of the clients: %v", err)
	}
	routes, err := tcnetwork.New(ctx, tcnetwork.WithInternal()) // so that ports are published in the other one
	testcontainers.CleanupNetwork(t, routes)
	if err != nil {
		t.Fatalf("make the network of the routes: %v", err)
	}
	c := &cluster{stack: &stack{t: t}, routes: routes, docker: provider.Client(), next: 1, answers: map[string][]result{}}

	var urls []string
	for i := range 3 {
		n := &node{name: fmt.Sprintf("nats-%d", i+1), route: fmt.Sprintf("route-%d", i+1)}
		n.NATSContainer, err = nats.Run(ctx, img.nats,
			tcnetwork.WithNetwork([]string{n.name}, clients),
			tcnetwork.WithNetwork([]string{n.route}, routes),
			testcontainers.WithEnv(map[string]string{"NODE": n.name, "CLIENT_ADDRESS": n.name + ":4222", "ROUTE_ADDRESS": n.route + ":6222"}),
			testcontainers.WithFiles(testcontainers.ContainerFile{
				HostFilePath: filepath.Join("testdata", "cluster", "nats.conf"), ContainerFilePath: "/nats.conf", FileMode: 0o644,
			}),
			testcontainers.WithCmd("-c", "/nats.conf"),
			// The name of a node that is cut off is asked of nobody outside.
			testcontainers.WithHostConfigModifier(func(hc *container.HostConfig) {
				hc.DNS = []netip.Addr{netip.MustParseAddr("127.0.0.1")}
			}),
		)
		c.keep(n.name, n, err)
		c.nodes = append(c.nodes, n)
		urls = append(urls, "nats://"+n.name+":4222")
	}
	for _, n := range c.nodes {
		eventually(t, "the cluster has formed", func() error { return c.healthy(n) })
	}

	c.run(ctx, img, clients, map[string]string{"APPROVER_NATS_URL": strings.Join(urls, ","), "APPROVER_NATS_REPLICAS": "3"})
	return c
}

// healthy says why JetStream does not answer on n.
func (c *cluster) healthy(n *node) error {
	return c.on(n, func(ctx context.Context, js jetstream.JetStream) error {
		_, err := js.AccountInfo(ctx)
		return err
	})
}

// on runs f with a connection to n and to no other node.
func (c *cluster) on(n *node, f func(ctx context.Context, js jetstream.JetStream) error) error {
	ctx, cancel := context.WithTimeout(c.t.Context(), 3*time.Second)
	defer cancel()
	url, err := n.ConnectionString(ctx)
	if err != nil {
		return err
	}
	nc, err := natsgo.Connect(url, natsgo.NoReconnect(), natsgo.Timeout(2*time.Second))
	if err != nil {
		return fmt.Errorf("connect to %s: %w", n.name, err)
	}
	defer nc.Close()
	js, err := jetstream.New(nc)
	if err != nil {
		return err
	}
	if err := f(ctx, js); err != nil {
		return fmt.Errorf("on %s: %w", n.name, err)
	}
	return nil
}

// leader waits until the cluster has a leader of something, as seen by a node
// that is not the one to leave out (if not nil), and that is another one.
func (c *cluster) leader(what string, out *node, look func(context.Context, jetstream.JetStream) (*jetstream.ClusterInfo, error)) (found *node) {
	c.t.Helper()
	survivor := c.nodes[0]
	if out == survivor {
		survivor = c.nodes[1]
	}
	eventually(c.t, what+" has a leader", func() error {
		return c.on(survivor, func(ctx context.Context, js jetstream.JetStream) error {
			info, err := look(ctx, js)
			if err != nil {
				return err
			}
			i := slices.IndexFunc(c.nodes, func(n *node) bool { return info != nil && n.name == info.Leader })
			if i < 0 || c.nodes[i] == out {
				return fmt.Errorf("the leader is %+v", info)
			}
			found = c.nodes[i]
			return nil
		})
	})
	return found
}

func (c *cluster) streamLeader(stream string, out *node) *node {
	c.t.Helper()
	return c.leader("stream "+stream, out, func(ctx context.Context, js jetstream.JetStream) (*jetstream.ClusterInfo, error) {
		s, err := js.Stream(ctx, stream)
		if err != nil {
			return nil, err
		}
		return s.CachedInfo().Cluster, nil
	})
}

func (c *cluster) consumerLeader(out *node) *node {
	c.t.Helper()
	return c.leader("the consumer", out, func(ctx context.Context, js jetstream.JetStream) (*jetstream.ClusterInfo, error) {
		consumer, err := js.Consumer(ctx, requestsStream, workerName)
		if err != nil {
			return nil, err
		}
		return consumer.CachedInfo().Cluster, nil
	})
}

// workersNode waits until the worker is connected to a node and returns it.
func (c *cluster) workersNode() (found *node) {
	c.t.Helper()
	eventually(c.t, "the worker's connection shows", func() error {
		for _, n := range c.nodes {
			_, text := c.ask(http.MethodGet, c.address(n, monitorPort)+"/connz", nil)
			var connections struct {
				Connections []struct{ Name string } `json:"connections"`
			}
			if err := json.Unmarshal([]byte(text), &connections); err != nil {
				return err
			}
			for _, one := range connections.Connections {
				if one.Name == workerName {
					found = n
					return nil
				}
			}
		}
		return errors.New("no node has it")
	})
	return found
}

// takeAway takes n away from a cluster that is whole, waits until the two others
// go on by themselves and requests that came since are answered, and gives it
// back.
func (c *cluster) takeAway(what string, shop *shop, n *node, away, back func(*cluster, *node) error) {
	c.t.Helper()
	c.whole(n)
	begin := time.Now()
	if err := away(c, n); err != nil {
		c.t.Fatalf("%s: %v", what, err)
	}
	mark := shop.count()
	for _, stream := range []string{requestsStream, resultsStream, ledgerStream} {
		c.streamLeader(stream, n)
	}
	c.consumerLeader(n)
	led := time.Since(begin)
	eventually(c.t, what+": requests are answered meanwhile", func() error {
		if err := c.read(n); err != nil {
			return err
		}
		sent := shop.list()[mark:]
		answered := 0
		for _, a := range sent {
			answered += len(c.answers[a.id])
		}
		if answered < 5 {
			return fmt.Errorf("%d of %d are answered", answered, len(sent))
		}
		return nil
	})
	answered := time.Since(begin)
	if err := back(c, n); err != nil {
		c.t.Fatalf("%s: bring it back: %v", what, err)
	}
	eventually(c.t, what+": the worker is ready", c.isReady)
	c.t.Logf("%s (%s): new leaders after %.1f s, requests were answered after %.1f s", what, n.name, led.Seconds(), answered.Seconds())
}

func (c *cluster) kill(n *node) error {
	at := time.Duration(0) // SIGKILL after no time
	return n.Stop(c.t.Context(), &at)
}

func (c *cluster) restart(n *node) error { return n.Start(c.t.Context()) }

// cut takes the routes to the other nodes from n. Clients can still reach it.
func (c *cluster) cut(n *node) error {
	_, err := c.docker.NetworkDisconnect(c.t.Context(), c.routes.ID, client.NetworkDisconnectOptions{Container: n.GetContainerID(), Force: true})
	return err
}

func (c *cluster) heal(n *node) error {
	_, err := c.docker.NetworkConnect(c.t.Context(), c.routes.ID, client.NetworkConnectOptions{
		Container: n.GetContainerID(), EndpointConfig: &network.EndpointSettings{Aliases: []string{n.route}},
	})
	return err
}

// whole waits until every node has everything, seen by n.
func (c *cluster) whole(n *node) {
	c.t.Helper()
	eventually(c.t, "the cluster is whole", func() error {
		return c.on(n, func(ctx context.Context, js jetstream.JetStream) error {
			for _, name := range []string{requestsStream, resultsStream, ledgerStream} {
				s, err := js.Stream(ctx, name)
				if err != nil {
					return fmt.Errorf("stream %s: %w", name, err)
				}
				info := s.CachedInfo().Cluster
				if info == nil || len(info.Replicas) != 2 || slices.ContainsFunc(info.Replicas, func(p *jetstream.PeerInfo) bool { return p.Offline || !p.Current }) {
					return fmt.Errorf("stream %s: %+v", name, info)
				}
			}
			return nil
		})
	})
}

// shop sends a request every sendEvery, to whichever node takes it.
type shop struct {
	c    *cluster
	stop func()
	done chan struct{} // closed when it has ended

	mu   sync.Mutex
	sent []order
}

// open begins to send requests.
func (c *cluster) open() *shop {
	c.t.Helper()
	var orders []order
	for i := range mostSent {
		orders = append(orders, c.order(i))
	}
	ctx, stop := context.WithCancel(c.t.Context())
	s := &shop{c: c, stop: stop, done: make(chan struct{})}
	go s.run(ctx, orders)
	c.t.Cleanup(func() {
		stop()
		<-s.done
	})
	return s
}

// run sends orders until ctx ends, and at least fewestSent.
func (s *shop) run(ctx context.Context, orders []order) {
	defer close(s.done)
	tick := time.NewTicker(sendEvery)
	defer tick.Stop()
	for i, o := range orders {
		if ctx.Err() != nil && i >= fewestSent {
			return
		}
		select {
		case <-tick.C:
		case <-s.c.t.Context().Done():
			return
		}
		if err := s.send(o, i); err != nil {
			s.c.t.Errorf("request %s could not be sent to any node: %v", o.id, err)
			return
		}
		s.mu.Lock()
		s.sent = append(s.sent, o)
		s.mu.Unlock()
	}
}

// send sends o until a node has stored it. That may be more than once: an
// answer that is lost leaves open what became of the request.
func (s *shop) send(o order, first int) error {
	body, err := json.Marshal(o.data)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(s.c.t.Context(), 30*time.Second)
	defer cancel()
	again := time.NewTicker(sendEvery)
	defer again.Stop()
	for try := first; ; try++ {
		n := s.c.nodes[try%len(s.c.nodes)]
		err := s.c.on(n, func(ctx context.Context, js jetstream.JetStream) error {
			_, err := js.PublishMsg(ctx, &natsgo.Msg{Subject: requestSubject(o.data), Data: body, Header: natsgo.Header{
				"ce-specversion": {"1.0"}, "ce-id": {o.id}, "ce-source": {"/shop/requests"}, "ce-type": {o.kind},
				"ce-time": {time.Now().UTC().Format(time.RFC3339Nano)}, "content-type": {"application/json"},
			}})
			return err
		})
		if err == nil {
			return nil
		}
		select {
		case <-again.C:
		case <-ctx.Done():
			return err
		}
	}
}

// close ends the sending and waits for it.
func (s *shop) close() {
	s.stop()
	<-s.done
}

func (s *shop) list() []order {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.sent)
}

func (s *shop) count() int { return len(s.list()) }

// read reads the results that came since it did so last, from a node that is
// not the one to leave out.
func (c *cluster) read(out *node) error {
	n := c.nodes[0]
	if out == n {
		n = c.nodes[1]
	}
	return c.on(n, func(ctx context.Context, js jetstream.JetStream) error {
		stream, err := js.Stream(ctx, resultsStream)
		if err != nil {
			return err
		}
		for ; c.next <= stream.CachedInfo().State.LastSeq; c.next++ {
			m, err := stream.GetMsg(ctx, c.next)
			if err != nil {
				return fmt.Errorf("result %d: %w", c.next, err)
			}
			var e event.Event
			if err := json.Unmarshal(m.Data, &e); err != nil {
				return fmt.Errorf("result on %s: %w", m.Subject, err)
			}
			r := result{Subject: m.Subject, Type: e.Type()}
			if err := e.DataAs(&r.Data); err != nil {
				return fmt.Errorf("result on %s: %w", m.Subject, err)
			}
			c.answers[r.Data.Request.EventID] = append(c.answers[r.Data.Request.EventID], r)
		}
		return nil
	})
}

// judge waits until everything is settled and compares what was sent with the
// results and with what was done in the cloud.
func (c *cluster) judge(shop *shop) {
	c.t.Helper()
	sent := shop.list()
	eventually(c.t, "every request is answered", func() error {
		if err := c.read(nil); err != nil {
			return err
		}
		var missing []string
		for _, o := range sent {
			if len(c.answers[o.id]) == 0 {
				missing = append(missing, o.id)
			}
		}
		if len(missing) > 0 {
			return fmt.Errorf("%d of %d have no result: %v", len(missing), len(sent), missing)
		}
		return nil
	})
	eventually(c.t, "nothing is left with the consumer", func() error {
		return c.on(c.nodes[0], func(ctx context.Context, js jetstream.JetStream) error {
			consumer, err := js.Consumer(ctx, requestsStream, workerName)
			if err != nil {
				return err
			}
			if info := consumer.CachedInfo(); info.NumPending != 0 || info.NumAckPending != 0 {
				return fmt.Errorf("%d wait and %d are in progress", info.NumPending, info.NumAckPending)
			}
			letters, err := js.Stream(ctx, "VPCEP_DEADLETTERS")
			if err != nil {
				return err
			}
			if n := letters.CachedInfo().State.Msgs; n != 0 {
				c.t.Errorf("%d good requests are dead letters", n)
			}
			return nil
		})
	})
	eventually(c.t, "the last results are read", func() error { return c.read(nil) })

	for _, o := range sent {
		all := c.answers[o.id]
		if len(all) != 1 || all[0].Data.Outcome != o.outcome {
			c.t.Errorf("request %s has %d results, want one: %s; got %+v", o.id, len(all), o.outcome, all)
		}
	}
	if len(c.answers) != len(sent) {
		c.t.Errorf("%d requests have results, and %d were sent: %v", len(c.answers), len(sent), slices.Sorted(maps.Keys(c.answers)))
	}
	c.didOnly(effectsOf(sent))
	c.t.Logf("%d requests were sent", len(sent))
}
