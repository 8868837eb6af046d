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

// DeniedError says that the broker's permissions do not let this user do
// something.
type DeniedError struct {
	Operation string // "publish" or "subscribe"
	Subject   string
}

func (e *DeniedError) Error() string {
	return fmt.Sprintf("the user may not %s to %s; docs/nats.md lists the rights, and deploy/nats has them as files", e.Operation, e.Subject)
}

// denials passes on what the broker refuses. It says so apart from what was
// asked, which gets no answer at all. It is safe for concurrent use.
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

// note tells the watchers if err is a denial, which it returns, else nil.
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

// deniedBy reads what the broker says of a denial; nil if err is none.
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

// abortOnDenial runs do, and ends it as soon as the broker denies a publication to
// subject, or the subscription on which the answer would come.
func (b *Bus) abortOnDenial(ctx context.Context, subject string, do func(context.Context) error) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	answers := b.inboxPrefix() + "."
	defer b.denials.watch(func(e *DeniedError) {
		if e.Operation == "publish" && e.Subject == subject || e.Operation == "subscribe" && strings.HasPrefix(e.Subject, answers) {
			cancel(e)
		}
	})()
	err := do(ctx)
	if denied, ok := errors.AsType[*DeniedError](context.Cause(ctx)); ok && err != nil {
		return denied
	}
	return err
}

// request publishes data and returns the answer.
func (b *Bus) request(ctx context.Context, subject string, data []byte) (*nats.Msg, error) {
	return b.requestMsg(ctx, &nats.Msg{Subject: subject, Data: data})
}

func (b *Bus) requestMsg(ctx context.Context, msg *nats.Msg) (answer *nats.Msg, err error) {
	ctx, cancel := context.WithTimeout(ctx, requestWithin)
	defer cancel()
	err = b.abortOnDenial(ctx, msg.Subject, func(ctx context.Context) error {
		answer, err = b.nc.RequestMsgWithContext(ctx, msg)
		return err
	})
	return answer, err
}

// api is the subject of an operation of JetStream's API.
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
