// Package broker runs a NATS server with JetStream inside this process, for
// `worker demo`, for `nats.url: embedded` and for tests.
package broker

import (
	"errors"
	"fmt"
	"net"
	"strconv"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/rs/zerolog"
)

// Options says how the server runs.
type Options struct {
	Dir        string         // where JetStream keeps its files; needed
	Listen     string         // "host:port" to serve clients on, port 0 for any; empty: this process only
	SyncAlways bool           // flush each message to the disk before it is acknowledged
	MaxPayload int            // bytes of a message, at most; 0: 1 MiB
	MaxStore   int64          // bytes of all streams on disk, at most; 0: three quarters of what is free
	User       string         // asked of clients if set, with Password
	Password   string         //
	Log        zerolog.Logger // gets warnings and errors; the zero value gets nothing
}

// readyWithin bounds how long the server may take to recover its streams.
const readyWithin = 30 * time.Second

// Server is a running server.
type Server struct {
	srv *server.Server
}

// Start starts a server and returns once clients can connect.
func Start(o Options) (*Server, error) {
	if o.Dir == "" {
		return nil, errors.New("start the embedded NATS server: it needs a directory for its streams")
	}
	opts := &server.Options{
		ServerName: "vpcep-approver",
		JetStream:  true,
		StoreDir:   o.Dir,
		SyncAlways: o.SyncAlways,
		DontListen: o.Listen == "",
		NoSigs:     true,
		MaxPayload: int32(min(max(o.MaxPayload, 0), 64<<20)),
		Username:   o.User,
		Password:   o.Password,
	}
	if o.MaxStore > 0 {
		opts.JetStreamMaxStore = o.MaxStore
	}
	if o.Listen != "" {
		host, port, err := net.SplitHostPort(o.Listen)
		if err != nil {
			return nil, fmt.Errorf("start the embedded NATS server: listen on %q: %w", o.Listen, err)
		}
		opts.Host = host
		if opts.Port, err = strconv.Atoi(port); err != nil {
			return nil, fmt.Errorf("start the embedded NATS server: listen on %q: the port is no number: %w", o.Listen, err)
		}
		if opts.Port == 0 {
			opts.Port = server.RANDOM_PORT
		}
	}
	srv, err := server.NewServer(opts)
	if err != nil {
		return nil, fmt.Errorf("start the embedded NATS server in %s: %w", o.Dir, err)
	}
	fatal := make(chan string, 1)
	srv.SetLogger(&logger{log: o.Log, fatal: fatal}, false, false)
	// Start returns after a failure, too; the logger is the only one to tell.
	srv.Start()
	s := &Server{srv: srv}
	if err := s.ready(fatal); err != nil {
		s.Shutdown()
		return nil, fmt.Errorf("start the embedded NATS server in %s: %w", o.Dir, err)
	}
	return s, nil
}

// ready waits until clients can connect, or the server says why they never will.
func (s *Server) ready(fatal <-chan string) error {
	for end := time.Now().Add(readyWithin); time.Now().Before(end); {
		ready := s.srv.ReadyForConnections(50 * time.Millisecond)
		select {
		case reason := <-fatal:
			return errors.New(reason)
		default:
		}
		if ready {
			return nil
		}
	}
	return fmt.Errorf("not ready after %s", readyWithin)
}

// InProcessConn opens a connection to the server without a network.
func (s *Server) InProcessConn() (net.Conn, error) { return s.srv.InProcessConn() }

// URL is where clients connect; empty if the server does not listen.
func (s *Server) URL() string {
	if addr := s.srv.Addr(); addr != nil {
		return "nats://" + addr.String()
	}
	return ""
}

// Shutdown stops the server and returns once its files are closed. It may be
// called again.
func (s *Server) Shutdown() {
	s.srv.Shutdown()
	s.srv.WaitForShutdown()
}

// logger hands the server's own lines on.
type logger struct {
	log   zerolog.Logger
	fatal chan<- string
}

func (l *logger) Noticef(string, ...any) {}
func (l *logger) Debugf(string, ...any)  {}
func (l *logger) Tracef(string, ...any)  {}

func (l *logger) Warnf(format string, args ...any) {
	l.log.Warn().Str("component", "nats-server").Msgf(format, args...)
}

func (l *logger) Errorf(format string, args ...any) {
	l.log.Error().Str("component", "nats-server").Msgf(format, args...)
}

func (l *logger) Fatalf(format string, args ...any) {
	select {
	case l.fatal <- fmt.Sprintf(format, args...):
	default:
	}
}
