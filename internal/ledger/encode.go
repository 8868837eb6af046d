package ledger

import (
	"reflect"

	"github.com/go-json-experiment/json"

	"github.com/vpcep-approver/vpcep-approver/internal/approval"
	"github.com/vpcep-approver/vpcep-approver/internal/jsonappend"
)

// omitZero is how all of the ledger is written.
func omitZero() json.Options { return json.OmitZeroStructFields(true) }

// usualEntry is more than most entries have, in bytes.
const usualEntry = 2 << 10

// encodeEntry writes what encode writes of newStoredEntry(e), without reflection. ok is false
// if e holds something that only encode writes, or refuses.
func encodeEntry(e *approval.Entry) (data []byte, ok bool) {
	w := jsonappend.New(usualEntry)
	w.Raw(`{"v":1,`)
	w.Struct("Request", func() { appendRequest(&w, &e.Request) })
	w.Struct("Decision", func() { appendDecision(&w, &e.Decision) })
	w.Time("SentAt", e.SentAt)
	w.Time("ActedAt", e.ActedAt)
	if e.Intent != nil {
		w.Value("Intent", e.Intent, omitZero())
	}
	w.Struct("Progress", func() {
		jsonappend.Floats(&w, "Seconds", e.Progress.Seconds)
		w.Time("Until", e.Progress.Until)
		w.String("Next", string(e.Progress.Next))
	})
	if e.Wait != nil {
		w.Value("Wait", e.Wait, omitZero())
	}
	if e.Result != nil {
		w.Object("Result", func() { appendResult(&w, e) })
	}
	w.Close()
	return w.Bytes()
}

func appendRequest(w *jsonappend.Writer, r *approval.Request) {
	w.String("ID", r.ID)
	w.String("Source", r.Source)
	w.String("EventID", r.EventID)
	w.Time("Time", r.Time)
	w.Struct("Target", func() {
		t := &r.Target
		w.String("Name", t.Name)
		w.String("Kind", string(t.Kind))
		w.String("ID", t.ID)
		w.String("ServiceID", t.ServiceID)
		w.String("ProjectID", t.ProjectID)
		w.String("WorkspaceID", t.WorkspaceID)
		w.String("EnterpriseProjectID", t.EnterpriseProjectID)
		w.String("Region", t.Region)
		w.String("Policies", t.Policies)
	})
	w.String("EndpointID", r.EndpointID)
	if r.Creation != (approval.Creation{}) {
		w.Value("Creation", &r.Creation, omitZero())
	}
	w.Map("Claims", r.Claims)
	w.String("TraceParent", r.TraceParent)
}

func appendDecision(w *jsonappend.Writer, d *approval.Decision) {
	w.String("ID", d.ID)
	w.String("Verdict", string(d.Verdict))
	w.String("Policy", d.Policy)
	w.String("Rule", d.Rule)
	if d.Reasons != nil {
		w.Array("Reasons", len(d.Reasons), func(i int) {
			w.Open()
			w.String("Code", string(d.Reasons[i].Code))
			w.String("Text", d.Reasons[i].Text)
			w.Close()
		})
	}
	w.String("Contact", d.Contact)
	w.String("Digest", d.Digest)
	w.Struct("Facts", func() { appendFacts(w, &d.Facts) })
	w.Time("At", d.At)
	w.Int("Limit", int64(d.Limit))
	w.Bool("NeedsCount", d.NeedsCount)
	if d.Shadow != nil {
		w.Value("Shadow", d.Shadow, omitZero())
	}
	if d.Review != nil {
		w.Value("Review", d.Review, omitZero())
	}
	if d.Reviews != nil {
		w.Value("Reviews", d.Reviews, omitZero())
	}
}

func appendFacts(w *jsonappend.Writer, f *approval.Facts) {
	w.String("EndpointID", f.EndpointID)
	w.Int("MarkerID", f.MarkerID)
	w.String("DomainID", f.DomainID)
	w.String("State", string(f.State))
	w.Time("CreatedAt", f.CreatedAt)
	w.Time("UpdatedAt", f.UpdatedAt)
	w.String("ErrorCode", f.ErrorCode)
	w.String("ErrorText", f.ErrorText)
	w.Struct("Accepted", func() {
		w.Int("N", int64(f.Accepted.N))
		w.Bool("Known", f.Accepted.Known)
	})
	w.Time("ReadAt", f.ReadAt)
}

// appendResult leaves out what the result repeats of e.
func appendResult(w *jsonappend.Writer, e *approval.Entry) {
	r := e.Result
	if !reflect.DeepEqual(&r.Request, &e.Request) {
		w.Struct("Request", func() { appendRequest(w, &r.Request) })
	}
	if !reflect.DeepEqual(&r.Decision, &e.Decision) {
		w.Struct("Decision", func() { appendDecision(w, &r.Decision) })
	}
	w.String("Outcome", string(r.Outcome))
	w.String("State", string(r.State))
	if r.Failure != nil {
		w.Value("Failure", r.Failure, omitZero())
	}
	if r.Created != nil {
		w.Value("Created", r.Created, omitZero())
	}
	w.Int("Attempts", int64(r.Attempts))
	w.Bool("Reversible", r.Reversible)
	jsonappend.Floats(w, "Seconds", r.Seconds)
	w.String("Version", r.Version)
	w.Time("At", r.At)
	w.Bool("ClaimsDropped", r.ClaimsDropped)
}
