package console

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/rs/zerolog"

	"github.com/vpcep-approver/vpcep-approver/internal/cli"
	"github.com/vpcep-approver/vpcep-approver/internal/config"
	"github.com/vpcep-approver/vpcep-approver/internal/events"
	"github.com/vpcep-approver/vpcep-approver/internal/ledger"
	"github.com/vpcep-approver/vpcep-approver/internal/policy"
	"github.com/vpcep-approver/vpcep-approver/internal/review"
)

// Server is a console that listens, as the settings say.
type Server struct {
	Config config.Config
	Bus    *events.Bus
	Ledger *ledger.Ledger
	Log    zerolog.Logger
	People []string // who gets a one-time link
	OnLink func(name, url string)

	refused atomic.Value // string: why the policies could not be loaded last
	console *Console     // set before the policies are watched
}

// watchPolicies is the time between looks at the policy files.
const watchPolicies = 2 * time.Second

// Run serves the console until ctx ends.
func (s *Server) Run(ctx context.Context) error {
	settings := s.Config.Console
	if settings.KeyFile == "" {
		return cli.WithCode(cli.ExitInvalid, errors.New("no key: set console.key_file to the file of the console's key; make one with: worker reviews keygen --name NAME, and name it in reviewers.yaml under consoles"))
	}
	seed, _, err := review.ReadKey(settings.KeyFile)
	if err != nil {
		return cli.WithCode(cli.ExitInvalid, err)
	}
	policies, err := s.loadPolicies(ctx)
	if err != nil {
		return err
	}
	for _, name := range s.People {
		if policies.Current().Reviewers().ByName(name) == nil {
			return cli.WithCode(cli.ExitInvalid, fmt.Errorf("--person %s: reviewers.yaml names nobody called so%s", name, cli.DidYouMean(name, namesOf(policies.Current()))))
		}
	}
	var served *certificate                      // nil: plain HTTP
	if files := settings.TLS; files.Cert != "" { // before a link is printed that leads nowhere
		if served, err = openCertificate(files.Cert, files.Key, s.Log); err != nil {
			return cli.WithCode(cli.ExitInvalid, err)
		}
	}
	listener, err := new(net.ListenConfig).Listen(ctx, "tcp", settings.Listen)
	if err != nil {
		return fmt.Errorf("console.listen: %w — is another console running here?", err)
	}
	defer listener.Close() //nolint:errcheck // serving has closed it already
	var traceURL func(string) string
	if settings.TraceURL != "" {
		traceURL = func(id string) string { return strings.ReplaceAll(settings.TraceURL, config.TraceID, id) }
	}
	c, err := New(Config{
		Bus: s.Bus, Ledger: s.Ledger, Policies: policies, Refused: func() string { text, _ := s.refused.Load().(string); return text }, Targets: s.Config.Targets, Seed: seed, Now: time.Now, Log: s.Log,
		Site:   Site{URL: settings.URL, Listen: address(settings.Listen, listener.Addr()), TLS: settings.TLS.Cert != ""},
		SignIn: s.signIn(), TraceURL: traceURL,
	})
	if err != nil {
		return cli.WithCode(cli.ExitInvalid, err)
	}
	s.console = c
	s.Log.Info().Str("url", c.cfg.Site.base()).Str("key", c.public).Msg("serving the console")
	ctx, stop := context.WithCancel(ctx)
	defer stop()
	var running sync.WaitGroup
	defer running.Wait()
	defer stop()
	running.Go(func() { policies.Watch(ctx, watchPolicies) })
	running.Go(func() { c.Run(ctx) })
	return s.serve(ctx, listener, served, c)
}

// signIn says how people sign in, as the settings say.
func (s *Server) signIn() SignIn {
	settings := s.Config.Console
	out := SignIn{Links: s.People, OnLink: s.OnLink, ProxyHeader: settings.Proxy.Header, ProxyAddresses: settings.Proxy.Addresses}
	if id := settings.OIDC; id.Issuer != "" {
		out.OIDC = &OIDC{Issuer: id.Issuer, ClientID: id.ClientID, ClientSecret: id.ClientSecret}
	}
	return out
}

// address is host:port as the settings write the host, with the port that is used.
func address(listen string, used net.Addr) string {
	host, _, err := net.SplitHostPort(listen)
	_, port, usedErr := net.SplitHostPort(used.String())
	if err != nil || usedErr != nil {
		return used.String()
	}
	return net.JoinHostPort(host, port)
}

func namesOf(set *policy.Set) []string {
	var out []string
	for _, p := range set.Reviewers().All() {
		out = append(out, p.Name)
	}
	return out
}

// loadPolicies loads the policies of this machine, which must be good to begin with.
func (s *Server) loadPolicies(ctx context.Context) (*policy.Source, error) {
	dirs := s.Config.Policies
	policies := policy.NewSource(dirs.Dir, s.Config.Targets, nil)
	policies.StableFor = dirs.StableFor
	s.refused.Store("")
	policies.OnReload = func(*policy.Set) {
		s.refused.Store("")
		if s.console != nil {
			s.console.PoliciesChanged()
		}
	}
	policies.OnError = func(err error) {
		s.refused.Store(err.Error())
		what := "the policies cannot be loaded; the last good ones stay in use"
		if !policies.Loaded() {
			what = "the policies cannot be loaded; none are in use"
		}
		s.Log.Error().Err(err).Msg(what)
	}
	if err := policies.LoadStable(ctx, 2*dirs.StableFor); err != nil {
		return nil, cli.WithCode(cli.ExitInvalid, fmt.Errorf("policies.dir %s: %w", dirs.Dir, err))
	}
	if len(policies.Current().Reviewers().All()) == 0 {
		return nil, cli.WithCode(cli.ExitInvalid, fmt.Errorf("policies.dir %s has no %s, so nobody can sign in; see docs/reviews.md", dirs.Dir, policy.ReviewersFile))
	}
	return policies, nil
}

// serve serves until ctx ends, and then what is under way for a moment.
func (s *Server) serve(ctx context.Context, listener net.Listener, served *certificate, c *Console) error {
	server := &http.Server{
		Handler: c, ReadHeaderTimeout: 5 * time.Second, ReadTimeout: 10 * time.Second, WriteTimeout: 30 * time.Second,
		IdleTimeout: 2 * time.Minute, MaxHeaderBytes: 16 << 10,
		ErrorLog: slog.NewLogLogger(zerolog.NewSlogHandler(s.Log), slog.LevelDebug), // clients cause these lines
	}
	closed := make(chan error, 1)
	stop := context.AfterFunc(ctx, func() {
		shutdown, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Second)
		defer cancel()
		closed <- server.Shutdown(shutdown)
	})
	defer stop()
	var err error
	if served != nil {
		server.TLSConfig = &tls.Config{GetCertificate: served.get, MinVersion: tls.VersionTLS12}
		err = server.ServeTLS(listener, "", "")
	} else {
		err = server.Serve(listener)
	}
	if !errors.Is(err, http.ErrServerClosed) {
		return fmt.Errorf("serve the console on %s: %w", listener.Addr(), err)
	}
	if err := <-closed; err != nil && !errors.Is(err, context.DeadlineExceeded) {
		return fmt.Errorf("stop the console: %w", err)
	}
	return nil
}
