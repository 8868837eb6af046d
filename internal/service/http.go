package service

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/http/pprof"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"
	"github.com/prometheus/exporter-toolkit/web"
	"github.com/rs/zerolog"

	"github.com/vpcep-approver/vpcep-approver/internal/config"
	"github.com/vpcep-approver/vpcep-approver/internal/events"
	"github.com/vpcep-approver/vpcep-approver/internal/policy"
)

// URLs are the base URLs of the HTTP listeners.
type URLs struct{ Metrics, Probes string }

// listeners are the two HTTP listeners, open and not yet served.
type listeners struct {
	metrics, probes net.Listener
	web             *webConfig // of metrics; nil: plain HTTP without a login
}

// listen opens both listeners. A web configuration that does not protect the one
// of metrics is an error.
func listen(ctx context.Context, cfg config.HTTP, log zerolog.Logger) (*listeners, error) {
	l := &listeners{}
	var err error
	if cfg.WebConfig != "" {
		if l.web, err = openWebConfig(cfg.WebConfig, log); err != nil {
			return nil, err
		}
	}
	if l.metrics, err = listenOn(ctx, "http.listen", cfg.Listen); err != nil {
		return nil, errors.Join(err, l.close())
	}
	if l.probes, err = listenOn(ctx, "http.probes", cfg.Probes); err != nil {
		return nil, errors.Join(err, l.close())
	}
	return l, nil
}

func listenOn(ctx context.Context, setting, address string) (net.Listener, error) {
	listener, err := new(net.ListenConfig).Listen(ctx, "tcp", address)
	if err != nil {
		return nil, fmt.Errorf("%s: %w — is another worker running here?", setting, err)
	}
	return listener, nil
}

// close closes what is open. Serving has closed the listeners already.
func (l *listeners) close() error {
	var errs []error
	for _, open := range []net.Listener{l.metrics, l.probes} {
		if open != nil {
			if err := open.Close(); !errors.Is(err, net.ErrClosed) {
				errs = append(errs, err)
			}
		}
	}
	if l.web != nil {
		errs = append(errs, l.web.close())
	}
	return errors.Join(errs...)
}

func (l *listeners) urls() URLs {
	scheme := "http://"
	if l.web != nil {
		scheme = "https://"
	}
	return URLs{Metrics: scheme + l.metrics.Addr().String(), Probes: "http://" + l.probes.Addr().String()}
}

// serveMetrics serves handler until ctx ends, with the TLS and the users of the
// web configuration, if there is one.
func (l *listeners) serveMetrics(ctx context.Context, handler http.Handler, log zerolog.Logger) error {
	return serveHTTP(ctx, l.metrics, handler, log, func(server *http.Server, listener net.Listener) error {
		if l.web == nil {
			return server.Serve(listener)
		}
		file := l.web.lastGood()
		return web.Serve(listener, server, &web.FlagConfig{WebConfigFile: &file}, slogger(log))
	})
}

// serveProbes serves handler until ctx ends.
func (l *listeners) serveProbes(ctx context.Context, handler http.Handler, log zerolog.Logger) error {
	return serveHTTP(ctx, l.probes, handler, log, (*http.Server).Serve)
}

// metricsHandler serves /metrics, and profiles if they are wanted.
func metricsHandler(registry *prometheus.Registry, profiles bool) http.Handler {
	mux := http.NewServeMux()
	mux.Handle("GET /metrics", promhttp.HandlerFor(registry, promhttp.HandlerOpts{EnableOpenMetrics: true, Timeout: 10 * time.Second}))
	if profiles {
		mux.HandleFunc("GET /debug/pprof/", pprof.Index)
		mux.HandleFunc("GET /debug/pprof/profile", pprof.Profile)
		mux.HandleFunc("GET /debug/pprof/symbol", pprof.Symbol)
		mux.HandleFunc("GET /debug/pprof/trace", pprof.Trace)
	}
	return mux
}

// probes answers how the worker is.
type probes struct {
	bus      *events.Bus
	policies *policy.Source
	draining <-chan struct{} // closed once no new requests are taken
}

// handler serves /livez and /readyz.
func (p probes) handler() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /livez", answer(p.live))
	mux.HandleFunc("GET /readyz", answer(p.ready))
	return mux
}

// live looks at this process only: a broker or a cloud that is away must not
// have healthy workers killed.
func (p probes) live() error {
	if !p.bus.Alive() {
		return errors.New("the consume loop does not turn")
	}
	return nil
}

// ready reports why requests cannot be taken now.
func (p probes) ready() error {
	select {
	case <-p.draining:
		return errors.New("stopping")
	default:
	}
	if !p.policies.Loaded() {
		return errors.New("no policies are loaded")
	}
	return p.bus.Ready()
}

func answer(check func() error) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "text/plain; charset=utf-8")
		if err := check(); err != nil {
			http.Error(w, err.Error(), http.StatusServiceUnavailable)
			return
		}
		_, _ = fmt.Fprintln(w, "ok") // a prober that hung up needs no answer
	}
}

// serveHTTP serves until ctx ends, and then what is under way for a moment.
func serveHTTP(ctx context.Context, listener net.Listener, handler http.Handler, log zerolog.Logger, serve func(*http.Server, net.Listener) error) error {
	server := &http.Server{
		Handler: handler, ReadHeaderTimeout: 5 * time.Second, ReadTimeout: 10 * time.Second,
		WriteTimeout: 30 * time.Second, IdleTimeout: 2 * time.Minute, MaxHeaderBytes: 16 << 10,
		ErrorLog: slog.NewLogLogger(zerolog.NewSlogHandler(log), slog.LevelDebug), // clients cause these lines
	}
	closed := make(chan error, 1)
	stop := context.AfterFunc(ctx, func() {
		shutdown, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Second)
		defer cancel()
		closed <- server.Shutdown(shutdown)
	})
	defer stop()
	if err := serve(server, limitConnections(server, listener, maxHTTPConnections)); !errors.Is(err, http.ErrServerClosed) {
		return fmt.Errorf("serve HTTP on %s: %w", listener.Addr(), err)
	}
	if err := <-closed; err != nil && !errors.Is(err, context.DeadlineExceeded) {
		return fmt.Errorf("stop the HTTP listener: %w", err)
	}
	return nil
}
