// Package broker runs a NATS server with JetStream inside this process, for
// `worker demo`, for `nats.url: embedded` and for tests.
package broker

import (
	"errors"
	"fmt"
	"net"
	"os"
	"strconv"
	"strings"
	"sync"
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
	Users      []User         // who may connect; empty: everybody on this machine
	Log        zerolog.Logger // gets warnings and errors; the zero value gets nothing
}

// User may connect to the server.
type User struct {
	Name        string
	Password    string   // empty: the server makes one; see PasswordFile
	Publish     []string // subjects that the user may publish on; empty: the user may do everything
	DenyPublish []string // of those, the exceptions
	Subscribe   []string // subjects that the user may subscribe to, if Publish is set
}

// readyWithin bounds how long the server may take to recover its streams.
const readyWithin = 30 * time.Second

// Server is a running server.
type Server struct {
	srv    *server.Server
	unlock func() // lets other servers use the folder
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
	if err := os.MkdirAll(o.Dir, 0o700); err != nil {
		return nil, fmt.Errorf("start the embedded NATS server: %w", err)
	}
	locked, err := lock(o.Dir)
	if err != nil {
		return nil, fmt.Errorf("start the embedded NATS server in %s: %w", o.Dir, err)
	}
	unlock := sync.OnceFunc(func() { _ = locked.Close() }) // nothing is lost: it holds no data
	if opts.Users, err = users(o); err != nil {
		unlock()
		return nil, fmt.Errorf("start the embedded NATS server in %s: %w", o.Dir, err)
	}
	srv, err := server.NewServer(opts)
	if err != nil {
		unlock()
		return nil, fmt.Errorf("start the embedded NATS server in %s: %w", o.Dir, err)
	}
	fatal := make(chan string, 1)
	srv.SetLogger(&logger{log: o.Log, fatal: fatal}, false, false)
	// Start returns after a failure, too; the logger is the only one to tell.
	srv.Start()
	s := &Server{srv: srv, unlock: unlock}
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
	s.unlock()
}

func users(o Options) ([]*server.User, error) {
	var out []*server.User
	for _, u := range o.Users {
		if u.Password == "" {
			password, made, err := makePassword(o.Dir, u.Name)
			if err != nil {
				return nil, fmt.Errorf("the password of user %s: %w", u.Name, err)
			}
			if u.Password = password; made {
				o.Log.Info().Str("user", u.Name).Str("file", PasswordFile(o.Dir, u.Name)).Msg("made a password for the embedded NATS server")
			}
		}
		user := &server.User{Username: u.Name, Password: u.Password}
		if len(u.Publish) > 0 {
			user.Permissions = &server.Permissions{
				Publish:   &server.SubjectPermission{Allow: u.Publish, Deny: u.DenyPublish},
				Subscribe: &server.SubjectPermission{Allow: u.Subscribe},
			}
		}
		out = append(out, user)
	}
	return out, nil
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
	if strings.HasPrefix(format, "Plaintext passwords detected") {
		return // they are random, in files of this user, and never in a configuration
	}
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
