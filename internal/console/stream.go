package console

import (
	"crypto/rand"
	"fmt"
	"net/http"
	"strconv"
	"sync"
	"time"
)

const (
	maxStreams  = 200              // of all browsers
	streamBeat  = 15 * time.Second // between signs of life, at each of which the session is checked
	streamWrite = 10 * time.Second // for one write; a browser that is slower is cut, and connects again
	streamRetry = 2 * time.Second  // after which a browser connects again
)

// changes tells who waits that something changed. It is safe for concurrent use.
type changes struct {
	mu    sync.Mutex
	epoch string // of this process, so that no version is that of another one
	count uint64
	all   map[chan struct{}]bool
}

func newChanges() *changes { return &changes{epoch: rand.Text()[:8], all: map[chan struct{}]bool{}} }

// version is another one after each change.
func (c *changes) version() string {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.epoch + "-" + strconv.FormatUint(c.count, 10)
}

// tell never waits: who has not seen the last change yet sees both at the same time.
func (c *changes) tell() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.count++
	for waiting := range c.all {
		select {
		case waiting <- struct{}{}:
		default:
		}
	}
}

// watch returns a channel that gets a token after each change, until stop is called.
func (c *changes) watch() (changed <-chan struct{}, stop func()) {
	own := make(chan struct{}, 1)
	c.mu.Lock()
	defer c.mu.Unlock()
	c.all[own] = true
	return own, func() {
		c.mu.Lock()
		defer c.mu.Unlock()
		delete(c.all, own)
	}
}

// stream is one connection of server-sent events.
type stream struct {
	w  http.ResponseWriter
	rc *http.ResponseController
}

// send writes one event and reports whether the browser took it in time.
func (s stream) send(text string) bool {
	if err := s.rc.SetWriteDeadline(time.Now().Add(streamWrite)); err != nil {
		return false
	}
	if _, err := s.w.Write(visible([]byte(text))); err != nil {
		return false
	}
	return s.rc.Flush() == nil
}

// open begins a stream for a person who has signed in; ok is false if it may not be.
// What a stream does is no sign that the person is there, so it keeps no session alive.
func (c *Console) open(w http.ResponseWriter, r *http.Request) (s stream, ok bool) {
	if !c.valid(r) {
		http.Error(w, "not signed in", http.StatusUnauthorized)
		return s, false
	}
	if c.streams.Add(1) > maxStreams {
		c.streams.Add(-1)
		http.Error(w, "too many pages are open", http.StatusServiceUnavailable)
		return s, false
	}
	h := w.Header()
	h.Set("Content-Type", "text/event-stream; charset=utf-8")
	h.Set("X-Accel-Buffering", "no")
	s = stream{w, http.NewResponseController(w)}
	if err := s.rc.SetReadDeadline(time.Time{}); err != nil { // else the server's ends the stream
		c.streams.Add(-1)
		return s, false
	}
	if !s.send(fmt.Sprintf("retry: %d\n\n", streamRetry.Milliseconds())) {
		c.streams.Add(-1)
		return s, false
	}
	return s, true
}

// valid reports whether the person of a stream still has a session.
func (c *Console) valid(r *http.Request) bool {
	v, err := c.visitor(r, false)
	return err == nil && v != nil
}

// reviewsStream says when the work list has changed since the version that the browser
// has: that of its page, or of the last event before the connection was lost.
func (c *Console) reviewsStream(w http.ResponseWriter, r *http.Request) {
	changed, stop := c.changes.watch()
	defer stop()
	rights, stopRights := c.rights.watch()
	defer stopRights()
	seen := r.URL.Query().Get("after")
	if last := r.Header.Get("Last-Event-ID"); last != "" {
		seen = last
	}
	s, ok := c.open(w, r)
	if !ok {
		return
	}
	defer c.streams.Add(-1)
	beat := time.NewTicker(c.beat)
	defer beat.Stop()
	for {
		if version := c.changes.version(); version != seen {
			seen = version
			if !s.send("id: " + version + "\nevent: changed\ndata: reviews\n\n") {
				return
			}
		}
		select {
		case <-r.Context().Done():
			return
		case <-c.closing:
			return
		case <-beat.C:
			if !c.valid(r) || !s.send(": beat\n\n") {
				return
			}
		case <-rights:
			if !c.valid(r) {
				return
			}
		case <-changed:
		}
	}
}
