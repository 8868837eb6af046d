package review

import (
	"cmp"
	"context"
	"iter"
	"slices"
	"time"

	"github.com/vpcep-approver/vpcep-approver/internal/approval"
	"github.com/vpcep-approver/vpcep-approver/internal/policy"
)

// Item is a held request and how far its reviews have come.
type Item struct {
	approval.ReviewRecord
	State policy.ReviewState
}

// Until is when the first of its policies stops taking reviews; zero if none does.
func (i *Item) Until() time.Time {
	var first time.Time
	for _, r := range i.State.Rules {
		if first.IsZero() || r.Until.Before(first) {
			first = r.Until
		}
	}
	return first
}

// May reports whether the person called name may still say something of i.
func (i *Item) May(name string) bool {
	return slices.ContainsFunc(i.State.Rules, func(r policy.ReviewProgress) bool { return slices.Contains(r.May, name) })
}

// NewItem judges record by set at now.
func NewItem(record *approval.ReviewRecord, set *policy.Set, now time.Time) Item {
	in := &approval.Input{Request: record.Request, Facts: record.Facts, Now: now, Reviews: &record.Reviews}
	item := Item{ReviewRecord: *record, State: set.Review(in)}
	if record.Closed != "" {
		item.State.Open, item.State.Why = false, "its reviews have decided it: "+record.Closed
	}
	return item
}

// WorkList returns what waits for a review, oldest first. records is what the ledger
// holds; one that cannot be read is an error, since nobody may take it for decided.
func WorkList(ctx context.Context, records iter.Seq2[*approval.ReviewRecord, error], set *policy.Set, now time.Time) ([]Item, error) {
	var out []Item
	for record, err := range records {
		if err != nil {
			return nil, err
		}
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		if item := NewItem(record, set, now); item.State.Open {
			out = append(out, item)
		}
	}
	slices.SortStableFunc(out, func(a, b Item) int {
		return cmp.Or(a.Reviews.HeldAt.Compare(b.Reviews.HeldAt), cmp.Compare(a.Request.ID, b.Request.ID))
	})
	return out, nil
}
