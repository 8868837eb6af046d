package inspect

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/vpcep-approver/vpcep-approver/internal/approval"
	"github.com/vpcep-approver/vpcep-approver/internal/cli"
	"github.com/vpcep-approver/vpcep-approver/internal/events"
	"github.com/vpcep-approver/vpcep-approver/internal/ledger"
	"github.com/vpcep-approver/vpcep-approver/internal/policy"
	"github.com/vpcep-approver/vpcep-approver/internal/policy/workbench"
	"github.com/vpcep-approver/vpcep-approver/internal/review"
)

// Reviews are requests that wait for a review, the oldest first.
type Reviews []review.Item

// FindReviews returns what waits for a review by set: of one target if target is set,
// and only what the person called mine may still decide if that is set.
func FindReviews(ctx context.Context, book *ledger.Ledger, set *policy.Set, target, mine string, now time.Time) (Reviews, error) {
	items, err := review.WorkList(ctx, book.ReviewRecords(ctx, target), set, now)
	if err != nil {
		return nil, err
	}
	if mine != "" {
		items = slices.DeleteFunc(items, func(i review.Item) bool { return !i.May(mine) })
	}
	return items, nil
}

// WhoReviews returns the name of the person whose work list is asked for: the one of
// reviewers.yaml with the key in a file, or with this name. It is empty if mine is not
// set.
func WhoReviews(set *policy.Set, mine bool, keyFile, name string) (string, error) {
	switch {
	case !mine && keyFile+name == "":
		return "", nil
	case !mine:
		return "", errors.New("--key and --name say whose list --mine shows; add --mine")
	case (keyFile == "") == (name == ""):
		return "", errors.New("say who you are, with either --key or --name")
	}
	people := set.Reviewers()
	if name != "" {
		if people.ByName(name) == nil {
			var names []string
			for _, who := range people.All() {
				names = append(names, who.Name)
			}
			return "", fmt.Errorf("reviewers.yaml names nobody called %q%s", name, cli.DidYouMean(name, names))
		}
		return name, nil
	}
	public, err := review.ReadPublicKey(keyFile)
	if err != nil {
		return "", err
	}
	who := people.ByKey(public)
	if who == nil {
		return "", fmt.Errorf("reviewers.yaml names nobody with the key %s of %s", public, keyFile)
	}
	return who.Name, nil
}

// FindReview returns the record of the held request whose id begins with prefix.
func FindReview(ctx context.Context, book *ledger.Ledger, prefix string) (*approval.ReviewRecord, error) {
	prefix, err := CheckID(prefix)
	switch {
	case err != nil:
		return nil, cli.WithCode(cli.ExitInvalid, err)
	case len(prefix) >= 32:
		return findReview(ctx, book, prefix)
	}
	var found *approval.ReviewRecord
	for record, err := range book.ReviewRecords(ctx, "") {
		if err != nil {
			return nil, err
		}
		if !strings.HasPrefix(record.Request.ID, prefix) {
			continue
		}
		if found != nil {
			return nil, cli.WithCode(cli.ExitInvalid, fmt.Errorf("several requests begin with %s; write more of the id", prefix))
		}
		found = record
	}
	if found == nil {
		return nil, cli.WithCode(cli.ExitInvalid, fmt.Errorf("no request that begins with %s waits for a review — see: worker reviews list", prefix))
	}
	return found, nil
}

// findReview is FindReview of a whole id, which needs no search.
func findReview(ctx context.Context, book *ledger.Ledger, id string) (*approval.ReviewRecord, error) {
	entry, err := book.Get(ctx, id)
	if err != nil {
		return nil, err
	}
	if entry != nil {
		record, err := book.Review(ctx, entry.Request.Subject())
		if err != nil || record != nil && record.Request.ID == id {
			return record, err
		}
	}
	return nil, cli.WithCode(cli.ExitInvalid, fmt.Errorf("the request %s does not wait for a review — see: worker reviews list", id))
}

// ReviewJSON is a held request as JSON: the request and the decision as in a result.
type ReviewJSON struct {
	HeldAt   time.Time                  `json:"held_at"`
	Until    time.Time                  `json:"until,omitzero"`
	Open     bool                       `json:"open"`
	Why      string                     `json:"why,omitempty"` // it is not open
	Policies []workbench.ReviewProgress `json:"policies"`
	Held     events.Record              `json:"held"`
}

// NewReviewJSON returns item as JSON.
func NewReviewJSON(item *review.Item) ReviewJSON {
	decision := item.State.Decision
	decision.Facts, decision.Reviews = item.Facts, &item.Reviews
	out := ReviewJSON{
		HeldAt: utc(item.Reviews.HeldAt), Until: utc(item.Until()), Open: item.State.Open, Why: item.State.Why,
		Policies: []workbench.ReviewProgress{}, Held: events.NewRecord(approval.Entry{Request: item.Request, Decision: decision}),
	}
	for i := range item.State.Rules {
		out.Policies = append(out.Policies, workbench.NewReviewProgress(&item.State.Rules[i]))
	}
	return out
}

// JSON returns the list as JSON.
func (list Reviews) JSON() []ReviewJSON {
	out := []ReviewJSON{}
	for i := range list {
		out = append(out, NewReviewJSON(&list[i]))
	}
	return out
}

// timeLeft is how long it is until then, in one or two units.
func timeLeft(now, then time.Time) string {
	if !then.After(now) {
		return "0s"
	}
	return cli.Age(then, now)
}

// Table writes the requests as the rows of a table.
func (list Reviews) Table(row cli.Row, now time.Time) {
	row("REQUEST", "TARGET", "ACCOUNT", "ASKS", "HELD FOR", "LEFT", "MISSING", "WHO")
	for i := range list {
		item := &list[i]
		var missing, who []string
		for _, r := range item.State.Rules {
			missing = append(missing, fmt.Sprintf("%d of %d for %s", r.Missing, r.Approvals, r.Policy))
			for _, name := range r.May {
				if !slices.Contains(who, name) {
					who = append(who, name)
				}
			}
		}
		row(item.Request.ID[:min(len(item.Request.ID), 12)], cli.Printable(item.Request.Target.Name), cli.Printable(cli.OrDash(item.Facts.DomainID)), cli.Printable(Asks(item.Request)),
			cli.Age(now, item.Reviews.HeldAt), timeLeft(now, item.Until()), cli.Printable(strings.Join(missing, ", ")), cli.Printable(cli.OrDash(strings.Join(who, ", "))))
	}
}

// ReviewText is all that a reviewer must know, a line each. explain is what the
// policies say of the request, rule by rule.
func ReviewText(item *review.Item, explain string, p cli.Palette) string {
	b := lines{paint: p}
	fmt.Fprintf(&b.text, "%s %s %s\n", p.Outcome("held", p.Bold("held")), cli.Printable(item.Request.Target.Name), cli.Printable(Asks(item.Request)))
	b.add("request", item.Request.ID)
	b.add("event", item.Request.EventID+" from "+item.Request.Source)
	b.add("domain", item.Facts.DomainID)
	b.facts(item)
	_ = b.claims(item.Request.Claims) // claims were read from JSON
	for _, reason := range item.State.Decision.Reasons {
		b.add("because", string(reason.Code)+": "+reason.Text)
	}
	b.time("held", item.Reviews.HeldAt)
	for _, r := range item.State.Rules {
		b.add("needs", fmt.Sprintf("%s of %s for policy %s, until %s; missing: %d", cli.Plural(r.Approvals, "approval", "approvals"), strings.Join(r.By, ", "), r.Policy, r.Until.UTC().Format(time.RFC3339), r.Missing))
		b.add("may review", cli.OrDash(strings.Join(r.May, ", ")))
	}
	for i := range item.Reviews.Said {
		said := &item.Reviews.Said[i]
		word := "rejects"
		if said.Approve {
			word = "approves"
		}
		via := ""
		if said.Console != "" {
			via = " at console " + said.Console
		}
		b.add("review", fmt.Sprintf("%s %s%s at %s: %s", said.Reviewer, word, via, said.At.UTC().Format(time.RFC3339), said.Reason))
	}
	if !item.State.Open {
		b.add("closed", item.State.Why)
	}
	if explain != "" {
		b.text.WriteString("\n" + explain)
	}
	return b.text.String()
}

// facts are those that a review names, and what else the cloud showed.
func (l *lines) facts(item *review.Item) {
	if item.Request.Creates() {
		l.add("parameters", "sha256 "+item.ToReview().Parameters)
		return
	}
	l.add("endpoint", item.Facts.EndpointID)
	l.add("number", strconv.FormatInt(item.Facts.MarkerID, 10))
	l.add("state", string(item.Facts.State))
	if item.Facts.Accepted.Known {
		l.add("accepted", cli.Plural(item.Facts.Accepted.N, "other connection", "other connections")+" of the account")
	}
	l.time("created", item.Facts.CreatedAt)
}

// ExplainReview is what the policies of set say of item, rule by rule.
func ExplainReview(item *review.Item, set *policy.Set, now time.Time) (string, error) {
	var b bytes.Buffer
	in := &approval.Input{Request: item.Request, Facts: item.Facts, Now: now, Reviews: &item.Reviews}
	x := workbench.Explain(set, in)
	x.Reviews = nil // the text of the request shows them
	if err := x.WriteText(&b); err != nil {
		return "", fmt.Errorf("explain the request: %w", err)
	}
	return b.String(), nil
}

// ReviewWatch waits for what becomes of one review.
type ReviewWatch struct {
	bus      *events.Bus
	book     *ledger.Ledger
	request  approval.Request
	nonce    string
	sequence uint64 // of the review in its stream
}

// ReviewEnd is what became of a review: it was refused, or counted; Result is set if
// it decided the request.
type ReviewEnd struct {
	Refused *events.ReviewRefusal
	Result  *approval.Result
}

// SubmitReview signs s with seed, and publishes it as a review of a held request.
func SubmitReview(ctx context.Context, bus *events.Bus, book *ledger.Ledger, request approval.Request, s *review.Submission, seed []byte) (*ReviewWatch, error) {
	data, err := s.Encode()
	if err != nil {
		return nil, cli.WithCode(cli.ExitInvalid, err)
	}
	signature, err := review.Sign(seed, data)
	if err != nil {
		return nil, err
	}
	sequence, err := bus.SubmitReview(ctx, request.Target.Name, s.RequestID, data, signature)
	if err != nil {
		return nil, err
	}
	return &ReviewWatch{bus: bus, book: book, request: request, nonce: s.Nonce, sequence: sequence}, nil
}

// reviewLook is how often the ledger is asked whether a review is counted.
const reviewLook = 200 * time.Millisecond

// End returns what became of the review.
func (w *ReviewWatch) End(ctx context.Context) (ReviewEnd, error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	refusals := make(chan events.ReviewRefusal, 1)
	go func() {
		for refusal, err := range w.bus.RefusedReviews(ctx, w.request.ID, w.sequence) {
			if err != nil {
				return
			}
			if refusal.Sequence == w.sequence {
				refusals <- refusal
				return
			}
		}
	}()
	look := time.NewTicker(reviewLook)
	defer look.Stop()
	for {
		select {
		case <-ctx.Done():
			return ReviewEnd{}, ctx.Err()
		case refusal := <-refusals:
			return ReviewEnd{Refused: &refusal}, nil
		case <-look.C:
		}
		record, err := w.book.Review(ctx, w.request.Subject())
		switch {
		case err != nil:
			return ReviewEnd{}, err
		case record == nil: // it was counted and has ended, or it is about to be refused
			result, err := w.decided(ctx)
			if err != nil || result != nil {
				return ReviewEnd{Result: result}, err
			}
		case record.Has(w.nonce) && record.Closed == approval.ReviewDecided:
			return w.result(ctx, approval.ReviewedRequest(record).ID)
		case record.Has(w.nonce):
			return ReviewEnd{}, nil
		}
	}
}

// result waits for the result of a request.
func (w *ReviewWatch) result(ctx context.Context, id string) (ReviewEnd, error) {
	for r, err := range w.bus.Results(ctx, events.ResultFilter{RequestID: id, Follow: true}) {
		if err != nil {
			return ReviewEnd{}, err
		}
		return ReviewEnd{Result: &r}, nil
	}
	return ReviewEnd{}, ctx.Err()
}

// decided returns the result that the review with the nonce is part of, if there is one.
func (w *ReviewWatch) decided(ctx context.Context) (*approval.Result, error) {
	lock, ok, err := w.book.Lock(ctx, w.request.Subject())
	if err != nil || !ok {
		return nil, err
	}
	entry, err := w.book.Get(ctx, lock.RequestID)
	if err != nil || entry == nil || entry.Decision.Reviews == nil || entry.Decision.Reviews.ByNonce(w.nonce) == nil {
		return nil, err
	}
	return entry.Result, nil
}
