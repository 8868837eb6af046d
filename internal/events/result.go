package events

import (
	"fmt"
	"time"

	"github.com/go-json-experiment/json"
	"github.com/nats-io/nats.go"

	"github.com/vpcep-approver/vpcep-approver/internal/approval"
	"github.com/vpcep-approver/vpcep-approver/internal/events/cloudevent"
)

// resultType is the type of the event of an outcome.
func resultType(o approval.Outcome) string { return "vpcep.request." + string(o) }

// resultSource is the source of every result.
const resultSource = "vpcep-approver"

// Record is what is said of a request, in the words of docs/events.md: the data of
// a result, and what commands print of a request as JSON. What a request that has
// not ended does not have yet is absent.
type Record struct {
	Request       RequestRecord      `json:"request"`
	Decision      DecisionRecord     `json:"decision"`
	Facts         FactsRecord        `json:"facts"`
	Outcome       string             `json:"outcome,omitzero"`
	Status        string             `json:"status,omitzero"`
	Error         *errorResult       `json:"error,omitzero"`
	Created       *createdResult     `json:"created,omitzero"`
	Attempts      int                `json:"attempts,omitzero"`
	Reversible    *bool              `json:"reversible,omitzero"`
	Seconds       map[string]float64 `json:"seconds,omitzero"`
	EndedAt       time.Time          `json:"ended_at,omitzero"`
	WorkerVersion string             `json:"worker_version,omitzero"`

	// Of the ledger; absent in events.
	ActedAt  time.Time `json:"acted_at,omitzero"`
	Sends    int       `json:"sends,omitzero"` // of a creation: sends whose outcome is not known
	Revision uint64    `json:"revision,omitzero"`
	Waiting  *Waiting  `json:"waiting,omitzero"` // of a request that has not ended
	History  []Version `json:"history,omitzero"`
}

// Waiting says what a request that has not ended waits for.
type Waiting struct {
	Since     time.Time `json:"since"` // when the bus took it, or it was decided
	Code      string    `json:"code"`  // the cloud's error code, or one of ours in snake_case
	Text      string    `json:"text"`
	Stage     string    `json:"stage,omitzero"`      // of the request, in which it waits
	API       string    `json:"api,omitzero"`        // that refuses the call; only the operator can fix it
	Operation string    `json:"operation,omitzero"`  // likewise
	RequestID string    `json:"request_id,omitzero"` // the cloud's id of the call
}

// Version is one state that an entry of the ledger was in.
type Version struct {
	Revision uint64 `json:"revision"`
	What     string `json:"what"`
}

// MarshalJSON writes d as it is written into events, whatever library prints it.
func (d Record) MarshalJSON() ([]byte, error) {
	return json.Marshal((*plainRecord)(&d), json.Deterministic(true))
}

// plainRecord is a Record without its MarshalJSON: what that returns is read once more.
type plainRecord Record

// RequestRecord is the request in a Record.
type RequestRecord struct {
	ID            string          `json:"id"` // made from source and event_id
	EventID       string          `json:"event_id"`
	Source        string          `json:"source"`
	Time          time.Time       `json:"time,omitzero"`
	Target        string          `json:"target"`
	TargetKind    string          `json:"target_kind"`
	ServiceID     string          `json:"service_id,omitzero"`
	GatewayID     string          `json:"gateway_id,omitzero"`
	EndpointID    string          `json:"endpoint_id,omitzero"`
	Parameters    *endpointData   `json:"parameters,omitzero"`        // of a creation, as in the event
	ParametersSum string          `json:"parameters_sha256,omitzero"` // of a creation, which a review names
	Claims        approval.Claims `json:"claims,omitzero"`
	ClaimsDropped bool            `json:"claims_dropped,omitzero"` // the whole was too large for the broker
}

// DecisionRecord is the decision in a Record.
type DecisionRecord struct {
	ID           string             `json:"id"`
	Verdict      string             `json:"verdict"`
	Policy       string             `json:"policy,omitzero"`
	Rule         string             `json:"rule,omitzero"`
	Reasons      []reasonResult     `json:"reasons"`
	Contact      string             `json:"contact,omitzero"`
	PolicyDigest string             `json:"policy_digest,omitzero"`
	Time         time.Time          `json:"time,omitzero"`
	Review       []ReviewRuleRecord `json:"review,omitzero"`  // of a hold: who may decide it
	HeldAt       time.Time          `json:"held_at,omitzero"` // with reviews: since when it was held
	Reviews      []ReviewRecord     `json:"reviews,omitzero"` // what people said, if that decided
}

// ReviewRuleRecord is who may decide what a policy holds.
type ReviewRuleRecord struct {
	Policy    string   `json:"policy"`
	By        []string `json:"by"` // names of people and groups
	Approvals int      `json:"approvals"`
	Within    string   `json:"within"` // from the hold, such as 72h0m0s
}

// ReviewRecord is what one person said.
type ReviewRecord struct {
	Reviewer string    `json:"reviewer"`
	Verdict  string    `json:"verdict"` // approve or reject
	Reason   string    `json:"reason"`
	Time     time.Time `json:"time"`
	Console  string    `json:"console,omitzero"` // that vouched for the person
	SignIn   string    `json:"sign_in,omitzero"` // how the console knew the person
}

type reasonResult struct {
	Code string `json:"code"`
	Text string `json:"text"`
}

// FactsRecord is what the cloud showed of the connection, in a Record.
type FactsRecord struct {
	EndpointID string    `json:"endpoint_id,omitzero"`
	MarkerID   int64     `json:"marker_id,string,omitzero"` // many readers of JSON have 53 bits
	DomainID   string    `json:"domain_id,omitzero"`
	Status     string    `json:"status,omitzero"`
	CreatedAt  time.Time `json:"created_at,omitzero"`
	UpdatedAt  time.Time `json:"updated_at,omitzero"`
	Accepted   *int      `json:"accepted_connections,omitzero"` // absent: not counted
	ReadAt     time.Time `json:"read_at,omitzero"`
}

func countResult(c approval.Count) *int {
	if !c.Known {
		return nil
	}
	return &c.N
}

func (f FactsRecord) count() approval.Count {
	if f.Accepted == nil {
		return approval.Count{}
	}
	return approval.Counted(*f.Accepted)
}

type errorResult struct {
	Code      string `json:"code"`
	Text      string `json:"text"`
	RequestID string `json:"request_id,omitzero"`
}

type createdResult struct {
	ID         string   `json:"id,omitzero"`
	EndpointID string   `json:"endpoint_id,omitzero"`
	Addresses  []string `json:"addresses,omitzero"`
	Domain     string   `json:"domain,omitzero"`
	Status     string   `json:"status,omitzero"`
	Existing   bool     `json:"existing,omitzero"`
}

// correctionSuffix is behind the decision's id in the id of a result that is
// stored behind another, so that a reader that drops repeats does not drop it.
const correctionSuffix = "-correction"

// encodeResult returns r as a message in structured mode. The event's id is the
// decision's, so that the same decision always has the same event, or that of a
// correction. Claims are left out, and their absence said, if the message had
// more than limit bytes.
func encodeResult(r approval.Result, id string, limit int64) ([]byte, nats.Header, error) {
	body, header, err := encodeResultData(r, id, false)
	if err == nil && int64(messageSize(header, body)) > limit {
		body, header, err = encodeResultData(r, id, true)
	}
	return body, header, err
}

func encodeResultData(r approval.Result, id string, dropClaims bool) ([]byte, nats.Header, error) {
	record := newRecord(approval.Entry{Request: r.Request, Decision: r.Decision, Result: &r}, dropClaims)
	e := cloudevent.Event{
		ID: id, Source: resultSource, Type: resultType(r.Outcome), Subject: r.Request.EndpointID,
		Time:       r.At.UTC(),
		Extensions: map[string]string{"causationid": r.Request.EventID},
	}
	if r.Request.TraceParent != "" {
		e.Extensions["traceparent"] = r.Request.TraceParent
	}
	if body, header, ok := encodeRecord(e, &record); ok {
		return body, header, nil
	}
	body, header, err := cloudevent.EncodeWith(e, (*plainRecord)(&record))
	if err != nil {
		return nil, nil, fmt.Errorf("encode the result of request %s: %w", r.Request.ID, err)
	}
	return body, header, nil
}

// NewRecord returns what is known of a request.
func NewRecord(e approval.Entry) Record {
	d := newRecord(e, e.Result != nil && e.Result.ClaimsDropped)
	d.ActedAt, d.Revision = e.ActedAt.UTC(), e.Revision
	if e.Intent != nil {
		d.Sends = e.Intent.Sends
	}
	return d
}

// ResultRecord returns what a result says.
func ResultRecord(r approval.Result) Record {
	return NewRecord(approval.Entry{Request: r.Request, Decision: r.Decision, Result: &r})
}

func newRecord(r approval.Entry, dropClaims bool) Record {
	facts := r.Decision.Facts
	d := Record{
		Request: RequestRecord{
			ID: r.Request.ID, EventID: r.Request.EventID, Source: r.Request.Source, Time: r.Request.Time.UTC(),
			Target: r.Request.Target.Name, TargetKind: string(r.Request.Target.Kind),
			EndpointID: r.Request.EndpointID, Claims: r.Request.Claims,
		},
		Decision: DecisionRecord{
			ID: r.Decision.ID, Verdict: string(r.Decision.Verdict), Policy: r.Decision.Policy, Rule: r.Decision.Rule,
			Reasons: []reasonResult{}, Contact: r.Decision.Contact, PolicyDigest: r.Decision.Digest, Time: r.Decision.At.UTC(),
		},
		Facts: FactsRecord{
			EndpointID: facts.EndpointID, MarkerID: facts.MarkerID, DomainID: facts.DomainID, Status: string(facts.State),
			CreatedAt: facts.CreatedAt.UTC(), UpdatedAt: facts.UpdatedAt.UTC(),
			Accepted: countResult(facts.Accepted), ReadAt: facts.ReadAt.UTC(),
		},
	}
	switch r.Request.Target.Kind {
	case approval.Service:
		d.Request.ServiceID = r.Request.Target.ID
	case approval.Gateway:
		d.Request.GatewayID, d.Request.ServiceID = r.Request.Target.ID, r.Request.Target.ServiceID
	default:
		parameters := endpointDataOf(r.Request)
		parameters.Target, parameters.Claims = "", nil
		d.Request.Parameters, d.Request.ParametersSum = &parameters, r.Request.Creation.Digest()
	}
	if dropClaims {
		d.Request.Claims, d.Request.ClaimsDropped = nil, true
	}
	for _, reason := range r.Decision.Reasons {
		d.Decision.Reasons = append(d.Decision.Reasons, reasonResult{Code: string(reason.Code), Text: reason.Text})
	}
	d.Decision.addReviews(&r.Decision)
	if r.Result != nil {
		d.end(r.Result)
	}
	return d
}

// addReviews adds who may review the decision, and what people said.
func (d *DecisionRecord) addReviews(from *approval.Decision) {
	for _, rule := range from.Review {
		d.Review = append(d.Review, ReviewRuleRecord{Policy: rule.Policy, By: rule.By, Approvals: rule.Approvals, Within: rule.Within.String()})
	}
	if from.Reviews == nil {
		return
	}
	if !from.Reviews.HeldAt.IsZero() {
		d.HeldAt = from.Reviews.HeldAt.UTC()
	}
	for _, said := range from.Reviews.Said {
		verdict := "reject"
		if said.Approve {
			verdict = "approve"
		}
		d.Reviews = append(d.Reviews, ReviewRecord{
			Reviewer: said.Reviewer, Verdict: verdict, Reason: said.Reason, Time: said.At.UTC(), Console: said.Console, SignIn: said.SignIn,
		})
	}
}

// readReviews is the opposite of addReviews, as far as a result says it. A review
// counts only if it was about the facts of the decision on r.
func (d DecisionRecord) readReviews(into *approval.Decision, r *approval.Request) {
	for _, rule := range d.Review {
		within, _ := time.ParseDuration(rule.Within) // of a newer worker, perhaps
		into.Review = append(into.Review, approval.ReviewRule{Policy: rule.Policy, By: rule.By, Approvals: rule.Approvals, Within: approval.Period(within)})
	}
	for _, said := range d.Reviews {
		if into.Reviews == nil {
			into.Reviews = &approval.Reviews{HeldAt: d.HeldAt}
		}
		into.Reviews.Said = append(into.Reviews.Said, approval.Review{
			Reviewer: said.Reviewer, Approve: said.Verdict == "approve", Reason: said.Reason, At: said.Time, Console: said.Console, SignIn: said.SignIn,
			Facts: approval.FactsToReview(r, &into.Facts),
		})
	}
}

// end adds how the request ended.
func (d *Record) end(r *approval.Result) {
	d.Outcome, d.Status, d.Attempts, d.Reversible = string(r.Outcome), string(r.State), r.Attempts, &r.Reversible
	d.EndedAt, d.WorkerVersion, d.Seconds = r.At.UTC(), r.Version, map[string]float64{}
	if f := r.Failure; f != nil {
		d.Error = &errorResult{Code: f.Code, Text: f.Text, RequestID: f.RequestID}
	}
	if c := r.Created; c != nil {
		d.Created = &createdResult{
			ID: c.ID, EndpointID: c.EndpointID, Addresses: c.Addresses, Domain: c.Domain,
			Status: string(c.State), Existing: c.Existing,
		}
	}
	for stage, s := range r.Seconds {
		d.Seconds[string(stage)] = s
	}
}

// DecodeResult reads a result event. The target holds what the event says of it.
func DecodeResult(header nats.Header, body []byte) (approval.Result, error) {
	e, err := cloudevent.Parse(header, body)
	if err != nil {
		return approval.Result{}, fmt.Errorf("read a result: %w", err)
	}
	var d Record
	// Unknown members are let through: a newer worker may say more.
	if err := json.Unmarshal(e.Data, &d); err != nil {
		return approval.Result{}, fmt.Errorf("read the result %.100q: %w", e.ID, err)
	}
	r := d.Result()
	r.Request.TraceParent, r.At = e.Extensions["traceparent"], e.Time
	return r, nil
}

// Result is the opposite of ResultRecord. The target holds what the record says of it.
func (d Record) Result() approval.Result {
	r := approval.Result{
		Request: approval.Request{
			ID: d.Request.ID, EventID: d.Request.EventID, Source: d.Request.Source, Time: d.Request.Time,
			EndpointID: d.Request.EndpointID, Claims: d.Request.Claims,
			Target: approval.Target{Name: d.Request.Target, Kind: approval.TargetKind(d.Request.TargetKind)},
		},
		Decision: approval.Decision{
			ID: d.Decision.ID, Verdict: approval.Verdict(d.Decision.Verdict), Policy: d.Decision.Policy,
			Rule: d.Decision.Rule, Contact: d.Decision.Contact, Digest: d.Decision.PolicyDigest, At: d.Decision.Time,
			Facts: approval.Facts{
				EndpointID: d.Facts.EndpointID, MarkerID: d.Facts.MarkerID, DomainID: d.Facts.DomainID,
				State: approval.State(d.Facts.Status), CreatedAt: d.Facts.CreatedAt, UpdatedAt: d.Facts.UpdatedAt,
				Accepted: d.Facts.count(), ReadAt: d.Facts.ReadAt,
			},
		},
		Outcome: approval.Outcome(d.Outcome), State: approval.State(d.Status),
		Attempts: d.Attempts, Reversible: d.Reversible != nil && *d.Reversible, Version: d.WorkerVersion, At: d.EndedAt,
		ClaimsDropped: d.Request.ClaimsDropped,
	}
	switch r.Request.Target.Kind {
	case approval.Service:
		r.Request.Target.ID = d.Request.ServiceID
	case approval.Gateway:
		r.Request.Target.ID, r.Request.Target.ServiceID = d.Request.GatewayID, d.Request.ServiceID
	default:
		if d.Request.Parameters != nil {
			r.Request.Creation = d.Request.Parameters.creation()
		}
	}
	for _, reason := range d.Decision.Reasons {
		r.Decision.Reasons = append(r.Decision.Reasons, approval.Reason{Code: approval.ReasonCode(reason.Code), Text: reason.Text})
	}
	d.Decision.readReviews(&r.Decision, &r.Request)
	if f := d.Error; f != nil {
		r.Failure = &approval.Failure{Code: f.Code, Text: f.Text, RequestID: f.RequestID}
	}
	if c := d.Created; c != nil {
		r.Created = &approval.Created{
			ID: c.ID, EndpointID: c.EndpointID, Addresses: c.Addresses, Domain: c.Domain,
			State: approval.State(c.Status), Existing: c.Existing,
		}
	}
	if len(d.Seconds) > 0 {
		r.Seconds = map[approval.Stage]float64{}
		for stage, s := range d.Seconds {
			r.Seconds[approval.Stage(stage)] = s
		}
	}
	return r
}

// creation is what d asks to create, unchecked: it was checked when it came in.
func (d endpointData) creation() approval.Creation {
	c := approval.Creation{
		FunctionGraph:   (*approval.FunctionGraphEndpoint)(d.FunctionGraph),
		DataArtsInsight: (*approval.DataArtsInsightEndpoint)(d.DataArtsInsight),
	}
	if d.HSS != nil {
		c.HSS = &approval.HSSEndpoints{HostIDs: d.HSS.HostIDs}
		for _, v := range d.HSS.VPCs {
			c.HSS.VPCs = append(c.HSS.VPCs, approval.HSSVPC(v))
		}
	}
	return c
}
