package doctor

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/vpcep-approver/vpcep-approver/internal/cli"
	"github.com/vpcep-approver/vpcep-approver/internal/config"
	"github.com/vpcep-approver/vpcep-approver/internal/events"
	"github.com/vpcep-approver/vpcep-approver/internal/events/broker"
)

func (d *Doctor) broker(ctx context.Context, cfg config.Config) {
	const streams, permissions = "streams", "permissions"
	if cfg.NATS.Embedded() && d.embedded(ctx, cfg.NATS) {
		d.skip(streams, "worker run makes what is missing")
		d.skip(permissions, "the worker may do everything on the embedded server")
		return
	}
	bus, err := d.Connect(ctx, cfg)
	if err != nil {
		code := cli.ExitUnreachable
		if e, ok := errors.AsType[*cli.ExitError](err); ok {
			code = e.Code
			err = e.Err
		}
		hint := "check nats.url, the credentials and that the broker is up"
		if cfg.NATS.Embedded() {
			hint = "nats.url is embedded: nats.listen and nats.data_dir must be those of worker run"
		}
		if _, ok := errors.AsType[*events.VersionError](err); ok {
			hint = "upgrade the server to " + events.MinServer + " or later"
		}
		d.bad(code, "broker", err, hint)
		d.skip(streams, "there is no broker")
		d.skip(permissions, "there is no broker")
		return
	}
	defer func() {
		if err := bus.Close(); err != nil {
			d.bad(cli.ExitFailed, "broker", err, "")
		}
	}()
	rtt, err := bus.RTT()
	if err != nil {
		d.bad(cli.ExitUnreachable, "broker", err, "the connection was lost; look at the broker's log")
		return
	}
	d.ok("broker", "%s answers in %s, nats-server %s", cfg.NATS.URL, rtt.Round(10*time.Microsecond), bus.ServerVersion())
	d.streams(ctx, cfg, bus)
	d.permissions(ctx, cfg, bus)
}

// embedded checks what the embedded server needs if it does not run now, and
// reports whether that is so.
func (d *Doctor) embedded(ctx context.Context, cfg config.NATS) bool {
	const hint = "nats.data_dir is a folder that the worker makes and writes"
	running, err := broker.Locked(cfg.DataDir)
	if err != nil {
		d.bad(cli.ExitInvalid, "broker", fmt.Errorf("nats.data_dir %s: %w", cfg.DataDir, err), hint)
		return true
	}
	if running {
		return false
	}
	if err := writable(cfg.DataDir); err != nil {
		d.bad(cli.ExitInvalid, "broker", fmt.Errorf("nats.data_dir %s: %w", cfg.DataDir, err), hint)
		return true
	}
	listener, err := new(net.ListenConfig).Listen(ctx, "tcp", cfg.Listen)
	if err == nil {
		err = listener.Close()
	}
	if err != nil {
		d.bad(cli.ExitInvalid, "broker", fmt.Errorf("nats.listen: %w", err), "end what listens there, or set another address")
		return true
	}
	d.ok("broker", "embedded: worker run starts it; %s can be written, and %s is free", cfg.DataDir, cfg.Listen)
	return true
}

// writable tries to make a file in dir, or in the nearest folder above it that is
// there, and removes it.
func writable(dir string) error {
	for {
		info, err := os.Stat(dir)
		if errors.Is(err, fs.ErrNotExist) && filepath.Dir(dir) != dir {
			dir = filepath.Dir(dir)
			continue
		}
		if err != nil {
			return err
		}
		if !info.IsDir() {
			return fmt.Errorf("%s is not a folder", dir)
		}
		f, err := os.CreateTemp(dir, ".doctor-")
		if err != nil {
			return err
		}
		return errors.Join(f.Close(), os.Remove(f.Name()))
	}
}

func (d *Doctor) streams(ctx context.Context, cfg config.Config, bus *events.Bus) {
	ctx, cancel := context.WithTimeout(ctx, d.Timeout)
	defer cancel()
	differences, err := bus.Status(ctx)
	if err != nil {
		d.bad(cli.ExitFailed, "streams", err, "see the permissions below")
		return
	}
	var wrong, other, missing, fixes []string
	for _, one := range differences {
		switch {
		case !one.Matters:
			other = append(other, one.String())
		case one.Field == "":
			missing = append(missing, one.String())
		default:
			wrong = append(wrong, one.String())
			fixes = append(fixes, one.Fix)
		}
	}
	switch {
	case len(wrong) > 0:
		slices.Sort(fixes)
		d.bad(cli.ExitInvalid, "streams", errors.New(strings.Join(append(wrong, missing...), "; ")), strings.Join(slices.Compact(fixes), "; "))
	case len(missing) > 0 && cfg.NATS.Create:
		d.say(Check{Name: "streams", Status: Warning, Found: strings.Join(missing, "; "), Hint: "worker run makes them, or: worker bus setup"})
	case len(missing) > 0:
		d.bad(cli.ExitInvalid, "streams", errors.New(strings.Join(missing, "; ")), "run: worker bus setup")
	case len(other) > 0:
		d.say(Check{Name: "streams", Status: Warning, Found: strings.Join(other, "; "), Hint: "nothing, if that is meant"})
	default:
		d.ok("streams", "streams, consumers and buckets are as they should be")
	}
}

// permissions tries each right that the worker needs, with messages that change
// nothing.
func (d *Doctor) permissions(ctx context.Context, cfg config.Config, bus *events.Bus) {
	ctx, cancel := context.WithTimeout(ctx, max(d.Timeout, 15*time.Second))
	defer cancel()
	tried, skipped, failed := 0, 0, 0
	for _, c := range bus.Rights(ctx) {
		switch {
		case c.Skipped != "":
			skipped++
		case c.Err != nil:
			failed++
			d.bad(cli.ExitFailed, "permissions", fmt.Errorf("may not %s, which is needed to %s: %w", c.Right, c.Purpose, c.Err), "allow the user: "+c.String()+"; see docs/nats.md")
		default:
			tried++
		}
	}
	switch {
	case failed > 0:
	case skipped > 0 && !cfg.NATS.Create:
		d.skip("permissions", fmt.Sprintf("%d rights tried and there; %d cannot be tried before worker bus setup", tried, skipped))
	case skipped > 0:
		d.ok("permissions", "%d rights tried and there, those to make what is missing among them; %d can be tried once it is there", tried, skipped)
	default:
		d.ok("permissions", "all %d rights that the worker needs were tried", tried)
	}
}
