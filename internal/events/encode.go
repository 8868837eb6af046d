package events

import (
	"strconv"

	"github.com/vpcep-approver/vpcep-approver/internal/events/cloudevent"
	"github.com/vpcep-approver/vpcep-approver/internal/jsonappend"
)

// usualResult is more than most results have, in bytes.
const usualResult = 3 << 10

// encodeRecord writes the event that cloudevent.EncodeWith writes of d, without reflection. ok is
// false if d holds something that only EncodeWith writes, or refuses.
func encodeRecord(e cloudevent.Event, d *Record) (body []byte, header map[string][]string, ok bool) {
	w := jsonappend.New(usualResult)
	header = cloudevent.Append(&w, e, func() { d.append(&w) })
	body, ok = w.Bytes()
	return body, header, ok
}

// append writes what a result has of d.
func (d *Record) append(w *jsonappend.Writer) {
	w.Open()
	w.Object("request", func() { d.Request.append(w) })
	w.Object("decision", func() { d.Decision.append(w) })
	w.Object("facts", func() { d.Facts.append(w) })
	w.String("outcome", d.Outcome)
	w.String("status", d.Status)
	if d.Error != nil {
		w.Value("error", d.Error)
	}
	if d.Created != nil {
		w.Value("created", d.Created)
	}
	w.Int("attempts", int64(d.Attempts))
	if d.Reversible != nil {
		w.AnyBool("reversible", *d.Reversible)
	}
	jsonappend.Floats(w, "seconds", d.Seconds)
	w.Time("ended_at", d.EndedAt)
	w.String("worker_version", d.WorkerVersion)
	w.Close()
}

func (d *RequestRecord) append(w *jsonappend.Writer) {
	w.AnyString("id", d.ID)
	w.AnyString("event_id", d.EventID)
	w.AnyString("source", d.Source)
	w.Time("time", d.Time)
	w.AnyString("target", d.Target)
	w.AnyString("target_kind", d.TargetKind)
	w.String("service_id", d.ServiceID)
	w.String("gateway_id", d.GatewayID)
	w.String("endpoint_id", d.EndpointID)
	if d.Parameters != nil {
		w.Value("parameters", d.Parameters)
	}
	w.String("parameters_sha256", d.ParametersSum)
	w.Map("claims", d.Claims)
	w.Bool("claims_dropped", d.ClaimsDropped)
}

func (d *DecisionRecord) append(w *jsonappend.Writer) {
	w.AnyString("id", d.ID)
	w.AnyString("verdict", d.Verdict)
	w.String("policy", d.Policy)
	w.String("rule", d.Rule)
	w.Array("reasons", len(d.Reasons), func(i int) {
		w.Open()
		w.AnyString("code", d.Reasons[i].Code)
		w.AnyString("text", d.Reasons[i].Text)
		w.Close()
	})
	w.String("contact", d.Contact)
	w.String("policy_digest", d.PolicyDigest)
	w.Time("time", d.Time)
	if d.Review != nil {
		w.Value("review", d.Review)
	}
	w.Time("held_at", d.HeldAt)
	if d.Reviews != nil {
		w.Value("reviews", d.Reviews)
	}
}

func (d *FactsRecord) append(w *jsonappend.Writer) {
	w.String("endpoint_id", d.EndpointID)
	if d.MarkerID != 0 {
		w.String("marker_id", strconv.FormatInt(d.MarkerID, 10))
	}
	w.String("domain_id", d.DomainID)
	w.String("status", d.Status)
	w.Time("created_at", d.CreatedAt)
	w.Time("updated_at", d.UpdatedAt)
	if d.Accepted != nil {
		w.AnyInt("accepted_connections", int64(*d.Accepted))
	}
	w.Time("read_at", d.ReadAt)
}
