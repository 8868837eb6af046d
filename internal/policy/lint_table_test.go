package policy

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"github.com/vpcep-approver/vpcep-approver/internal/approval"
	"github.com/vpcep-approver/vpcep-approver/internal/strictyaml"
)

// warningsOf returns the codes of the warnings about these policies, each once.
func warningsOf(t *testing.T, texts ...string) []string {
	t.Helper()
	set, err := Load(folder(texts...), demoTargets())
	if err != nil {
		t.Fatalf("Load(%s): %v", strings.Join(texts, "\n---\n"), err)
	}
	var out []string
	for _, f := range set.Findings() {
		if f.Code == "no-policy" {
			continue // of the other targets
		}
		if f.Line == 0 || f.Hint == "" || f.Excerpt == "" || f.Severity != strictyaml.SeverityWarning {
			t.Errorf("%+v lacks a place or a next step", f)
		}
		out = append(out, f.Code)
	}
	slices.Sort(out)
	return slices.Compact(out)
}

// TestLint: what is allowed and looks wrong is a warning, and what is right is none.
func TestLint(t *testing.T) {
	t.Parallel()
	allow := func(conditions string) []string {
		return []string{head("a") + "allow:\n  - {id: x, " + conditions + "}\n"}
	}
	known := func(conditions string) []string { return allow("domain_id: " + acme + ", " + conditions) }
	when := func(expr string) []string {
		return []string{head("a") + "allow:\n  - id: x\n    domain_id: " + acme + "\n    when: |\n      " + expr + "\n"}
	}
	creates := func(target, conditions string) []string {
		return []string{"version: 1\npolicy: c\ntargets: [" + target + "]\nallow:\n  - {id: x, " + conditions + "}\n"}
	}
	two := func(first, second string) []string {
		return []string{head("a") + "allow:\n  - {id: x, " + first + "}\n", head("b") + "allow:\n  - {id: y, " + second + "}\n"}
	}
	other := strings.Replace(head("b"), "payments", "orders-gateway", 1)
	for _, tt := range []struct {
		name  string
		texts []string
		want  string // codes
	}{
		{"a pattern of 3 digits", allow(`domain_id: "6e9*"`), "broad-pattern"},
		{"a pattern of 7 digits", allow(`domain_id: "6e9dfd5*"`), "broad-pattern"},
		{"a pattern of 7 digits in two parts", allow(`domain_id: "6e9d*a0d"`), "broad-pattern"},
		{"a pattern of 8 digits", allow(`domain_id: "6e9dfd51*"`), ""},
		{"a pattern of 8 digits in two parts", allow(`domain_id: "6e9d*3a0d"`), ""},
		{"a pattern of one character for each", allow(`domain_id: "6e9d????????????????????????????"`), "broad-pattern"},
		{"a pattern of an endpoint", allow(`endpoint_id: "70529*-*"`), "broad-pattern"},
		{"a pattern next to ids", allow(`domain_id: [` + leftUs + `, "6*"]`), "broad-pattern"},
		{"a pattern in a deny", []string{head("a") + `deny: [{id: x, domain_id: "6e*"}]`}, "broad-pattern"},
		{"a pattern of a VPC", creates("functions", `vpc_id: "70*"`), "broad-pattern"},
		{"any VPC", creates("functions", `vpc_id: "*"`), "any-value"},
		{"any VPC in other words", creates("hosts", `vpc_id: "*-*"`), "any-value"},
		{"any VPC, and a flavor", creates("functions", `vpc_id: ["*"], flavor: small`), "any-value"},
		{"any subnet", creates("functions", "vpc_id: "+endpointA+`, subnet_id: "?*"`), "any-value"},
		{"any region", known(`region: "*"`), "any-value"},
		{"a creation without a VPC", creates("functions", "flavor: small"), "any-vpc"},
		{"a creation with a subnet alone", creates("functions", "subnet_id: "+endpointA), "any-vpc"},
		{"a creation for servers without a VPC", creates("hosts", "host_id: "+endpointA), "any-vpc"},
		{"a creation without a service", creates("insight", "ds_type: DWS"), "any-service"},
		{"a creation with a VPC", creates("functions", "vpc_id: "+endpointA), ""},
		{"a creation with a service by name", creates("insight", "ds_type: DWS, vpc_ep_server_name: cn-north-4.pay."+endpointA), ""},
		{"a deny of creations without a VPC", []string{"version: 1\npolicy: c\ntargets: [functions]\ndeny: [{id: x, flavor: small}]\n"}, ""},
		{"reject on a shared target", []string{head("a") + "otherwise: reject", head("b") + "allow: [{id: x, domain_id: " + acme + "}]"}, "shared-reject"},
		{"reject on a target shared with ignore", []string{head("a") + "otherwise: reject", head("b") + "otherwise: ignore\nallow: [{id: x, domain_id: " + acme + "}]"}, "shared-reject"},
		{"reject by all who share", []string{head("a") + "otherwise: reject", head("b") + "otherwise: reject\nallow: [{id: x, domain_id: " + acme + "}]"}, ""},
		{"reject on a target of its own", []string{head("a") + "otherwise: reject\nallow: [{id: x, domain_id: " + acme + "}]", other + "allow: [{id: x, domain_id: " + acme + "}]"}, ""},
		{"reject next to what is only tried out", []string{head("a") + "otherwise: reject", head("b") + "mode: shadow\nallow: [{id: x, domain_id: " + acme + "}]"}, ""},
		{"reject that is tried out", []string{head("a") + "mode: shadow\notherwise: reject", head("b") + "allow: [{id: x, domain_id: " + acme + "}]"}, "shared-reject"},
		{"reject next to an allow by claims", []string{head("a") + "otherwise: reject\nallow: [{id: x, domain_id: " + acme + ", claims: {a: b}}]"}, "reject-by-claim"},
		{"reject next to an allow by an expression on claims", []string{head("a") + "otherwise: reject\nallow: [{id: x, domain_id: " + acme + ", when: has(claims.a)}]"}, "reject-by-claim"},
		{"a limit next to none", two("domain_id: "+acme+", limit: 3", "domain_id: "+acme), "void-limit"},
		{"a limit next to a higher one", two("domain_id: "+acme+", limit: 3", "domain_id: "+acme+", limit: 4"), "void-limit"},
		{"a limit next to the same", two("domain_id: "+acme+", limit: 3", "domain_id: "+acme+", region: cn-*, limit: 3"), ""},
		{"a limit of one of two", two("domain_id: ["+acme+", "+staging+"], limit: 3", "domain_id: "+acme), "void-limit"},
		{"a limit next to a list", two("domain_id: "+acme+", limit: 3", "domain_id: ["+acme+", "+staging+"]"), "void-limit"},
		{"a limit next to a pattern", two("domain_id: "+acme+", limit: 3", `domain_id: "`+acme[:8]+`*"`), "void-limit"},
		{"a limit of a pattern next to the same", two(`domain_id: "`+acme[:8]+`*", limit: 3`, `domain_id: "`+acme[:8]+`*", region: cn-north-4`), ""},
		{"a limit next to everybody", two("domain_id: "+acme+", limit: 3", "any_domain: true"), "any-domain void-limit"},
		{"a limit for everybody and an exception", two("any_domain: true, limit: 3", "domain_id: "+acme), "any-domain"},
		{"a limit and an endpoint that is an exception", two("domain_id: "+acme+", limit: 3", "domain_id: "+acme+", endpoint_id: "+endpointA), ""},
		{"a limit next to an allow with claims", two("domain_id: "+acme+", limit: 3", "domain_id: "+acme+", claims: {a: b}"), ""},
		{"a limit with claims next to the same claims", two("domain_id: "+acme+", limit: 3, claims: {a: b}", "domain_id: "+acme+", claims: {a: b}"), "void-limit"},
		{"a limit with claims next to none", two("domain_id: "+acme+", limit: 3, claims: {a: b}", "domain_id: "+acme), "void-limit"},
		{"a limit next to none on another target", []string{head("a") + "allow: [{id: x, domain_id: " + acme + ", limit: 3}]", other + "allow: [{id: x, domain_id: " + acme + "}]"}, ""},
		{"a zone by its offset", known(`hours: {from: "08:00", to: "20:00", timezone: Etc/GMT+8}`), "time-zone"},
		{"a zone by its offset to the west", known(`hours: {from: "08:00", to: "20:00", timezone: Etc/GMT-8}`), "time-zone"},
		{"a zone without an offset", known(`hours: {from: "08:00", to: "20:00", timezone: Etc/GMT+0}`), ""},
		{"a zone by its name", known(`hours: {from: "08:00", to: "20:00", timezone: Asia/Shanghai}`), ""},
		{"a zone by its offset in an expression", when(`now.getHours("Etc/GMT+8") > 8`), "time-zone"},
		{"a zone that is none", when(`now.getHours("Asia/Beijing") > 8`), "constant-error"},
		{"a zone that is none, of a fact", when(`facts.created_at.getDayOfWeek("Mars/Olympus") == 1 || facts.region == "x"`), "constant-error"},
		{"a zone by its offset from UTC", when(`now.getHours("+08:00") > 8`), ""},
		{"a zone that is right", when(`now.getHours("Asia/Shanghai") > 8`), ""},
		{"a division by zero", when(`facts.marker_id / 0 > 1`), "constant-error"},
		{"a remainder by zero", when(`facts.marker_id % 0 > 1`), "constant-error"},
		{"a constant division by zero", when(`facts.marker_id > 1 / 0`), "constant-error"},
		{"an item that is not there", when(`facts.region == ["a"][1]`), "constant-error"},
		{"a time that is right", when(`now > timestamp("2026-01-01T00:00:00Z") && now - facts.created_at < duration("24h")`), ""},
		{"an expression that is always true", when(`1 == 1`), "no-effect"},
		{"an expression that is never true", when(`["a"].exists(x, x == "b")`), "no-effect"},
		{"a Cyrillic letter in a claim", known(`claims: {env: "prоd"}`), "look-alike"},
		{"a Cyrillic letter in the name of a claim", known(`claims: {"еnv": prod}`), "look-alike"},
		{"a word that only looks Latin", known(`claims: {env: "сор"}`), "look-alike"},
		{"a Greek letter", known(`claims: {env: "Αcme"}`), "look-alike"},
		{"a wide letter", known(`claims: {env: "ｐrod"}`), "look-alike"},
		{"a dash that is none", known(`claims: {env: "pre–prod"}`), "look-alike"},
		{"a pattern with a Cyrillic letter", known(`claims: {env: "рrod*"}`), "look-alike"},
		{"a Cyrillic letter in a region", known(`region: "сn-*"`), "look-alike no-effect"},
		{"a Cyrillic letter in a flavor", creates("functions", "vpc_id: "+endpointA+`, flavor: "lаrge"`), "look-alike"},
		{"a Cyrillic letter in an expression", when(`claims.env == "prоd"`), "look-alike"},
		{"a joiner", known("claims: {env: \"pro\u200dd\"}"), "look-alike"},
		{"words of other languages", known(`claims: {env: ["среда", "生产", "Ünïcode", "πίνακας", "生产prod", "été"]}`), ""},
		{"a blank at the end", known(`claims: {env: "prod "}`), "stray-blank"},
		{"a blank at the beginning", known(`claims: {env: " prod"}`), "stray-blank"},
		{"a line's end", known(`claims: {env: "prod\n"}`), "stray-blank"},
		{"two blanks", known(`claims: {env: "a  b"}`), "stray-blank"},
		{"a blank that is none", known("claims: {env: \"a\u00a0b\"}"), "stray-blank"},
		{"a tab", known(`claims: {env: "a\tb"}`), "stray-blank"},
		{"a blank in the name of a claim", known(`claims: {'"env "': prod}`), "stray-blank"},
		{"a blank in a region", known(`region: "cn-north-4 "`), "no-effect stray-blank"},
		{"a blank in an expression", when(`claims.env == "prod "`), "stray-blank"},
		{"a blank between words", known(`claims: {team: "data platform"}`), ""},
		{"another region", known("region: cn-east-3"), "no-effect"},
		{"the region", known("region: [cn-east-3, cn-north-4]"), ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			if got := strings.Join(warningsOf(t, tt.texts...), " "); got != tt.want {
				t.Errorf("%s\ngives %q, want %q", strings.Join(tt.texts, "---\n"), got, tt.want)
			}
		})
	}
}

// TestDeadPatternsAreErrors: a pattern of an id that can match none is one, as an
// id is that cannot be one.
func TestDeadPatternsAreErrors(t *testing.T) {
	t.Parallel()
	for _, id := range []string{"6е9dfd51*", "6e9dfd51 *", "6e9dfg51*", "6e9dfd51_*", "６e9dfd51*", strings.Repeat("?", 37), acme + "?????*"} {
		for _, list := range []string{"allow", "deny"} {
			_, err := Load(folder(head("a")+list+`: [{id: x, domain_id: "`+id+`"}]`), demoTargets())
			if _, ok := errors.AsType[*strictyaml.Error](err); !ok || !strings.Contains(err.Error(), "match") {
				t.Errorf("%s of %q: %v, want an error", list, id, err)
			}
		}
	}
}

// TestConstantsThatCannotBeConverted are errors, not warnings: CEL itself refuses them.
func TestConstantsThatCannotBeConverted(t *testing.T) {
	t.Parallel()
	for _, expr := range []string{
		`now > timestamp("2026-13-01T00:00:00Z")`, `now > timestamp("2026-01-01")`, `now - facts.created_at < duration("1d")`,
		`facts.marker_id > int("x")`, `["a"].exists(r, r == facts.region && now > timestamp("x"))`, `facts.region.matches("(")`,
	} {
		_, err := Load(folder(head("a")+"allow:\n  - id: x\n    domain_id: "+acme+"\n    when: |\n      "+expr+"\n"), demoTargets())
		if refused, ok := errors.AsType[*strictyaml.Error](err); !ok || refused.Findings[0].Line != 7 {
			t.Errorf("%s: %v, want an error on line 7", expr, err)
		}
	}
}

// TestLintOfManyEntries: looking for what is void takes no time that grows with the
// square of the entries.
func TestLintOfManyEntries(t *testing.T) {
	t.Parallel()
	var b strings.Builder
	b.WriteString(head("big") + "allow:\n")
	for i := range 5_000 {
		fmt.Fprintf(&b, "  - {id: g%d, domain_id: \"%08x*\", limit: 1}\n  - {id: e%d, domain_id: %032x, limit: 2}\n", i, i, i, 1<<40+i)
	}
	b.WriteString("deny:\n")
	for i := range 20_000 {
		fmt.Fprintf(&b, "  - {id: d%d, domain_id: \"f%07x*\"}\n", i, i)
	}
	set := load(t, b.String()) // would take minutes
	in := connection("payments", acme)
	if d := set.Evaluate(&in); d.Verdict != approval.Hold {
		t.Errorf("%s %q", d.Verdict, d.Reasons)
	}
}

// TestDeniedByPatterns: the index finds the deny that asking each in turn finds.
func TestDeniedByPatterns(t *testing.T) {
	t.Parallel()
	r := rand.New(rand.NewPCG(1, 2))
	denied, not := 0, 0
	for range 300 {
		id := func() string { return fmt.Sprintf("%d%030d%d", r.IntN(3), 0, r.IntN(3)) }
		var text strings.Builder
		text.WriteString(head("p") + "allow:\n")
		for i := range 4 {
			fmt.Fprintf(&text, "  - {id: a%d, domain_id: [%q, %q]}\n", i, id(), id())
		}
		text.WriteString("deny:\n")
		for i := range 1 + r.IntN(4) {
			value := id()
			entry := []string{
				fmt.Sprintf("domain_id: %q", value), fmt.Sprintf("domain_id: %q", value[:30]+"*"), fmt.Sprintf("domain_id: %q", "*"+value[30:]),
				fmt.Sprintf("domain_id: %q", "*"+value[20:31]+"?*"), fmt.Sprintf("domain_id: [%q, %q]", "f*", value),
				fmt.Sprintf("domain_id: %q, claims: {team: web}", value[:31]+"?"), "any_domain: true, claims: {team: web}",
				fmt.Sprintf("endpoint_id: %q", value+"*"),
			}[r.IntN(8)]
			fmt.Fprintf(&text, "  - {id: d%d, %s}\n", i, entry)
		}
		s, err := Load(folder(text.String()), demoTargets())
		if err != nil {
			continue // an entry twice
		}
		p := s.policies[0]
		for _, e := range p.allow {
			for f := range numFields {
				c := e.field(f)
				if c == nil {
					continue
				}
				for _, v := range c.values.exact {
					var want *entry
					for _, d := range p.deny {
						if fc := d.field(f); len(d.conds) == 1 && fc != nil && fc.values.has(v) && (want == nil || want.key != nil || d.key == nil) {
							want = d
						}
					}
					if got := s.deniedEverywhere(p, f, v); got != want {
						t.Fatalf("%s\n%s is denied by %+v, want %+v", text.String(), v, got, want)
					}
					if want == nil {
						not++
					} else {
						denied++
					}
				}
			}
		}
	}
	if denied < 100 || not < 100 {
		t.Errorf("%d values denied, %d not; the test needs more", denied, not)
	}
}
