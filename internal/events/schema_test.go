package events

import (
	"encoding/json"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/vpcep-approver/vpcep-approver/internal/approval"
	"github.com/vpcep-approver/vpcep-approver/internal/review"
	"github.com/vpcep-approver/vpcep-approver/internal/schematest"
)

type schema = map[string]any

const (
	anyID         = `^([0-9a-fA-F]{32}|[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12})$`
	anyName       = `^[a-z0-9][a-z0-9-]{0,63}$`
	hexDigest     = `^[0-9a-f]{32}$`
	anyTraceID    = `^[0-9a-f]{2}-[0-9a-f]{32}-[0-9a-f]{16}-[0-9a-f]{2}$`
	requestSchema = "connection-requested"
)

// id is the schema of an id of the cloud.
func id(description string) schema {
	return schema{"pattern": anyID, "description": description + "; a UUID or 32 hexadecimal digits"}
}

func require(names ...string) (out []schema) {
	for _, name := range names {
		out = append(out, schema{"required": []string{name}})
	}
	return out
}

// envelope is the schema of a CloudEvent in structured mode with the attributes of more.
func envelope(types []string, data any, required []string, more schema) schema {
	properties := schema{
		"specversion": schema{"type": "string", "enum": []string{"1.0"}},
		"id":          schema{"type": "string", "minLength": 1},
		"source":      schema{"type": "string", "minLength": 1},
		"type":        schema{"type": "string", "enum": types},
		"subject":     schema{"type": "string"},
		"time":        schema{"type": "string", "format": "date-time"},
		"traceparent": schema{"type": "string", "pattern": anyTraceID, "description": "W3C trace context"},
		"data":        data,
	}
	maps.Copy(properties, more)
	return schema{"type": "object", "properties": properties, "required": append([]string{"specversion", "id", "source", "type", "data"}, required...)}
}

// requested is the schema of an event that is a request. Extension attributes are
// allowed, as CloudEvents ask; in data every member must be known.
func requested(eventType string, data any) schema {
	out := envelope([]string{eventType}, data, nil, schema{
		"id":              schema{"type": "string", "minLength": 1, "description": "with source the identity of the request"},
		"source":          schema{"type": "string", "minLength": 1, "format": "uri-reference", "description": "who asks; with id the identity of the request"},
		"time":            schema{"type": "string", "format": "date-time", "description": "when it happened"},
		"datacontenttype": schema{"type": "string", "description": "application/json"},
		"dataschema":      schema{"type": "string"},
	})
	// Not additionalProperties, of which go-jsonschema makes code that needs a library.
	out["unevaluatedProperties"] = schema{"type": []string{"string", "boolean", "integer"}}
	out["propertyNames"] = schema{"pattern": "^[a-zA-Z0-9]+$"}
	return out
}

// published is the schema of an event of ours.
func published(types []string, data any, required []string, more schema) schema {
	more["source"] = schema{"type": "string", "enum": []string{resultSource}}
	more["datacontenttype"] = schema{"type": "string", "enum": []string{"application/json"}}
	return envelope(types, data, append([]string{"time", "datacontenttype"}, required...), more)
}

// TestRequestSchemas makes the schemas of what the worker reads, or compares them.
func TestRequestSchemas(t *testing.T) { // not in parallel: other tests read what it writes
	target := schema{"pattern": anyName, "description": "name of the target in the configuration"}
	ids := schema{"minItems": 1, "maxItems": maxList, "uniqueItems": true, "items": schema{"type": "string", "pattern": anyID}}
	connection := schematest.Reflector{Strict: true, Extra: map[string]schema{
		"connectionData":             {"oneOf": require("target", "service_id", "gateway_id")},
		"connectionData.target":      target,
		"connectionData.service_id":  id("the endpoint service, instead of target"),
		"connectionData.gateway_id":  id("the dedicated gateway, instead of target"),
		"connectionData.endpoint_id": id("the endpoint that wants to connect"),
		"connectionData.claims":      {"description": "what is said of the requester, nested at most 8 deep; nothing in it is trusted"},
	}}
	schematest.Compare(t, *updateGolden, requestSchema, connection.Document(t, "ConnectionRequested",
		"The event that asks to decide a connection, in structured mode. In binary mode the attributes are headers, and the body is data.",
		requested(TypeConnection, schematest.Of[connectionData]())))

	endpoint := schematest.Reflector{Strict: true, Extra: map[string]schema{
		"endpointData":                           {"required": []string{"target"}, "oneOf": require("functiongraph", "hss", "dataarts_insight")},
		"endpointData.target":                    target,
		"endpointData.claims":                    connection.Extra["connectionData.claims"],
		"functionGraphData.vpc_id":               id("the VPC"),
		"functionGraphData.subnet_id":            id("the subnet"),
		"functionGraphData.flavor":               {"maxLength": maxText},
		"functionGraphData.xrole":                {"maxLength": maxText, "description": "name of the agency"},
		"hssData":                                {"anyOf": require("host_id_list", "vpc_list")},
		"hssData.host_id_list":                   ids,
		"hssData.vpc_list":                       {"minItems": 1, "maxItems": maxList},
		"vpcData.vpc_id":                         id("the VPC, once in the list"),
		"vpcData.subnet_id_list":                 ids,
		"dataArtsInsightData":                    {"anyOf": require("vpc_ep_server_name", "vpc_ep_server_id")},
		"dataArtsInsightData.ds_type":            {"enum": dataSourceTypes()},
		"dataArtsInsightData.vpc_ep_server_id":   id("the endpoint service"),
		"dataArtsInsightData.vpc_ep_server_name": {"maxLength": maxServerName, "pattern": `[0-9a-fA-F]$`, "description": "full name of the endpoint service: region.name.id"},
	}}
	schematest.Compare(t, *updateGolden, "endpoint-requested", endpoint.Document(t, "EndpointRequested",
		"The event that asks to create an endpoint, in structured mode. In binary mode the attributes are headers, and the body is data. "+
			"The block of parameters goes with the kind of the target.",
		requested(TypeEndpoint, schematest.Of[endpointData]())))

	submission := schematest.Reflector{Strict: true, Extra: map[string]schema{
		"Submission.request_id":   {"pattern": hexDigest, "description": "request.id of the held result"},
		"Submission.verdict":      {"enum": []string{review.Approve, review.Reject}},
		"Submission.reason":       {"minLength": 1, "maxLength": review.MaxReason, "pattern": `\S`},
		"Submission.reviewer":     {"minLength": 1},
		"Submission.nonce":        {"pattern": hexDigest},
		"Submission.expires_at":   {"description": "at most one hour after issued_at"},
		"Facts":                   {"oneOf": []schema{{"required": []string{"domain_id", "endpoint_id", "marker_id"}}, {"required": []string{"parameters_sha256"}}}},
		"Facts.domain_id":         id("the account"),
		"Facts.endpoint_id":       id("the endpoint"),
		"Facts.parameters_sha256": {"pattern": "^[0-9a-f]{64}$", "description": "of a creation: request.parameters_sha256 of the held result, and no other fact"},
		"SignIn.method":           {"enum": []string{"oidc", "proxy", "link"}},
	}}
	schematest.Compare(t, *updateGolden, "review-submitted", submission.Document(t, "ReviewSubmitted",
		"The data of the event that submits a review. The event is in binary mode, and the header "+signatureHeader+" signs the bytes of the data.",
		schematest.Of[review.Submission]()))
}

// TestResultSchemas makes the schemas of what the worker publishes, or compares them.
// Unknown members are allowed, so that a newer worker may say more.
func TestResultSchemas(t *testing.T) { // not in parallel: other tests read what it writes
	var outcomes, types []string
	for _, o := range append(approval.Outcomes(), ShadowOutcome) {
		outcomes, types = append(outcomes, string(o)), append(types, resultType(o))
	}
	result := schematest.Reflector{Extra: map[string]schema{
		"Record.outcome":            {"enum": outcomes},
		"Record.seconds":            {"description": "by stage, over all deliveries"},
		"DecisionRecord.verdict":    {"enum": append(textsOf(approval.Verdicts()), ""), "description": "empty: not decided yet"},
		"RequestRecord.target_kind": {"enum": textsOf(approval.TargetKinds())},
	}}
	schematest.Compare(t, *updateGolden, "result", result.Document(t, "Result",
		"The data of a result event, and what worker requests show, watch, submit --wait and policy records print of a request as JSON. "+
			"acted_at, sends, revision, waiting and history are of the ledger and absent in events.",
		schematest.Of[Record]()))

	var none schematest.Reflector
	schematest.Compare(t, *updateGolden, "request-ended", none.Document(t, "RequestEnded",
		"The event that says how a request ended, or what shadow policies would have decided. Its id is that of the decision: drop repeats by it.",
		published(types, schema{"$ref": "result.schema.json"}, []string{"causationid"},
			schema{"causationid": schema{"type": "string", "description": "id of the event of the request"}})))
	schematest.Compare(t, *updateGolden, "review-refused", none.Document(t, "ReviewRefused",
		"The event that says why a review does not count.",
		published([]string{TypeReviewRefused}, schematest.Of[ReviewRefusal](), []string{"subject"}, schema{})))

	header := func(description string) schema { return schema{"type": "string", "description": description} }
	schematest.Compare(t, *updateGolden, "dead-letter", none.Document(t, "DeadLetterHeaders",
		"The headers of a dead letter. The body is that of the original message, or the beginning of it.",
		schema{"type": "object", "required": []string{headerReason, headerText, headerSubject, headerSequence, headerDeliveries, headerStored}, "properties": schema{
			headerReason:     schema{"type": "string", "enum": DeadLetterReasons()},
			headerField:      header("the place in the event"),
			headerText:       header("why, in words"),
			headerSubject:    header("subject of the original"),
			headerSequence:   header("sequence of the original in " + RequestsStream),
			headerDeliveries: header("how often it was delivered"),
			headerStored:     header("when the original was stored"),
			headerRequest:    header("of poison: id of the request, if the event could be read"),
			headerTruncated:  header("bytes of the original, if the body is only the beginning of it"),
		}}))
}

func textsOf[T ~string](values []T) (out []string) {
	for _, v := range values {
		out = append(out, string(v))
	}
	return out
}

// TestGoldenEventsAgreeWithTheSchema validates every golden result, also as a whole event.
func TestGoldenEventsAgreeWithTheSchema(t *testing.T) {
	t.Parallel()
	whole, data := schematest.Compile(t, "request-ended"), schematest.Compile(t, "result")
	files, err := filepath.Glob("testdata/result-*.golden")
	if err != nil || len(files) < 3 {
		t.Fatalf("%d golden events: %v", len(files), err)
	}
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		var event struct {
			Data json.RawMessage `json:"data"`
		}
		if err := json.Unmarshal(text, &event); err != nil {
			t.Fatal(err)
		}
		if err := schematest.Validate(whole, text); err != nil {
			t.Errorf("%s: %v", file, err)
		}
		if err := schematest.Validate(data, event.Data); err != nil {
			t.Errorf("the data of %s: %v", file, err)
		}
	}
	refusal, err := json.Marshal(schema{
		"specversion": "1.0", "id": "refused-1", "source": resultSource, "type": TypeReviewRefused, "subject": "r", "time": time.Now(), "datacontenttype": "application/json",
		"data": ReviewRefusal{RequestID: "r", Target: "payments", Code: "not_held", Text: "It is not held.", Sequence: 1, At: time.Now()},
	})
	if err != nil {
		t.Fatal(err)
	}
	if err := schematest.Validate(schematest.Compile(t, "review-refused"), refusal); err != nil {
		t.Errorf("a refusal: %v", err)
	}
}

// TestDeadLettersAgreeWithTheSchema validates the headers that are written for each reason.
func TestDeadLettersAgreeWithTheSchema(t *testing.T) {
	t.Parallel()
	headers := schematest.Compile(t, "dead-letter")
	meta := &nats.MsgMetadata{NumDelivered: 1, Sequence: nats.SequencePair{Stream: 1}, Timestamp: time.Now()}
	for _, reason := range DeadLetterReasons() {
		msg := deadLetter("vpcep.requests.payments", nil, []byte("{}"), meta, &InvalidEventError{Reason: reason, Field: "data", Text: "It is wrong."})
		flat := map[string]string{}
		for name, values := range msg.Header {
			flat[name] = strings.Join(values, ",")
		}
		text, err := json.Marshal(flat)
		if err != nil {
			t.Fatal(err)
		}
		if err := schematest.Validate(headers, text); err != nil {
			t.Errorf("%s: %v", reason, err)
		}
	}
}

// TestDeadLetterKeepsTheTrace: the trace context of the original goes on in its dead letter.
func TestDeadLetterKeepsTheTrace(t *testing.T) {
	t.Parallel()
	const trace = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
	meta := &nats.MsgMetadata{NumDelivered: 1, Sequence: nats.SequencePair{Stream: 1}, Timestamp: time.Now()}
	for _, name := range []string{"traceparent", "ce-traceparent"} {
		msg := deadLetter("vpcep.requests.payments", nats.Header{name: {trace}}, []byte("{}"), meta, &InvalidEventError{Reason: ReasonBadID, Text: "It is wrong."})
		if got := msg.Header[name]; len(got) != 1 || got[0] != trace {
			t.Errorf("the header %s is %q", name, got)
		}
	}
}

// TestRequestsAgreeWithTheSchema: the schemas of requests and the decoder accept and
// refuse the same.
func TestRequestsAgreeWithTheSchema(t *testing.T) {
	t.Parallel()
	const (
		connected = `{"specversion": "1.0", "id": "1", "source": "portal", "type": "` + TypeConnection + `", "data": {"target": "payments", "endpoint_id": "` + endpoint + `"}}`
		created   = `{"specversion": "1.0", "id": "1", "source": "portal", "type": "` + TypeEndpoint + `", "data": `
		functions = created + `{"target": "functions", "functiongraph": {"vpc_id": "` + service + `", "subnet_id": "` + gateway + `"}}}`
		hosts     = created + `{"target": "hosts", "hss": {"host_id_list": ["` + service + `"]}}}`
		insight   = created + `{"target": "insight", "dataarts_insight": {"ds_type": "DWS", "vpc_ep_server_id": "` + service + `"}}}`
	)
	schemas := map[string]func([]byte) error{}
	for typ, name := range map[string]string{TypeConnection: requestSchema, TypeEndpoint: "endpoint-requested"} {
		compiled := schematest.Compile(t, name)
		schemas[typ] = func(text []byte) error { return schematest.Validate(compiled, text) }
	}
	for _, test := range []struct {
		name, event, old, now string
		ok                    bool
	}{
		{"a connection", connected, "", "", true},
		{"with claims", connected, `"endpoint_id"`, `"claims": {"tags": {"env": ["prod"]}}, "endpoint_id"`, true},
		{"with time and extensions", connected, `"data"`, `"time": "2026-11-21T08:00:00Z", "traceparent": "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01", "partitionKey": 7, "data"`, true},
		{"by service id", connected, `"target": "payments"`, `"service_id": "` + service + `"`, true},
		{"by gateway id", connected, `"target": "payments"`, `"gateway_id": "` + gateway + `"`, true},
		{"an id in capitals", connected, endpoint, strings.ToUpper(endpoint), true},
		{"functiongraph", functions, "", "", true},
		{"hss", hosts, "", "", true},
		{"dataarts insight", insight, "", "", true},

		{"an unknown member", connected, `"endpoint_id"`, `"endpointId": 1, "endpoint_id"`, false},
		{"no endpoint", connected, `"endpoint_id": "` + endpoint + `"`, `"claims": {}`, false},
		{"no target", connected, `"target": "payments", `, "", false},
		{"two targets", connected, `"target": "payments"`, `"target": "payments", "service_id": "` + service + `"`, false},
		{"a bad id", connected, endpoint, "../x", false},
		{"a target that is a number", connected, `"payments"`, "1", false},
		{"claims that are a list", connected, `"endpoint_id"`, `"claims": [], "endpoint_id"`, false},
		{"no data", connected, `"data": {"target": "payments", "endpoint_id": "` + endpoint + `"}`, `"subject": "x"`, false},
		{"data that is a list", connected, `{"target": "payments", "endpoint_id": "` + endpoint + `"}`, "[]", false},
		{"another version", connected, `"1.0"`, `"0.3"`, false},
		{"no id", connected, `"id": "1", `, "", false},
		{"an empty source", connected, `"portal"`, `""`, false},
		{"a time that is none", connected, `"data"`, `"time": "yesterday", "data"`, false},
		{"an extension that is an object", connected, `"data"`, `"tenant": {}, "data"`, false},
		{"an extension with a dash", connected, `"data"`, `"my-tenant": "x", "data"`, false},
		{"no block", functions, `, "functiongraph": {"vpc_id": "` + service + `", "subnet_id": "` + gateway + `"}`, "", false},
		{"two blocks", functions, `"functiongraph"`, `"hss": {"host_id_list": ["` + service + `"]}, "functiongraph"`, false},
		{"no subnet", functions, `, "subnet_id": "` + gateway + `"`, "", false},
		{"a long flavor", functions, `"vpc_id"`, `"flavor": "` + strings.Repeat("x", maxText+1) + `", "vpc_id"`, false},
		{"a slip in the block", functions, `"vpc_id"`, `"vpcid": "x", "vpc_id"`, false},
		{"no hosts", hosts, `"` + service + `"`, "", false},
		{"a host twice", hosts, `"` + service + `"`, `"` + service + `", "` + service + `"`, false},
		{"neither hosts nor VPCs", hosts, `"host_id_list": ["` + service + `"]`, "", false},
		{"another data source", insight, "DWS", "dws", false},
		{"no server", insight, `, "vpc_ep_server_id": "` + service + `"`, "", false},
		{"a creation without target", insight, `"target": "insight", `, "", false},
	} {
		text := strings.Replace(test.event, test.old, test.now, 1)
		if test.old != "" && text == test.event {
			t.Errorf("%s: the event has no %s", test.name, test.old)
		}
		typ := TypeEndpoint
		if strings.HasPrefix(test.event, connected) {
			typ = TypeConnection
		}
		_, decoded := DecodeRequest(nil, []byte(text), targets())
		if bySchema := schemas[typ]([]byte(text)); (bySchema == nil) != test.ok || (decoded == nil) != test.ok {
			t.Errorf("%s: the schema says %v, the decoder %v, want valid = %t\n%s", test.name, bySchema, decoded, test.ok, text)
		}
	}
}

// TestExamplesOfTheDocsAgreeWithTheSchema validates the events of docs/events.md and the
// review of docs/reviews.md.
func TestExamplesOfTheDocsAgreeWithTheSchema(t *testing.T) {
	t.Parallel()
	for file, want := range map[string]int{"events.md": 5, "reviews.md": 1} {
		doc, err := os.ReadFile(filepath.Join(schematest.Root(t), "docs", file))
		if err != nil {
			t.Fatal(err)
		}
		found := 0
		for _, block := range regexp.MustCompile("(?s)```json\n(.*?)```").FindAllStringSubmatch(string(doc), -1) {
			name := "review-submitted"
			switch text := block[1]; {
			case strings.Contains(text, `"`+TypeConnection+`"`):
				name = requestSchema
			case strings.Contains(text, `"`+TypeEndpoint+`"`):
				name = "endpoint-requested"
			case strings.Contains(text, `"vpcep.request.`):
				name = "request-ended"
			}
			found++
			text := strings.ReplaceAll(block[1], "3f1c9a02…", strings.Repeat("3f1c9a02", 4))
			if err := schematest.Validate(schematest.Compile(t, name), []byte(text)); err != nil {
				t.Errorf("docs/%s: %v\n%s", file, err, text)
			}
		}
		if found != want {
			t.Errorf("docs/%s has %d examples, want %d", file, found, want)
		}
	}
}
