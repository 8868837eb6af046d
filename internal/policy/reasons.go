package policy

import (
	"slices"
	"sync"

	"github.com/vpcep-approver/vpcep-approver/internal/approval"
)

// reasonNumber stands for the reason of a condition: conditions with the same number
// have the same reason. Each condition embeds one.
type reasonNumber int32

func (n *reasonNumber) number() *reasonNumber { return n }

// reasonTable holds the reasons of the conditions of a set, by number.
type reasonTable struct {
	numbers map[reasonKey]reasonNumber // while the set is built
	reasons []approval.Reason
}

// reasonKey is what a reason depends on.
type reasonKey struct {
	code approval.ReasonCode
	text string
}

// enter gives c the number of its reason.
func (t *reasonTable) enter(c condition) {
	if t.numbers == nil {
		t.numbers = make(map[reasonKey]reasonNumber)
	}
	var key reasonKey
	switch c := c.(type) { // the text of these need not be made to know it
	case *fieldCondition:
		key = reasonKey{approval.ReasonFieldNotMatched, c.field.name()}
	case *claimCondition:
		key = reasonKey{approval.ReasonClaimNotMatched, c.path}
	case *fromCondition:
		key = reasonKey{approval.ReasonNotYetValid, c.text}
	case *expiresCondition:
		key = reasonKey{approval.ReasonExpired, c.text}
	default:
		r := c.reason()
		key = reasonKey{r.Code, r.Text}
	}
	n, ok := t.numbers[key]
	if !ok {
		n = reasonNumber(len(t.reasons)) //nolint:gosec // a set has far fewer conditions than 1<<31
		t.numbers[key] = n
		t.reasons = append(t.reasons, c.reason())
	}
	*c.number() = n
}

// objected keeps the lists of reasons that were given, because most requests that
// are not allowed get one of few. It is safe for concurrent use.
type objected struct {
	mu    sync.RWMutex
	lists map[objections][]approval.Reason
}

// maxObjected is how many lists are kept. Others are made each time.
const maxObjected = 1024

// objections is what keeps entries from matching, each reason once.
type objections struct {
	doubt   bool // the reasons begin with that something could not be evaluated
	n       int
	numbers [maxObjections]reasonNumber
}

// maxObjections is how many reasons a list that is kept may have.
const maxObjections = 32

// list returns the reasons of first and those of o.
func (x *objected) list(first []approval.Reason, o *objections, more []reasonNumber, t *reasonTable) []approval.Reason {
	if len(more) == 0 {
		x.mu.RLock()
		out, ok := x.lists[*o]
		x.mu.RUnlock()
		if ok {
			return out
		}
	}
	out := slices.Clone(first)
	for _, n := range o.numbers[:o.n] {
		out = append(out, t.reasons[n])
	}
	for _, n := range more {
		out = append(out, t.reasons[n])
	}
	out = slices.Clip(out)
	if len(more) > 0 {
		return out
	}
	x.mu.Lock()
	defer x.mu.Unlock()
	if x.lists == nil {
		x.lists = make(map[objections][]approval.Reason)
	}
	if len(x.lists) < maxObjected {
		x.lists[*o] = out
	}
	return out
}
