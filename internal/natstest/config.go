package natstest

import (
	"fmt"
	"strings"
	"sync"
	"testing"

	"github.com/nats-io/nats-server/v2/server"
)

// Log holds what a server complains about. It is safe for concurrent use.
type Log struct {
	mu    sync.Mutex
	lines []string
}

// With returns the lines that hold text.
func (l *Log) With(text string) []string {
	l.mu.Lock()
	defer l.mu.Unlock()
	var out []string
	for _, line := range l.lines {
		if strings.Contains(line, text) {
			out = append(out, line)
		}
	}
	return out
}

func (l *Log) add(format string, args ...any) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.lines = append(l.lines, fmt.Sprintf(format, args...))
}

// Noticef and the others make Log a logger of the server. Notices are not kept.
func (l *Log) Noticef(string, ...any) {}

// Debugf keeps nothing.
func (l *Log) Debugf(string, ...any) {}

// Tracef keeps nothing.
func (l *Log) Tracef(string, ...any) {}

// Warnf keeps a warning.
func (l *Log) Warnf(format string, args ...any) { l.add(format, args...) }

// Errorf keeps an error.
func (l *Log) Errorf(format string, args ...any) { l.add(format, args...) }

// Fatalf keeps an error that ends the server.
func (l *Log) Fatalf(format string, args ...any) { l.add(format, args...) }

// Options returns the options of a server that is configured by file, but keeps
// its streams in a folder of the test and listens on a port of its own.
func Options(t testing.TB, file string) *server.Options {
	t.Helper()
	opts, err := server.ProcessConfigFile(file)
	if err != nil {
		t.Fatal(err)
	}
	opts.Host, opts.Port, opts.StoreDir, opts.NoSigs = "127.0.0.1", server.RANDOM_PORT, t.TempDir(), true
	return opts
}

// StartOptions starts a server that ends with the test.
func StartOptions(t testing.TB, opts *server.Options) (*server.Server, *Log) {
	t.Helper()
	s, err := server.NewServer(opts)
	if err != nil {
		t.Fatal(err)
	}
	log := &Log{}
	s.SetLogger(log, false, false)
	s.Start()
	t.Cleanup(func() {
		s.Shutdown()
		s.WaitForShutdown()
	})
	if !s.ReadyForConnections(Hang) {
		t.Fatalf("the server does not start: %q", log.With(""))
	}
	return s, log
}
