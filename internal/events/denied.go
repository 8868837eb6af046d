package events

import (
	"context"
	"errors"
	"fmt"
	"regexp"
	"strings"
	"sync"

	"github.com/nats-io/nats.go"
)

// DeniedError means that the user lacks a permission on the broker.
type DeniedError struct {
	Operation string // "publish" or "subscribe"
	Subject   string
}

func (e *DeniedError) Error() string {
	return fmt.Sprintf("the user lacks the permission to %s to %s; docs/nats.md lists the permissions, and deploy/nats has them as files", e.Operation, e.Subject)
}

// denials passes permission errors to watchers. The broker sends them asynchronously,
// and leaves the denied request unanswered. It is safe for concurrent use.
type denials struct {
	mu       sync.Mutex
	watchers map[*func(*DeniedError)]struct{}
}

// watch calls f for each denial until stop is called.
func (d *denials) watch(f func(*DeniedError)) (stop func()) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.watchers == nil {
		d.watchers = map[*func(*DeniedError)]struct{}{}
	}
	d.watchers[&f] = struct{}{}
	return func() {
		d.mu.Lock()
		defer d.mu.Unlock()
		delete(d.watchers, &f)
	}
}

// note returns err as a denial and passes it to the watchers; nil if it is none.
func (d *denials) note(err error) *DeniedError {
	denied := deniedBy(err)
	if denied == nil {
		return nil
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	for f := range d.watchers {
		(*f)(denied)
	}
	return denied
}

// deniedBy parses a permission error of the broker; nil if err is none.
func deniedBy(err error) *DeniedError {
	if !errors.Is(err, nats.ErrPermissionViolation) {
		return nil
	}
	m := regexp.MustCompile(`(?i)permissions violation for (publish|subscription) to "([^"]*)"`).FindStringSubmatch(err.Error())
	if m == nil {
		return nil
	}
	if strings.EqualFold(m[1], "publish") {
		return &DeniedError{"publish", m[2]}
	}
	return &DeniedError{"subscribe", m[2]}
}

// abortOnDenial runs do, and cancels it as soon as the broker denies a publication to
// subject, or the subscription to replies.
func (b *Bus) abortOnDenial(ctx context.Context, subject string, do func(context.Context) error) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	replies := b.inboxPrefix() + "."
	defer b.denials.watch(func(e *DeniedError) {
		if e.Operation == "publish" && e.Subject == subject || e.Operation == "subscribe" && strings.HasPrefix(e.Subject, replies) {
			cancel(e)
		}
	})()
	err := do(ctx)
	if denied, ok := errors.AsType[*DeniedError](context.Cause(ctx)); ok && err != nil {
		return denied
	}
	return err
}

// request publishes data and returns the reply.
func (b *Bus) request(ctx context.Context, subject string, data []byte) (*nats.Msg, error) {
	return b.requestMsg(ctx, &nats.Msg{Subject: subject, Data: data})
}

func (b *Bus) requestMsg(ctx context.Context, msg *nats.Msg) (reply *nats.Msg, err error) {
	ctx, cancel := context.WithTimeout(ctx, requestWithin)
	defer cancel()
	err = b.abortOnDenial(ctx, msg.Subject, func(ctx context.Context) error {
		reply, err = b.nc.RequestMsgWithContext(ctx, msg)
		return err
	})
	return reply, err
}

// api returns the subject of an operation of JetStream's API.
func (b *Bus) api(operation string) string {
	if b.cfg.Domain != "" {
		return "$JS." + b.cfg.Domain + ".API." + operation
	}
	return "$JS.API." + operation
}

func (b *Bus) inboxPrefix() string {
	if b.cfg.InboxPrefix != "" {
		return b.cfg.InboxPrefix
	}
	return "_INBOX"
}
