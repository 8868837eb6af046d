package policy

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"testing/fstest"
	"time"

	"github.com/vpcep-approver/vpcep-approver/internal/approval"
	"github.com/vpcep-approver/vpcep-approver/internal/strictyaml"
)

// Public NKeys; nobody has the seeds.
const (
	keyA = "UD4YZAXVRWHJXJ73AEDO5TRN2IEFHSWLRKAO6J7YPJUHSYWUNYOGBMLA"
	keyB = "UBURZSFOSANWVXTAO53K54FFTUZTK3MAQQECVSXJVB3T5WAG2DILSC62"
)

const people = `version: 1
reviewers:
  - {name: ann, email: ann@example.org, groups: [network]}
  - {name: bob, email: bob@example.org, groups: [network]}
  - {name: cid, email: cid@example.org, groups: [network], domains: [` + partnerDomain + `]}
  - {name: dee, email: dee@example.org, groups: [network], expires: 2026-01-01}
  - {name: eve, email: eve@example.org, groups: [other]}
  - {name: fay, email: fay@example.org, groups: [network], roles: [viewer]}
  - {name: gus, email: gus@example.org, groups: [network, other]}
`

const partnerDomain = "11111111111111111111111111111111"

// reviewed loads policies with reviewers.
func reviewed(t testing.TB, reviewers string, texts ...string) *Set {
	t.Helper()
	fsys := folder(texts...)
	fsys[ReviewersFile] = &fstest.MapFile{Data: []byte(reviewers)}
	set, err := Load(fsys, demoTargets())
	if err != nil {
		t.Fatal(err)
	}
	return set
}

func heldInput() *approval.Input {
	target, _ := demoTargets().ByName("payments")
	return &approval.Input{
		Request: approval.Request{ID: approval.RequestID("s", "1"), Target: target, EndpointID: endpointA},
		Facts:   approval.Facts{EndpointID: endpointA, DomainID: acme, MarkerID: 7, State: approval.Pending},
		Now:     noon(), Reviews: &approval.Reviews{HeldAt: noon().Add(-time.Hour)},
	}
}

// say has people say things of in, one minute apart: "+ann" approves, "-bob" rejects,
// "+ann@console" approves through a console.
func say(in *approval.Input, words ...string) *approval.Input {
	out := *in
	reviews := *in.Reviews
	for i, word := range words {
		name, console, _ := strings.Cut(word[1:], "@")
		reviews.Said = append(reviews.Said, approval.Review{
			Reviewer: name, Console: console, Approve: word[0] == '+', Reason: "because", Nonce: fmt.Sprint(i),
			At: in.Reviews.HeldAt.Add(time.Duration(i+1) * time.Minute), Facts: approval.FactsToReview(&in.Request, &in.Facts),
		})
	}
	out.Reviews = &reviews
	return &out
}

func TestReviewsDecideWhatIsHeld(t *testing.T) {
	t.Parallel()
	const review = "review: {by: [network], approvals: 2}\n"
	consoles := people + "consoles:\n  - {name: ops, key: " + keyA + "}\n  - {name: dev, key: " + keyB + "}\n"
	for _, tt := range []struct {
		name   string
		policy string
		said   []string
		want   approval.Verdict
		rule   string
	}{
		{"nobody", review, nil, approval.Hold, ""},
		{"one of two", review, []string{"+ann"}, approval.Hold, ""},
		{"two", review, []string{"+ann", "+bob"}, approval.Accept, RuleReview},
		{"one person twice", review, []string{"+ann", "+ann"}, approval.Hold, ""},
		{"one by default", "review: {by: [network]}\n", []string{"+ann"}, approval.Accept, RuleReview},
		{"a person by name", "review: {by: [eve]}\n", []string{"+eve"}, approval.Accept, RuleReview},
		{"another group", review, []string{"+ann", "+eve"}, approval.Hold, ""},
		{"own account", "review: {by: [cid]}\n", []string{"+cid"}, approval.Accept, RuleReview}, // cid owns another account
		{"expired reviewer", review, []string{"+ann", "+dee"}, approval.Hold, ""},
		{"viewer", review, []string{"+ann", "+fay"}, approval.Hold, ""},
		{"stranger", review, []string{"+ann", "+zoe"}, approval.Hold, ""},
		{"one reject", review, []string{"+ann", "-bob"}, approval.Reject, RuleReview},
		{"a reject first", review, []string{"-bob", "+ann", "+gus"}, approval.Reject, RuleReview},
		{"changed their mind", review, []string{"-bob", "+bob", "+ann"}, approval.Accept, RuleReview},
		{"took it back", review, []string{"+bob", "-bob", "+ann"}, approval.Reject, RuleReview},
		{"a reject of nobody's", review, []string{"-eve"}, approval.Hold, ""},
		{"a mode that never rejects", "mode: accept-only\n" + review, []string{"-ann"}, approval.Hold, RuleReview},
		{"two through one console", review, []string{"+ann@ops", "+bob@ops"}, approval.Hold, ""},
		{"through two consoles", review, []string{"+ann@ops", "+bob@dev"}, approval.Accept, RuleReview},
		{"a console and a key", review, []string{"+ann@ops", "+bob"}, approval.Accept, RuleReview},
		{"trusted console", "review: {by: [network], approvals: 2, trust_consoles: true}\n", []string{"+ann@ops", "+bob@ops"}, approval.Accept, RuleReview},
		{"unknown console", review, []string{"+ann@evil", "+bob"}, approval.Hold, ""},
	} {
		set := reviewed(t, consoles, head("a")+tt.policy)
		d := set.Evaluate(say(heldInput(), tt.said...))
		if d.Verdict != tt.want || d.Rule != tt.rule {
			t.Errorf("%s: %s by %q, want %s by %q", tt.name, d.Verdict, d.Rule, tt.want, tt.rule)
		}
		if d.Rule == RuleReview && (d.Policy != "a" || d.Reviews == nil || len(d.Review) != 0) {
			t.Errorf("%s: the decision says %q, %v, %v", tt.name, d.Policy, d.Reviews, d.Review)
		}
		if d.Verdict == approval.Hold && d.Rule == "" && len(d.Review) != 1 {
			t.Errorf("%s: the decision does not say who may review it", tt.name)
		}
	}
}

func TestReviewsOverrideNothing(t *testing.T) {
	t.Parallel()
	const review = "review: {by: [ann]}\n"
	approve := func(in *approval.Input) *approval.Input { return say(in, "+ann") }
	for name, tt := range map[string]struct {
		policy string
		input  func(*approval.Input)
		want   approval.Verdict
	}{
		"nothing else":               {"", func(*approval.Input) {}, approval.Accept},
		"an entry elsewhere":         {"allow:\n  - {id: x, domain_id: " + acme + ", expires: 2020-01-01}\n", func(*approval.Input) {}, approval.Accept},
		"a deny":                     {"deny:\n  - {id: x, domain_id: " + acme + "}\n", func(*approval.Input) {}, approval.Reject},
		"a deny by claim":            {"deny:\n  - {id: x, domain_id: " + acme + ", claims: {env: bad}}\n", func(in *approval.Input) { in.Request.Claims = approval.Claims{"env": "bad"} }, approval.Hold},
		"a deny that never rejects":  {"mode: accept-only\ndeny:\n  - {id: x, domain_id: " + acme + "}\n", func(*approval.Input) {}, approval.Hold},
		"a claim mismatch":           {"", func(in *approval.Input) { in.Request.Claims = approval.Claims{"domain_id": leftUs} }, approval.Hold},
		"a missing fact":             {"", func(in *approval.Input) { in.Facts.DomainID = "" }, approval.Hold},
		"no number":                  {"", func(in *approval.Input) { in.Facts.MarkerID = 0 }, approval.Hold},
		"a limit":                    {"allow:\n  - {id: x, domain_id: " + acme + ", limit: 1}\n", func(in *approval.Input) { in.Facts.Accepted = approval.Counted(1) }, approval.Hold},
		"a count that was not taken": {"allow:\n  - {id: x, domain_id: " + acme + ", limit: 1}\n", func(*approval.Input) {}, approval.Hold},
		"an expression that fails":   {"allow:\n  - {id: x, domain_id: " + acme + ", when: 'claims.n + 1 > 2'}\n", func(*approval.Input) {}, approval.Hold},
		"other facts than reviewed":  {"", func(in *approval.Input) { in.Facts.MarkerID = 8 }, approval.Accept}, // say() reviews what it sees
	} {
		set := reviewed(t, people, head("a")+review+tt.policy)
		in := heldInput()
		tt.input(in)
		if d := set.Evaluate(approve(in)); d.Verdict != tt.want {
			t.Errorf("%s: %s, want %s (%v)", name, d.Verdict, tt.want, d.Reasons)
		}
	}
}

// TestTheLatestWordCounts, in whichever order the workers counted.
func TestTheLatestWordCounts(t *testing.T) {
	t.Parallel()
	set := reviewed(t, people, head("a")+"review: {by: [network]}\n")
	for said, want := range map[string]approval.Verdict{"-ann +ann": approval.Accept, "+ann -ann": approval.Reject} {
		in := say(heldInput(), strings.Fields(said)...)
		for range 2 {
			if d := set.Evaluate(in); d.Verdict != want {
				t.Errorf("%s: %s, want %s", said, d.Verdict, want)
			}
			slices.Reverse(in.Reviews.Said)
		}
	}
}

func TestReviewsOfOtherFactsDoNotCount(t *testing.T) {
	t.Parallel()
	set := reviewed(t, people, head("a")+"review: {by: [ann]}\n")
	for name, change := range map[string]func(*approval.Facts){
		"account": func(f *approval.Facts) { f.DomainID = leftUs },
		"number":  func(f *approval.Facts) { f.MarkerID = 8 },
	} {
		in := say(heldInput(), "+ann")
		change(&in.Facts)
		if d := set.Evaluate(in); d.Verdict != approval.Hold {
			t.Errorf("another %s: %s", name, d.Verdict)
		}
	}
}

func TestEveryPolicyOfTheTargetMustBeSatisfied(t *testing.T) {
	t.Parallel()
	set := reviewed(t, people, head("a")+"review: {by: [ann]}\n", head("b")+"review: {by: [eve]}\n", head("c"))
	for said, want := range map[string]approval.Verdict{"+ann": approval.Hold, "+eve": approval.Hold, "+ann +eve": approval.Accept, "+ann -eve": approval.Reject} {
		if d := set.Evaluate(say(heldInput(), strings.Fields(said)...)); d.Verdict != want {
			t.Errorf("%s: %s, want %s", said, d.Verdict, want)
		}
	}
	if d := load(t, head("c")).Evaluate(say(heldInput(), "+ann")); d.Verdict != approval.Hold || d.Review != nil {
		t.Errorf("no policy has a review, and it is %s, %v", d.Verdict, d.Review)
	}
}

// TestShadowPoliciesTakeReviews: what a shadow policy would change is told by what
// people said, too.
func TestShadowPoliciesTakeReviews(t *testing.T) {
	t.Parallel()
	for policy, want := range map[string]struct {
		said    string
		verdict approval.Verdict
	}{
		"":                      {"+ann", approval.Accept},
		"review: {by: [eve]}\n": {"+ann", approval.Hold},
		"review: {by: [ann]}\n": {"-ann", approval.Reject},
		"deny: [{id: x, domain_id: " + acme + "}]\n": {"+ann", approval.Reject},
	} {
		set := reviewed(t, people, head("a")+"review: {by: [network]}\n", head("b")+"mode: shadow\n"+policy)
		if d := set.Evaluate(say(heldInput(), want.said)); d.Shadow == nil || d.Shadow.Verdict != want.verdict {
			t.Errorf("%q: with the shadow policies %+v, want %s", policy, d.Shadow, want.verdict)
		}
	}
}

func TestLateReviewsDoNotCount(t *testing.T) {
	t.Parallel()
	set := reviewed(t, people, head("a")+"review: {by: [network], approvals: 2, within: 90s}\n")
	if d := set.Evaluate(say(heldInput(), "+ann", "+bob")); d.Verdict != approval.Hold { // after 1 and 2 minutes
		t.Errorf("a late review: %s", d.Verdict)
	}
	set = reviewed(t, people, head("a")+"review: {by: [network], approvals: 2, within: 2m}\n")
	if d := set.Evaluate(say(heldInput(), "+ann", "+bob")); d.Verdict != approval.Accept { // though it is evaluated an hour later
		t.Errorf("reviews in time: %s", d.Verdict)
	}
}

func TestNobodyReviewsTheirOwn(t *testing.T) {
	t.Parallel()
	set := reviewed(t, strings.ReplaceAll(people, partnerDomain, strings.ToUpper(acme)), head("a")+"review: {by: [network]}\n")
	if d := set.Evaluate(say(heldInput(), "+cid")); d.Verdict != approval.Hold {
		t.Errorf("their own account: %s", d.Verdict)
	}
	for _, who := range []any{"ann", "Ann@example.org", " ann@example.org ", []any{"x", "ann"}} {
		in := heldInput()
		in.Request.Claims = approval.Claims{"requester": who}
		if d := set.Evaluate(say(in, "+ann")); d.Verdict != approval.Hold {
			t.Errorf("requester %v: %s", who, d.Verdict)
		}
		if d := set.Evaluate(say(in, "+bob")); d.Verdict != approval.Accept {
			t.Errorf("requester %v, reviewed by another: %s", who, d.Verdict)
		}
	}
}

func TestReviewState(t *testing.T) {
	t.Parallel()
	set := reviewed(t, people, head("a")+"review: {by: [network], approvals: 2}\n")
	state := set.Review(say(heldInput(), "+ann"))
	if !state.Open || len(state.Rules) != 1 || state.Rules[0].Missing != 1 || strings.Join(state.Rules[0].May, " ") != "bob cid gus" {
		t.Errorf("%+v", state)
	}
	in := heldInput()
	in.Now = in.Reviews.HeldAt.Add(169 * time.Hour)
	if state := set.Review(in); state.Open || !strings.Contains(state.Why, "ended") {
		t.Errorf("after its time: %+v", state)
	}
	in = heldInput()
	in.Facts.DomainID = ""
	if state := set.Review(in); state.Open || !strings.Contains(state.Why, "does not show who owns") {
		t.Errorf("no account: %+v", state)
	}
	limited := reviewed(t, people, head("a")+"review: {by: [network]}\nallow: [{id: x, domain_id: "+acme+", limit: 1}]\n")
	in = heldInput()
	in.Facts.Accepted = approval.Counted(1)
	if state := limited.Review(in); state.Open || !strings.Contains(state.Why, "limit") {
		t.Errorf("a limit is reached: %+v", state)
	}
}

func TestCheckReviewSaysWhy(t *testing.T) {
	t.Parallel()
	set := reviewed(t, people, head("a")+"review: {by: [network], within: 10m}\n")
	for _, tt := range []struct {
		who, code string
		change    func(in *approval.Input, r *approval.Review)
	}{
		{"ann", "", nil},
		{"zoe", RefusedUnknownReviewer, nil},
		{"dee", RefusedReviewerExpired, nil},
		{"fay", RefusedRole, nil},
		{"eve", RefusedGroup, nil},
		{"ann", RefusedUnknownConsole, func(_ *approval.Input, r *approval.Review) { r.Console = "evil" }},
		{"ann", RefusedFactsChanged, func(_ *approval.Input, r *approval.Review) { r.Facts.MarkerID++ }},
		{"ann", RefusedFactsChanged, func(_ *approval.Input, r *approval.Review) { r.Facts = approval.ReviewedFacts{} }},
		{"ann", RefusedLate, func(_ *approval.Input, r *approval.Review) { r.At = r.At.Add(time.Hour) }},
		{"ann", RefusedOwnRequest, func(in *approval.Input, _ *approval.Review) { in.Request.Claims = approval.Claims{"requester": "ann"} }},
		{"ann", RefusedNotReviewable, func(in *approval.Input, _ *approval.Review) { in.Request.Claims = approval.Claims{"domain_id": leftUs} }},
	} {
		in := say(heldInput(), "+"+tt.who)
		r := in.Reviews.Said[0]
		in.Reviews.Said = nil
		if tt.change != nil {
			tt.change(in, &r)
		}
		why := set.CheckReview(in, &r)
		switch {
		case why == nil && tt.code == "":
		case why == nil || why.Code != tt.code || why.Text == "":
			t.Errorf("%s: %v, want %q", tt.who, why, tt.code)
		}
	}
	if why := load(t, head("a")).CheckReview(heldInput(), &approval.Review{Reviewer: "ann"}); why == nil || why.Code != RefusedUnknownReviewer {
		t.Errorf("without reviewers: %v", why)
	}
}

func TestReviewersFileErrors(t *testing.T) {
	t.Parallel()
	person := func(rest string) string {
		return "version: 1\nreviewers:\n  - {name: ann, email: ann@example.org" + rest + "}\n"
	}
	for _, tt := range []struct{ name, reviewers, policy, want string }{
		{"no file", "", "review: {by: [ann]}\n", "no-reviewers"},
		{"unknown name", person(""), "review: {by: [anna]}\n", "unknown-reviewer"},
		{"too few people", person(""), "review: {by: [ann], approvals: 2}\n", "no-effect"},
		{"nobody", person(""), "review: {by: []}\n", "no-effect"},
		{"unknown key", person(", foo: 1"), "", "unknown-key"},
		{"a seed", person(", key: SUAGZ5BMXS6AGPDNZTEGSSPBBKYVWMFWBLHHVBM4SWXYZ3FAKEFAKEFAKE"), "", "key"},
		{"two of a name", person("") + "  - {name: ann, email: b@example.org}\n", "", "duplicate-reviewer"},
		{"two of an email", person("") + "  - {name: bob, email: Ann@example.org}\n", "", "duplicate-reviewer"},
		{"two of a key", person(", key: "+keyA) + "consoles:\n  - {name: ops, key: " + keyA + "}\n", "", "duplicate-reviewer"},
		{"a group like a person", person("") + "  - {name: bob, email: b@example.org, groups: [ann]}\n", "", "duplicate-reviewer"},
		{"not an account", person(", domains: [nonsense]"), "", "id"},
		{"no email", "version: 1\nreviewers:\n  - {name: ann, email: nonsense}\n", "", "email"},
		{"role", person(", roles: [boss]"), "", "choice"},
		{"long", person(""), "review: {by: [ann], within: 9999h}\n", "duration"},
		{"version", "version: 2\nreviewers: []\n", "", "version"},
	} {
		fsys := folder(head("a") + tt.policy)
		if tt.reviewers != "" {
			fsys[ReviewersFile] = &fstest.MapFile{Data: []byte(tt.reviewers)}
		}
		_, err := Load(fsys, demoTargets())
		bad, ok := errors.AsType[*strictyaml.Error](err)
		if !ok {
			t.Errorf("%s: %v, want findings", tt.name, err)
			continue
		}
		found := false
		for _, f := range bad.Findings {
			found = found || f.Code == tt.want && f.Line > 0
			if strings.Contains(f.Long(), "FAKE") {
				t.Errorf("%s: the finding shows a seed: %s", tt.name, f.Long())
			}
		}
		if !found {
			t.Errorf("%s: %v, want the code %s with its place", tt.name, err, tt.want)
		}
	}
}
