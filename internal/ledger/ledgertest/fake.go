// Package ledgertest holds the fake of the ledger, which can fail before and
// after the deed, and the suite that the fake and the bucket both pass.
package ledgertest

import (
	"context"
	"slices"
	"strings"

	"github.com/vpcep-approver/vpcep-approver/internal/approval"
	"github.com/vpcep-approver/vpcep-approver/internal/ledger"
)

// Fake is a ledger in memory.
type Fake struct {
	*ledger.Ledger
	Store *Store
}

// NewFake returns an empty ledger in memory.
func NewFake() *Fake { return NewFakeWith(nil) }

// NewFakeWith is NewFake with an observer.
func NewFakeWith(obs ledger.Observer) *Fake {
	store := &Store{values: map[string][]*version{}}
	return &Fake{Ledger: ledger.New(store, obs), Store: store}
}

// Op is what is done to a key.
type Op string

// The operations.
const (
	Read  Op = "read"
	Write Op = "write"
)

// Fault is an error and whether the deed is done all the same. The zero value is
// no fault.
type Fault struct {
	Err   error
	After bool
}

// Inject asks fault, which must not call the fake, of each operation; nil ends it.
func (f *Fake) Inject(fault func(op Op, key string) Fault) {
	f.Store.mu.Lock()
	defer f.Store.mu.Unlock()
	f.Store.fault = fault
}

// FailOnce makes the next op on a key that begins with prefix fail with err,
// before or after the deed.
func (f *Fake) FailOnce(op Op, prefix string, err error, after bool) {
	done := false
	f.Inject(func(o Op, key string) Fault {
		if done || o != op || !strings.HasPrefix(key, prefix) {
			return Fault{}
		}
		done = true
		return Fault{Err: err, After: after}
	})
}

// DropReview is that of ledger.Reviews.
func (f *Fake) DropReview(ctx context.Context, r *approval.ReviewRecord) error {
	key := "review." + r.Request.Subject()
	return f.Store.do(ctx, Write, key, func() error {
		left := slices.DeleteFunc(f.Store.values[key], func(v *version) bool { return v.seq <= r.Revision })
		if f.Store.values[key] = left; len(left) == 0 {
			delete(f.Store.values, key)
		}
		return nil
	})
}

// PutRaw stores raw bytes under key, whatever is there, such as a damaged entry.
func (f *Fake) PutRaw(key string, value []byte) {
	f.Store.mu.Lock()
	defer f.Store.mu.Unlock()
	f.Store.seq++
	f.Store.values[key] = append(f.Store.values[key], &version{key: key, value: value, seq: f.Store.seq})
}
