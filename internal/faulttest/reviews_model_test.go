package faulttest

import (
	"flag"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"pgregory.net/rapid"

	"github.com/vpcep-approver/vpcep-approver/internal/approval"
	"github.com/vpcep-approver/vpcep-approver/internal/cloud/simulator"
	"github.com/vpcep-approver/vpcep-approver/internal/policy"
)

// reviewStep is one thing that happens in a story of reviews.
type reviewStep struct {
	After   time.Duration
	Do      string
	On      int    // which connection or review, counted round
	Who     string // the account of a new connection
	Where   string // its target
	Own     bool   // the event says that ann asked for it
	By      string // the reviewer
	Approve bool
	Console bool
	Kind    string // of a cheat
	Set     int
	State   string
}

func reviewStepKinds() []string {
	return []string{
		"connect", "connect", "ask again", "review", "review", "review", "review", "review", "both", "both",
		"cheat", "cheat", "cheat", "policies", "identity", "person", "delete",
	}
}

func drawReviewStory(t *rapid.T) (steps []reviewStep, dooms, faults []mishap) {
	kinds := slices.Sorted(maps.Keys(cheats()))
	step := rapid.Custom(func(t *rapid.T) reviewStep {
		return reviewStep{
			After: time.Duration(rapid.IntRange(0, 20).Draw(t, "after")) * time.Second,
			Do:    rapid.SampledFrom(reviewStepKinds()).Draw(t, "do"),
			On:    rapid.IntRange(0, 5).Draw(t, "on"),
			Who:   rapid.SampledFrom([]string{stranger, stranger, stranger, stranger, partner, banned}).Draw(t, "who"),
			Where: rapid.SampledFrom([]string{"payments", "orders"}).Draw(t, "where"),
			Own:   rapid.IntRange(0, 3).Draw(t, "own") == 3,
			By:    rapid.SampledFrom([]string{"ann", "bob", "ann", "bob", "cid", "dan", "eve", "eve", "gus"}).Draw(t, "by"), Approve: rapid.IntRange(0, 4).Draw(t, "approve") < 4,
			Console: rapid.IntRange(0, 2).Draw(t, "console") == 2,
			Kind:    rapid.SampledFrom(kinds).Draw(t, "kind"),
			Set:     rapid.IntRange(0, len(reviewSets())-1).Draw(t, "set"),
			State:   rapid.SampledFrom([]string{simulator.Accepted, simulator.Rejected}).Draw(t, "state"),
		}
	})
	mishaps := func(label string, most int, kinds ...string) []mishap {
		return rapid.SliceOfN(rapid.Custom(func(t *rapid.T) mishap {
			return mishap{Gap: rapid.IntRange(1, 12).Draw(t, "gap"), Kind: rapid.SampledFrom(kinds).Draw(t, "kind")}
		}), 0, most).Draw(t, label)
	}
	steps = append([]reviewStep{{Do: "connect", Who: stranger, Where: "payments"}}, rapid.SliceOfN(step, 2, 24).Draw(t, "steps")...)
	return append(steps, reviewStep{Do: "end"}), mishaps("dooms", 6, "kill", "stall 5s", "stall 25s"), mishaps("faults", 5, "before", "after", "429", "500", "html", "slow")
}

// reviewed is what the reference knows of one connection.
type reviewed struct {
	request approval.Request
	own     bool // ann asked for it
	was     []identity
	touched bool // a person decided it in the cloud, or deleted it
}

// identity is what an endpoint is since a time.
type identity struct {
	since  time.Time
	domain string
	marker int64
}

// change is a set of policies since a time.
type change struct {
	since time.Time
	set   int
}

// reviewModel runs stories of reviews and says what each may come to.
type reviewModel struct {
	*office
	t        *testing.T
	log      *model // the mishaps, and all that happened
	things   []*reviewed
	changes  []change
	speaking []*spoken
}

// take does one step.
func (m *reviewModel) take(s reviewStep, n int) {
	pass(m.ctx, s.After)
	m.log.note(fmt.Sprintf("step %d: %s", n, s.Do))
	if s.Do == "connect" {
		m.connect(s, n)
		return
	}
	if s.Do == "policies" {
		m.inForce.Store(int32(s.Set))
		m.changes = append(m.changes, change{time.Now(), s.Set})
		return
	}
	if len(m.things) == 0 {
		return
	}
	t := m.things[s.On%len(m.things)]
	switch s.Do {
	case "ask again":
		m.submit(m.event(t.request, fmt.Sprintf("reviews-%d", n)))
	case "review":
		m.speak(m.honest(m.t, t.request, s.By, s.Approve, s.Console))
	case "both":
		m.speak(m.honest(m.t, t.request, "ann", s.Approve, false))
		m.speak(m.honest(m.t, t.request, "bob", !s.Approve, s.Console))
	case "cheat":
		var earlier *spoken
		if s.Kind == "a copy" {
			if earlier = m.counted(s.On); earlier == nil {
				return
			}
		}
		m.speak(m.cheat(m.t, s.Kind, t.request, s.Approve, earlier))
	case "identity":
		if !t.touched {
			to := identity{time.Now(), s.Who, int64(1_000_000 + n)}
			t.was = append(t.was, to)
			m.reidentify(t.request, simulator.Identity{DomainID: to.domain, MarkerID: to.marker}, reviewTruth)
		}
	case "person":
		if !t.touched {
			t.touched = true
			m.sim.SetState(t.request.EndpointID, s.State)
		}
	case "delete":
		t.touched = true
		m.sim.Delete(t.request.EndpointID)
	}
}

// reviewTruth is what may be true of an account by any of the sets and reviews.
func reviewTruth(domain string) truth {
	return truth{Domain: domain, Allowed: domain != banned, Denied: domain != partner}
}

func (m *reviewModel) connect(s reviewStep, n int) {
	t := &reviewed{own: s.Own, was: []identity{{time.Now(), s.Who, int64(n + 1)}}}
	t.request = m.connectAs(s.Where, simulator.Connection{DomainID: s.Who, MarkerID: int64(n + 1), State: simulator.PendingAcceptance})
	if s.Own {
		t.request.Claims = approval.Claims{"requester": "ann@example.org"}
	}
	m.ground.mu.Lock()
	m.truths[t.request.Subject()] = reviewTruth(s.Who)
	m.ground.mu.Unlock()
	m.things = append(m.things, t)
	t.request = m.event(t.request, fmt.Sprintf("reviews-%d", n))
	m.submit(t.request)
}

func (m *reviewModel) speak(s *spoken) {
	m.speaking = append(m.speaking, s)
	m.say(s)
}

// counted is a review that has been counted.
func (m *reviewModel) counted(on int) *spoken {
	m.mu.Lock()
	defer m.mu.Unlock()
	var out []*spoken
	for _, s := range m.speaking {
		if s.ended && s.refused == "" {
			out = append(out, s)
		}
	}
	if len(out) == 0 {
		return nil
	}
	return out[on%len(out)]
}

// within returns the values of a history that held at any time of a span.
func within[T any](all []T, since func(T) time.Time, from, to time.Time) []T {
	var out []T
	for i, v := range all {
		ended := i+1 < len(all) && !since(all[i+1]).After(from)
		if !since(v).After(to) && !ended {
			out = append(out, v)
		}
	}
	return out
}

// eligible reports whether a person may review for a rule, for a stranger's connection.
func (t *reviewed) eligible(rule reviewRule, who string, now time.Time) bool {
	switch {
	case rule.group == "audit":
		return who == "eve"
	case who == "ann":
		return !t.own
	case who == "dan":
		return now.Before(time.Unix(946684800, 0).Add(danLeaves))
	}
	return who == "bob" || who == "gus"
}

// verdict is the reference: what a set makes of an identity, by what people have said
// until then. A review counts from when it was stored, if that is asked for, or from
// when its end was heard of: it is between the two that a worker writes it.
func (m *reviewModel) verdict(t *reviewed, set reviewSet, is identity, at time.Time, stored bool) approval.Verdict {
	switch {
	case is.domain == banned, is.domain == set.denied:
		if set.acceptOnly {
			return approval.Hold
		}
		return approval.Reject
	case is.domain == partner:
		return approval.Accept
	case len(set.rules) == 0:
		return approval.Hold
	}
	latest := map[string]*spoken{}
	for _, s := range m.speaking { // in the order in which they came
		from := s.at
		if stored {
			from = s.StoredAt.Truncate(time.Microsecond) // see office.say
		}
		if s.ended && s.refused == "" && !from.After(at) && s.subject == t.request.Subject() && s.facts.DomainID == is.domain && s.facts.MarkerID == is.marker {
			latest[s.who] = s
		}
	}
	approved := true
	for i, rule := range set.rules {
		people := map[string]bool{}
		for who, s := range latest {
			switch {
			case !t.eligible(rule, who, at):
			case !s.approve && set.acceptOnly && i == 0:
				return approval.Hold
			case !s.approve:
				return approval.Reject
			case s.console:
				people["ops"] = true
			default:
				people[who+" with a key"] = true
			}
		}
		approved = approved && len(people) >= rule.approvals
	}
	if approved {
		return approval.Accept
	}
	return approval.Hold
}

// allowed reports whether the reference lets v be done to t at a time, by a set, an
// identity and reviews that a worker may have seen last.
func (m *reviewModel) allowed(t *reviewed, v approval.Verdict, at time.Time) bool {
	from := at.Add(-oneLook)
	moments := []time.Time{from, at}
	for _, s := range m.speaking {
		for _, moment := range []time.Time{s.StoredAt, s.at} {
			if moment.After(from) && moment.Before(at) {
				moments = append(moments, moment)
			}
		}
	}
	for _, c := range within(m.changes, func(c change) time.Time { return c.since }, from, at) {
		for _, is := range within(t.was, func(i identity) time.Time { return i.since }, from, at) {
			for _, moment := range moments {
				if set := reviewSets()[c.set]; m.verdict(t, set, is, moment, true) == v || m.verdict(t, set, is, moment, false) == v {
					return true
				}
			}
		}
	}
	return false
}

// sweep has what is still pending decided once more, as the sweep does.
func (m *reviewModel) sweep(round int) {
	for i, t := range m.things {
		if c, ok := m.sim.Connection(t.request.EndpointID); ok && c.State == simulator.PendingAcceptance {
			r := t.request
			r.Source, r.EventID, r.Claims = approval.SweepSource, fmt.Sprintf("sweep-%d-%d", round, i), nil
			r.ID = approval.RequestID(r.Source, r.EventID)
			_ = m.Submit(m.ctx, r)
		}
	}
	m.running.Wait()
}

// judgeReviews holds what became of everything to the reference.
func (m *reviewModel) judgeReviews(f *findings) {
	bySubject := map[string]*reviewed{}
	for _, t := range m.things {
		bySubject[t.request.Subject()] = t
	}
	for _, e := range m.history().Effects {
		if t := bySubject[e.Subject]; t != nil && !m.allowed(t, e.Did, e.At) {
			f.wrong("%s was done to %s, which neither the policies nor reviews allow", e.Did, e.Subject)
		}
	}
	for _, s := range m.speaking {
		m.judgeOne(bySubject[s.subject], s, f)
	}
	now := time.Now()
	set := reviewSets()[m.changes[len(m.changes)-1].set]
	for _, t := range m.things {
		c, ok := m.sim.Connection(t.request.EndpointID)
		if t.touched || !ok || c.State != simulator.PendingAcceptance {
			continue
		}
		if v := m.verdict(t, set, t.was[len(t.was)-1], now, false); v != approval.Hold {
			f.lost("%s is pending, and the reference says %s", t.request.Subject(), v)
		}
	}
}

// judgeOne holds what became of one review to the reference.
func (m *reviewModel) judgeOne(t *reviewed, s *spoken, f *findings) {
	switch {
	case !s.ended:
		f.lost("the review of %s (%s) was neither counted nor refused", s.who, s.kind)
	case s.kind != "" && s.refused == "":
		f.wrong("the review of %s counted: %s", s.who, s.kind)
	case s.kind != "":
		want := cheats()[s.kind]
		early := []string{"bad_signature", "unreadable", "submission_expired", "submission_not_yet_valid", "unknown_key", "other_person", policy.RefusedUnknownReviewer}
		if s.refused != want && (slices.Contains(early, want) || slices.Contains(early, s.refused)) {
			f.wrong("%s was refused with %s, want %s", s.kind, s.refused, want)
		}
	case s.refused == "":
		for _, c := range within(m.changes, func(c change) time.Time { return c.since }, s.StoredAt.Add(-time.Second), s.at) {
			for _, rule := range reviewSets()[c.set].rules {
				if t.eligible(rule, s.who, s.StoredAt) {
					return
				}
			}
		}
		f.wrong("the review of %s counted, who may not review %s", s.who, s.subject)
	}
}

// reviewSum says how much happened in stories.
type reviewSum struct{ said, counted, accepted, rejected int }

func (m *reviewModel) sum() reviewSum {
	s := reviewSum{said: len(m.speaking)}
	for _, one := range m.speaking {
		if one.ended && one.refused == "" {
			s.counted++
		}
	}
	for _, r := range m.ends {
		if r.Decision.Reviews == nil {
			continue
		}
		switch r.Outcome {
		case approval.OutcomeAccepted:
			s.accepted++
		case approval.OutcomeRejected:
			s.rejected++
		default:
		}
	}
	return s
}

// tellReviews runs a story in simulated time, and returns what is wrong with its end,
// with all that happened.
func tellReviews(t *testing.T, keys keyring, steps []reviewStep, dooms, faults []mishap, sets []*policy.Set) (f findings, journal string, sum reviewSum) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, 3, 100, simulator.Config{Delays: simulator.Delays{Accept: 2 * time.Second}}, sets...)
		m := &reviewModel{
			office: newOffice(r, keys), t: t, changes: []change{{since: time.Now()}},
			log: &model{rig: r, sets: []int{0}, faults: faults, dooms: dooms, begin: time.Now()},
		}
		r.doom, r.fault, r.answered = m.log.doomAt, m.log.faultOf, m.log.answer
		for n, s := range steps {
			m.take(s, n)
		}
		m.running.Wait()
		for round := range 2 {
			m.sweep(round)
		}
		f = r.judge()
		m.judgeReviews(&f)
		sum = m.sum()
		if !f.none() {
			for _, s := range m.speaking {
				m.log.note(fmt.Sprintf("review of %s %s, %q: approve %v, of %s %+v: %q at %s", s.who, s.subject, s.kind, s.approve, s.StoredAt.Sub(m.log.begin), s.facts, s.refused, s.at.Sub(m.log.begin)))
			}
			for _, res := range m.ends {
				m.log.note(fmt.Sprintf("%s of %s ended %s: %s %v", res.Request.EventID, res.Request.Subject(), res.Outcome, res.Decision.Verdict, res.Decision.Reasons))
			}
			journal = strings.Join(m.log.journal, "\n")
		}
	})
	return f, journal, sum
}

// TestReviewers is F31: random stories of people who review, honestly and not, while
// policies, connections and their identities change, and workers die, each against
// the reference.
func TestReviewers(t *testing.T) {
	if checks := flag.Lookup("rapid.checks"); checks.Value.String() == checks.DefValue {
		if err := checks.Value.Set(fmt.Sprint(times(40, 200, 20_000))); err != nil {
			t.Fatal(err)
		}
	}
	keys := newKeyring(t)
	var sets []*policy.Set
	for _, s := range reviewSets() {
		sets = append(sets, loadPolicies(t, s.files(keys)))
	}
	begin := time.Now()
	stories, total := 0, reviewSum{}
	rapid.Check(t, func(rt *rapid.T) {
		steps, dooms, faults := drawReviewStory(rt)
		f, journal, n := tellReviews(t, keys, steps, dooms, faults, sets)
		stories++
		total = reviewSum{total.said + n.said, total.counted + n.counted, total.accepted + n.accepted, total.rejected + n.rejected}
		if !f.none() {
			rt.Fatalf("%s\n%s", f, journal)
		}
	})
	if t.Failed() {
		return // rapid has told it
	}
	table.add(t, row{Name: "F31 reviewers against the reference", Tries: stories, Took: time.Since(begin), Note: fmt.Sprintf("%d reviews, %d counted; they accepted %d and rejected %d", total.said, total.counted, total.accepted, total.rejected)})
}
