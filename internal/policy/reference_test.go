package policy

import (
	"maps"
	"slices"
	"strings"
	"testing"

	"go.yaml.in/yaml/v4"

	"github.com/vpcep-approver/vpcep-approver/internal/approval"
)

// naive is a policy as the plain library reads it: the other half of a
// comparison, so it shares nothing with the decoder, the index or the matchers.
type naive struct {
	Policy    string           `yaml:"policy"`
	Targets   []string         `yaml:"targets"`
	Mode      string           `yaml:"mode"`
	Allow     []map[string]any `yaml:"allow"`
	Deny      []map[string]any `yaml:"deny"`
	Otherwise string           `yaml:"otherwise"`
}

// reference decides in by reading product section 5 line by line: every entry
// of every policy, no index, no short cut. It knows fields, claims, any_domain
// and modes, and returns only the verdict.
func reference(policies []naive, in *approval.Input) approval.Verdict {
	var deny, softDeny, allow, openDeny bool
	otherwise := ""
	n := 0
	for _, p := range policies {
		if !slices.Contains(p.Targets, in.Request.Target.Name) || p.Mode == "shadow" {
			continue
		}
		n++
		soft := p.Mode == "accept-only"
		for _, e := range p.Deny {
			if rest := naiveClosed(e, in); len(rest) < len(e) {
				openDeny = openDeny || naiveMatch(rest, in, true)
				continue
			}
			if naiveMatch(e, in, true) {
				_, onClaims := e["claims"]
				switch {
				case onClaims || soft:
					softDeny = true
				default:
					deny = true
				}
			}
		}
		for _, e := range p.Allow {
			allow = allow || naiveMatch(e, in, false)
		}
		o := p.Otherwise
		if o == "" || soft && o == "reject" {
			o = "hold"
		}
		if otherwise == "" || o == "reject" || o == "hold" && otherwise == "ignore" {
			otherwise = o
		}
	}
	switch {
	case n == 0:
		return approval.Hold
	case !in.Request.Creates() && in.Facts.DomainID == "":
		return approval.Hold
	case deny:
		return approval.Reject
	case naiveLies(in) || softDeny || openDeny:
		return approval.Hold
	case allow:
		return approval.Accept
	}
	return approval.Verdict(otherwise)
}

// readNaive reads texts for the reference.
func readNaive(t testing.TB, texts []string) []naive {
	t.Helper()
	out := make([]naive, len(texts))
	for i, text := range texts {
		if err := yaml.Load([]byte(text), &out[i]); err != nil {
			t.Fatal(err)
		}
	}
	return out
}

func naiveField(in *approval.Input, name string) (values []string) {
	in.Each(name, func(v string) bool { values = append(values, v); return true })
	return values
}

func naiveLies(in *approval.Input) bool {
	for name := range in.Request.Claims {
		facts := naiveField(in, name)
		for _, v := range in.Request.Claims.Values(name) {
			same := func(f string) bool {
				return f == v || strings.HasSuffix(name, "_id") && strings.EqualFold(f, v)
			}
			if facts != nil && v != "" && !slices.ContainsFunc(facts, same) {
				return true
			}
		}
	}
	return false
}

// naiveClosed is e without the fields that an HSS request leaves to the cloud.
func naiveClosed(e map[string]any, in *approval.Input) map[string]any {
	h := in.Request.Creation.HSS
	rest := maps.Clone(e)
	if h != nil && len(h.HostIDs) == 0 {
		delete(rest, "host_id")
	}
	if h != nil && len(h.VPCs) == 0 {
		delete(rest, "vpc_id")
		delete(rest, "subnet_id")
	}
	return rest
}

// naiveMatch reports whether every condition of e holds.
func naiveMatch(e map[string]any, in *approval.Input, deny bool) bool {
	for k, v := range e {
		switch k {
		case "id", "any_domain", "reason", "contact":
		case "claims":
			claims, _ := v.(map[string]any)
			for path, want := range claims {
				if !naiveCovers(in.Request.Claims.Values(path), want, deny, false) {
					return false
				}
			}
		default:
			have := naiveField(in, k)
			if !naiveCovers(have, v, deny, strings.HasSuffix(k, "_id")) {
				return false
			}
		}
	}
	return true
}

func naiveCovers(have []string, want any, deny, folds bool) bool {
	patterns, ok := want.([]any)
	if !ok {
		patterns = []any{want}
	}
	n := 0
	for _, h := range have {
		for _, p := range patterns {
			pat, _ := p.(string)
			if folds {
				h, pat = strings.ToLower(h), strings.ToLower(pat)
			}
			if naiveGlob(pat, h) {
				n++
				break
			}
		}
	}
	if deny {
		return n > 0
	}
	return n > 0 && n == len(have)
}

// naiveGlob is a glob by recursion.
func naiveGlob(p, s string) bool {
	switch {
	case p == "":
		return s == ""
	case p[0] == '*':
		return naiveGlob(p[1:], s) || s != "" && naiveGlob(p, s[1:])
	case s == "":
		return false
	}
	return (p[0] == '?' || p[0] == s[0]) && naiveGlob(p[1:], s[1:])
}
