// Package doctor checks everything that a worker depends on, one thing after the
// other, and says how to fix what is wrong. It changes nothing.
package doctor

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/vpcep-approver/vpcep-approver/internal/approval"
	"github.com/vpcep-approver/vpcep-approver/internal/cli"
	"github.com/vpcep-approver/vpcep-approver/internal/config"
	"github.com/vpcep-approver/vpcep-approver/internal/events"
	"github.com/vpcep-approver/vpcep-approver/internal/policy"
	"github.com/vpcep-approver/vpcep-approver/internal/policy/workbench"
	"github.com/vpcep-approver/vpcep-approver/internal/service"
	"github.com/vpcep-approver/vpcep-approver/internal/strictyaml"
)

// Check is the outcome of one check: what was checked, and if something is wrong,
// what it is and how to fix it.
type Check struct {
	Name   string `json:"check"`
	Status string `json:"status"` // one of the values below
	Found  string `json:"found"`
	Hint   string `json:"hint,omitempty"`
	code   int    // to exit with if it failed
}

// The values of Check.Status.
const (
	OK      = "ok"
	Warning = "warning"
	Failed  = "failed"
	Skipped = "skipped" // it cannot be checked, or depends on one that failed
)

// Doctor makes the checks. Set the fields before Run.
type Doctor struct {
	Env     cli.Environment
	Flags   config.Flags
	Timeout time.Duration // of each check
	Connect func(context.Context, config.Config) (*events.Bus, error)
	Report  func(Check) error // is called as soon as a check is done

	code   int   // of the first check that failed
	failed error // of Report
}

// Run makes all checks. The error carries the exit code of the first check that
// failed.
func (d *Doctor) Run(ctx context.Context) error {
	d.run(ctx)
	if d.failed != nil {
		return d.failed
	}
	if d.code != cli.ExitDone {
		return cli.WithCode(d.code, cli.ErrReported)
	}
	return ctx.Err()
}

func (d *Doctor) say(r Check) {
	if r.Status == Failed && d.code == cli.ExitDone {
		d.code = r.code
	}
	if err := d.Report(r); err != nil && d.failed == nil {
		d.failed = err
	}
}

func (d *Doctor) ok(check, found string, args ...any) {
	d.say(Check{Name: check, Status: OK, Found: fmt.Sprintf(found, args...)})
}

func (d *Doctor) bad(code int, check string, err error, hint string) {
	d.say(Check{Name: check, Status: Failed, Found: err.Error(), Hint: hint, code: code})
}

func (d *Doctor) skip(check, why string) {
	d.say(Check{Name: check, Status: Skipped, Found: why})
}

// run makes all checks, each within the time limit.
func (d *Doctor) run(ctx context.Context) {
	d.ok("configuration file", "%s", config.Source(d.Env, d.Flags))
	cfg, err := config.Load(d.Env, d.Flags)
	if err != nil {
		d.bad(cli.ExitInvalid, "configuration", err, "correct the settings; worker config docs lists them")
		d.skip("everything else", "the configuration cannot be read")
		return
	}
	d.configuration(cfg)
	d.policies(cfg)
	d.broker(ctx, cfg)
	d.cloud(ctx, cfg)
}

func (d *Doctor) configuration(cfg config.Config) {
	from := "flags, environment and defaults"
	if cfg.File != "" {
		from = cfg.File
	}
	if len(cfg.Targets) == 0 {
		d.say(Check{Name: "configuration", Status: Warning, Found: from + ": no targets", Hint: "every request would be a dead letter; list yours under targets"})
		return
	}
	d.ok("configuration", "%s: %s", from, cli.Plural(len(cfg.Targets), "target", "targets"))
}

func (d *Doctor) policies(cfg config.Config) {
	if set, err := policy.LoadDir(cfg.Policies.Dir, cfg.Targets); err == nil {
		if err := service.RefuseExamples(cfg, set); err != nil {
			d.bad(cli.ExitInvalid, "policies", err, "worker run does not start with them")
			return
		}
	}
	d.folder("policies", cfg.Policies.Dir, cfg.Targets)
	if cfg.Policies.ShadowDir != "" {
		d.folder("candidate policies", cfg.Policies.ShadowDir, cfg.Targets)
	}
}

// folder checks a folder of policies; check names what they are.
func (d *Doctor) folder(check, dir string, targets approval.Targets) {
	report, err := workbench.Check(dir, targets, time.Now(), service.ExampleFindings)
	bad, odd := 0, 0
	for _, f := range report.Findings {
		if f.Severity != strictyaml.SeverityError {
			odd++
		} else if bad++; bad == 1 {
			err = errors.New(f.String())
		}
	}
	switch {
	case bad > 0:
		d.bad(cli.ExitInvalid, check, fmt.Errorf("%s: %s, the first: %w", dir, cli.Plural(bad, "error", "errors"), err), "see: worker policy check "+dir)
	case err != nil:
		d.bad(cli.ExitInvalid, check, err, "")
	case report.Policies == 0:
		d.say(Check{Name: check, Status: Warning, Found: dir + ": no policies", Hint: "everything would be held; write one, docs/policy.md says how"})
	case odd > 0:
		d.say(Check{Name: check, Status: Warning, Found: fmt.Sprintf("%s: %s", dir, cli.Plural(odd, "warning", "warnings")), Hint: "see: worker policy check " + dir})
	default:
		d.ok(check, "%s: %s, %s", dir, cli.Plural(report.Policies, "policy", "policies"), cli.Plural(report.Rules, "rule", "rules"))
	}
}
