package service

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/vpcep-approver/vpcep-approver/internal/cli"
	"github.com/vpcep-approver/vpcep-approver/internal/metrics"
	"github.com/vpcep-approver/vpcep-approver/internal/policy"
	"github.com/vpcep-approver/vpcep-approver/internal/strictyaml"
)

// loadPolicies loads the policies, which must be good to begin with, and those on
// trial, whose faults never keep the others from working. changed gets a token
// whenever those in force change.
func (s *Service) loadPolicies(ctx context.Context, counters *metrics.Metrics, changed chan<- struct{}) (*policy.Source, error) {
	dirs := s.Config.Policies
	live := counters.Set(metrics.LiveSet)
	policies := policy.NewSource(dirs.Dir, s.Config.Targets, live)
	policies.StableFor = dirs.StableFor
	policies.OnError = func(err error) {
		what := "the policies cannot be loaded; the last good ones stay in force"
		if !policies.Loaded() {
			what = "the policies cannot be loaded; none are in force"
		}
		s.Log.Error().Err(err).Msg(what)
		live.PolicyFindings(string(strictyaml.SeverityError), errorsIn(err))
	}
	policies.Check = func(set *policy.Set) error { return RefuseExamples(s.Config, set) }
	policies.OnReload = func(set *policy.Set) {
		s.Log.Info().Str("digest", set.Digest()).Int("policies", set.Policies()).Int("rules", set.Rules()).Msg("policies loaded")
		live.PolicyFindings(string(strictyaml.SeverityWarning), logFindings(s.Log, set))
		counters.Rules(set.Names())
		counters.Expiries(expiriesOf(set, time.Now()))
		if set.HasShadow() {
			counters.ShadowRules(metrics.LiveSet, set.Names())
		} else {
			counters.ShadowRules(metrics.LiveSet, nil)
		}
		select {
		case changed <- struct{}{}: // what is held may be allowed now
		default:
		}
	}
	// While nothing is loaded everything is held, so a start waits for a folder that
	// was written a moment ago, and begins without it if that takes long.
	err := policies.LoadStable(ctx, 2*dirs.StableFor)
	if _, unstable := errors.AsType[*policy.UnstableError](err); unstable {
		s.Log.Warn().Err(err).Msg("no policies are loaded yet; everything is held until then")
	} else if err != nil {
		return nil, cli.WithCode(cli.ExitInvalid, fmt.Errorf("policies.dir %s: %w", dirs.Dir, err))
	}
	if dirs.ShadowDir == "" {
		return policies, nil
	}
	onTrial := counters.Set(metrics.ShadowSet)
	policies.Shadow = policy.NewSource(dirs.ShadowDir, s.Config.Targets, onTrial)
	policies.Shadow.StableFor = dirs.StableFor
	policies.Shadow.OnError = func(err error) {
		s.Log.Warn().Err(err).Msg("the candidate policies cannot be loaded; the last good ones stay on trial, and the policies in force are not affected")
		onTrial.PolicyFindings(string(strictyaml.SeverityError), errorsIn(err))
	}
	policies.Shadow.OnReload = func(set *policy.Set) {
		s.Log.Info().Str("digest", set.Digest()).Msg("candidate policies loaded")
		counters.ShadowRules(metrics.ShadowSet, set.Names())
		onTrial.PolicyFindings(string(strictyaml.SeverityWarning), logFindings(s.Log, set))
	}
	_ = policies.Shadow.Load(ctx) // OnError is told, and watching loads it later
	return policies, nil
}

// expiriesOf is what metrics show of the entries that expire.
func expiriesOf(set *policy.Set, now time.Time) []metrics.Expiry {
	var out []metrics.Expiry
	for _, e := range set.Expiries(now) {
		out = append(out, metrics.Expiry{Rule: metrics.Rule{e.Policy, e.Rule}, At: e.At})
	}
	return out
}
