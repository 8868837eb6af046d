package proxytest

import (
	"errors"
	"io"
	"net"
	"testing"
	"time"
)

// TestProxy shows each fault on a connection to a server that echoes.
func TestProxy(t *testing.T) {
	t.Parallel()
	p := New(t, echo(t))
	dial := func() net.Conn {
		c, err := net.Dial("tcp", p.Addr())
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
	for _, direction := range []int{Up, Down} {
		p.Hold(direction)
		if err := say(c, 50*time.Millisecond); !timeout(err) {
			t.Errorf("direction %d is held, want a timeout, got %v", direction, err)
		}
		p.Heal()
		if err := hear(c, long); err != nil {
			t.Errorf("direction %d is healed, what was held did not come: %v", direction, err)
		}
	}
	p.Slow(60 * time.Millisecond)
	start := time.Now()
	if err := say(c, long); err != nil || time.Since(start) < 120*time.Millisecond {
		t.Errorf("slowed by 60 ms each way, the answer came after %s: %v", time.Since(start), err)
	}
	p.Heal()
	p.Cut()
	if err := say(c, long); err == nil || timeout(err) {
		t.Errorf("cut off, want a reset, got %v", err)
	}
	if c, err := net.Dial("tcp", p.Addr()); err == nil { // the reset may come before or after
		if err := say(c, long); err == nil || timeout(err) {
			t.Errorf("cut off, want a new connection to be refused, got %v", err)
		}
		_ = c.Close()
	}
	p.Heal()
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
