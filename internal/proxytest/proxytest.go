// Package proxytest is a TCP proxy for tests that injects network faults.
package proxytest

import (
	"context"
	"net"
	"sync"
	"testing"
	"time"
)

// Proxy forwards TCP connections. It cuts, resets, delays, and holds traffic in one
// direction or both, like a partition in which packets are retransmitted until it
// heals. It is safe for concurrent use.
type Proxy struct {
	upstream string
	listener net.Listener
	done     sync.WaitGroup

	mu      sync.Mutex
	changed chan struct{} // closed and replaced at each change of the fields below
	held    [2]bool       // by direction
	delay   time.Duration // of each chunk, in each direction
	refuse  bool
	closed  bool
	conns   map[net.Conn]struct{}
}

// The directions.
const (
	Up   = 0 // from client to server
	Down = 1
)

// New starts a proxy to upstream, a host and port. It runs until the test ends.
func New(t testing.TB, upstream string) *Proxy {
	t.Helper()
	l, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	p := &Proxy{upstream: upstream, listener: l, changed: make(chan struct{}), conns: map[net.Conn]struct{}{}}
	p.done.Go(func() { p.serve(t.Context()) })
	t.Cleanup(func() {
		p.change(func() { p.closed = true })
		_ = l.Close()
		p.Reset()
		p.done.Wait()
	})
	return p
}

// Addr is the host and port to connect to.
func (p *Proxy) Addr() string { return p.listener.Addr().String() }

func (p *Proxy) change(f func()) {
	p.mu.Lock()
	defer p.mu.Unlock()
	f()
	close(p.changed)
	p.changed = make(chan struct{})
}

// Hold blocks traffic in these directions until Heal. Connections stay open, and new
// ones are accepted without an answer.
func (p *Proxy) Hold(directions ...int) {
	p.change(func() {
		for _, d := range directions {
			p.held[d] = true
		}
	})
}

// Cut resets all connections and refuses new ones until Heal.
func (p *Proxy) Cut() {
	p.change(func() { p.refuse = true })
	p.Reset()
}

// Slow delays each chunk by d in each direction until Heal.
func (p *Proxy) Slow(d time.Duration) { p.change(func() { p.delay = d }) }

// Heal ends every fault.
func (p *Proxy) Heal() {
	p.change(func() { p.held, p.refuse, p.delay = [2]bool{}, false, 0 })
}

// Reset ends all connections with RST; new ones are served.
func (p *Proxy) Reset() {
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

func (p *Proxy) serve(ctx context.Context) {
	for {
		client, err := p.listener.Accept()
		if err != nil {
			return
		}
		server, err := (&net.Dialer{}).DialContext(ctx, "tcp", p.upstream)
		if err != nil || !p.keep(client, server) {
			abort(client)
			if err == nil {
				abort(server)
			}
			continue
		}
		var both sync.WaitGroup
		both.Go(func() { p.forward(server, client, Up) })
		both.Go(func() { p.forward(client, server, Down) })
		p.done.Go(func() {
			both.Wait()
			p.mu.Lock()
			defer p.mu.Unlock()
			delete(p.conns, client)
			delete(p.conns, server)
		})
	}
}

func (p *Proxy) keep(conns ...net.Conn) bool {
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

// forward copies from src to dst and closes both at the end.
func (p *Proxy) forward(dst, src net.Conn, direction int) {
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

// open waits until a chunk may pass; false if the proxy is closed first.
func (p *Proxy) open(direction int) bool {
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
			<-time.After(delay)
			delayed = true
		default:
			return true
		}
	}
}
