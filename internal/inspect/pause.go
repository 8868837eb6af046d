package inspect

import (
	"context"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"github.com/vpcep-approver/vpcep-approver/internal/approval"
	"github.com/vpcep-approver/vpcep-approver/internal/cli"
	"github.com/vpcep-approver/vpcep-approver/internal/ledger"
)

// PauseChange is a pause, or a resume, of a target.
type PauseChange struct {
	Target  string // empty: all
	Paused  bool
	Known   []string      // targets of the configuration
	Timeout time.Duration // for the workers to see it
}

// confirmEvery is the time between looks at the heartbeats.
const confirmEvery = 200 * time.Millisecond

// Do writes the change into the ledger, and waits until every live worker says that it
// has seen it. It prints what it finds to out.
func (p PauseChange) Do(ctx context.Context, b ledger.Buckets, out io.Writer) error {
	workers, records := ledger.NewWorkers(b), ledger.NewPauses(b)
	live, err := workers.List(ctx)
	if err != nil {
		return err
	}
	before, err := records.Read(ctx)
	if err != nil {
		return err
	}
	if err := p.check(live, before); err != nil {
		return err
	}
	done, err := records.Change(ctx, p.Target, p.Paused, time.Now())
	if err != nil {
		return err
	}
	if _, err := fmt.Fprintf(out, "written to the ledger: %s\n", p.text()); err != nil {
		return err
	}
	return p.confirm(ctx, workers, done, out)
}

// check refuses a target that nobody knows, and to resume one of those that are all paused.
func (p PauseChange) check(live []approval.WorkerStatus, before approval.Pauses) error {
	if p.Target == "" {
		return nil
	}
	known := slices.Clone(p.Known)
	for _, w := range live {
		known = append(known, w.Targets...)
	}
	if !p.Paused {
		for name := range before.Targets {
			known = append(known, name)
		}
	}
	slices.Sort(known)
	known = slices.Compact(known)
	switch {
	case !slices.Contains(known, p.Target):
		return cli.WithCode(cli.ExitInvalid, fmt.Errorf("there is no target %q%s; known are: %s", p.Target, cli.DidYouMean(p.Target, known), strings.Join(known, ", ")))
	case !p.Paused && before.All.Paused:
		return cli.WithCode(cli.ExitInvalid, fmt.Errorf("all targets are paused, so %s alone cannot be resumed; resume all with: worker resume", p.Target))
	}
	return nil
}

func (p PauseChange) text() string {
	what, target := "paused", p.Target
	if !p.Paused {
		what = "resumed"
	}
	if target == "" {
		target = "all targets"
	}
	return what + ": " + target
}

// confirm waits for the heartbeats. Who was not heard for the time to live of a heartbeat
// does nothing any more, and reads the ledger before it does again.
func (p PauseChange) confirm(ctx context.Context, workers *ledger.Workers, done approval.Pauses, out io.Writer) error {
	waiting, cancel := context.WithTimeout(ctx, p.Timeout)
	defer cancel()
	again := time.NewTicker(confirmEvery)
	defer again.Stop()
	var live, missing []approval.WorkerStatus // of the last read that did not fail
	failed := fmt.Errorf("nothing was read within %s", cli.ShortDuration(p.Timeout))
	for {
		listed, err := workers.List(waiting)
		if err == nil {
			live = listed
			missing, failed = slices.DeleteFunc(slices.Clone(live), func(w approval.WorkerStatus) bool { return sawPauses(w, done) }), nil
			if len(missing) == 0 {
				_, err = fmt.Fprintf(out, "seen by all live workers: %d\n", len(live))
				return err
			}
		} else if waiting.Err() == nil {
			failed = err
		}
		select {
		case <-again.C:
			continue
		case <-waiting.Done():
		}
		if ctx.Err() != nil {
			return fmt.Errorf("the ledger says %s, and it was not awaited whether every worker has seen it: %w", p.text(), ctx.Err())
		}
		if failed != nil {
			return fmt.Errorf("the ledger says %s, and it is unknown which workers have seen it; see: worker status: %w", p.text(), failed)
		}
		for _, w := range missing {
			if _, err := fmt.Fprintf(out, "NOT SEEN by %s on %s, version %s\n", cli.Printable(w.Instance), cli.Printable(cli.OrDash(w.Host)), cli.Printable(cli.OrDash(w.Version))); err != nil {
				return err
			}
		}
		return fmt.Errorf("%d of %d live workers did not say within %s that they have seen it; stop those that are listed, or repeat the command",
			len(missing), len(live), cli.ShortDuration(p.Timeout))
	}
}

// sawPauses reports whether w says that it goes by what done says, or by something later.
func sawPauses(w approval.WorkerStatus, done approval.Pauses) bool {
	if w.PauseRevision < done.Revision {
		return false
	}
	return w.PauseRevision > done.Revision || !slices.ContainsFunc(w.Targets, func(target string) bool {
		return done.Of(target).Paused != slices.Contains(w.Paused, target)
	})
}

// PauseText says which targets are paused, one line each; empty if none is.
func PauseText(p approval.Pauses, now time.Time) string {
	var out strings.Builder
	line := func(name string, pause approval.Pause) {
		if pause.Paused {
			fmt.Fprintf(&out, "paused since %s: %s; resume with: worker resume\n", cli.Age(now, pause.At), cli.Printable(name))
		}
	}
	line("all targets", p.All)
	names := make([]string, 0, len(p.Targets))
	for name := range p.Targets {
		names = append(names, name)
	}
	slices.Sort(names)
	for _, name := range names {
		line(name, p.Targets[name])
	}
	return out.String()
}
