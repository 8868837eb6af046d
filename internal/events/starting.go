package events

import (
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"slices"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

// IsStarting reports whether err, of Connect or Setup, can be that of a broker
// which is still starting: it is not reachable, JetStream has no leader yet, or
// nobody has made the streams yet. What only an operator can repair is not: a
// refused login, a missing permission, a server that is too old, or a stream with
// other settings than needed.
func IsStarting(err error) bool {
	if setup, ok := errors.AsType[*SetupError](err); ok {
		return !slices.ContainsFunc(setup.Differences, func(d Difference) bool { return d.Field != "" })
	}
	if _, denied := errors.AsType[*DeniedError](err); denied {
		return false
	}
	if api, ok := errors.AsType[*jetstream.APIError](err); ok {
		return api.Code == http.StatusServiceUnavailable && !errors.Is(err, jetstream.ErrJetStreamNotEnabled)
	}
	if _, ok := errors.AsType[net.Error](err); ok {
		return true
	}
	return slices.ContainsFunc([]error{
		nats.ErrNoServers, nats.ErrTimeout, nats.ErrNoResponders, nats.ErrConnectionClosed, nats.ErrDisconnected,
		context.DeadlineExceeded, io.EOF, io.ErrUnexpectedEOF,
	}, func(passing error) bool { return errors.Is(err, passing) })
}
