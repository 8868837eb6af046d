package policy

import (
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/vpcep-approver/vpcep-approver/internal/approval"
)

// allowing is a policy with one allow of acme and these further keys.
func allowing(keys string) string {
	return head("p") + "allow: [{id: acme, domain_id: " + acme + ", " + keys + "}]\n"
}

func at(t *testing.T, text string) time.Time {
	t.Helper()
	v, err := time.Parse(time.RFC3339, text)
	if err != nil {
		t.Fatal(err)
	}
	return v
}

func TestTimes(t *testing.T) {
	t.Parallel()
	const (
		office = `hours: {days: [mon, tue, wed, thu, fri], from: "08:00", to: "20:00", timezone: Asia/Shanghai}`
		night  = `hours: {days: [fri], from: "22:00", to: "06:00", timezone: Europe/Berlin}`
		lapse  = `hours: {from: "02:00", to: "03:00", timezone: Europe/Berlin}`
	)
	tests := []struct {
		name string
		keys string
		now  string
		want approval.ReasonCode
	}{
		{"the last second of the last day", "expires: 2027-06-30", "2027-06-30T23:59:59Z", approval.ReasonAllowed},
		{"after the last day", "expires: 2027-06-30", "2027-07-01T00:00:00Z", approval.ReasonExpired},
		{"the day ends in UTC", "expires: 2027-06-30", "2027-07-01T07:59:59+08:00", approval.ReasonAllowed},
		{"before a time with its offset", "expires: 2027-06-30T18:00:00+08:00", "2027-06-30T09:59:59Z", approval.ReasonAllowed},
		{"at a time with its offset", "expires: 2027-06-30T18:00:00+08:00", "2027-06-30T10:00:00Z", approval.ReasonExpired},
		{"before the first day", "from: 2027-01-01", "2026-12-31T23:59:59Z", approval.ReasonNotYetValid},
		{"the first day", "from: 2027-01-01", "2027-01-01T00:00:00Z", approval.ReasonAllowed},
		{"between", "from: 2027-01-01, expires: 2027-01-01", "2027-01-01T12:00:00Z", approval.ReasonAllowed},

		{"opening", office, "2026-11-18T00:00:00Z", approval.ReasonAllowed},
		{"before opening", office, "2026-11-17T23:59:59Z", approval.ReasonOutsideHours},
		{"the last minute", office, "2026-11-18T11:59:59Z", approval.ReasonAllowed},
		{"closing", office, "2026-11-18T12:00:00Z", approval.ReasonOutsideHours},
		{"saturday there, friday here", office, "2026-11-20T16:00:00Z", approval.ReasonOutsideHours},
		{"friday night", night, "2026-11-20T21:00:00Z", approval.ReasonAllowed},
		{"saturday morning belongs to friday", night, "2026-11-21T04:59:59Z", approval.ReasonAllowed},
		{"saturday at six", night, "2026-11-21T05:00:00Z", approval.ReasonOutsideHours},
		{"friday morning belongs to thursday", night, "2026-11-20T03:00:00Z", approval.ReasonOutsideHours},
		{"the whole day", `hours: {from: "00:00", to: "24:00", timezone: UTC}`, "2026-11-20T23:59:59Z", approval.ReasonAllowed},

		{"winter: eight in Berlin is seven in UTC", `hours: {from: "08:00", to: "09:00", timezone: Europe/Berlin}`, "2026-03-28T07:00:00Z", approval.ReasonAllowed},
		{"summer: eight in Berlin is six in UTC", `hours: {from: "08:00", to: "09:00", timezone: Europe/Berlin}`, "2026-03-29T06:00:00Z", approval.ReasonAllowed},
		{"the hour that is left out: before it", lapse, "2026-03-29T00:59:59Z", approval.ReasonOutsideHours},
		{"the hour that is left out: after it", lapse, "2026-03-29T01:00:00Z", approval.ReasonOutsideHours},
		{"the hour that comes twice: first", lapse, "2026-10-25T00:30:00Z", approval.ReasonAllowed},
		{"the hour that comes twice: second", lapse, "2026-10-25T01:30:00Z", approval.ReasonAllowed},
		{"the hour that comes twice: over", lapse, "2026-10-25T02:00:00Z", approval.ReasonOutsideHours},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			in := connection("payments", acme)
			in.Now = at(t, tt.now)
			d := load(t, allowing(tt.keys)).Evaluate(&in)
			if got := d.Reasons[len(d.Reasons)-1].Code; got != tt.want || (d.Verdict == approval.Accept) != (tt.want == approval.ReasonAllowed) {
				t.Errorf("%s at %s: %s %q, want %s", tt.keys, tt.now, d.Verdict, d.Reasons, tt.want)
			}
		})
	}
}

func TestTimesWithoutClock(t *testing.T) {
	t.Parallel()
	for _, keys := range []string{"expires: 2027-06-30", "from: 2020-01-01", `hours: {from: "00:00", to: "24:00", timezone: UTC}`, "when: now > timestamp('2020-01-01T00:00:00Z')"} {
		in := connection("payments", acme)
		in.Now = time.Time{}
		d := load(t, allowing(keys)+"otherwise: reject").Evaluate(&in)
		if d.Verdict != approval.Hold || d.Reasons[0].Code != approval.ReasonNotEvaluated {
			t.Errorf("%s without a clock: %s %q, want hold not_evaluated", keys, d.Verdict, d.Reasons)
		}
	}
}

func TestLimit(t *testing.T) {
	t.Parallel()
	two := head("p") + "allow:\n  - {id: a, domain_id: " + acme + ", limit: 3}\n  - {id: b, domain_id: " + acme + ", limit: 5}\n"
	open := two + "  - {id: c, domain_id: 6e9d*}\n"
	tests := []struct {
		name     string
		text     string
		accepted int
		rule     string
		limit    int
	}{
		{"below", allowing("limit: 3"), 2, "acme", 3},
		{"reached", allowing("limit: 3"), 3, "", 0},
		{"passed", allowing("limit: 3"), 9, "", 0},
		{"the higher of two", two, 2, "b", 5},
		{"the only one left", two, 4, "b", 5},
		{"none left", two, 5, "", 0},
		{"without a limit is more than any", open, 2, "c", 0},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			in := connection("payments", acme)
			in.Facts.Accepted = approval.Counted(tt.accepted)
			d := load(t, tt.text).Evaluate(&in)
			if d.Rule != tt.rule || d.Limit != tt.limit || (d.Verdict == approval.Accept) != (tt.rule != "") {
				t.Errorf("with %d accepted: %s by %q, limit %d, %q; want %q, limit %d", tt.accepted, d.Verdict, d.Rule, d.Limit, d.Reasons, tt.rule, tt.limit)
			}
			if tt.rule == "" && !slices.Contains(codes(d.Reasons), approval.ReasonLimitReached) {
				t.Errorf("with %d accepted: %q, want limit_reached", tt.accepted, d.Reasons)
			}
		})
	}
}

// TestLimitWithoutACount: what was not counted is not 0. A rule with a limit asks
// for the count, and one without a limit does not need it.
func TestLimitWithoutACount(t *testing.T) {
	t.Parallel()
	two := head("p") + "allow:\n  - {id: a, domain_id: " + acme + ", limit: 3}\n  - {id: b, domain_id: " + acme + ", limit: 5}\n"
	for _, tt := range []struct {
		name, text string
		verdict    approval.Verdict
		rule       string
		limit      int
		needs      bool
		reason     approval.ReasonCode
	}{
		{"one rule", allowing("limit: 3"), approval.Hold, "acme", 3, true, approval.ReasonCountUnknown},
		{"the higher of two", two, approval.Hold, "b", 5, true, approval.ReasonCountUnknown},
		{"otherwise reject", allowing("limit: 3") + "otherwise: reject", approval.Hold, "acme", 3, true, approval.ReasonCountUnknown},
		{"a rule without a limit", two + "  - {id: c, domain_id: 6e9d*}\n", approval.Accept, "c", 0, false, approval.ReasonAllowed},
		{"a rule that fails otherwise", allowing("limit: 3, expires: 2020-01-01"), approval.Hold, "", 0, false, approval.ReasonNotAllowed},
		{"a rule that cannot be evaluated", allowing("limit: 3, when: 'claims.x == 1'"), approval.Hold, "acme", 0, false, approval.ReasonNotEvaluated},
	} {
		in := connection("payments", acme)
		d := load(t, tt.text).Evaluate(&in)
		if d.Verdict != tt.verdict || d.Rule != tt.rule || d.Limit != tt.limit || d.NeedsCount != tt.needs || d.Reasons[0].Code != tt.reason {
			t.Errorf("%s: %s by %q, limit %d, needs count %v, %q; want %s by %q, limit %d, %v, %s",
				tt.name, d.Verdict, d.Rule, d.Limit, d.NeedsCount, d.Reasons, tt.verdict, tt.rule, tt.limit, tt.needs, tt.reason)
		}
	}
}

func TestWhen(t *testing.T) {
	t.Parallel()
	deny := func(expr string) string {
		return allowing("region: cn-*") + "deny: [{id: no, any_domain: true, when: '" + expr + "'}]\notherwise: reject\n"
	}
	claims := approval.Claims{"level": 3.0, "tags": map[string]any{"env": "prod"}, "names": []any{"a", "b"}}
	tests := []struct {
		name string
		text string
		edit func(in *approval.Input)
		want approval.Verdict
		code approval.ReasonCode // the last
	}{
		{"a fact", allowing(`when: 'facts.created_at > timestamp("2026-01-01T00:00:00Z")'`), nil, approval.Accept, "allowed"},
		{"a fact that is otherwise", allowing(`when: 'facts.created_at > timestamp("2027-01-01T00:00:00Z")'`), nil, approval.Hold, "condition_false"},
		{
			"a time that could not be read is not long ago", allowing(`when: 'facts.created_at < timestamp("2027-01-01T00:00:00Z")'`) + "otherwise: reject",
			func(in *approval.Input) { in.Facts.CreatedAt = time.Time{} }, approval.Hold, "not_evaluated",
		},
		{"ids are in lower case", allowing(`when: 'facts.domain_id == "` + acme + `"'`), nil, approval.Accept, "allowed"},
		{"a claim", allowing(`when: 'claims.tags.env == "prod" && claims.level >= 3.0 && "a" in claims.names'`), nil, approval.Accept, "allowed"},
		{"a claim that is missing", allowing(`when: 'claims.team == "x"'`) + "otherwise: reject", nil, approval.Hold, "not_evaluated"},
		{"a claim that is asked for first", allowing(`when: 'has(claims.team) && claims.team == "x"'`), nil, approval.Hold, "condition_false"},
		{"a claim of another type", allowing(`when: 'claims.level.startsWith("x")'`) + "otherwise: reject", nil, approval.Hold, "not_evaluated"},
		{"now", allowing(`when: 'now.getDayOfWeek("Asia/Shanghai") == 3 && now - facts.created_at < duration("2h")'`), nil, approval.Accept, "allowed"},
		{"the request", allowing(`when: 'request.target == "payments" && request.kind == "service" && facts.region == "cn-north-4"'`), nil, approval.Accept, "allowed"},
		{"a deny", deny(`facts.marker_id == 3`), func(in *approval.Input) { in.Facts.MarkerID = 3 }, approval.Reject, "denied"},
		{"a deny that does not match", deny(`facts.marker_id == 3`), nil, approval.Accept, "allowed"},
		{"a deny that fails neither accepts nor rejects", deny(`claims.missing == 1`), nil, approval.Hold, "not_evaluated"},
		{
			"a deny on facts rejects a liar", deny(`facts.marker_id > 0`),
			func(in *approval.Input) { in.Request.Claims = approval.Claims{"domain_id": nobody} }, approval.Reject, "denied",
		},
		{
			"a deny on claims does not", deny(`has(claims.domain_id)`),
			func(in *approval.Input) { in.Request.Claims = approval.Claims{"domain_id": nobody} }, approval.Hold, "claim_mismatch",
		},
		{
			"too much work", allowing(`when: 'claims.many.all(a, claims.many.all(b, claims.many.all(c, a + b + c > 0.0)))'`) + "otherwise: reject",
			func(in *approval.Input) { in.Request.Claims = approval.Claims{"many": slices.Repeat([]any{1.0}, 1000)} }, approval.Hold, "not_evaluated",
		},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			in := connection("payments", acme)
			in.Request.Claims = claims
			if tt.edit != nil {
				tt.edit(&in)
			}
			d := load(t, tt.text).Evaluate(&in)
			if got := d.Reasons[len(d.Reasons)-1].Code; d.Verdict != tt.want || got != tt.code {
				t.Errorf("%s\n got %s %q\nwant %s %s", tt.text, d.Verdict, d.Reasons, tt.want, tt.code)
			}
		})
	}
}

func TestWhenOfCreations(t *testing.T) {
	t.Parallel()
	set := load(t, `version: 1
policy: f
targets: [functions]
allow: [{id: a, vpc_id: `+endpointA+`, when: 'request.subnet_id.all(s, s.startsWith("9d4c")) && request.xrole == []'}]`)
	in := creation("functions", approval.Creation{FunctionGraph: &approval.FunctionGraphEndpoint{VPCID: endpointA, SubnetID: endpointB}})
	if d := set.Evaluate(&in); d.Verdict != approval.Accept {
		t.Errorf("got %s %q, want accept", d.Verdict, d.Reasons)
	}
	in.Request.Creation.FunctionGraph.XRole = "admin"
	if d := set.Evaluate(&in); d.Verdict != approval.Hold {
		t.Errorf("with an agency: %s %q, want hold", d.Verdict, d.Reasons)
	}
}

func TestShadow(t *testing.T) {
	t.Parallel()
	in := connection("payments", acme)
	shadow := head("new") + "mode: shadow\ndeny: [{id: no, domain_id: " + acme + "}]\n"
	d := load(t, allowing("region: cn-*"), shadow).Evaluate(&in)
	want := &approval.ShadowDecision{
		Verdict: approval.Reject, Policy: "new", Rule: "no",
		Reasons: []approval.Reason{{Code: approval.ReasonDenied, Text: "A rule denies this request."}},
	}
	if diff := cmp.Diff(want, d.Shadow); diff != "" || d.Verdict != approval.Accept {
		t.Errorf("%s, shadow (-want +got):\n%s", d.Verdict, diff)
	}
	d = load(t, shadow).Evaluate(&in)
	if d.Verdict != approval.Hold || d.Policy != "" || !slices.Equal(codes(d.Reasons), []approval.ReasonCode{approval.ReasonNoPolicy, approval.ReasonShadow}) {
		t.Errorf("shadow policies only: %s by %q %q, want hold no_policy, shadow", d.Verdict, d.Policy, d.Reasons)
	}
	if diff := cmp.Diff(want, d.Shadow); diff != "" {
		t.Errorf("shadow policies only (-want +got):\n%s", diff)
	}
	if d := load(t, allowing("region: cn-*")).Evaluate(&in); d.Shadow != nil {
		t.Errorf("without shadow policies: %+v, want none", d.Shadow)
	}
}
