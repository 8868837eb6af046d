package main

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/vpcep-approver/vpcep-approver/internal/approval"
	"github.com/vpcep-approver/vpcep-approver/internal/cli"
	"github.com/vpcep-approver/vpcep-approver/internal/cloud"
	"github.com/vpcep-approver/vpcep-approver/internal/config"
	"github.com/vpcep-approver/vpcep-approver/internal/events"
	"github.com/vpcep-approver/vpcep-approver/internal/events/broker"
	"github.com/vpcep-approver/vpcep-approver/internal/policy"
	"github.com/vpcep-approver/vpcep-approver/internal/service"
)

// checkup is one line: what was checked, and if something is
// wrong, what and how to fix it.
type checkup struct {
	Check  string `json:"check"`
	Status string `json:"status"` // one of the constants below
	Found  string `json:"found"`
	Hint   string `json:"hint,omitempty"`
	code   int    // to exit with if it failed
}

const (
	checkOK      = "ok"
	checkWarning = "warning"
	checkFailed  = "failed"
	checkSkipped = "skipped" // it cannot be checked, or depends on one that failed
)

func newDoctorCommand(env cli.Environment) *cobra.Command {
	c := &cobra.Command{
		Use:   "doctor",
		Short: "Check everything that the worker depends on, and say how to fix it",
		Long: `doctor checks configuration, policies, broker, streams, permissions, credentials,
clock and each API, a line each. It decides nothing and calls nothing that changes
a connection. On the broker it tries each right that the worker needs with messages
that the broker refuses to store.
Exit code: that of the first check that failed; 3 for what is configured wrongly,
5 for what cannot be reached, 1 for the rest.`,
	}
	timeout := c.Flags().Duration("timeout", 15*time.Second, "how long each check may take")
	output := &cli.ChoiceFlag{Text: "text", Choices: []string{"text", "json"}}
	c.Flags().VarP(output, "output", "o", "how to print; json: an object a line")
	cli.CompleteFlag(c, "output", output.Choices)
	config.AddFlags(c.Flags())
	c.RunE = func(c *cobra.Command, _ []string) error {
		d := doctor{
			c: c, env: env, timeout: *timeout,
			report: reporter(c.OutOrStdout(), output.Text, cli.Colors(c, env, c.OutOrStdout())),
		}
		d.examine(c.Context(), config.FlagsOf(c))
		if d.failed != nil {
			return d.failed
		}
		if d.code != cli.ExitDone {
			return cli.WithCode(d.code, cli.ErrReported)
		}
		return c.Context().Err()
	}
	return c
}

// reporter prints a line as soon as it is known.
func reporter(w io.Writer, format string, p cli.Palette) func(checkup) error {
	return func(r checkup) error {
		if format == "json" {
			return json.NewEncoder(w).Encode(r)
		}
		status := map[string]func(string) string{
			checkOK: p.Green, checkWarning: p.Yellow, checkFailed: p.Red, checkSkipped: p.Dim,
		}[r.Status](fmt.Sprintf("%-7s", r.Status))
		line := fmt.Sprintf("%s  %-28s %s", status, r.Check, cli.Printable(r.Found))
		if r.Hint != "" {
			line += " — " + cli.Printable(r.Hint)
		}
		_, err := fmt.Fprintln(w, line)
		return err
	}
}

// doctor goes through the checks.
type doctor struct {
	c       *cobra.Command
	env     cli.Environment
	timeout time.Duration
	report  func(checkup) error
	code    int   // of the first check that failed
	failed  error // of printing
}

func (d *doctor) say(r checkup) {
	if r.Status == checkFailed && d.code == cli.ExitDone {
		d.code = r.code
	}
	if err := d.report(r); err != nil && d.failed == nil {
		d.failed = err
	}
}

func (d *doctor) ok(check, found string, args ...any) {
	d.say(checkup{Check: check, Status: checkOK, Found: fmt.Sprintf(found, args...)})
}

func (d *doctor) bad(code int, check string, err error, hint string) {
	d.say(checkup{Check: check, Status: checkFailed, Found: err.Error(), Hint: hint, code: code})
}

func (d *doctor) skip(check, why string) {
	d.say(checkup{Check: check, Status: checkSkipped, Found: why})
}

// examine makes all checks, each within the time limit.
func (d *doctor) examine(ctx context.Context, flags config.Flags) {
	d.ok("configuration file", "%s", config.Source(d.env, flags))
	cfg, err := config.Load(d.env, flags)
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

func (d *doctor) configuration(cfg config.Config) {
	from := "flags, environment and defaults"
	if cfg.File != "" {
		from = cfg.File
	}
	if len(cfg.Targets) == 0 {
		d.say(checkup{Check: "configuration", Status: checkWarning, Found: from + ": no targets", Hint: "every request would be a dead letter; list yours under targets"})
		return
	}
	d.ok("configuration", "%s: %s", from, cli.Plural(len(cfg.Targets), "target", "targets"))
}

func (d *doctor) policies(cfg config.Config) {
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
func (d *doctor) folder(check, dir string, targets approval.Targets) {
	report, err := checkPolicies(dir, targets)
	bad, odd := 0, 0
	for _, f := range report.Findings {
		if f.Severity != policy.SeverityError {
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
		d.say(checkup{Check: check, Status: checkWarning, Found: dir + ": no policies", Hint: "everything would be held; write one, docs/policy.md says how"})
	case odd > 0:
		d.say(checkup{Check: check, Status: checkWarning, Found: fmt.Sprintf("%s: %s", dir, cli.Plural(odd, "warning", "warnings")), Hint: "see: worker policy check " + dir})
	default:
		d.ok(check, "%s: %s, %s", dir, cli.Plural(report.Policies, "policy", "policies"), cli.Plural(report.Rules, "rule", "rules"))
	}
}

func (d *doctor) broker(ctx context.Context, cfg config.Config) {
	const streams, permissions = "streams", "permissions"
	if cfg.NATS.Embedded() && d.embedded(ctx, cfg.NATS) {
		d.skip(streams, "worker run makes what is missing")
		d.skip(permissions, "the worker may do everything on the embedded server")
		return
	}
	bus, err := connectBus(ctx, d.c, d.env, cfg)
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
func (d *doctor) embedded(ctx context.Context, cfg config.NATS) bool {
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

func (d *doctor) streams(ctx context.Context, cfg config.Config, bus *events.Bus) {
	ctx, cancel := context.WithTimeout(ctx, d.timeout)
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
		d.say(checkup{Check: "streams", Status: checkWarning, Found: strings.Join(missing, "; "), Hint: "worker run makes them, or: worker bus setup"})
	case len(missing) > 0:
		d.bad(cli.ExitInvalid, "streams", errors.New(strings.Join(missing, "; ")), "run: worker bus setup")
	case len(other) > 0:
		d.say(checkup{Check: "streams", Status: checkWarning, Found: strings.Join(other, "; "), Hint: "nothing, if that is meant"})
	default:
		d.ok("streams", "streams, consumer and buckets are as they should be")
	}
}

// permissions tries each right that the worker needs, with messages that change
// nothing.
func (d *doctor) permissions(ctx context.Context, cfg config.Config, bus *events.Bus) {
	ctx, cancel := context.WithTimeout(ctx, max(d.timeout, 15*time.Second))
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

func (d *doctor) cloud(ctx context.Context, cfg config.Config) {
	_, missing := cfg.Cloud.Credentials()
	if missing != nil {
		d.bad(cli.ExitInvalid, "credentials", missing, "")
	} else {
		d.ok("credentials", "there for mode %s; whether they are good, the targets show", cfg.Cloud.AuthMode)
	}
	used, clocks := service.APIsOf(cfg), []offset(nil)
	for _, api := range cloud.APIs() {
		if used[api] {
			clocks = append(clocks, d.reach(ctx, cfg, api)...)
		}
	}
	d.clock(clocks)
	if missing != nil {
		for _, t := range cfg.Targets {
			d.skip("target "+t.Name, "there are no credentials")
		}
		return
	}
	client, err := cloud.New(service.CloudConfig(cfg, nil))
	if err != nil {
		d.bad(cli.ExitInvalid, "targets", err, "")
		return
	}
	for _, t := range cfg.Targets {
		if t.Kind.Creates() {
			d.skip("target "+t.Name, "nothing of a place for creations can be read beforehand")
			continue
		}
		d.target(ctx, client, t)
	}
}

// offset is how much our clock is ahead of a host's.
type offset struct {
	host string
	by   time.Duration
}

// maxOffset is how far our clock may be off: signatures are refused at 15
// minutes, and limits and expiries are wrong long before.
const maxOffset = time.Minute

// clock judges the worst of the offsets.
func (d *doctor) clock(seen []offset) {
	if len(seen) == 0 {
		d.skip("clock", "no API told the time")
		return
	}
	worst := slices.MaxFunc(seen, func(a, b offset) int { return cmp.Compare(a.by.Abs(), b.by.Abs()) })
	if worst.by.Abs() > maxOffset {
		d.bad(cli.ExitFailed, "clock", fmt.Errorf("this machine's is %s ahead of that of %s", worst.by, worst.host), "synchronise it (NTP); signatures are refused when it is 15 minutes off")
		return
	}
	d.ok("clock", "within %s of the cloud's", cli.ShortDuration(maxOffset))
}

// reach asks an API host for anything at all, without credentials. It returns how
// far our clock is off, if the host tells the time.
func (d *doctor) reach(ctx context.Context, cfg config.Config, api string) []offset {
	check, base := "API "+api, apiBase(cfg.Cloud, api)
	ctx, cancel := context.WithTimeout(ctx, d.timeout)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, base+"/", nil)
	if err != nil {
		d.bad(cli.ExitInvalid, check, err, "check cloud.endpoints."+api)
		return nil
	}
	client := &http.Client{CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
	sent := time.Now()
	res, err := client.Do(req)
	if err == nil {
		err = res.Body.Close()
	}
	if err != nil {
		d.bad(cli.ExitUnreachable, check, err, "check the region, cloud.endpoints, DNS, proxy and firewall")
		return nil
	}
	took := time.Since(sent)
	d.ok(check, "%s answers in %s", base, took.Round(time.Millisecond))
	theirs, err := http.ParseTime(res.Header.Get("Date"))
	if err != nil {
		return nil
	}
	return []offset{{base, sent.Add(took / 2).Sub(theirs).Truncate(time.Second)}}
}

// apiBase is where the cloud client finds an API.
func apiBase(cfg config.Cloud, api string) string {
	if base := cfg.Endpoints[api]; base != "" {
		return base
	}
	domain := "myhuaweicloud.com"
	if cfg.Region == "eu-west-101" {
		domain = "myhuaweicloud.eu"
	}
	return "https://" + api + "." + cfg.Region + "." + domain
}

// target reads what is pending on a target: that proves its id, its project and
// what the credentials may read.
func (d *doctor) target(ctx context.Context, client *cloud.Client, t approval.Target) {
	ctx, cancel := context.WithTimeout(ctx, d.timeout)
	defer cancel()
	check := "target " + t.Name
	pending, err := client.Pending(ctx, t)
	if err != nil {
		code, hint := cli.ExitFailed, "look up the error code; the request id is for the support of the provider"
		if e, ok := errors.AsType[*cloud.Error](err); ok {
			switch {
			case e.Gone(), e.Class == cloud.ClassFinal, e.Class == cloud.ClassOperator:
				code, hint = cli.ExitInvalid, "check the target's id and project_id, the permissions, the region and cloud.endpoints"
			case e.Class == cloud.ClassCredentials:
				hint = "check the credentials and what they may read"
			case e.Retryable():
				code, hint = cli.ExitUnreachable, "try again later"
			}
		}
		d.bad(code, check, err, hint)
		return
	}
	d.ok(check, "%s pending", cli.Plural(len(pending), "connection", "connections"))
	if cloud.ApprovalReadable(t) {
		d.approval(ctx, client, t)
	}
}

// approval checks that connections to the endpoint service of t wait for a decision.
func (d *doctor) approval(ctx context.Context, client *cloud.Client, t approval.Target) {
	check := "approval " + t.Name
	switch enabled, err := client.ApprovalEnabled(ctx, t); {
	case err != nil:
		d.say(checkup{Check: check, Status: checkWarning, Found: err.Error(), Hint: "grant vpcep:endpointServices:get, or see in the console that approval is enabled"})
	case !enabled:
		d.bad(cli.ExitInvalid, check, errors.New("disabled: the cloud accepts every connection and no policy is asked"), "enable connection approval of the endpoint service in the console")
	default:
		d.ok(check, "enabled")
	}
}
