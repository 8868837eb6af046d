package events

import (
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/nats-io/nats.go"

	"github.com/vpcep-approver/vpcep-approver/internal/approval"
)

// connectionEvent is a good event about a connection; %s is more of its members.
const connectionEvent = `{"specversion":"1.0","id":"e1","source":"//producer.example.org/a","type":"vpcep.connection.requested",` +
	`"time":"2026-11-21T08:00:00+01:00","data":{"target":"payments","endpoint_id":"` + endpoint + `","claims":{"tags":{"env":"prod"},"n":1}}}`

const connectionJSON = `{"target":"payments","endpoint_id":"` + endpoint + `","claims":{"tags":{"env":"prod"},"n":1}}`

func goodConnection() approval.Request {
	return approval.Request{
		ID: approval.RequestID("//producer.example.org/a", "e1"), Source: "//producer.example.org/a", EventID: "e1",
		Time: time.Date(2026, 11, 21, 7, 0, 0, 0, time.UTC), Target: targets()[0], EndpointID: endpoint,
		Claims: approval.Claims{"tags": map[string]any{"env": "prod"}, "n": int64(1)},
	}
}

func binaryHeader() nats.Header {
	return nats.Header{
		"ce-specversion": {"1.0"}, "ce-id": {"e1"}, "ce-source": {"//producer.example.org/a"},
		"ce-type": {TypeConnection}, "ce-time": {"2026-11-21T08:00:00+01:00"}, "ce-datacontenttype": {"application/json"},
	}
}

// event is a structured event with this data.
func event(kind, data string) string {
	return `{"specversion":"1.0","id":"e","source":"s","type":"` + kind + `","data":` + data + `}`
}

func TestDecodeRequestModes(t *testing.T) {
	t.Parallel()
	const trace = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
	tests := []struct {
		name   string
		header func(h nats.Header) // from none for structured mode, from binaryHeader else
		body   string
		binary bool
		want   func(r *approval.Request)
	}{
		{name: "structured without a header", body: connectionEvent},
		{name: "structured by its type", body: connectionEvent, header: func(h nats.Header) { h["content-TYPE"] = []string{"Application/CloudEvents+JSON; charset=utf-8"} }},
		{name: "structured with another type", body: connectionEvent, header: func(h nats.Header) { h["Content-Type"] = []string{"application/json"} }},
		{name: "structured with data in base64", body: strings.Replace(connectionEvent, `"data":`+connectionJSON, `"data_base64":"`+base64.StdEncoding.EncodeToString([]byte(connectionJSON))+`"`, 1)},
		{name: "structured with absent attributes", body: strings.Replace(connectionEvent, `{`, `{"subject":null,"mine":null,`, 1)},
		{name: "structured with extensions", body: strings.Replace(connectionEvent, `{`, `{"subject":"x","mine":1,"yours":true,"theirs":"€","dataschema":"https://x","datacontenttype":"application/json",`, 1)},
		{name: "structured with a trace", body: strings.Replace(connectionEvent, `{`, `{"traceparent":"`+trace+`",`, 1), want: func(r *approval.Request) { r.TraceParent = trace }},
		{name: "a trace that is none is ignored", body: strings.Replace(connectionEvent, `{`, `{"traceparent":"00-x",`, 1)},
		{name: "the message's own trace is first", body: strings.Replace(connectionEvent, `{`, `{"traceparent":"`+strings.Replace(trace, "4bf", "fff", 1)+`",`, 1), header: func(h nats.Header) { h["Traceparent"] = []string{trace} }, want: func(r *approval.Request) { r.TraceParent = trace }},
		{name: "binary", body: connectionJSON, binary: true},
		{name: "binary with other letters", body: connectionJSON, binary: true, header: func(h nats.Header) {
			for name, v := range maps.Clone(h) {
				delete(h, name)
				h[strings.ToUpper(name)] = v
			}
		}},
		{name: "binary with a content type", body: connectionJSON, binary: true, header: func(h nats.Header) { h["Content-Type"] = []string{"application/vnd.x+json"} }},
		{name: "binary percent-encoded", body: connectionJSON, binary: true, header: func(h nats.Header) { h["ce-id"] = []string{"Euro%20%E2%82%AC"} }, want: func(r *approval.Request) {
			r.EventID = "Euro €"
			r.ID = approval.RequestID(r.Source, r.EventID)
		}},
		{name: "binary with a trace", body: connectionJSON, binary: true, header: func(h nats.Header) { h["ce-traceparent"] = []string{trace} }, want: func(r *approval.Request) { r.TraceParent = trace }},
	}
	for _, tt := range tests {
		header := nats.Header{}
		if tt.binary {
			header = binaryHeader()
		}
		if tt.header != nil {
			tt.header(header)
		}
		want := goodConnection()
		if tt.want != nil {
			tt.want(&want)
		}
		got, err := DecodeRequest(header, []byte(tt.body), targets())
		if err != nil {
			t.Errorf("%s: %v", tt.name, err)
		} else if d := cmp.Diff(want, got); d != "" {
			t.Errorf("%s (-want +got):\n%s", tt.name, d)
		}
	}
}

func TestDecodeRequestData(t *testing.T) {
	t.Parallel()
	upper := strings.ToUpper(endpoint)
	list := func(n int) string {
		var ids []string
		for i := range n {
			ids = append(ids, fmt.Sprintf("%q", fmt.Sprintf("%032x", i)))
		}
		return "[" + strings.Join(ids, ",") + "]"
	}
	vpcs := `[{"vpc_id":"` + service + `","subnet_id_list":["` + endpoint + `"]}]`
	fg := `"functiongraph":{"vpc_id":"` + endpoint + `","subnet_id":"` + service + `"`
	nested := func(n int) string { return strings.Repeat(`{"a":`, n) + `1` + strings.Repeat(`}`, n) }
	tests := []struct {
		name, kind, data string
		reason, field    string // of the rejection; none if empty
	}{
		{"a target by its name", TypeConnection, `{"target":"orders","endpoint_id":"` + endpoint + `"}`, "", ""},
		{"a target by its service", TypeConnection, `{"service_id":"` + service + `","endpoint_id":"` + endpoint + `"}`, "", ""},
		{"a target by its gateway", TypeConnection, `{"gateway_id":"` + strings.ToUpper(gateway) + `","endpoint_id":"` + endpoint + `"}`, "", ""},
		{"an id in capitals", TypeConnection, `{"target":"payments","endpoint_id":"` + upper + `"}`, "", ""},
		{"no claims", TypeConnection, `{"target":"payments","endpoint_id":"` + endpoint + `","claims":null}`, "", ""},
		{"deep claims", TypeConnection, `{"target":"payments","endpoint_id":"` + endpoint + `","claims":` + nested(8) + `}`, "", ""},
		{"deeper claims", TypeConnection, `{"target":"payments","endpoint_id":"` + endpoint + `","claims":` + nested(9) + `}`, ReasonBadParameters, "data.claims"},
		{"claims in a list", TypeConnection, `{"target":"payments","endpoint_id":"` + endpoint + `","claims":[]}`, ReasonBadParameters, "data.claims"},
		{"no target", TypeConnection, `{"endpoint_id":"` + endpoint + `"}`, ReasonBadParameters, "data"},
		{"two targets", TypeConnection, `{"target":"payments","service_id":"` + service + `","endpoint_id":"` + endpoint + `"}`, ReasonBadParameters, "data"},
		{"an unknown target", TypeConnection, `{"target":"nobody","endpoint_id":"` + endpoint + `"}`, ReasonUnknownTarget, "data.target"},
		{"an unknown service", TypeConnection, `{"service_id":"` + endpoint + `","endpoint_id":"` + endpoint + `"}`, ReasonUnknownTarget, "data.service_id"},
		{"a gateway as a service", TypeConnection, `{"service_id":"` + gateway + `","endpoint_id":"` + endpoint + `"}`, ReasonUnknownTarget, "data.service_id"},
		{"a service that is a path", TypeConnection, `{"service_id":"../` + service + `","endpoint_id":"` + endpoint + `"}`, ReasonBadID, "data.service_id"},
		{"a target of another kind", TypeConnection, `{"target":"functions","endpoint_id":"` + endpoint + `"}`, ReasonUnknownTarget, "data.target"},
		{"a target that is a number", TypeConnection, `{"target":1,"endpoint_id":"` + endpoint + `"}`, ReasonBadParameters, "data.target"},
		{"no endpoint", TypeConnection, `{"target":"payments"}`, ReasonBadID, "data.endpoint_id"},
		{"an endpoint that is a path", TypeConnection, `{"target":"payments","endpoint_id":"../../705290f3-0d00-41f2-aedc-71f09"}`, ReasonBadID, "data.endpoint_id"},
		{"an endpoint with a query", TypeConnection, `{"target":"payments","endpoint_id":"705290f3-0d00-41f2-aedc-71f09844e87?"}`, ReasonBadID, "data.endpoint_id"},
		{"an endpoint with a NUL", TypeConnection, `{"target":"payments","endpoint_id":"705290f3-0d00-41f2-aedc-71f09844e87\u0000"}`, ReasonBadID, "data.endpoint_id"},
		{"several endpoints", TypeConnection, `{"target":"payments","endpoint_id":["` + endpoint + `"]}`, ReasonBadParameters, "data.endpoint_id"},
		{"an unknown member", TypeConnection, `{"target":"payments","endpoint_id":"` + endpoint + `","project_id":"p"}`, ReasonBadParameters, "data.project_id"},
		{"a member in other letters", TypeConnection, `{"Target":"payments","endpoint_id":"` + endpoint + `"}`, ReasonBadParameters, "data.Target"},
		{"data in a list", TypeConnection, `[]`, ReasonBadParameters, "data"},
		{"data that is null", TypeConnection, `null`, ReasonBadParameters, "data"},
		{"parameters of a creation", TypeConnection, `{"target":"payments","endpoint_id":"` + endpoint + `",` + fg + `}}`, ReasonBadParameters, "data.functiongraph"},

		{"functiongraph", TypeEndpoint, `{"target":"functions",` + fg + `,"flavor":"default","xrole":"my role-1"}}`, "", ""},
		{"functiongraph, least", TypeEndpoint, `{"target":"functions",` + fg + `},"claims":{"a":"b"}}`, "", ""},
		{"no block", TypeEndpoint, `{"target":"functions"}`, ReasonBadParameters, "data"},
		{"two blocks", TypeEndpoint, `{"target":"functions",` + fg + `},"hss":{"host_id_list":[],"vpc_list":[]}}`, ReasonBadParameters, "data"},
		{"another's block", TypeEndpoint, `{"target":"hosts",` + fg + `}}`, ReasonBadParameters, "data"},
		{"a connection's target", TypeEndpoint, `{"target":"payments",` + fg + `}}`, ReasonUnknownTarget, "data.target"},
		{"a creation without a target", TypeEndpoint, `{` + fg + `}}`, ReasonBadParameters, "data.target"},
		{"a bad VPC", TypeEndpoint, `{"target":"functions","functiongraph":{"vpc_id":"vpc","subnet_id":"` + endpoint + `"}}`, ReasonBadID, "data.functiongraph.vpc_id"},
		{"no subnet", TypeEndpoint, `{"target":"functions","functiongraph":{"vpc_id":"` + endpoint + `"}}`, ReasonBadID, "data.functiongraph.subnet_id"},
		{"a bad flavor", TypeEndpoint, `{"target":"functions",` + fg + `,"flavor":"a/b"}}`, ReasonBadParameters, "data.functiongraph.flavor"},
		{"a long agency", TypeEndpoint, `{"target":"functions",` + fg + `,"xrole":"` + strings.Repeat("x", 65) + `"}}`, ReasonBadParameters, "data.functiongraph.xrole"},
		{"an agency with a bidi control", TypeEndpoint, `{"target":"functions",` + fg + `,"xrole":"a\u202eb"}}`, ReasonBadParameters, "data.functiongraph.xrole"},
		{"an unknown parameter", TypeEndpoint, `{"target":"functions",` + fg + `,"domain":"x"}}`, ReasonBadParameters, "data.functiongraph.domain"},

		{"hss", TypeEndpoint, `{"target":"hosts","hss":{"host_id_list":` + list(256) + `,"vpc_list":` + vpcs + `}}`, "", ""},
		{"hss by VPCs alone", TypeEndpoint, `{"target":"hosts","hss":{"vpc_list":` + vpcs + `}}`, "", ""},
		{"hss by hosts alone", TypeEndpoint, `{"target":"hosts","hss":{"host_id_list":` + list(3) + `}}`, "", ""},
		{"hss by hosts alone, the other is null", TypeEndpoint, `{"target":"hosts","hss":{"host_id_list":` + list(3) + `,"vpc_list":null}}`, "", ""},
		{"hss with neither", TypeEndpoint, `{"target":"hosts","hss":{}}`, ReasonBadParameters, "data.hss"},
		{"hss with an empty list of hosts", TypeEndpoint, `{"target":"hosts","hss":{"host_id_list":[],"vpc_list":` + vpcs + `}}`, ReasonBadParameters, "data.hss.host_id_list"},
		{"hss with too many hosts", TypeEndpoint, `{"target":"hosts","hss":{"host_id_list":` + list(257) + `,"vpc_list":` + vpcs + `}}`, ReasonBadParameters, "data.hss.host_id_list"},
		{"hss with a bad host", TypeEndpoint, `{"target":"hosts","hss":{"host_id_list":["` + endpoint + `","h"],"vpc_list":` + vpcs + `}}`, ReasonBadID, "data.hss.host_id_list[1]"},
		{"hss with a host twice", TypeEndpoint, `{"target":"hosts","hss":{"host_id_list":["` + endpoint + `","` + upper + `"],"vpc_list":` + vpcs + `}}`, ReasonBadParameters, "data.hss.host_id_list[1]"},
		{"hss without VPCs", TypeEndpoint, `{"target":"hosts","hss":{"host_id_list":` + list(1) + `,"vpc_list":[]}}`, ReasonBadParameters, "data.hss.vpc_list"},
		{"hss with a VPC twice", TypeEndpoint, `{"target":"hosts","hss":{"host_id_list":` + list(1) + `,"vpc_list":` + vpcs[:len(vpcs)-1] + `,` + vpcs[1:] + `}}`, ReasonBadParameters, "data.hss.vpc_list[1].vpc_id"},
		{"hss without subnets", TypeEndpoint, `{"target":"hosts","hss":{"host_id_list":` + list(1) + `,"vpc_list":[{"vpc_id":"` + service + `","subnet_id_list":[]}]}}`, ReasonBadParameters, "data.hss.vpc_list[0].subnet_id_list"},
		{"hss with a bad VPC", TypeEndpoint, `{"target":"hosts","hss":{"host_id_list":` + list(1) + `,"vpc_list":[{"vpc_id":"v"}]}}`, ReasonBadID, "data.hss.vpc_list[0].vpc_id"},

		{"insight by id", TypeEndpoint, `{"target":"insight","dataarts_insight":{"ds_type":"DWS","vpc_ep_server_id":"` + service + `"}}`, "", ""},
		{"insight by name", TypeEndpoint, `{"target":"insight","dataarts_insight":{"ds_type":"HIVE","vpc_ep_server_name":"cn-north-4.pay.` + service + `"}}`, "", ""},
		{"insight by both", TypeEndpoint, `{"target":"insight","dataarts_insight":{"ds_type":"API","vpc_ep_server_name":"cn-north-4.pay.` + service + `","vpc_ep_server_id":"` + service + `"}}`, "", ""},
		{"insight by two services", TypeEndpoint, `{"target":"insight","dataarts_insight":{"ds_type":"DWS","vpc_ep_server_name":"cn-north-4.pay.` + service + `","vpc_ep_server_id":"` + endpoint + `"}}`, ReasonBadParameters, "data.dataarts_insight.vpc_ep_server_id"},
		{"insight by none", TypeEndpoint, `{"target":"insight","dataarts_insight":{"ds_type":"DWS"}}`, ReasonBadParameters, "data.dataarts_insight.vpc_ep_server_id"},
		{"insight of an unknown type", TypeEndpoint, `{"target":"insight","dataarts_insight":{"ds_type":"mysql","vpc_ep_server_id":"` + service + `"}}`, ReasonBadParameters, "data.dataarts_insight.ds_type"},
		{"insight by a bad id", TypeEndpoint, `{"target":"insight","dataarts_insight":{"ds_type":"DWS","vpc_ep_server_id":"x"}}`, ReasonBadID, "data.dataarts_insight.vpc_ep_server_id"},
		{"insight by a bad name", TypeEndpoint, `{"target":"insight","dataarts_insight":{"ds_type":"DWS","vpc_ep_server_name":"a b"}}`, ReasonBadParameters, "data.dataarts_insight.vpc_ep_server_name"},
		{"insight by a name without an id", TypeEndpoint, `{"target":"insight","dataarts_insight":{"ds_type":"DWS","vpc_ep_server_name":"a.b"}}`, ReasonBadID, "data.dataarts_insight.vpc_ep_server_name"},
		{"an unknown type", "vpcep.connection.approved", `{}`, ReasonUnknownType, "type"},
	}
	for _, tt := range tests {
		got, err := DecodeRequest(nil, []byte(event(tt.kind, tt.data)), targets())
		if tt.reason != "" {
			wantInvalid(t, tt.name, err, tt.reason, tt.field)
			continue
		}
		if err != nil {
			t.Errorf("%s: %v", tt.name, err)
			continue
		}
		roundTrip(t, got)
	}
}

// TestDecodeAnySpelling: ids come out in one spelling, whatever the event has.
func TestDecodeAnySpelling(t *testing.T) {
	t.Parallel()
	decode := func(kind, data string) approval.Request {
		t.Helper()
		r, err := DecodeRequest(nil, []byte(event(kind, data)), targets())
		if err != nil {
			t.Fatalf("%s: %v", data, err)
		}
		return r
	}
	for text, kind := range map[string]string{
		`{"target":"orders","endpoint_id":"` + endpoint + `"}`:                                                                                                 TypeConnection,
		`{"service_id":"` + service + `","endpoint_id":"` + endpoint + `"}`:                                                                                    TypeConnection,
		`{"target":"functions","functiongraph":{"vpc_id":"` + endpoint + `","subnet_id":"` + service + `"}}`:                                                   TypeEndpoint,
		`{"target":"hosts","hss":{"host_id_list":["` + endpoint + `"],"vpc_list":[{"vpc_id":"` + service + `","subnet_id_list":["` + endpoint + `"]}]}}`:       TypeEndpoint,
		`{"target":"insight","dataarts_insight":{"ds_type":"API","vpc_ep_server_name":"cn-north-4.pay.` + service + `"}}`:                                      TypeEndpoint,
		`{"target":"insight","dataarts_insight":{"ds_type":"API","vpc_ep_server_name":"cn-north-4.pay.` + service + `","vpc_ep_server_id":"` + service + `"}}`: TypeEndpoint,
	} {
		want := decode(kind, text)
		for _, spelled := range []func(string) string{
			strings.ToUpper,
			func(id string) string { return strings.ReplaceAll(id, "-", "") },
			func(id string) string { return strings.ToUpper(strings.ReplaceAll(id, "-", "")) },
		} {
			other := strings.NewReplacer(endpoint, spelled(endpoint), service, spelled(service)).Replace(text)
			if diff := cmp.Diff(want, decode(kind, other)); diff != "" {
				t.Errorf("%s is another request (-want +got):\n%s", other, diff)
			}
		}
	}
	const twice = `{"target":"hosts","hss":{"host_id_list":["` + endpoint + `","`
	_, err := DecodeRequest(nil, []byte(event(TypeEndpoint, twice+strings.ReplaceAll(endpoint, "-", "")+`"],"vpc_list":[{"vpc_id":"`+service+`","subnet_id_list":["`+endpoint+`"]}]}}`)), targets())
	wantInvalid(t, "a host twice in two spellings", err, ReasonBadParameters, "data.hss.host_id_list[1]")
}

func wantInvalid(t *testing.T, name string, err error, reason, field string) {
	t.Helper()
	var r *InvalidEventError
	if !errors.As(err, &r) || r.Reason != reason || r.Field != field || r.Text == "" || r.Retryable() {
		t.Errorf("%s: %v, want %s at %q", name, err, reason, field)
	}
}

// roundTrip holds that what was taken can be submitted again and is the same.
func roundTrip(t *testing.T, r approval.Request) {
	t.Helper()
	body, header, err := encodeRequest(r)
	if err != nil {
		t.Errorf("encode %+v: %v", r, err)
		return
	}
	again, err := DecodeRequest(header, body, targets())
	if err != nil {
		t.Errorf("decode %s again: %v", body, err)
	} else if d := cmp.Diff(r, again); d != "" {
		t.Errorf("submitted again it differs (-first +again):\n%s", d)
	}
}

func TestDecodeRequestEnvelope(t *testing.T) {
	t.Parallel()
	without := func(name string) string {
		return strings.Replace(connectionEvent, `"`+name+`":`, `"x`+name+`":`, 1)
	}
	with := func(members string) string { return strings.Replace(connectionEvent, `{`, `{`+members+`,`, 1) }
	tests := []struct {
		name, body, reason, field string
	}{
		{"nothing", ``, ReasonUnreadable, ""},
		{"no JSON", `hello`, ReasonUnreadable, ""},
		{"half of it", connectionEvent[:60], ReasonUnreadable, ""},
		{"a list", `[` + connectionEvent + `]`, ReasonUnreadable, ""},
		{"null", `null`, ReasonUnreadable, ""},
		{"something after it", connectionEvent + `{}`, ReasonUnreadable, ""},
		{"not UTF-8", strings.Replace(connectionEvent, "e1", "e\xff", 1), ReasonUnreadable, ""},
		{"two ids", with(`"id":"e2"`), ReasonUnreadable, ""},
		{"two data", with(`"data":{}`), ReasonUnreadable, ""},
		{"two endpoints", strings.Replace(connectionEvent, `"endpoint_id"`, `"endpoint_id":"x","endpoint_id"`, 1), ReasonUnreadable, ""},
		{"data twice", with(`"data_base64":"e30="`), ReasonUnreadable, "data_base64"},
		{"data that is no base64", strings.Replace(connectionEvent, `"data":`+connectionJSON, `"data_base64":"!"`, 1), ReasonUnreadable, "data_base64"},
		{"data in base64 that is no string", strings.Replace(connectionEvent, `"data":`+connectionJSON, `"data_base64":1`, 1), ReasonUnreadable, "data_base64"},
		{"data in base64 that is no JSON", strings.Replace(connectionEvent, `"data":`+connectionJSON, `"data_base64":"eA=="`, 1), ReasonUnreadable, "data_base64"},
		{"deep", event(TypeConnection, strings.Repeat(`[`, 10000)+strings.Repeat(`]`, 10000)), ReasonUnreadable, ""},
		{"large", with(`"large":"` + strings.Repeat("x", MaxEvent) + `"`), ReasonTooLarge, ""},
		{"no version", without("specversion"), ReasonUnreadable, "specversion"},
		{"another version", strings.Replace(connectionEvent, `"1.0"`, `"0.3"`, 1), ReasonUnreadable, "specversion"},
		{"a version that is a number", strings.Replace(connectionEvent, `"1.0"`, `1.0`, 1), ReasonUnreadable, "specversion"},
		{"no id", without("id"), ReasonUnreadable, "id"},
		{"an empty id", strings.Replace(connectionEvent, `"e1"`, `""`, 1), ReasonUnreadable, "id"},
		{"a long id", strings.Replace(connectionEvent, `e1`, strings.Repeat("x", 1025), 1), ReasonUnreadable, "id"},
		{"an id with a control character", strings.Replace(connectionEvent, `e1`, `e\n1`, 1), ReasonUnreadable, "id"},
		{"no source", without("source"), ReasonUnreadable, "source"},
		{"a source that is no URI", strings.Replace(connectionEvent, `//producer.example.org/a`, `%zz`, 1), ReasonUnreadable, "source"},
		{"no type", without("type"), ReasonUnreadable, "type"},
		{"a time that is none", strings.Replace(connectionEvent, `2026-11-21T08:00:00+01:00`, `yesterday`, 1), ReasonUnreadable, "time"},
		{"an attribute with a bad name", with(`"my-attribute":"x"`), ReasonUnreadable, "my-attribute"},
		{"an attribute without a name", with(`"":"x"`), ReasonUnreadable, ""},
		{"an attribute that is an object", with(`"mine":{}`), ReasonUnreadable, "mine"},
		{"an attribute that is a fraction", with(`"mine":1.5`), ReasonUnreadable, "mine"},
		{"an attribute that is too large", with(`"mine":18446744073709551616`), ReasonUnreadable, "mine"},
		{"an id in capitals", with(`"ID":"e2"`), ReasonUnreadable, "ID"},
		{"data in capitals", with(`"Data":{}`), ReasonUnreadable, "Data"},
		{"an extension in two spellings", with(`"myExt":"x","myext":"y"`), ReasonUnreadable, "myExt"},
		{"an extension with a Kelvin sign", with("\"trac\u212A\":\"x\""), ReasonUnreadable, "trac\u212A"},
		{"data and null for data_base64, but two data", with(`"data_base64":null,"data":{}`), ReasonUnreadable, ""},
		{"two byte order marks", "\uFEFF\uFEFF" + connectionEvent, ReasonUnreadable, ""},
		{"an attribute with a noncharacter", with(`"mine":"\uffff"`), ReasonUnreadable, "mine"},
		{"data that is XML", with(`"datacontenttype":"application/xml"`), ReasonUnreadable, "datacontenttype"},
		{"data of a type that is none", with(`"datacontenttype":";"`), ReasonUnreadable, "datacontenttype"},
		{"no data", without("data"), ReasonUnreadable, "xdata"},
	}
	for _, tt := range tests {
		_, err := DecodeRequest(nil, []byte(tt.body), targets())
		wantInvalid(t, tt.name, err, tt.reason, tt.field)
	}
}

// TestDecodeTakesWhatProducersWrite: the specification asks for more, and nothing
// is lost by reading it.
func TestDecodeTakesWhatProducersWrite(t *testing.T) {
	t.Parallel()
	with := func(members string) string { return strings.Replace(connectionEvent, `{`, `{`+members+`,`, 1) }
	inBase64 := base64.StdEncoding.EncodeToString([]byte("\uFEFF" + connectionJSON))
	for name, body := range map[string]string{
		"null for data_base64":             with(`"data_base64":null`),
		"null for data":                    strings.Replace(connectionEvent, `"data":`+connectionJSON, `"data":null,"data_base64":"`+inBase64+`"`, 1),
		"another name of UTF-8":            with(`"datacontenttype":"application/json; charset=UTF8"`),
		"a quoted name of UTF-8":           with(`"datacontenttype":"application/json;charset=\"utf-8\""`),
		"a byte order mark":                "\uFEFF" + connectionEvent,
		"small letters in a time":          strings.Replace(connectionEvent, `2026-11-21T08:00:00+01:00`, `2026-11-21t07:00:00z`, 1),
		"a long fraction of a second":      strings.Replace(connectionEvent, `08:00:00+01:00`, `08:00:00.0000000000000+01:00`, 1),
		"an extension in camel case":       with(`"myExt":"x"`),
		"an extension of 64 bits":          with(`"mine":-9223372036854775808`),
		"an extension of 64 bits, no sign": with(`"mine":18446744073709551615`),
	} {
		got, err := DecodeRequest(nats.Header{"Content-Type": {"application/cloudevents+json; charset=utf8"}}, []byte(body), targets())
		if err != nil {
			t.Errorf("%s: %v", name, err)
		} else if d := cmp.Diff(goodConnection(), got); d != "" {
			t.Errorf("%s (-want +got):\n%s", name, d)
		}
	}
	h := binaryHeader()
	h["ce-datacontenttype"], h["ce-time"] = []string{"application/json; charset=utf8"}, []string{"2026-11-21t08:00:00+01:00"}
	got, err := DecodeRequest(h, []byte("\uFEFF"+connectionJSON), targets())
	if d := cmp.Diff(goodConnection(), got); err != nil || d != "" {
		t.Errorf("binary mode: %v (-want +got):\n%s", err, d)
	}
}

// TestDecodeTakesTimesThatCanBeWritten: what is taken is stored in UTC, and read
// again.
func TestDecodeTakesTimesThatCanBeWritten(t *testing.T) {
	t.Parallel()
	for text, ok := range map[string]bool{
		"9999-12-31T23:59:59Z":           true,
		"9999-12-31T23:59:59-01:00":      false, // the year 10000 in UTC
		"9999-12-31T23:59:59+23:59":      true,
		"0000-01-01T00:00:00Z":           true,
		"0000-01-01T00:00:00+00:01":      false, // the year -1 in UTC
		"10000-01-01T00:00:00Z":          false,
		"-001-01-01T00:00:00Z":           false,
		"2026-11-21T08:00:00,5Z":         false, // no RFC 3339, and Go's parser takes it
		"2026-11-21T08:00:00+24:00":      false, // likewise
		"2026-11-21T08:00:00-24:00":      false,
		"2026-11-21T08:00:00+01:60":      false,
		"2026-11-21T8:00:00Z":            false,
		"2026-11-21 08:00:00Z":           false,
		"2026-11-21T08:00:00":            false,
		"2026-11-21T24:00:00Z":           false,
		"2026-02-30T08:00:00Z":           false,
		"2026-11-21T08:00:00.Z":          false,
		"2026-11-21T08:00:00.123456789z": true,
	} {
		got, err := DecodeRequest(nil, []byte(strings.Replace(connectionEvent, "2026-11-21T08:00:00+01:00", text, 1)), targets())
		if ok && err == nil {
			roundTrip(t, got)
			continue
		}
		if ok {
			t.Errorf("%s: %v", text, err)
			continue
		}
		wantInvalid(t, text, err, ReasonUnreadable, "time")
	}
}

// TestDecodeRefusesWhatCannotBeStored: written again an event may be longer.
func TestDecodeRefusesWhatCannotBeStored(t *testing.T) {
	t.Parallel()
	claims := func(value string) string {
		return event(TypeConnection, `{"target":"payments","endpoint_id":"`+endpoint+`","claims":{"n":`+value+`}}`)
	}
	_, err := DecodeRequest(nil, []byte(claims("["+strings.Repeat("1e20,", 12_000)+"1]")), targets())
	var r *InvalidEventError
	if err != nil && (!errors.As(err, &r) || r.Reason != ReasonTooLarge) {
		t.Errorf("claims that grow: %v, want too_large", err)
	}
	for name, value := range map[string]string{
		"a number beyond all floats": "1e999", "not a number": "NaN", "infinity": "Infinity",
		"half a surrogate pair": `"\ud800"`, "bytes that are no UTF-8": "\"\xff\"",
	} {
		got, err := DecodeRequest(nil, []byte(claims(value)), targets())
		if err == nil {
			roundTrip(t, got)
		} else if !errors.As(err, &r) {
			t.Errorf("%s: %v, want a rejection", name, err)
		}
	}
	// To the byte what is allowed.
	padding := MaxEvent - len(claims(`""`))
	if _, err := DecodeRequest(nil, []byte(claims(`"`+strings.Repeat("x", padding)+`"`)), targets()); err != nil {
		t.Errorf("an event of %d bytes: %v", MaxEvent, err)
	}
	_, err = DecodeRequest(nil, []byte(claims(`"`+strings.Repeat("x", padding+1)+`"`)), targets())
	wantInvalid(t, "one byte more", err, ReasonTooLarge, "")
}

// TestDecodeMessageAgreesWithItsSubject: permissions are given by subject.
func TestDecodeMessageAgreesWithItsSubject(t *testing.T) {
	t.Parallel()
	about := func(source, target string) string {
		return `{"specversion":"1.0","id":"e","source":"` + source + `","type":"` + TypeConnection + `","data":{"target":"` + target + `","endpoint_id":"` + endpoint + `"}}`
	}
	const sweep = "vpcep-approver/sweep"
	for _, tt := range []struct {
		subject, source, target string
		ok                      bool
	}{
		{"vpcep.requests.payments", "s", "payments", true},
		{"vpcep.requests.payments", "s", "orders", false},
		{"vpcep.requests.payments.eu", "s", "payments", true},
		{"vpcep.requests.payments.eu", "s", "orders", false},
		{"vpcep.requests.functions", "s", "orders", false},
		{"vpcep.requests.portal", "s", "orders", true},
		{"vpcep.requests.portal.payments", "s", "orders", true},
		{"vpcep.requests._sweep.payments", sweep, "payments", true},
		{"vpcep.requests._sweep.payments", sweep, "orders", false},
		{"vpcep.requests._sweep.nobody", sweep, "payments", false},
		{"vpcep.requests._sweep.payments.eu", sweep, "payments", false},
		{"vpcep.requests._sweep", sweep, "payments", false},
		{"vpcep.requests._sweep.payments", "s", "payments", false},
		{"vpcep.requests._sweep", "s", "payments", false},
		{"vpcep.requests.payments", sweep, "payments", false},
		{"vpcep.requests.portal", sweep, "payments", false},
		{"vpcep.requests._sweeper", sweep, "payments", false},
	} {
		_, err := DecodeMessage(tt.subject, nil, []byte(about(tt.source, tt.target)), targets())
		var r *InvalidEventError
		if tt.ok != (err == nil) || err != nil && (!errors.As(err, &r) || r.Reason != ReasonWrongSubject) {
			t.Errorf("%s from %s about %s: %v, want it taken: %v", tt.subject, tt.source, tt.target, err, tt.ok)
		}
	}
}

func TestDecodeRequestHeaders(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name  string
		edit  func(h nats.Header)
		body  string // connectionJSON if empty
		field string
	}{
		{"an attribute twice", func(h nats.Header) { h["ce-id"] = []string{"e1", "e2"} }, "", "header ce-id"},
		{"an attribute in two spellings", func(h nats.Header) { h["Ce-Id"] = []string{"e2"} }, "", "header ce-id"},
		{"two content types", func(h nats.Header) { h["content-type"] = []string{"a/json"}; h["Content-Type"] = []string{"a/json"} }, "", "header content-type"},
		{"broken percent-encoding", func(h nats.Header) { h["ce-id"] = []string{"50%"} }, "", "header ce-id"},
		{"percent-encoding that is not UTF-8", func(h nats.Header) { h["ce-id"] = []string{"%ff"} }, "", "header ce-id"},
		{"percent-encoding that hides a line", func(h nats.Header) { h["ce-id"] = []string{"a%0Ab"} }, "", "header ce-id"},
		{"both modes", func(h nats.Header) { h["Content-Type"] = []string{"application/cloudevents+json"} }, connectionEvent, "header ce-specversion"},
		{"a batch", func(h nats.Header) { clear(h); h["Content-Type"] = []string{"application/cloudevents-batch+json"} }, "[]", "header content-type"},
		{"another format", func(h nats.Header) { clear(h); h["Content-Type"] = []string{"application/cloudevents+avro"} }, connectionEvent, "header content-type"},
		{"another character set", func(h nats.Header) {
			clear(h)
			h["Content-Type"] = []string{"application/cloudevents+json; charset=utf-16"}
		}, connectionEvent, "header content-type"},
		{"data that is text", func(h nats.Header) { h["ce-datacontenttype"] = []string{"text/plain"} }, "", "header ce-datacontenttype"},
		{"data that is text by its type", func(h nats.Header) { h["Content-Type"] = []string{"text/plain"} }, "", "header ce-datacontenttype"},
		{"another version", func(h nats.Header) { h["ce-specversion"] = []string{"1.1"} }, "", "header ce-specversion"},
		{"no id", func(h nats.Header) { delete(h, "ce-id") }, "", "header ce-id"},
		{"data that is no JSON", func(nats.Header) {}, "x", "data"},
		{"two data", func(nats.Header) {}, connectionJSON + connectionJSON, "data"},
		{"a bad name", func(h nats.Header) { h["ce-a_b"] = []string{"x"} }, "", "header ce-a_b"},
	}
	for _, tt := range tests {
		h := binaryHeader()
		tt.edit(h)
		body := connectionJSON
		if tt.body != "" {
			body = tt.body
		}
		_, err := DecodeRequest(h, []byte(body), targets())
		wantInvalid(t, tt.name, err, ReasonUnreadable, tt.field)
	}
	// Headers count towards the size.
	h := binaryHeader()
	h["ce-mine"] = []string{strings.Repeat("x", MaxEvent)}
	_, err := DecodeRequest(h, []byte(connectionJSON), targets())
	wantInvalid(t, "large headers", err, ReasonTooLarge, "")
	// Data that is missing altogether.
	_, err = DecodeRequest(binaryHeader(), nil, targets())
	wantInvalid(t, "no data", err, ReasonBadParameters, "data")
}

func FuzzDecode(f *testing.F) {
	f.Add(connectionEvent, "", "", "")
	f.Add(connectionJSON, "1.0", "e1", "application/json")
	f.Add(event(TypeEndpoint, `{"target":"hosts","hss":{"host_id_list":["`+endpoint+`"],"vpc_list":[{"vpc_id":"`+service+`","subnet_id_list":["`+endpoint+`"]}]}}`), "", "", "")
	f.Add(event(TypeEndpoint, `{"target":"insight","dataarts_insight":{"ds_type":"DWS","vpc_ep_server_id":"`+service+`"}}`), "", "", "")
	f.Add(event(TypeEndpoint, `{"target":"functions","functiongraph":{"vpc_id":"`+endpoint+`","subnet_id":"`+service+`","flavor":"default","xrole":"r"}}`), "", "", "")
	f.Fuzz(func(t *testing.T, body, version, id, contentType string) {
		h := nats.Header{}
		if version != "" {
			h = binaryHeader()
			h["ce-specversion"], h["ce-id"], h["ce-datacontenttype"] = []string{version}, []string{id}, []string{contentType}
		}
		r, err := DecodeRequest(h, []byte(body), targets())
		if err != nil {
			var invalidErr *InvalidEventError
			if !errors.As(err, &invalidErr) || len(err.Error()) > 1000 {
				t.Fatalf("an error that is no short rejection: %v", err)
			}
			return
		}
		ids := []string{r.EndpointID}
		if r.Creates() {
			ids = nil
			for _, field := range []string{"vpc_id", "subnet_id", "host_id", "vpc_ep_server_id"} {
				r.Creation.Each(field, func(id string) bool { ids = append(ids, id); return true })
			}
		}
		for _, id := range ids {
			if approval.ValidID(id) != nil || id != strings.ToLower(id) {
				t.Errorf("accepted the id %q", id)
			}
		}
		if _, ok := targets().ByName(r.Target.Name); !ok || r.EventID == "" || r.Source == "" {
			t.Errorf("accepted %+v", r)
		}
		roundTrip(t, r)
	})
}

func BenchmarkDecode(b *testing.B) {
	body, ts := []byte(connectionEvent), targets()
	b.SetBytes(int64(len(body)))
	b.ReportAllocs()
	for b.Loop() {
		if _, err := DecodeRequest(nil, body, ts); err != nil {
			b.Fatal(err)
		}
	}
}

// TestClaimsHaveOneReading: events read claims faster than the ledger does, and
// everything that both take is the same for both.
func TestClaimsHaveOneReading(t *testing.T) {
	t.Parallel()
	for _, text := range []string{
		`null`, `{}`, `{"a":null}`, `{"a":[],"b":{}}`, `{"a":"x\u00e9\n","b":true,"c":false}`, `{"a":[1,"2",[null],{"b":[{}]}]}`,
		`{"n":[0,-0,1e3,1e18,1e19,1e20,0.1,12345678901234567890,0.12345678901234567890,1e400,-9223372036854775808]}`,
	} {
		var want approval.Claims
		if err := json.Unmarshal([]byte(text), &want); err != nil {
			t.Fatal(err)
		}
		r, err := DecodeRequest(nil, []byte(event(TypeConnection, `{"target":"payments","endpoint_id":"`+endpoint+`","claims":`+text+`}`)), targets())
		if err != nil {
			t.Errorf("%s: %v", text, err)
			continue
		}
		if d := cmp.Diff(want, r.Claims); d != "" {
			t.Errorf("%s (-ledger +event):\n%s", text, d)
		}
	}
}
