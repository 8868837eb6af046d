package policy

import (
	"cmp"
	"fmt"
	"slices"
	"time"

	"github.com/vpcep-approver/vpcep-approver/internal/approval"
	"github.com/vpcep-approver/vpcep-approver/internal/strictyaml"
)

// testReviewKeys are those of a review of a test, named as in a result.
func testReviewKeys() []strictyaml.Field[approval.Review] {
	verdicts := []string{"approve", "reject"}
	return []strictyaml.Field[approval.Review]{
		strictyaml.TextField("reviewer", "The name of the person in reviewers.yaml.", true, func(r *approval.Review, s string) { r.Reviewer = s }),
		{
			Name: "verdict", Must: true, Doc: "What the person says.", Form: strictyaml.Form{Words: strictyaml.OneOf(verdicts), Schema: map[string]any{"enum": verdicts}},
			Read: func(r *strictyaml.Reader, n *strictyaml.Node, review *approval.Review) {
				s, _ := r.Choice(n, verdicts)
				review.Approve = s == "approve"
			},
		},
		strictyaml.TimeField("time", "When; without it at the time of the decision.", func(r *approval.Review) *time.Time { return &r.At }),
		strictyaml.TextField("console", "The console that vouches for the person; without it they sign with their own key.", false, func(r *approval.Review, s string) { r.Console = s }),
		strictyaml.TextField("reason", "Why.", false, func(r *approval.Review, s string) { r.Reason = s }),
	}
}

// refusedCodes are why a review of a test may not count.
func refusedCodes() []string {
	return []string{
		RefusedUnknownReviewer, RefusedReviewerExpired, RefusedRole, RefusedGroup, RefusedUnknownConsole, RefusedFactsChanged,
		RefusedOwnRequest, RefusedLate, RefusedNoReview, RefusedNotReviewable, RefusedDecided,
	}
}

// choicesField is a key of a list of words.
func choicesField[T any](name, doc string, words []string, set func(*T, []string)) strictyaml.Field[T] {
	return strictyaml.Field[T]{
		Name: name, Doc: doc,
		Form: strictyaml.Form{Words: "a list of codes", Schema: map[string]any{"type": "array", "items": map[string]any{"enum": words}}},
		Read: func(r *strictyaml.Reader, n *strictyaml.Node, into *T) {
			out := []string{}
			r.Items(n, "a list of codes", func(_ int, item *strictyaml.Node) {
				if s, ok := r.Choice(item, words); ok {
					out = append(out, s)
				}
			})
			set(into, out)
		},
	}
}

// wrongReviews returns what is wrong with the times of the reviews of c, which is
// decided at now.
func (c *testCase) wrongReviews(now time.Time, f strictyaml.Finding) []strictyaml.Finding {
	var out []strictyaml.Finding
	for i, r := range c.said {
		f.Path, f.Code = fmt.Sprintf("reviews[%d].time", i), "time"
		switch {
		case r.At.IsZero():
			continue
		case r.At.After(now):
			f.Text, f.Hint = "the review comes after the decision", "set now to a later time, or the review to an earlier one"
		case r.At.Before(c.heldAt):
			f.Text, f.Hint = "the review comes before the request is held", "set held_at to an earlier time, or the review to a later one"
		default:
			continue
		}
		out = append(out, f)
	}
	return out
}

// reviews fills in what c leaves out about reviews of in: it has been held since the
// first of them.
func (c *testCase) reviews(in *approval.Input) []approval.Review {
	said, heldAt := slices.Clone(c.said), c.heldAt
	if len(said) > 0 && in.Facts.Found() {
		in.Facts.MarkerID = cmp.Or(in.Facts.MarkerID, 1)
	}
	first := in.Now
	for i := range said {
		r := &said[i]
		r.Facts, r.Nonce, r.Reason = approval.FactsToReview(&in.Request, &in.Facts), fmt.Sprint(i), cmp.Or(r.Reason, "no reason")
		if r.At.IsZero() {
			r.At = in.Now
		}
		if r.At.Before(first) {
			first = r.At
		}
	}
	if heldAt.IsZero() {
		heldAt = first
	}
	in.Reviews = &approval.Reviews{HeldAt: heldAt}
	slices.SortStableFunc(said, func(a, b approval.Review) int { return a.At.Compare(b.At) })
	return said
}
