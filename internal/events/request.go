package events

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"unicode"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"
	"github.com/nats-io/nats.go"

	"github.com/vpcep-approver/vpcep-approver/internal/approval"
	"github.com/vpcep-approver/vpcep-approver/internal/events/cloudevent"
)

// The types of events that are requests.
const (
	TypeConnection = "vpcep.connection.requested"
	TypeEndpoint   = "vpcep.endpoint.requested"
)

// RequestTypes returns every type.
func RequestTypes() []string { return []string{TypeConnection, TypeEndpoint} }

// MaxEvent is the maximum size of an event with its headers, in bytes.
const MaxEvent = 64 << 10

const (
	maxList       = 256 // hosts, VPCs, subnets of one VPC
	maxText       = 64  // characters of a flavor and an agency's name
	maxServerName = 256 // characters of an endpoint service's full name
)

// connectionData is the data of a TypeConnection event.
type connectionData struct {
	Target     string          `json:"target,omitzero"`
	ServiceID  string          `json:"service_id,omitzero"`
	GatewayID  string          `json:"gateway_id,omitzero"`
	EndpointID string          `json:"endpoint_id"`
	Claims     approval.Claims `json:"claims,omitzero"`
}

// endpointData is the data of a TypeEndpoint event.
type endpointData struct {
	Target          string               `json:"target,omitzero"`
	FunctionGraph   *functionGraphData   `json:"functiongraph,omitzero"`
	HSS             *hssData             `json:"hss,omitzero"`
	DataArtsInsight *dataArtsInsightData `json:"dataarts_insight,omitzero"`
	Claims          approval.Claims      `json:"claims,omitzero"`
}

// The blocks of parameters have the fields of their domain types in the same order, so
// that each converts to the other: a parameter is named once in the domain and once here.

type functionGraphData struct {
	VPCID    string `json:"vpc_id"`
	SubnetID string `json:"subnet_id"`
	Flavor   string `json:"flavor,omitzero"`
	XRole    string `json:"xrole,omitzero"`
}

// hssData is the one with a type within another, so it does not convert.
type hssData struct {
	HostIDs []string  `json:"host_id_list,omitzero"`
	VPCs    []vpcData `json:"vpc_list,omitzero"`
}

type vpcData struct {
	VPCID     string   `json:"vpc_id"`
	SubnetIDs []string `json:"subnet_id_list"`
}

type dataArtsInsightData struct {
	DSType     string `json:"ds_type"`
	ServerName string `json:"vpc_ep_server_name,omitzero"`
	ServerID   string `json:"vpc_ep_server_id,omitzero"`
}

// SweepSubject is where the sweep publishes, with the target behind it. Only
// workers may publish there.
const SweepSubject = RequestsSubject + "._sweep"

// requestSubject is where an event of this source about target belongs.
func requestSubject(source, target string) string {
	if source == approval.SweepSource {
		return SweepSubject + "." + target
	}
	return RequestsSubject + "." + target
}

// DecodeMessage is DecodeRequest for a message that came on subject. It also
// refuses what the publisher had no right to say: permissions are given by
// subject, so the source and the target of the event must agree with it.
func DecodeMessage(subject string, header nats.Header, body []byte, targets approval.Targets) (approval.Request, error) {
	swept := subject == SweepSubject || strings.HasPrefix(subject, SweepSubject+".")
	limit := MaxEvent
	if swept {
		limit = maxStoredEvent + envelopeSize // it was taken before, under another source
	}
	r, err := decodeRequest(header, body, targets, limit)
	if err != nil {
		return approval.Request{}, err
	}
	named, _, _ := strings.Cut(strings.TrimPrefix(subject, RequestsSubject+"."), ".")
	_, known := targets.ByName(named)
	switch {
	case !swept && r.Source == approval.SweepSource:
		return approval.Request{}, invalid(ReasonWrongSubject, "source", "%s is the source of the sweep, which publishes on %s.<target> only", r.Source, SweepSubject)
	case swept && r.Source != approval.SweepSource:
		return approval.Request{}, invalid(ReasonWrongSubject, "source", "only the sweep, whose source is %s, may publish on %s.<target>", approval.SweepSource, SweepSubject)
	case swept && subject != requestSubject(r.Source, r.Target.Name), known && named != r.Target.Name:
		return approval.Request{}, invalid(ReasonWrongSubject, "data", "the event is about the target %s, and its subject %.80q is for another", r.Target.Name, subject)
	}
	return r, nil
}

// DecodeRequest reads a message as a request to one of targets. Ids come out in
// lower case, as the cloud writes them. Any error is an *InvalidEventError.
func DecodeRequest(header nats.Header, body []byte, targets approval.Targets) (approval.Request, error) {
	return decodeRequest(header, body, targets, MaxEvent)
}

// parseEvent parses an event of at most limit bytes. Any error is an *InvalidEventError.
func parseEvent(header nats.Header, body []byte, limit int) (cloudevent.Event, error) {
	if n := messageSize(header, body); n > limit {
		return cloudevent.Event{}, invalid(ReasonTooLarge, "", "the event has %d bytes; at most %d are allowed", n, limit)
	}
	e, err := cloudevent.Parse(header, body)
	if bad, ok := errors.AsType[*cloudevent.Error](err); ok {
		return cloudevent.Event{}, invalid(ReasonUnreadable, bad.Field, "%s", bad.Text)
	}
	return e, err
}

// messageSize is the size of a message in bytes: its body, and names and values of its headers.
func messageSize(header nats.Header, body []byte) int {
	n := len(body)
	for name, values := range header {
		for _, v := range values {
			n += len(name) + len(v)
		}
	}
	return n
}

func decodeRequest(header nats.Header, body []byte, targets approval.Targets, limit int) (approval.Request, error) {
	e, err := parseEvent(header, body, limit)
	if err != nil {
		return approval.Request{}, err
	}
	r := approval.Request{
		ID:          approval.RequestID(e.Source, e.ID),
		Source:      e.Source,
		EventID:     e.ID,
		Time:        e.Time,
		TraceParent: traceParent(header, e.Extensions["traceparent"]),
	}
	switch e.Type {
	case TypeConnection:
		err = decodeConnection(e.Data, targets, &r)
	case TypeEndpoint:
		err = decodeEndpoint(e.Data, targets, &r)
	default:
		err = invalid(ReasonUnknownType, "type", "%.100q is none of %s", e.Type, strings.Join(RequestTypes(), ", "))
	}
	if err != nil {
		return approval.Request{}, err
	}
	if messageSize(header, body) <= alwaysStorable {
		return r, nil
	}
	if err := storable(r); err != nil {
		return approval.Request{}, err
	}
	return r, nil
}

const (
	// alwaysStorable is the size up to which an event cannot become longer than
	// maxStoredEvent when it is written again: no value becomes longer than 8 times.
	alwaysStorable = MaxEvent / 8
	// envelopeSize is more than what we write of an event and its producer did not.
	envelopeSize = 1 << 10
	// maxStoredEvent is the size of an event as we write it, at most, in bytes.
	maxStoredEvent = MaxEvent + envelopeSize
)

// storable reports why r could not be written again, to the ledger, in its result
// or as an event of its own. What cannot be written now never can. Written again
// a request may be longer than it came: 1e20 becomes 21 digits.
func storable(r approval.Request) error {
	body, header, err := encodeRequest(r)
	if err != nil {
		return invalid(ReasonUnreadable, "", "it cannot be stored: %v", err)
	}
	if n := messageSize(header, body); n > maxStoredEvent {
		return invalid(ReasonTooLarge, "", "stored, the event has %d bytes, more than the %d that are allowed", n, maxStoredEvent)
	}
	return nil
}

func decodeConnection(data jsontext.Value, targets approval.Targets, r *approval.Request) error {
	var d connectionData
	if err := decodeData(data, &d); err != nil {
		return err
	}
	var err error
	if r.Target, err = connectionTarget(d, targets); err != nil {
		return err
	}
	if r.EndpointID, err = resourceID("data.endpoint_id", d.EndpointID); err != nil {
		return err
	}
	r.Claims, err = claims(d.Claims)
	return err
}

// connectionTarget finds the target by the one name that d gives it.
func connectionTarget(d connectionData, targets approval.Targets) (approval.Target, error) {
	var names []string
	for _, n := range []string{d.Target, d.ServiceID, d.GatewayID} {
		if n != "" {
			names = append(names, n)
		}
	}
	if len(names) != 1 {
		return approval.Target{}, invalid(ReasonBadParameters, "data", "it names its target %d times; give exactly one of target, service_id and gateway_id", len(names))
	}
	byID := func(field string, kind approval.TargetKind, id string) (approval.Target, error) {
		if _, err := resourceID(field, id); err != nil {
			return approval.Target{}, err
		}
		for _, t := range targets {
			if t.Kind == kind && approval.SameID(t.ID, id) {
				return t, nil
			}
		}
		return approval.Target{}, invalid(ReasonUnknownTarget, field, "no %s with the id %s is configured", kind, id)
	}
	switch {
	case d.ServiceID != "":
		return byID("data.service_id", approval.Service, d.ServiceID)
	case d.GatewayID != "":
		return byID("data.gateway_id", approval.Gateway, d.GatewayID)
	}
	return namedTarget(targets, d.Target, false)
}

// namedTarget finds the target called name, which must or must not be a place
// where endpoints are created.
func namedTarget(targets approval.Targets, name string, creates bool) (approval.Target, error) {
	if name == "" {
		return approval.Target{}, invalid(ReasonBadParameters, "data.target", "it is missing")
	}
	t, ok := targets.ByName(name)
	if !ok {
		return approval.Target{}, invalid(ReasonUnknownTarget, "data.target", "no target is called %.80q", name)
	}
	if t.Kind.Creates() != creates {
		return approval.Target{}, invalid(ReasonUnknownTarget, "data.target", "%s is a %s, which an event of this type cannot be about", name, t.Kind)
	}
	return t, nil
}

func decodeEndpoint(data jsontext.Value, targets approval.Targets, r *approval.Request) error {
	var d endpointData
	if err := decodeData(data, &d); err != nil {
		return err
	}
	var err error
	if r.Target, err = namedTarget(targets, d.Target, true); err != nil {
		return err
	}
	blocks := 0
	for _, there := range []bool{d.FunctionGraph != nil, d.HSS != nil, d.DataArtsInsight != nil} {
		if there {
			blocks++
		}
	}
	if blocks != 1 {
		return invalid(ReasonBadParameters, "data", "it has %d blocks of parameters; give exactly one", blocks)
	}
	switch {
	case r.Target.Kind == approval.FunctionGraph && d.FunctionGraph != nil:
		r.Creation.FunctionGraph, err = d.FunctionGraph.creation()
	case r.Target.Kind == approval.HSS && d.HSS != nil:
		r.Creation.HSS, err = d.HSS.creation()
	case r.Target.Kind == approval.DataArtsInsight && d.DataArtsInsight != nil:
		r.Creation.DataArtsInsight, err = d.DataArtsInsight.creation()
	default:
		err = invalid(ReasonBadParameters, "data", "its block of parameters is not the one of %s, which is %s", r.Target.Name, r.Target.Kind)
	}
	if err != nil {
		return err
	}
	r.Claims, err = claims(d.Claims)
	return err
}

func (d functionGraphData) creation() (*approval.FunctionGraphEndpoint, error) {
	const at = "data.functiongraph."
	vpc, err1 := resourceID(at+"vpc_id", d.VPCID)
	subnet, err2 := resourceID(at+"subnet_id", d.SubnetID)
	err3 := plainText(at+"flavor", d.Flavor, maxText, true)
	err4 := plainText(at+"xrole", d.XRole, maxText, true)
	if err := first(err1, err2, err3, err4); err != nil {
		return nil, err
	}
	out := approval.FunctionGraphEndpoint(d)
	out.VPCID, out.SubnetID = vpc, subnet
	return &out, nil
}

func (d hssData) creation() (*approval.HSSEndpoints, error) {
	const at = "data.hss."
	if d.HostIDs == nil && d.VPCs == nil {
		return nil, invalid(ReasonBadParameters, "data.hss", "it names no servers; give host_id_list, vpc_list or both")
	}
	var hosts []string
	var err error
	if d.HostIDs != nil {
		if hosts, err = resourceIDs(at+"host_id_list", d.HostIDs); err != nil {
			return nil, err
		}
	}
	if n := len(d.VPCs); d.VPCs != nil && (n < 1 || n > maxList) {
		return nil, invalid(ReasonBadParameters, at+"vpc_list", "it has %d entries; 1 to %d are allowed", n, maxList)
	}
	out := approval.HSSEndpoints{HostIDs: hosts}
	for i, v := range d.VPCs {
		place := fmt.Sprintf("%svpc_list[%d].", at, i)
		id, err := resourceID(place+"vpc_id", v.VPCID)
		if err != nil {
			return nil, err
		}
		subnets, err := resourceIDs(place+"subnet_id_list", v.SubnetIDs)
		if err != nil {
			return nil, err
		}
		if slices.ContainsFunc(out.VPCs, func(o approval.HSSVPC) bool { return o.VPCID == id }) {
			return nil, invalid(ReasonBadParameters, place+"vpc_id", "%s is in the list twice", id)
		}
		out.VPCs = append(out.VPCs, approval.HSSVPC{VPCID: id, SubnetIDs: subnets})
	}
	return &out, nil
}

// dataSourceTypes are the values of ds_type.
//
// Source: DataArts Insight API, "verify a service and create an endpoint"; the
// API tells them apart by case.
func dataSourceTypes() []string {
	return []string{"MySQL", "DWS", "PostgreSQL", "OpenGauss", "Doris", "HIVE", "ClickHouse", "API"}
}

func (d dataArtsInsightData) creation() (*approval.DataArtsInsightEndpoint, error) {
	const at = "data.dataarts_insight."
	if !slices.Contains(dataSourceTypes(), d.DSType) {
		return nil, invalid(ReasonBadParameters, at+"ds_type", "%.40q is none of %s", d.DSType, strings.Join(dataSourceTypes(), ", "))
	}
	out := approval.DataArtsInsightEndpoint{DSType: d.DSType, ServerName: d.ServerName}
	if d.ServerID == "" && d.ServerName == "" {
		return nil, invalid(ReasonBadParameters, at+"vpc_ep_server_id", "give vpc_ep_server_id or vpc_ep_server_name")
	}
	if d.ServerName != "" {
		if err := plainText(at+"vpc_ep_server_name", d.ServerName, maxServerName, false); err != nil {
			return nil, err
		}
		if _, err := resourceID(at+"vpc_ep_server_name", out.ServiceID()); err != nil {
			return nil, invalid(ReasonBadID, at+"vpc_ep_server_name", "%.80q does not end in .<service id>", d.ServerName)
		}
	}
	out.ServerName = approval.UUIDAtEnd(out.ServerName)
	if d.ServerID != "" {
		id, err := resourceID(at+"vpc_ep_server_id", d.ServerID)
		if err != nil {
			return nil, err
		}
		if d.ServerName != "" && !approval.SameID(out.ServiceID(), id) {
			return nil, invalid(ReasonBadParameters, at+"vpc_ep_server_id", "it is another service than vpc_ep_server_name")
		}
		out.ServerID = id
	}
	return &out, nil
}

// strictly reads what an event has in it, with claims as approval.Claims reads them, which
// takes three passes where readClaims takes one.
var strictly = json.JoinOptions(json.RejectUnknownMembers(true), json.WithUnmarshalers(json.UnmarshalFromFunc(readClaims))) //nolint:gochecknoglobals // constant; it has a cache

func readClaims(dec *jsontext.Decoder, into *approval.Claims) error {
	if dec.PeekKind() != '{' {
		value, err := dec.ReadValue()
		if err != nil {
			return err
		}
		return into.UnmarshalJSON(value)
	}
	v, err := readClaim(dec)
	if m, ok := v.(map[string]any); ok {
		*into = m
	}
	return err
}

// readClaim reads the next value of claims.
func readClaim(dec *jsontext.Decoder) (any, error) {
	token, err := dec.ReadToken()
	if err != nil {
		return nil, err
	}
	switch token.Kind() {
	case '{':
		m := map[string]any{}
		for dec.PeekKind() != '}' {
			token, err := dec.ReadToken()
			if err != nil {
				return nil, err
			}
			name := token.String()
			if m[name], err = readClaim(dec); err != nil {
				return nil, err
			}
		}
		_, err := dec.ReadToken()
		return m, err
	case '[':
		list := []any{}
		for dec.PeekKind() != ']' {
			v, err := readClaim(dec)
			if err != nil {
				return nil, err
			}
			list = append(list, v)
		}
		_, err := dec.ReadToken()
		return list, err
	case '0':
		return approval.ClaimNumber(token.String()), nil
	case '"':
		return token.String(), nil
	case 't', 'f':
		return token.Bool(), nil
	default:
		return nil, nil //nolint:nilnil // null
	}
}

// decodeData reads data strictly into the struct that into points to.
func decodeData(data jsontext.Value, into any) error {
	if data == nil || data.Kind() != '{' {
		return invalid(ReasonBadParameters, "data", "it is missing or not an object")
	}
	err := json.Unmarshal(data, into, strictly)
	if err == nil {
		return nil
	}
	if e, ok := errors.AsType[*json.SemanticError](err); ok {
		text := "it has a value of the wrong type"
		if errors.Is(err, json.ErrUnknownName) {
			text = "there is no such member"
		} else if e.GoType != nil {
			text = fmt.Sprintf("a JSON %s cannot be here", e.JSONKind)
		}
		return invalid(ReasonBadParameters, "data"+dotted(e.JSONPointer), "%s", text)
	}
	return invalid(ReasonUnreadable, "data", "%s", cloudevent.JSONError(err))
}

// dotted is a JSON pointer as a path such as ".hss.host_id_list.0".
func dotted(p jsontext.Pointer) string {
	var b strings.Builder
	for token := range p.Tokens() {
		b.WriteString("." + cloudevent.Shorten(token))
	}
	return b.String()
}

func resourceID(field, id string) (string, error) {
	if id == "" {
		return "", invalid(ReasonBadID, field, "it is missing")
	}
	if err := approval.ValidID(id); err != nil {
		return "", invalid(ReasonBadID, field, "%v", err)
	}
	return approval.UUID(id), nil
}

// resourceIDs checks a list of 1 to maxList ids without repeats.
func resourceIDs(field string, ids []string) ([]string, error) {
	if n := len(ids); n < 1 || n > maxList {
		return nil, invalid(ReasonBadParameters, field, "it has %d entries; 1 to %d are allowed", n, maxList)
	}
	var out []string
	for i, raw := range ids {
		id, err := resourceID(fmt.Sprintf("%s[%d]", field, i), raw)
		if err != nil {
			return nil, err
		}
		if slices.Contains(out, id) {
			return nil, invalid(ReasonBadParameters, fmt.Sprintf("%s[%d]", field, i), "%s is in the list twice", id)
		}
		out = append(out, id)
	}
	return out, nil
}

// plainText checks the name of something: letters, digits, "_", "-", "." and,
// if spaces is set, " ".
func plainText(field, s string, most int, spaces bool) error {
	if len(s) > most {
		return invalid(ReasonBadParameters, field, "it has %d bytes, more than the %d that are allowed", len(s), most)
	}
	for _, r := range s {
		if r == unicode.ReplacementChar || !unicode.IsLetter(r) && !unicode.IsDigit(r) && !strings.ContainsRune("_-.", r) && (r != ' ' || !spaces) {
			return invalid(ReasonBadParameters, field, "it holds %q; letters, digits, _, - and . are allowed", r)
		}
	}
	return nil
}

func claims(c approval.Claims) (approval.Claims, error) {
	if depth(map[string]any(c)) > approval.MaxClaimDepth {
		return nil, invalid(ReasonBadParameters, "data.claims", "the claims are nested deeper than %d", approval.MaxClaimDepth)
	}
	return c, nil
}

// depth is how many objects and lists lie inside one another in v.
func depth(v any) int {
	most := 0
	switch v := v.(type) {
	case map[string]any:
		for _, x := range v {
			most = max(most, depth(x))
		}
	case []any:
		for _, x := range v {
			most = max(most, depth(x))
		}
	default:
		return 0
	}
	return most + 1
}

// traceParent is the trace context of a message: its own header's before the
// event's. What is not of the form of W3C Trace Context is ignored, as that asks.
func traceParent(header nats.Header, extension string) string {
	for name, values := range header {
		if strings.EqualFold(name, "traceparent") && len(values) == 1 && isTraceParent(values[0]) {
			return values[0]
		}
	}
	if isTraceParent(extension) {
		return extension
	}
	return ""
}

// isTraceParent reports whether s is version-traceid-parentid-flags.
func isTraceParent(s string) bool {
	if len(s) != 55 || s[:2] == "ff" {
		return false
	}
	for i, r := range s {
		dash := i == 2 || i == 35 || i == 52
		hex := r >= '0' && r <= '9' || r >= 'a' && r <= 'f'
		if dash != (r == '-') || !dash && !hex {
			return false
		}
	}
	return s[3:35] != strings.Repeat("0", 32) && s[36:52] != strings.Repeat("0", 16)
}

func first(errs ...error) error {
	for _, err := range errs {
		if err != nil {
			return err
		}
	}
	return nil
}

// encodeRequest is the reverse of DecodeRequest, in structured mode.
func encodeRequest(r approval.Request) ([]byte, nats.Header, error) {
	e := cloudevent.Event{ID: r.EventID, Source: r.Source, Time: r.Time, Subject: r.EndpointID}
	if r.TraceParent != "" {
		e.Extensions = map[string]string{"traceparent": r.TraceParent}
	}
	if r.Creates() {
		e.Type = TypeEndpoint
		data := endpointDataOf(r)
		return cloudevent.EncodeWith(e, &data)
	}
	e.Type = TypeConnection
	return cloudevent.EncodeWith(e, &connectionData{Target: r.Target.Name, EndpointID: r.EndpointID, Claims: r.Claims})
}

func endpointDataOf(r approval.Request) endpointData {
	c := r.Creation
	d := endpointData{
		Target: r.Target.Name, Claims: r.Claims,
		FunctionGraph: (*functionGraphData)(c.FunctionGraph), DataArtsInsight: (*dataArtsInsightData)(c.DataArtsInsight),
	}
	if c.HSS != nil {
		d.HSS = &hssData{HostIDs: c.HSS.HostIDs}
		for _, v := range c.HSS.VPCs {
			d.HSS.VPCs = append(d.HSS.VPCs, vpcData(v))
		}
	}
	return d
}
