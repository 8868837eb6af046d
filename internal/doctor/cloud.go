package doctor

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"time"

	"github.com/vpcep-approver/vpcep-approver/internal/approval"
	"github.com/vpcep-approver/vpcep-approver/internal/cli"
	"github.com/vpcep-approver/vpcep-approver/internal/cloud"
	"github.com/vpcep-approver/vpcep-approver/internal/config"
	"github.com/vpcep-approver/vpcep-approver/internal/service"
)

func (d *Doctor) cloud(ctx context.Context, cfg config.Config) {
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
func (d *Doctor) clock(seen []offset) {
	if len(seen) == 0 {
		d.skip("clock", "no API told the time")
		return
	}
	worst := slices.MaxFunc(seen, func(a, b offset) int { return cmp.Compare(a.by.Abs(), b.by.Abs()) })
	if worst.by.Abs() > maxOffset {
		d.bad(cli.ExitFailed, "clock", fmt.Errorf("this machine's is %s ahead of that of %s", worst.by, worst.host), "synchronize it (NTP); signatures are refused when it is 15 minutes off")
		return
	}
	d.ok("clock", "within %s of the cloud's", cli.ShortDuration(maxOffset))
}

// reach asks an API host for anything at all, without credentials. It returns how
// far our clock is off, if the host tells the time.
func (d *Doctor) reach(ctx context.Context, cfg config.Config, api string) []offset {
	check, base := "API "+api, apiBase(cfg.Cloud, api)
	ctx, cancel := context.WithTimeout(ctx, d.Timeout)
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
func (d *Doctor) target(ctx context.Context, client *cloud.Client, t approval.Target) {
	ctx, cancel := context.WithTimeout(ctx, d.Timeout)
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
func (d *Doctor) approval(ctx context.Context, client *cloud.Client, t approval.Target) {
	check := "approval " + t.Name
	switch enabled, err := client.ApprovalEnabled(ctx, t); {
	case err != nil:
		d.say(Check{Name: check, Status: Warning, Found: err.Error(), Hint: "grant vpcep:endpointServices:get, or see in the console that approval is enabled"})
	case !enabled:
		d.bad(cli.ExitInvalid, check, errors.New("disabled: the cloud accepts every connection and no policy is asked"), "enable connection approval of the endpoint service in the console")
	default:
		d.ok(check, "enabled")
	}
}
