package faulttest

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/vpcep-approver/vpcep-approver/internal/approval"
)

// asked is one event that was submitted, whatever became of it.
type asked struct {
	RequestID string // of a well-formed event
	Subject   string // what it would change; see approval.Request.Subject
	Bad       bool   // must end as a dead letter
	Reason    string // of the dead letter, if the test cares
	Mark      string // header by which a dead letter is told from others
	Outcomes  []approval.Outcome
}

// truth is what the test knows of a subject and no event can change.
type truth struct {
	Domain  string        // that owns the endpoint
	Allowed bool          // an allow entry matches and no deny entry does
	Denied  bool          // a deny entry matches, or the target rejects by default
	Former  []formerTruth // what was true before, oldest first
}

// formerTruth is what was true until something changed.
type formerTruth struct {
	Until time.Time
	Truth truth
}

// oneLook is how long at most a worker goes by what it read: until it calls, and
// while the call is under way.
const oneLook = 45*time.Second + 15*time.Second

// seenAt returns what a worker may take for true that acts at a time: what is true
// then, and what was true when it may have looked last.
func (t truth) seenAt(at time.Time) []truth {
	var out []truth
	for _, f := range t.Former {
		if f.Until.After(at.Add(-oneLook)) {
			out = append(out, f.Truth)
		}
		if f.Until.After(at) {
			return out
		}
	}
	return append(out, t)
}

// everTrue reports whether is was true of a subject at any time.
func (t truth) everTrue(is func(truth) bool) bool {
	return is(t) || slices.ContainsFunc(t.Former, func(f formerTruth) bool { return is(f.Truth) })
}

func allowed(t truth) bool { return t.Allowed }
func denied(t truth) bool  { return t.Denied }

// effect is something that the cloud really did, as it counted itself.
type effect struct {
	At      time.Time
	Subject string
	Did     approval.Verdict
}

// version is one stored value of a request's entry and when the broker took it.
type version struct {
	At    time.Time
	Entry approval.Entry
}

// published is a message of the stream of results.
type published struct {
	RequestID string
	Outcome   approval.Outcome
	EventID   string // of the result event
}

// deadLetter is a message of the stream of dead letters.
type deadLetter struct {
	Reason string
	Mark   string // of the event it was
}

// history is everything that is left behind by a failure test.
type history struct {
	Asked   []asked
	Truths  map[string]truth // by subject
	Effects []effect
	Entries map[string][]version // by request id, oldest first
	Results []published
	Dead    []deadLetter
}

// findings is what the checker has against a history.
type findings struct {
	Lost, Doubled, Wrong []string
}

func (f findings) none() bool { return len(f.Lost)+len(f.Doubled)+len(f.Wrong) == 0 }

func (f *findings) join(g findings) {
	f.Lost = append(f.Lost, g.Lost...)
	f.Doubled = append(f.Doubled, g.Doubled...)
	f.Wrong = append(f.Wrong, g.Wrong...)
}

func (f findings) String() string {
	var b strings.Builder
	for _, kind := range []struct {
		name string
		all  []string
	}{{"lost", f.Lost}, {"doubled", f.Doubled}, {"wrong", f.Wrong}} {
		for i, text := range kind.all {
			if i == 8 {
				fmt.Fprintf(&b, "\n%s: … and %d more", kind.name, len(kind.all)-i)
				break
			}
			fmt.Fprintf(&b, "\n%s: %s", kind.name, text)
		}
	}
	return b.String()
}

func (f *findings) lost(format string, args ...any) {
	f.Lost = append(f.Lost, fmt.Sprintf(format, args...))
}

func (f *findings) doubled(format string, args ...any) {
	f.Doubled = append(f.Doubled, fmt.Sprintf(format, args...))
}

func (f *findings) wrong(format string, args ...any) {
	f.Wrong = append(f.Wrong, fmt.Sprintf(format, args...))
}

// check holds h to the six invariants. It is the only judge of all tests here.
func check(h history) findings {
	var f findings
	checkEnds(h, &f)
	checkResults(h, &f)
	checkActions(h, &f)
	return f
}

// checkEnds is the first invariant.
func checkEnds(h history, f *findings) {
	results, dead := map[string]int{}, map[string]int{}
	outcomes := map[string]approval.Outcome{}
	for _, r := range h.Results {
		results[r.RequestID]++
		outcomes[r.RequestID] = r.Outcome
	}
	for _, d := range h.Dead {
		dead[d.Mark]++
	}
	told := map[string]bool{}
	for _, a := range h.Asked {
		if told[a.RequestID+a.Mark] {
			continue // a repeat of the same event
		}
		told[a.RequestID+a.Mark] = true
		n, d := results[a.RequestID], dead[a.Mark]
		switch {
		case a.Bad && n > 0 && a.RequestID != "":
			f.wrong("bad event %s was answered as request %s", a.Mark, a.RequestID)
		case a.Bad && d == 0:
			f.lost("bad event %s has no dead letter", a.Mark)
		case a.Bad && d > 1:
			f.doubled("bad event %s has %d dead letters", a.Mark, d)
		case a.Bad:
		case n == 0 && d == 0:
			f.lost("request %s (%s) has neither result nor dead letter%s", a.RequestID, a.Subject, stand(h.Entries[a.RequestID]))
		case n > 0 && d > 0:
			f.doubled("request %s (%s) has a result and a dead letter", a.RequestID, a.Subject)
		case d > 0:
			f.wrong("request %s (%s) is good and ended as a dead letter", a.RequestID, a.Subject)
		case len(a.Outcomes) > 0 && !slices.Contains(a.Outcomes, outcomes[a.RequestID]):
			f.wrong("request %s (%s) ended %s, not one of %v", a.RequestID, a.Subject, outcomes[a.RequestID], a.Outcomes)
		}
	}
	for _, a := range h.Asked {
		if a.Bad && a.Reason != "" && dead[a.Mark] > 0 && !slices.ContainsFunc(h.Dead, func(d deadLetter) bool { return d.Mark == a.Mark && d.Reason == a.Reason }) {
			f.wrong("bad event %s is no dead letter with reason %s", a.Mark, a.Reason)
		}
	}
}

// stand says how far a request got, for the one who has to find out why.
func stand(versions []version) string {
	if len(versions) == 0 {
		return "; nothing is in the ledger"
	}
	e := versions[len(versions)-1].Entry
	return fmt.Sprintf("; the ledger says %s, acted at %v, result %v", e.Decision.Verdict, e.ActedAt, e.Result != nil)
}

// checkResults is the fifth invariant, and that results say what the ledger says.
func checkResults(h history, f *findings) {
	count, ids := map[string]int{}, map[string]string{}
	for _, r := range h.Results {
		if count[r.RequestID]++; count[r.RequestID] == 2 {
			f.doubled("request %s has more than one result", r.RequestID)
		}
		if other, ok := ids[r.EventID]; ok && other != r.RequestID {
			f.wrong("requests %s and %s share the result event id %s", other, r.RequestID, r.EventID)
		}
		ids[r.EventID] = r.RequestID

		versions := h.Entries[r.RequestID]
		if len(versions) == 0 {
			f.wrong("the result of %s has no entry in the ledger", r.RequestID)
			continue
		}
		e := versions[len(versions)-1].Entry
		if e.Result == nil || e.Result.Outcome != r.Outcome {
			f.wrong("the result of %s says %s and the ledger does not", r.RequestID, r.Outcome)
			continue
		}
		t, known := h.Truths[e.Request.Subject()]
		switch {
		case !known:
		case r.Outcome == approval.OutcomeRejected && !t.everTrue(denied):
			f.wrong("request %s (%s) ended rejected and nothing denies it", r.RequestID, e.Request.Subject())
		case r.Outcome == approval.OutcomeAccepted && !t.everTrue(allowed):
			f.wrong("request %s (%s) ended accepted and nothing allows it", r.RequestID, e.Request.Subject())
		}
	}
}

// checkActions is the second, third, fourth and sixth invariant.
func checkActions(h history, f *findings) {
	bySubject := map[string][][]version{}
	for _, versions := range h.Entries {
		if len(versions) > 0 {
			s := versions[0].Entry.Request.Subject()
			bySubject[s] = append(bySubject[s], versions)
		}
	}
	type action struct {
		subject string
		did     approval.Verdict
	}
	count := map[action]int{}
	for _, e := range h.Effects {
		a := action{e.Subject, e.Did}
		if count[a]++; count[a] == 2 {
			f.doubled("%s was done more than once to %s", e.Did, e.Subject)
		}
		if e.Did == approval.Reject && count[action{e.Subject, approval.Accept}] > 0 {
			f.wrong("%s was accepted and then rejected", e.Subject)
		}
		if e.Did == approval.Accept && count[action{e.Subject, approval.Reject}] > 0 {
			f.wrong("%s was rejected and then accepted", e.Subject)
		}
		t, known := h.Truths[e.Subject]
		switch {
		case !known:
			f.wrong("%s was done to %s, of which no event spoke", e.Did, e.Subject)
		case e.Did == approval.Accept && !slices.ContainsFunc(t.seenAt(e.At), allowed):
			f.wrong("%s was accepted and nothing allows %q", e.Subject, t.Domain)
		case e.Did == approval.Reject && !slices.ContainsFunc(t.seenAt(e.At), denied):
			f.wrong("%s was rejected and nothing denies %q", e.Subject, t.Domain)
		}
		if why := recordedBefore(e, t, bySubject[e.Subject]); why != "" {
			f.wrong("%s of %s: %s", e.Did, e.Subject, why)
		}
	}
}

// kept is how many values the bucket keeps of a key: the first that is seen may
// not be the first that was.
const kept = 8

// recordedBefore tells what is wrong with the records of an action; empty if the
// decision that stood when it was done asks for it, on the right facts.
func recordedBefore(e effect, t truth, records [][]version) string {
	why := "no decision record asks for it"
	for _, versions := range records {
		// What is stored before a request is decided says nothing, and a decision
		// of which nothing was done may have been replaced.
		standing := slices.IndexFunc(versions, func(v version) bool { return v.Entry.Decision.Verdict != "" })
		if standing < 0 {
			continue
		}
		forgotten := standing == 0 && len(versions) >= kept
		for i := standing; i < len(versions) && !versions[i].At.After(e.At); i++ {
			standing, forgotten = i, false
		}
		d := versions[standing].Entry.Decision
		if d.Verdict != e.Did {
			continue
		}
		at := versions[standing].At
		if forgotten {
			at = d.At
		}
		switch {
		case at.After(e.At):
			why = fmt.Sprintf("the decision was recorded %s after it was done", at.Sub(e.At))
		case d.Rule == "" && e.Did == approval.Accept, d.Policy == "" && d.Reviews == nil: // reviews may be those of several policies
			why = "the decision names no policy and rule"
		case t.Domain != "" && !slices.ContainsFunc(t.seenAt(e.At), func(t truth) bool { return t.Domain == d.Facts.DomainID }):
			why = fmt.Sprintf("the decision was made on domain %q, and the cloud says %q", d.Facts.DomainID, t.Domain)
		default:
			return ""
		}
	}
	return why
}
