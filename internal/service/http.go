package service

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"github.com/vpcep-approver/vpcep-approver/internal/events"
	"github.com/vpcep-approver/vpcep-approver/internal/policy"
)

// probes answers how the worker is.
type probes struct {
	bus      *events.Bus
	policies *policy.Source
	draining <-chan struct{} // closed once no new requests are taken
}

// handler serves /metrics, /livez and /readyz.
func (p probes) handler(registry *prometheus.Registry) http.Handler {
	mux := http.NewServeMux()
	mux.Handle("GET /metrics", promhttp.HandlerFor(registry, promhttp.HandlerOpts{EnableOpenMetrics: true, Timeout: 10 * time.Second}))
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
func serveHTTP(ctx context.Context, listener net.Listener, handler http.Handler) error {
	server := &http.Server{
		Handler: handler, ReadHeaderTimeout: 5 * time.Second, ReadTimeout: 10 * time.Second,
		WriteTimeout: 30 * time.Second, IdleTimeout: 2 * time.Minute, MaxHeaderBytes: 16 << 10,
	}
	closed := make(chan error, 1)
	stop := context.AfterFunc(ctx, func() {
		shutdown, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Second)
		defer cancel()
		closed <- server.Shutdown(shutdown)
	})
	defer stop()
	if err := server.Serve(limitConnections(server, listener, maxHTTPConnections)); !errors.Is(err, http.ErrServerClosed) {
		return fmt.Errorf("serve HTTP on %s: %w", listener.Addr(), err)
	}
	if err := <-closed; err != nil && !errors.Is(err, context.DeadlineExceeded) {
		return fmt.Errorf("stop the HTTP listener: %w", err)
	}
	return nil
}
