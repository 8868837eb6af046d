package workbench

import (
	"bytes"
	"encoding/json"
	"io/fs"
	"strings"
	"testing"
	"testing/fstest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/vpcep-approver/vpcep-approver/internal/approval"
	"github.com/vpcep-approver/vpcep-approver/internal/policy"
)

const (
	someone = "UD4YZAXVRWHJXJ73AEDO5TRN2IEFHSWLRKAO6J7YPJUHSYWUNYOGBMLA" // a public key; nobody has the seed

	people = `version: 1
reviewers:
  - {name: ann, email: ann@example.org, groups: [network]}
  - {name: bob, email: bob@example.org, groups: [network]}
  - {name: cid, email: cid@example.org, groups: [network], domains: [` + staging + `]}
  - {name: eve, email: eve@example.org, groups: [other]}
consoles:
  - {name: ops, key: ` + someone + `}
`
	twoOfThem = "review: {by: [network], approvals: 2, within: 72h}\n"
)

// withPeople is a folder of policies with a reviewers.yaml.
func withPeople(reviewers string, texts ...string) fstest.MapFS {
	fsys := folder(texts...)
	fsys[policy.ReviewersFile] = &fstest.MapFile{Data: []byte(reviewers)}
	return fsys
}

func loadFS(t testing.TB, fsys fs.FS) *policy.Set {
	t.Helper()
	set, err := policy.Load(fsys, demoTargets())
	if err != nil {
		t.Fatal(err)
	}
	return set
}

// held is a request that nothing allows, and what ann and bob said of it.
func held(domain string, names ...string) approval.Input {
	in := connection("payments", domain)
	in.Reviews = &approval.Reviews{HeldAt: noon().Add(-time.Hour)}
	for i, name := range names {
		in.Reviews.Said = append(in.Reviews.Said, approval.Review{
			Reviewer: name, Approve: true, Reason: "ticket 4711", At: in.Reviews.HeldAt.Add(time.Duration(i+1) * time.Minute),
			Facts: approval.FactsToReview(&in.Request, &in.Facts), Nonce: name,
		})
	}
	return in
}

// TestPolicyTestsTakeReviews: a review of a test counts as it would on the bus.
func TestPolicyTestsTakeReviews(t *testing.T) {
	t.Parallel()
	fsys := withPeople(people, head("p")+twoOfThem+"allow: [{id: few, domain_id: "+insight+", limit: 1}]\ndeny: [{id: left, domain_id: "+leftUs+"}]\n")
	fsys["p_test.yaml"] = &fstest.MapFile{Data: []byte(`version: 1
now: 2026-11-18T12:00:00Z
targets: [{name: payments, kind: service}]
tests:
  - name: nobody said anything
    request: {target: payments}
    facts: {domain_id: ` + acme + `}
    expect: {verdict: hold, missing: 2, may_review: [ann, bob, cid], refused: []}
  - name: one of two
    request: {target: payments}
    facts: {domain_id: ` + acme + `}
    reviews: [{reviewer: ann, verdict: approve}]
    expect: {verdict: hold, missing: 1, may_review: [bob, cid]}
  - name: two of two
    request: {target: payments}
    facts: {domain_id: ` + acme + `}
    held_at: 2026-11-16T12:00:00Z
    reviews:
      - {reviewer: bob, verdict: approve, time: 2026-11-18T11:00:00Z, console: ops, reason: known}
      - {reviewer: ann, verdict: approve, time: 2026-11-17T11:00:00Z}
    expect: {verdict: accept, policy: p, rule: review, reasons: [approved], missing: 0, may_review: []}
  - name: a reject ends it
    request: {target: payments}
    facts: {domain_id: ` + acme + `}
    reviews: [{reviewer: ann, verdict: reject}, {reviewer: bob, verdict: approve}]
    expect: {verdict: reject, rule: review, reasons: [rejected_by_review], refused: [already_decided]}
  - name: who does not count
    request: {target: payments, claims: {requester: bob}}
    facts: {domain_id: ` + staging + `}
    held_at: 2026-11-18T10:00:00Z
    reviews:
      - {reviewer: bob, verdict: approve}
      - {reviewer: cid, verdict: approve}
      - {reviewer: eve, verdict: approve}
      - {reviewer: zoe, verdict: approve}
      - {reviewer: ann, verdict: approve, console: elsewhere}
    expect: {verdict: hold, missing: 2, may_review: [ann], refused: [own_request, own_request, not_a_reviewer_of_the_policy, unknown_reviewer, unknown_console]}
  - name: too late
    request: {target: payments}
    facts: {domain_id: ` + acme + `}
    held_at: 2026-11-15T11:00:00Z
    reviews: [{reviewer: ann, verdict: approve}]
    expect: {verdict: hold, missing: 0, refused: [review_expired]}
  - name: a limit that is reached
    request: {target: payments}
    facts: {domain_id: ` + insight + `, accepted: 1}
    reviews: [{reviewer: ann, verdict: approve}]
    expect: {verdict: hold, reasons: [not_allowed, limit_reached], missing: 0, refused: [not_reviewable]}
  - name: a deny
    request: {target: payments}
    facts: {domain_id: ` + leftUs + `}
    reviews: [{reviewer: ann, verdict: approve}]
    expect: {verdict: reject, rule: left, refused: [not_reviewable]}
  - name: fails
    request: {target: payments}
    facts: {domain_id: ` + acme + `}
    reviews: [{reviewer: ann, verdict: approve}, {reviewer: eve, verdict: approve}]
    expect: {verdict: accept, missing: 0, may_review: [bob], refused: []}
  - name: fails, and cannot be reviewed
    request: {target: payments, claims: {domain_id: ` + nobody + `}}
    facts: {domain_id: ` + acme + `}
    expect: {verdict: hold, missing: 2, may_review: [ann]}
`)}
	report, err := runTests(t, fsys, nil)
	if err != nil {
		t.Fatal(err)
	}
	for _, r := range report.Results {
		if r.Passed == strings.HasPrefix(r.Name, "fails") {
			t.Errorf("%s: passed %v: %s", r.Name, r.Passed, r.Diff)
		}
	}
	var b strings.Builder
	if err := report.WriteText(&b, true); err != nil {
		t.Fatal(err)
	}
	set := loadFS(t, fsys)
	golden(t, "reviews.golden", strings.ReplaceAll(b.String(), set.Digest(), "sha256:…"))
}

// TestReviewsOutOfTime: a review of a test is between the hold and the decision.
func TestReviewsOutOfTime(t *testing.T) {
	t.Parallel()
	for _, at := range []string{"2026-11-18T12:00:01Z", "2026-11-18T09:59:59Z"} {
		fsys := withPeople(people, head("p")+twoOfThem)
		fsys["p_test.yaml"] = &fstest.MapFile{Data: []byte(`version: 1
targets: [{name: payments, kind: service}]
tests:
  - name: a
    now: 2026-11-18T12:00:00Z
    request: {target: payments}
    facts: {domain_id: ` + acme + `}
    held_at: 2026-11-18T10:00:00Z
    reviews: [{reviewer: ann, verdict: approve}, {reviewer: bob, verdict: approve, time: ` + at + `}]
    expect: {verdict: hold}
`)}
		if _, err := runTests(t, fsys, nil); err == nil || !strings.Contains(err.Error(), "reviews[1].time") {
			t.Errorf("%s: %v, want an error about the second review", at, err)
		}
	}
}

func TestExplainShowsReviews(t *testing.T) {
	t.Parallel()
	set := loadFS(t, withPeople(people, head("p")+twoOfThem+"deny: [{id: left, domain_id: "+leftUs+", claims: {env: bad}}]\n", head("q")+"review: {by: [eve]}\n"))
	var b bytes.Buffer
	for _, tt := range []struct {
		name  string
		input approval.Input
	}{
		{"nobody said anything", held(acme)},
		{"one of two, and one who may not", held(acme, "ann", "zoe")},
		{"approved", held(acme, "ann", "eve", "bob")},
		{"a missing fact", held("")},
		{"without a record of reviews", connection("payments", acme)},
	} {
		b.WriteString("# " + tt.name + "\n")
		x := Explain(set, &tt.input)
		if err := x.WriteText(&b); err != nil {
			t.Fatal(err)
		}
		var wire bytes.Buffer
		if err := writeJSON(&wire, x.JSON()); err != nil {
			t.Fatal(err)
		}
		var v struct{ Reviews json.RawMessage }
		if err := json.Unmarshal(wire.Bytes(), &v); err != nil {
			t.Fatal(err)
		}
		b.Write(append(v.Reviews, '\n', '\n'))
	}
	golden(t, "explain_reviews.golden", strings.ReplaceAll(b.String(), set.Digest(), "sha256:…"))

	none := loadFS(t, withPeople(people, head("p")))
	in := held(acme)
	if x := Explain(none, &in); x.Reviews != nil {
		t.Errorf("no policy has a review, and it explains %+v", x.Reviews)
	}
}

func TestDiffShowsWhoMayReview(t *testing.T) {
	t.Parallel()
	before := loadFS(t, withPeople(people, head("p")+twoOfThem, head("q")+"review: {by: [eve]}\n"))
	after := loadFS(t, withPeople(strings.NewReplacer(
		"ann@example.org, groups: [network]", "ann@example.org, groups: [other], expires: 2027-01-31",
		"  - {name: bob, email: bob@example.org, groups: [network]}\n", "  - {name: dee, key: "+someone+", groups: [network]}\n",
		"consoles:\n  - {name: ops, key: "+someone+"}\n", "",
	).Replace(people), head("p")+"review: {by: [network], within: 24h, trust_consoles: true}\n", head("q"), head("r")+"review: {by: [eve]}\n"))
	var b strings.Builder
	if err := WriteChanges(&b, Diff(before, after)); err != nil {
		t.Fatal(err)
	}
	golden(t, "diff_reviews.golden", b.String())
	if d := Diff(before, before); len(d) != 0 {
		t.Errorf("a set differs from itself: %v", d)
	}
}

// TestBacktestCountsReviewsAgain: what people decided is decided again by their
// reviews, under the reviewers of the candidate.
func TestBacktestCountsReviewsAgain(t *testing.T) {
	t.Parallel()
	old := loadFS(t, withPeople(people, head("p")+twoOfThem))
	approved, rejected, open := held(acme, "ann", "bob"), held(insight, "ann"), held(staging, "ann")
	rejected.Reviews.Said[0].Approve = false
	var rs []Record
	for i, in := range []approval.Input{approved, rejected, open} {
		in.Request.ID = string(rune('a' + i))
		rs = append(rs, RecordOf(approval.Entry{Request: in.Request, Decision: old.Evaluate(&in)}))
	}
	for name, tt := range map[string]struct {
		people, policy string
		want           []string
	}{
		"the same":           {people, twoOfThem, nil},
		"one is enough":      {people, "review: {by: [network]}\n", nil},
		"three are needed":   {people, "review: {by: [network], approvals: 3}\n", []string{"accept>hold"}},
		"another group":      {people, "review: {by: [other]}\n", []string{"accept>hold", "reject>hold"}},
		"without ann":        {strings.Replace(people, "ann@example.org, groups: [network]", "ann@example.org, groups: [other]", 1), twoOfThem, []string{"accept>hold", "reject>hold"}},
		"ann has left":       {strings.Replace(people, "groups: [network]", "groups: [network], expires: 2026-11-01", 1), twoOfThem, []string{"accept>hold", "reject>hold"}},
		"no review":          {people, "", []string{"accept>hold", "reject>hold"}},
		"less time":          {people, "review: {by: [network], approvals: 2, within: 90s}\n", []string{"accept>hold"}},
		"a mode":             {people, "mode: accept-only\n" + twoOfThem, []string{"reject>hold"}},
		"a deny":             {people, twoOfThem + "deny: [{id: no, domain_id: " + acme + "}]\n", []string{"accept>reject"}},
		"bob's own account":  {strings.Replace(people, "bob@example.org, groups: [network]", "bob@example.org, groups: [network], domains: ["+acme+"]", 1), twoOfThem, []string{"accept>hold"}},
		"a limit is unknown": {people, twoOfThem + "allow: [{id: few, domain_id: " + acme + ", limit: 3}]\n", []string{"accept>unknown"}},
	} {
		flips, err := Backtest(records(rs...), loadFS(t, withPeople(tt.people, head("p")+tt.policy)), nil, demoTargets())
		if err != nil {
			t.Fatal(err)
		}
		var got []string
		for _, f := range append(flips.Flips, flips.Inconclusive...) {
			got = append(got, string(f.From)+">"+string(f.To))
		}
		if diff := cmp.Diff(tt.want, got); diff != "" || flips.Total != 3 {
			t.Errorf("%s: %d compared, flips (-want +got):\n%s", name, flips.Total, diff)
		}
	}
}
