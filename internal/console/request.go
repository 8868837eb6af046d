package console

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/vpcep-approver/vpcep-approver/internal/approval"
	"github.com/vpcep-approver/vpcep-approver/internal/events"
	"github.com/vpcep-approver/vpcep-approver/internal/inspect"
	"github.com/vpcep-approver/vpcep-approver/internal/policy"
	"github.com/vpcep-approver/vpcep-approver/internal/policy/workbench"
	"github.com/vpcep-approver/vpcep-approver/internal/review"
)

// requestView is all that is known of a request.
type requestView struct {
	Record  events.Record
	Asks    string
	Outcome string // empty: it has not ended
	Trace   string // id of the trace that the event is part of; empty: none
	TraceAt string // its URL; empty: not known
	Claims  string // as JSON
	Params  string // of a creation, as JSON
	Stages  []stage
	Rules   explanation
	Reviews *reviewView // nil: nobody can review it
	Next    string      // id of the request by which it was decided again; empty: none
	Held    string      // id of the held request that this one decides
}

// stage is how long a part of the way took.
type stage struct {
	Name    string
	Seconds float64
}

// explanation is what the policies in force say, rule by rule.
type explanation struct {
	At     time.Time
	Digest string
	Same   bool // as decided
	workbench.Shown
	Decision approval.Decision
}

// reviewView is how far the reviews have come, and the form.
type reviewView struct {
	Item   *review.Item
	May    bool
	Why    string // not, in English
	WhyKey string // of the text for it
	Alone  bool   // people who sign in here count as one
	Facts  review.Facts
	Reason string // as it was sent, if it is shown again
	Wrong  string // key of what is wrong with the form
}

func (c *Console) requestPage(r *http.Request, v *visitor) (response, error) {
	out, err := c.showRequest(r.Context(), r.PathValue("id"), v)
	if err != nil {
		return response{}, err
	}
	return response{name: "request", title: "request.title", data: out}, nil
}

// showRequest reads all that is known of a request.
func (c *Console) showRequest(ctx context.Context, id string, v *visitor) (requestView, error) {
	var out requestView
	if len(id) != 32 || strings.Trim(id, "0123456789abcdef") != "" {
		return out, notFound("error.request", id)
	}
	entry, err := c.cfg.Ledger.Get(ctx, id)
	if err != nil {
		return out, err
	}
	if entry == nil {
		return out, notFound("error.request", id)
	}
	history, err := inspect.FindHistory(ctx, c.cfg.Ledger, id)
	if err != nil {
		return out, err
	}
	out.Record, out.Asks = history.Record(), inspect.Asks(entry.Request)
	out.Outcome, out.Trace = out.Record.Outcome, traceID(entry.Request.TraceParent)
	if out.Trace != "" && c.cfg.TraceURL != nil {
		out.TraceAt = c.cfg.TraceURL(out.Trace)
	}
	if out.Claims, err = indented(entry.Request.Claims, len(entry.Request.Claims) > 0); err != nil {
		return out, err
	}
	if out.Params, err = indented(out.Record.Request.Parameters, entry.Request.Creates()); err != nil {
		return out, err
	}
	for _, name := range approval.Stages() {
		if s, ok := out.Record.Seconds[string(name)]; ok {
			out.Stages = append(out.Stages, stage{string(name), s})
		}
	}
	record, err := c.cfg.Ledger.Review(ctx, entry.Request.Subject())
	if err != nil {
		return out, err
	}
	in := approval.Input{Request: c.asConfigured(entry.Request), Facts: entry.Decision.Facts, Now: c.cfg.Now(), Reviews: entry.Decision.Reviews}
	switch {
	case record != nil && record.Request.ID == id:
		record.Request.Target = in.Request.Target
		in.Facts, in.Reviews = record.Facts, &record.Reviews
		out.Reviews = c.reviewOf(record, &in, v)
	case len(entry.Decision.Review) > 0:
		if out.Next, err = c.decidedBy(ctx, entry.Request.Subject()); err != nil {
			return out, err
		}
	}
	out.Rules = c.explain(&in, entry.Decision.Digest)
	return out, nil
}

// asConfigured has the target as it is configured now, if it still is.
func (c *Console) asConfigured(r approval.Request) approval.Request {
	if t, ok := c.cfg.Targets.ByName(r.Target.Name); ok {
		r.Target = t
	}
	return r
}

// explain says what the policies in force say of in.
func (c *Console) explain(in *approval.Input, digest string) explanation {
	x := workbench.Explain(c.cfg.Policies.Current(), in)
	return explanation{At: in.Now, Digest: x.Decision.Digest, Same: x.Decision.Digest == digest, Shown: x.Shown(), Decision: x.Decision}
}

// decidedBy returns the id of the request by which reviews decided what was held on
// subject; empty if they did not.
func (c *Console) decidedBy(ctx context.Context, subject string) (string, error) {
	lock, ok, err := c.cfg.Ledger.Lock(ctx, subject)
	if err != nil || !ok {
		return "", err
	}
	entry, err := c.cfg.Ledger.Get(ctx, lock.RequestID)
	if err != nil || entry == nil || entry.Decision.Reviews == nil {
		return "", err
	}
	return lock.RequestID, nil
}

// reviewOf says how far the reviews of record have come, and whether v may say
// something, by the same checks as a worker's.
func (c *Console) reviewOf(record *approval.ReviewRecord, in *approval.Input, v *visitor) *reviewView {
	set := c.cfg.Policies.Current()
	item := review.NewItem(record, set, in.Now)
	out := &reviewView{Item: &item, Facts: review.Facts(record.ToReview())}
	console := c.name(set)
	switch {
	case !item.State.Open:
		out.Why, out.WhyKey = item.State.Why, "refused.closed"
		return out
	case console == "":
		out.WhyKey = "refused.unknown_console"
		return out
	}
	said := &approval.Review{Reviewer: v.Name, Approve: true, At: in.Now, Console: console, Facts: record.ToReview()}
	if refused := set.CheckReview(in, said); refused != nil {
		out.Why, out.WhyKey = refused.Text, refusedKey(refused.Code)
		return out
	}
	out.May = true
	for _, rule := range item.State.Rules {
		out.Alone = out.Alone || rule.Approvals > 1 && !rule.TrustConsoles
	}
	return out
}

// traceID is the id of the trace in a W3C traceparent; empty if it has no valid one. An
// event may say anything.
func traceID(parent string) string {
	parts := strings.Split(parent, "-")
	if len(parts) < 4 || len(parts[1]) != 32 || strings.Trim(parts[1], "0123456789abcdef") != "" || strings.Trim(parts[1], "0") == "" {
		return ""
	}
	return parts[1]
}

func indented(v any, has bool) (string, error) {
	if !has {
		return "", nil
	}
	text, err := json.MarshalIndent(v, "", "  ")
	if err != nil {
		return "", fmt.Errorf("write as JSON: %w", err)
	}
	return string(text), nil
}

// maxForm bounds what a form may send.
const maxForm = 32 << 10

const (
	reviewLife = 10 * time.Minute // of a review that was signed here
	reviewWait = 8 * time.Second  // for what becomes of it, before the page says that it is not known yet
)

// review signs and submits what the form says.
func (c *Console) review(r *http.Request, v *visitor) (response, error) {
	ctx, id := r.Context(), r.PathValue("id")
	if refused := c.mayReview(v); refused != nil {
		return response{}, refused
	}
	r.Body = http.MaxBytesReader(nil, r.Body, maxForm)
	if err := r.ParseForm(); err != nil {
		return response{}, &pageError{http.StatusBadRequest, "error.form", nil}
	}
	s, ok := c.submission(r, id, v)
	if !ok {
		return response{}, &pageError{http.StatusBadRequest, "error.form", nil}
	}
	if wrong := reasonWrong(s.Reason); wrong != "" {
		return c.formAgain(ctx, id, v, s.Reason, wrong)
	}
	entry, err := c.cfg.Ledger.Get(ctx, id)
	if err != nil {
		return response{}, err
	}
	if entry == nil {
		return response{}, notFound("error.request", id)
	}
	submitted, err := inspect.SubmitReview(ctx, c.cfg.Bus, c.cfg.Ledger, entry.Request, s, c.cfg.Seed)
	if err != nil {
		return response{}, err
	}
	c.cfg.Log.Info().Str("person", v.Name).Str("method", v.signIn.Method).Str("request", id).Str("verdict", s.Verdict).Msg("submitted a review")
	return response{goTo: "/requests/" + id + "?note=" + c.notes.add(v.Name, c.becomes(ctx, submitted, s))}, nil
}

// mayReview refuses who may review nothing.
func (c *Console) mayReview(v *visitor) error {
	if !v.Has(policy.RoleReviewer) {
		return forbidden("error.not_reviewer", v.Name)
	}
	if c.name(c.cfg.Policies.Current()) == "" {
		return forbidden("problem.unknown_console")
	}
	return nil
}

// submission is the review that the form describes, of the facts that the page showed.
func (c *Console) submission(r *http.Request, id string, v *visitor) (*review.Submission, bool) {
	facts := review.Facts{
		DomainID: r.PostFormValue("domain_id"), EndpointID: r.PostFormValue("endpoint_id"), Parameters: r.PostFormValue("parameters"),
	}
	if text := r.PostFormValue("marker_id"); text != "" {
		n, err := strconv.ParseInt(text, 10, 64)
		if err != nil {
			return nil, false
		}
		facts.MarkerID = n
	}
	// A browser sends a line feed as CR LF.
	reason := strings.TrimSpace(strings.ReplaceAll(r.PostFormValue("reason"), "\r\n", "\n"))
	s := review.New(id, r.PostFormValue("verdict"), reason, v.Name, facts, c.cfg.Now(), reviewLife)
	signIn := v.signIn
	s.SignIn = &signIn
	check := *s
	check.Reason = "checked elsewhere"
	_, err := check.Encode()
	return s, err == nil
}

// reasonWrong is the key of what is wrong with reason; empty: nothing.
func reasonWrong(reason string) string {
	switch {
	case review.CheckReason(reason) == nil:
		return ""
	case review.Blank(reason):
		return "review.reason_missing"
	case utf8.RuneCountInString(reason) > review.MaxReason:
		return "review.reason_long"
	}
	return "review.reason_characters"
}

// formAgain shows the form with what was written, and what is wrong with it.
func (c *Console) formAgain(ctx context.Context, id string, v *visitor, reason, wrong string) (response, error) {
	out, err := c.showRequest(ctx, id, v)
	if err != nil {
		return response{}, err
	}
	if out.Reviews != nil {
		out.Reviews.Reason, out.Reviews.Wrong = reason, wrong
	}
	return response{status: http.StatusUnprocessableEntity, name: "request", title: "request.title", data: out}, nil
}

// becomes waits for a while for what becomes of a review, and says it.
func (c *Console) becomes(ctx context.Context, submitted *inspect.ReviewWatch, s *review.Submission) note {
	waiting, cancel := context.WithTimeout(ctx, reviewWait)
	defer cancel()
	end, err := submitted.End(waiting)
	switch {
	case err == nil && end.Refused != nil:
		return note{Kind: "bad", Key: refusedKey(end.Refused.Code), Detail: end.Refused.Text}
	case err == nil && end.Result != nil:
		return note{Kind: "good", Key: "note.decided", Args: []any{string(end.Result.Outcome)}}
	case err == nil:
		return note{Kind: "good", Key: "note.counted." + s.Verdict}
	}
	return note{Kind: "wait", Key: "note.submitted"}
}

// refusedKey is the text for a code of a refusal.
func refusedKey(code string) string {
	key := "refused." + code
	if _, ok := texts()[key]; !ok {
		return "refused.other"
	}
	return key
}
