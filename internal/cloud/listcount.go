package cloud

import (
	"time"

	"github.com/vpcep-approver/vpcep-approver/internal/approval"
)

// maxCountValid is the longest time after its end for which a read of the whole list counts
// for other requests, too: as long as facts are fresh before an act.
const maxCountValid = 5 * time.Second

// listCount is a whole list, counted by account.
type listCount struct {
	at, until time.Time              // when the read began, and until when it counts
	rows      map[string]countedRow  // by endpoint id
	accounts  map[string]*stateCount // by account
	unowned   int                    // connections without an account that are being created
	err       error                  // why no account can be counted; nil: they can
}

type countedRow struct {
	account      *stateCount // nil: the row has none
	state        approval.State
	contradicted bool
}

type stateCount struct{ accepted, creating, strange int }

// add counts n connections in a state.
func (a *stateCount) add(state approval.State, n int) {
	switch {
	case state == approval.Accepted:
		a.accepted += n
	case state == approval.Creating:
		a.creating += n
	case !state.Known():
		a.strange += n
	}
}

func countList(s snapshot) *listCount {
	// What took long to read may be used as long again. So a short list is read for each
	// request that does not come together with others, and a long one not all the time. What
	// this worker accepts meanwhile has reservations.
	now := time.Now()
	t := &listCount{at: s.at, until: now.Add(min(now.Sub(s.at), maxCountValid)), rows: make(map[string]countedRow, len(s.rows)), accounts: map[string]*stateCount{}}
	for id, i := range s.index {
		r := s.rows[i]
		row := countedRow{state: approval.State(r.Status), contradicted: r.contradicted}
		if r.DomainID != "" {
			if row.account = t.accounts[r.DomainID]; row.account == nil {
				row.account = &stateCount{}
				t.accounts[r.DomainID] = row.account
			}
			row.account.add(row.state, 1)
		}
		t.rows[id] = row
		switch {
		case r.contradicted:
			t.err = incomplete("two rows of one endpoint contradict each other")
		case row.account != nil:
		case row.state == approval.Creating:
			t.unowned++
		case row.state == approval.Accepted || !row.state.Known():
			t.err = incomplete("an accepted connection has no account")
		}
	}
	return t
}

// of counts the connections of domainID, except endpointID. It is an error if a row may or
// may not be one of them.
func (t *listCount) of(domainID, endpointID string) (approval.AccountCount, error) {
	own, shown := t.rows[approval.UUID(endpointID)]
	if !shown || own.contradicted || own.account == nil || own.account != t.accounts[approval.CanonicalID(domainID)] {
		return approval.AccountCount{}, errNotCountable
	}
	if t.err != nil {
		return approval.AccountCount{}, t.err
	}
	others := *own.account
	others.add(own.state, -1)
	if others.strange > 0 {
		return approval.AccountCount{}, incomplete("a connection of the account has an undocumented state")
	}
	state := func(endpointID string) approval.State {
		row := t.rows[approval.UUID(endpointID)]
		if row.account != own.account {
			return approval.Absent
		}
		return row.state
	}
	return approval.AccountCount{Accepted: others.accepted, Creating: others.creating + t.unowned, At: t.at, State: state}, nil
}

// keepCount keeps t for as long as it counts.
func (l *connectionReader) keepCount(t *listCount) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.lastCount = t
	time.AfterFunc(time.Until(t.until), func() { // a long list takes much memory
		l.mu.Lock()
		defer l.mu.Unlock()
		if l.lastCount == t {
			l.lastCount = nil
		}
	})
}

// latestCount returns the latest count that counts; nil if there is none.
func (l *connectionReader) latestCount() *listCount {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.lastCount == nil || !time.Now().Before(l.lastCount.until) {
		return nil
	}
	return l.lastCount
}

// setPages sets the number of pages of the list, by which reads are limited.
func (l *connectionReader) setPages(pages int) {
	l.rows.budget.SetPages(pages)
	l.whole.budget.SetPages(pages)
}
