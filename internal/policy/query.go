package policy

import "github.com/vpcep-approver/vpcep-approver/internal/approval"

// maxEvaluation bounds the work of all expressions of one evaluation, in the units
// of CEL. It is compared with the sum over all entries that were asked, so the
// order in which they are asked makes no difference.
const maxEvaluation = 1_000_000

// input is what a query is about.
type input struct {
	*approval.Input
	domain string // the account as policies spell it, because nearly every entry asks for it
}

// each calls yield with the values of f, as policies spell them, until it returns
// false; deny tells the list that asks.
func (in input) each(f field, deny bool, yield func(string) bool) {
	if f == fieldDomainID && !in.Request.Creates() {
		if in.domain != "" {
			yield(in.domain)
		}
		return
	}
	each(in.Input, f, deny, func(v string) bool { return yield(f.canonical(v)) })
}

// query is one question to a set, and what was found out for it so far.
type query struct {
	in       input
	mismatch bool // a claim contradicts a fact: conditions on claims are not evaluated
	left     int  // units of CEL that expressions may still take; negative: they took too many
	turn     int  // counts the uses of the same answers, see again
	cel      map[*whenCondition]*celAnswer
}

func newQuery(in *approval.Input) query {
	return query{in: input{in, fieldDomainID.canonical(in.Facts.DomainID)}, left: maxEvaluation, turn: 1}
}

// celAnswer is the result of an expression for a query.
type celAnswer struct {
	truth truth
	seen  string // for the authors of policies
	cost  int
	turn  int // in which it was paid for last
}

// again lets the next view be asked: it pays for every expression by itself, so
// that it decides as it would alone, and nothing is evaluated twice.
func (q *query) again() {
	q.left = maxEvaluation
	q.turn++
}

// spent reports whether expressions took more than is allowed: not all entries
// were evaluated, so nothing follows from those that were.
func (q *query) spent() bool { return q.left < 0 }

// test answers whether c holds; deny tells the list of its entry.
func (q *query) test(c condition, deny bool) truth {
	if q.mismatch && c.onClaims() {
		return unknown
	}
	if w, ok := c.(*whenCondition); ok {
		return q.when(w).truth
	}
	return c.test(q.in, deny)
}

// when evaluates an expression, once for each query, and takes its cost off what
// is left.
func (q *query) when(w *whenCondition) celAnswer {
	if q.spent() {
		return celAnswer{seen: "not evaluated, because earlier expressions cost too much"}
	}
	a := q.cel[w]
	if a == nil {
		a = w.evaluate(q.in.Input)
		if q.cel == nil {
			q.cel = make(map[*whenCondition]*celAnswer)
		}
		q.cel[w] = a
	}
	if a.turn != q.turn {
		a.turn = q.turn
		q.left -= a.cost
	}
	return *a
}
