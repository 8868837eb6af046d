package service

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/vpcep-approver/vpcep-approver/internal/cli"
	"github.com/vpcep-approver/vpcep-approver/internal/events"
)

// connectEvery is the time between tries to reach a broker that is starting.
const connectEvery = 250 * time.Millisecond

// connect reaches the bus and makes or checks what is on it. edit adds to its
// configuration. While nats.wait lasts, a broker that is starting is waited for.
func (s *Service) connect(ctx context.Context, observer events.Observer, edit func(*events.Config)) (*events.Bus, error) {
	cfg := BusConfig(s.Config)
	cfg.Observer, cfg.Log = observer, s.Log
	edit(&cfg)
	if s.Server != nil {
		cfg.InProcess = s.Server
	}
	wait := s.Config.NATS.Wait
	end := time.NewTimer(wait)
	defer end.Stop()
	told := ""
	for {
		bus, err := reach(ctx, cfg)
		if err == nil || wait == 0 || ctx.Err() != nil || !events.IsStarting(err) {
			return bus, err
		}
		if text := err.Error(); text != told {
			told = text
			s.Log.Warn().Err(err).Stringer("nats.wait", wait).Msg("waiting for the broker")
		}
		select {
		case <-time.After(connectEvery):
		case <-end.C:
			return nil, cli.WithCode(cli.ExitUnreachable, fmt.Errorf("the broker was not usable within nats.wait (%s): %w", cli.ShortDuration(wait), err))
		case <-ctx.Done():
			return nil, cli.WithCode(cli.ExitUnreachable, errors.Join(err, context.Cause(ctx)))
		}
	}
}

// reach tries once.
func reach(ctx context.Context, cfg events.Config) (*events.Bus, error) {
	bus, err := events.Connect(ctx, cfg)
	if err != nil {
		return nil, cli.WithCode(cli.ExitUnreachable, err)
	}
	if err := bus.Setup(ctx); err != nil {
		return nil, cli.WithCode(cli.ExitInvalid, errors.Join(err, bus.Close()))
	}
	return bus, nil
}
