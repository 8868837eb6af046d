package service

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"sync"
	"testing"
	"time"
)

// serveFor serves handler with a limit of connections until the test ends.
func serveFor(t *testing.T, handler http.Handler, limit int) net.Addr {
	t.Helper()
	listener, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	server := &http.Server{Handler: handler, ReadHeaderTimeout: time.Minute}
	served := make(chan error, 1)
	go func() { served <- server.Serve(limitConnections(server, listener, limit)) }()
	t.Cleanup(func() {
		if err := server.Close(); err != nil {
			t.Error(err)
		}
		if err := <-served; !errors.Is(err, http.ErrServerClosed) {
			t.Error(err)
		}
	})
	return listener.Addr()
}

func dial(t *testing.T, addr net.Addr) net.Conn {
	t.Helper()
	c, err := (&net.Dialer{Timeout: 10 * time.Second}).DialContext(t.Context(), "tcp", addr.String())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	return c
}

// get asks on a connection of its own.
func get(t *testing.T, addr net.Addr) error {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+addr.String()+"/livez", nil)
	if err != nil {
		t.Fatal(err)
	}
	client := http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	res, err := client.Do(req)
	if err != nil {
		return err
	}
	if res.StatusCode != http.StatusOK {
		err = fmt.Errorf("status %d", res.StatusCode)
	}
	return errors.Join(err, res.Body.Close())
}

// TestProbesAnswerBesideHalfOpenConnections: connections that send nothing do not
// keep probes out, and never number more than the limit.
func TestProbesAnswerBesideHalfOpenConnections(t *testing.T) {
	t.Parallel()
	const limit = 16
	var mu sync.Mutex
	open := map[net.Conn]bool{}
	most := 0
	listener, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	server := &http.Server{
		ReadHeaderTimeout: time.Minute,
		Handler:           http.HandlerFunc(func(http.ResponseWriter, *http.Request) {}),
	}
	limited := limitConnections(server, listener, limit)
	inner := server.ConnState
	server.ConnState = func(c net.Conn, s http.ConnState) {
		inner(c, s)
		mu.Lock()
		defer mu.Unlock()
		if s == http.StateClosed {
			delete(open, c)
		} else {
			open[c] = true
		}
		most = max(most, len(open))
	}
	served := make(chan error, 1)
	go func() { served <- server.Serve(limited) }()
	t.Cleanup(func() {
		_ = server.Close()
		if err := <-served; !errors.Is(err, http.ErrServerClosed) {
			t.Error(err)
		}
	})
	for n := range 4 * limit {
		dial(t, listener.Addr())
		if n%limit == 0 {
			if err := get(t, listener.Addr()); err != nil {
				t.Fatalf("with %d connections that send nothing: %v", n+1, err)
			}
		}
	}
	if err := get(t, listener.Addr()); err != nil {
		t.Fatalf("with %d connections that send nothing: %v", 4*limit, err)
	}
	mu.Lock()
	defer mu.Unlock()
	// One that was just closed may not be counted down yet.
	if most > 2*limit {
		t.Errorf("%d connections at a time, want at most about %d", most, limit)
	}
}

// TestARequestIsNotCutForTheNext: a connection with a request in progress is
// never the one that gives way.
func TestARequestIsNotCutForTheNext(t *testing.T) {
	t.Parallel()
	release, started := make(chan struct{}), make(chan struct{}, 2)
	addr := serveFor(t, http.HandlerFunc(func(http.ResponseWriter, *http.Request) {
		started <- struct{}{}
		<-release
	}), 2)
	results := make(chan error, 2)
	for range 2 {
		go func() { results <- get(t, addr) }()
		<-started
	}
	refused := dial(t, addr)
	if err := refused.SetReadDeadline(time.Now().Add(10 * time.Second)); err != nil {
		t.Fatal(err)
	}
	if n, err := refused.Read(make([]byte, 1)); err == nil || n > 0 {
		t.Errorf("read %d bytes, %v, from a connection that there was no room for", n, err)
	}
	close(release)
	for range 2 {
		if err := <-results; err != nil {
			t.Errorf("a request in progress: %v", err)
		}
	}
}
