package service

import (
	"errors"
	"fmt"

	"github.com/rs/zerolog"

	"github.com/vpcep-approver/vpcep-approver/internal/cli"
	"github.com/vpcep-approver/vpcep-approver/internal/config"
	"github.com/vpcep-approver/vpcep-approver/internal/events"
	"github.com/vpcep-approver/vpcep-approver/internal/events/broker"
)

// startBroker starts the NATS server inside the process, where producers and the
// other commands reach it at nats.listen, and returns how the worker logs in.
func startBroker(cfg config.NATS, log zerolog.Logger) (*broker.Server, func() (user, password string, err error), error) {
	worker, login := broker.User{Name: broker.WorkerUser}, cfg.User
	if login != nil {
		var err error
		if worker.Name, worker.Password, err = login(); err != nil {
			return nil, nil, cli.WithCode(cli.ExitInvalid, err)
		}
	}
	producer := broker.User{
		Name: broker.ProducerUser, Publish: []string{events.RequestsSubject + ".>"},
		DenyPublish: []string{events.SweepSubject, events.SweepSubject + ".>"}, Subscribe: []string{"_INBOX.>"},
	}
	server, err := broker.Start(broker.Options{
		Dir: cfg.DataDir, Listen: cfg.Listen, SyncAlways: true, Log: log, Users: []broker.User{worker, producer},
	})
	if errors.Is(err, broker.ErrLocked) {
		err = cli.WithCode(cli.ExitInvalid, err)
	}
	if login == nil {
		login = ownLogin(cfg)
	}
	return server, login, err
}

// ownLogin is the login that the embedded server made for the worker.
func ownLogin(cfg config.NATS) func() (user, password string, err error) {
	return func() (string, string, error) {
		password, err := broker.ReadPassword(cfg.DataDir, broker.WorkerUser)
		return broker.WorkerUser, password, err
	}
}

// EmbeddedLogin is how commands log in to the server inside `worker run`. Its own
// password is sent only while a server has the folder: nobody else may get it who
// happens to listen at the address.
func EmbeddedLogin(cfg config.NATS) (func() (user, password string, err error), error) {
	if cfg.User != nil {
		return cfg.User, nil
	}
	running, err := broker.Locked(cfg.DataDir)
	if err != nil {
		return nil, cli.WithCode(cli.ExitInvalid, fmt.Errorf("nats.data_dir: %w", err))
	}
	if !running {
		return nil, cli.WithCode(cli.ExitUnreachable, fmt.Errorf("no embedded NATS server runs in %s: it runs while worker run does; nats.data_dir must be the same", cfg.DataDir))
	}
	return ownLogin(cfg), nil
}
