package service

import (
	"crypto/tls"
	"net"
	"net/http"
	"sync"
	"time"
)

// maxHTTPConnections bounds the connections of the HTTP listener: a client that opens
// more must not use up the files that the worker needs for its own calls.
const maxHTTPConnections = 128

// connectionLimit keeps a server to a number of connections. If they are used
// up, the one that has been without a request for the longest is closed for the
// next, so that connections which send nothing cannot keep probes out.
type connectionLimit struct {
	limit int

	mu   sync.Mutex
	open map[net.Conn]time.Time // when it last began to wait; zero while a request is served
}

// limitConnections sets up server, which must not be serving yet, and returns
// the listener to serve on.
func limitConnections(server *http.Server, listener net.Listener, limit int) net.Listener {
	l := &connectionLimit{limit: limit, open: map[net.Conn]time.Time{}}
	server.ConnState = l.changed
	return limitedListener{listener, l}
}

// changed is the ConnState hook. With TLS the server knows a connection by another
// value than the one that was accepted.
func (l *connectionLimit) changed(c net.Conn, state http.ConnState) {
	if encrypted, ok := c.(*tls.Conn); ok {
		c = encrypted.NetConn()
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	switch state {
	case http.StateNew, http.StateIdle:
		l.open[c] = time.Now()
	case http.StateActive:
		l.open[c] = time.Time{}
	case http.StateClosed, http.StateHijacked:
		delete(l.open, c)
	}
}

// admit makes room for one more connection and reports whether there is any.
func (l *connectionLimit) admit(c net.Conn) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if len(l.open) >= l.limit {
		var oldest net.Conn
		for other, since := range l.open {
			if !since.IsZero() && (oldest == nil || since.Before(l.open[oldest])) {
				oldest = other
			}
		}
		if oldest == nil {
			return false
		}
		delete(l.open, oldest)
		_ = oldest.Close() // it is given up
	}
	l.open[c] = time.Now()
	return true
}

type limitedListener struct {
	net.Listener
	limit *connectionLimit
}

// Accept waits for a connection that there is room for; others are closed.
func (l limitedListener) Accept() (net.Conn, error) {
	for {
		c, err := l.Listener.Accept()
		if err != nil || l.limit.admit(c) {
			return c, err
		}
		_ = c.Close() // every connection is serving a request
	}
}
