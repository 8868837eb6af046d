package faulttest

import (
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/vpcep-approver/vpcep-approver/internal/approval"
)

// TestCheckerFindsWhatIsWrong shows that the judge is not asleep: each row spoils
// one thing in a history that is in order.
func TestCheckerFindsWhatIsWrong(t *testing.T) {
	t.Parallel()
	const lost, doubled, wrong = "lost", "doubled", "wrong"
	tests := []struct {
		name  string
		spoil func(h *history)
		want  string // kind of the one finding
		says  string
	}{
		{"in order", func(*history) {}, "", ""},
		{"no result", func(h *history) { h.Results = nil }, lost, "neither result nor dead letter"},
		{"two results", func(h *history) { h.Results = append(h.Results, h.Results[0]) }, doubled, "more than one result"},
		{"a result and a dead letter", func(h *history) { h.Dead = append(h.Dead, deadLetter{Mark: "good"}) }, doubled, "a result and a dead letter"},
		{"a good event as a dead letter", func(h *history) {
			h.Results, h.Dead = nil, append(h.Dead, deadLetter{Mark: "good"})
		}, wrong, "is good and ended as a dead letter"},
		{"a bad event dropped", func(h *history) { h.Dead = nil }, lost, "has no dead letter"},
		{"a bad event twice", func(h *history) { h.Dead = append(h.Dead, h.Dead[0]) }, doubled, "2 dead letters"},
		{"a bad event answered", func(h *history) { h.Asked[1].RequestID, h.Dead = id, nil }, wrong, "was answered as request"},
		{"a bad event for another reason", func(h *history) { h.Asked[1].Reason = "other" }, wrong, "no dead letter with reason"},
		{"another outcome than it should", func(h *history) { h.Asked[0].Outcomes = []approval.Outcome{approval.OutcomeHeld} }, wrong, "ended accepted, not one of"},
		{"a result that the ledger does not know", func(h *history) { h.Results[0].Outcome = approval.OutcomeGone }, wrong, "the ledger does not"},
		{"accepted twice", func(h *history) { h.Effects = append(h.Effects, h.Effects[0]) }, doubled, "more than once"},
		{"accepted and not allowed", func(h *history) {
			h.Truths[subject] = truth{Domain: domain}
			h.Results[0].Outcome = approval.OutcomeHeld
			h.Entries[id][1].Entry.Result.Outcome = approval.OutcomeHeld
		}, wrong, "nothing allows"},
		{"accepted on the word of a claim", func(h *history) { h.Truths[subject] = truth{Domain: "another", Allowed: true} }, wrong, "the cloud says"},
		{"accepted without a record", func(h *history) {
			h.Entries[id][0].Entry.Decision.Verdict = approval.Hold
		}, wrong, "no decision record"},
		{"accepted by a decision that had been replaced", func(h *history) {
			replaced := h.Entries[id][0]
			replaced.At = replaced.At.Add(time.Millisecond)
			replaced.Entry.Decision.Verdict = approval.Hold
			h.Entries[id] = slices.Insert(h.Entries[id], 1, replaced)
		}, wrong, "no decision record"},
		{"accepted when nothing was decided yet", func(h *history) {
			undecided := h.Entries[id][0]
			undecided.Entry.Decision = approval.Decision{}
			h.Entries[id][0].At = h.Effects[0].At.Add(time.Millisecond)
			h.Entries[id] = slices.Insert(h.Entries[id], 0, undecided)
		}, wrong, "after it was done"},
		{"accepted without a rule", func(h *history) { h.Entries[id][0].Entry.Decision.Rule = "" }, wrong, "no policy and rule"},
		{"recorded after the act", func(h *history) { h.Entries[id][0].At = h.Effects[0].At.Add(time.Millisecond) }, wrong, "after it was done"},
		{"an action that nobody asked for", func(h *history) { delete(h.Truths, subject) }, wrong, "no event spoke"},
		{"rejected for an error", func(h *history) {
			h.Effects[0].Did = approval.Reject
			h.Entries[id][0].Entry.Decision.Verdict = approval.Reject
		}, wrong, "nothing denies"},
		{"taken away again", func(h *history) {
			h.Truths[subject] = truth{Domain: domain, Allowed: true, Denied: true}
			h.Effects = append(h.Effects, effect{At: h.Effects[0].At.Add(time.Second), Subject: subject, Did: approval.Reject})
			h.Entries["second"] = []version{{At: h.Entries[id][0].At, Entry: approval.Entry{
				Request:  h.Entries[id][0].Entry.Request,
				Decision: approval.Decision{Verdict: approval.Reject, Policy: "p", Rule: "r", Facts: approval.Facts{DomainID: domain}},
			}}}
		}, wrong, "accepted and then rejected"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			h := goodHistory()
			tt.spoil(&h)
			got := check(h)
			all := map[string][]string{lost: got.Lost, doubled: got.Doubled, wrong: got.Wrong}
			for kind, texts := range all {
				switch {
				case kind != tt.want && len(texts) > 0:
					t.Errorf("check found %s %q, want nothing %s", kind, texts, kind)
				case kind == tt.want && (len(texts) != 1 || !strings.Contains(texts[0], tt.says)):
					t.Errorf("check found %s %q, want one that says %q", kind, texts, tt.says)
				}
			}
		})
	}
}

const (
	id      = "0123456789abcdef0123456789abcdef"
	domain  = "6e9dfd51d1124e8d8498dce894923a0d"
	subject = "payments.705290f3-0d00-41f2-aedc-71f09844e879"
)

// goodHistory is of one request that was accepted and one event that was bad.
func goodHistory() history {
	start := time.Date(2026, 11, 21, 9, 0, 0, 0, time.UTC)
	request := approval.Request{
		ID: id, Target: approval.Target{Name: "payments", Kind: approval.Service},
		EndpointID: "705290f3-0d00-41f2-aedc-71f09844e879",
	}
	decision := approval.Decision{ID: id, Verdict: approval.Accept, Policy: "p", Rule: "r", At: start, Facts: approval.Facts{DomainID: domain}}
	return history{
		Asked:   []asked{{RequestID: id, Subject: subject, Mark: "good"}, {Bad: true, Mark: "bad", Reason: "unreadable"}},
		Truths:  map[string]truth{subject: {Domain: domain, Allowed: true}},
		Effects: []effect{{At: start.Add(time.Second), Subject: subject, Did: approval.Accept}},
		Entries: map[string][]version{id: {
			{At: start, Entry: approval.Entry{Request: request, Decision: decision}},
			{At: start.Add(2 * time.Second), Entry: approval.Entry{Request: request, Decision: decision, Result: &approval.Result{Outcome: approval.OutcomeAccepted}}},
		}},
		Results: []published{{RequestID: id, Outcome: approval.OutcomeAccepted, EventID: "e1"}},
		Dead:    []deadLetter{{Reason: "unreadable", Mark: "bad"}},
	}
}
