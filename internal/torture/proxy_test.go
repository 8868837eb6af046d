package torture

import (
	"context"
	"errors"
	"io"
	"net"
	"sync"
	"testing"
	"time"
)

// proxy stands between two peers of TCP and fails as a network does: it cuts,
// resets, delays, and holds what goes in one direction or both, as a partition
// does in which packets are sent again until it heals.
type proxy struct {
	upstream string
	listener net.Listener
	done     sync.WaitGroup

	mu      sync.Mutex
	changed chan struct{} // closed and made anew at each change of what follows
	held    [2]bool       // by direction
	delay   time.Duration // of each piece, in each direction
	refuse  bool
	closed  bool
	conns   map[net.Conn]struct{}
}

// The directions.
const (
	up   = 0 // from the one who connects to the server
	down = 1
)

func newProxy(t testing.TB, upstream string) *proxy {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	p := &proxy{upstream: upstream, listener: l, changed: make(chan struct{}), conns: map[net.Conn]struct{}{}}
	p.done.Go(p.serve)
	t.Cleanup(func() {
		p.change(func() { p.closed = true })
		_ = l.Close()
		p.reset()
		p.done.Wait()
	})
	return p
}

func (p *proxy) addr() string { return p.listener.Addr().String() }

func (p *proxy) change(f func()) {
	p.mu.Lock()
	defer p.mu.Unlock()
	f()
	close(p.changed)
	p.changed = make(chan struct{})
}

// hold lets nothing through in these directions until heal; connections stay,
// and new ones are taken and get no answer.
func (p *proxy) hold(directions ...int) {
	p.change(func() {
		for _, d := range directions {
			p.held[d] = true
		}
	})
}

// cut resets all connections and refuses new ones until heal.
func (p *proxy) cut() {
	p.change(func() { p.refuse = true })
	p.reset()
}

// slow delays each piece by d in each direction until heal.
func (p *proxy) slow(d time.Duration) { p.change(func() { p.delay = d }) }

// heal ends every fault.
func (p *proxy) heal() {
	p.change(func() { p.held, p.refuse, p.delay = [2]bool{}, false, 0 })
}

// reset ends all connections with RST; new ones are served.
func (p *proxy) reset() {
	p.mu.Lock()
	defer p.mu.Unlock()
	for c := range p.conns {
		abort(c)
	}
}

// abort closes c with RST instead of FIN.
func abort(c net.Conn) {
	if tcp, ok := c.(*net.TCPConn); ok {
		_ = tcp.SetLinger(0) // a socket that is closed already needs none
	}
	_ = c.Close()
}

func (p *proxy) serve() {
	for {
		client, err := p.listener.Accept()
		if err != nil {
			return
		}
		server, err := net.Dial("tcp", p.upstream)
		if err != nil || !p.keep(client, server) {
			abort(client)
			if err == nil {
				abort(server)
			}
			continue
		}
		var both sync.WaitGroup
		both.Go(func() { p.carry(server, client, up) })
		both.Go(func() { p.carry(client, server, down) })
		p.done.Go(func() {
			both.Wait()
			p.mu.Lock()
			defer p.mu.Unlock()
			delete(p.conns, client)
			delete(p.conns, server)
		})
	}
}

func (p *proxy) keep(conns ...net.Conn) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.refuse || p.closed {
		return false
	}
	for _, c := range conns {
		p.conns[c] = struct{}{}
	}
	return true
}

// carry copies from src to dst and closes both at the end.
func (p *proxy) carry(dst, src net.Conn, direction int) {
	defer func() { _, _ = dst.Close(), src.Close() }() // the end of one is the end of the other
	buf := make([]byte, 32<<10)
	for {
		n, err := src.Read(buf)
		if n > 0 {
			if !p.open(direction) {
				return
			}
			if _, err := dst.Write(buf[:n]); err != nil {
				return
			}
		}
		if err != nil {
			return
		}
	}
}

// open waits until a piece may pass; false if the proxy ends first.
func (p *proxy) open(direction int) bool {
	delayed := false
	for {
		p.mu.Lock()
		held, delay, closed, changed := p.held[direction], p.delay, p.closed, p.changed
		p.mu.Unlock()
		switch {
		case closed:
			return false
		case held:
			<-changed
		case delay > 0 && !delayed:
			pass(context.Background(), delay)
			delayed = true
		default:
			return true
		}
	}
}

// TestProxy shows each fault on a connection to a server that echoes.
func TestProxy(t *testing.T) {
	t.Parallel()
	p := newProxy(t, echo(t))
	dial := func() net.Conn {
		c, err := net.Dial("tcp", p.addr())
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = c.Close() })
		return c
	}
	const long = 30 * time.Second // more than a machine that is busy with other things takes
	hear := func(c net.Conn, within time.Duration) error {
		if err := c.SetReadDeadline(time.Now().Add(within)); err != nil {
			return err
		}
		_, err := io.ReadFull(c, make([]byte, 5))
		return err
	}
	// The time within which the answer is to come counts from when all is said,
	// else a test that is kept waiting says nothing and misses it later.
	say := func(c net.Conn, within time.Duration) error {
		if err := c.SetWriteDeadline(time.Now().Add(long)); err != nil {
			return err
		}
		if _, err := c.Write([]byte("hello")); err != nil {
			return err
		}
		return hear(c, within)
	}
	timeout := func(err error) bool {
		e, ok := errors.AsType[net.Error](err)
		return ok && e.Timeout()
	}

	c := dial()
	if err := say(c, long); err != nil {
		t.Fatalf("without a fault: %v", err)
	}
	for _, direction := range []int{up, down} {
		p.hold(direction)
		if err := say(c, 50*time.Millisecond); !timeout(err) {
			t.Errorf("direction %d is held, want a timeout, got %v", direction, err)
		}
		p.heal()
		if err := hear(c, long); err != nil {
			t.Errorf("direction %d is healed, what was held did not come: %v", direction, err)
		}
	}
	p.slow(60 * time.Millisecond)
	start := time.Now()
	if err := say(c, long); err != nil || time.Since(start) < 120*time.Millisecond {
		t.Errorf("slowed by 60 ms each way, the answer came after %s: %v", time.Since(start), err)
	}
	p.heal()
	p.cut()
	if err := say(c, long); err == nil || timeout(err) {
		t.Errorf("cut off, want a reset, got %v", err)
	}
	if c, err := net.Dial("tcp", p.addr()); err == nil { // the reset may come before or after
		if err := say(c, long); err == nil || timeout(err) {
			t.Errorf("cut off, want a new connection to be refused, got %v", err)
		}
		_ = c.Close()
	}
	p.heal()
	if err := say(dial(), long); err != nil {
		t.Errorf("healed: %v", err)
	}
}

// echo starts a server that sends back what it gets.
func echo(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close() })
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				defer func() { _ = c.Close() }()
				_, _ = io.Copy(c, c) // ends with the connection
			}()
		}
	}()
	return l.Addr().String()
}
