package docs_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/nats-io/nats.go"
	"github.com/santhosh-tekuri/jsonschema/v6"
	"go.yaml.in/yaml/v4"

	"github.com/vpcep-approver/vpcep-approver/docs"
	"github.com/vpcep-approver/vpcep-approver/internal/approval"
	"github.com/vpcep-approver/vpcep-approver/internal/events"
	"github.com/vpcep-approver/vpcep-approver/internal/events/cloudevent"
	"github.com/vpcep-approver/vpcep-approver/internal/review"
)

type object = map[string]any

// asyncAPI returns the AsyncAPI document as JSON has it, with old replaced by now.
func asyncAPI(t *testing.T, old, now string) object {
	t.Helper()
	text, err := docs.Read(docs.AsyncAPI)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Contains(text, []byte(old)) {
		t.Fatalf("the document has no %q", old)
	}
	var v any
	if err := yaml.Unmarshal(bytes.Replace(text, []byte(old), []byte(now), 1), &v); err != nil {
		t.Fatal(err)
	}
	asJSON, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	v, err = jsonschema.UnmarshalJSON(bytes.NewReader(asJSON))
	if err != nil {
		t.Fatal(err)
	}
	doc, ok := v.(object)
	if !ok {
		t.Fatal("the document is not an object")
	}
	return doc
}

// specification is the JSON Schema of AsyncAPI 3.1, from the npm package @asyncapi/specs
// 6.11.1 (Apache-2.0).
var specification = sync.OnceValues(func() (*jsonschema.Schema, error) {
	return jsonschema.NewCompiler().Compile("testdata/asyncapi-3.1.0.schema.json")
})

// check returns what is wrong with the document, each with its place.
func check(t *testing.T, doc object) (wrong []string) {
	t.Helper()
	spec, err := specification()
	if err != nil {
		t.Fatal(err)
	}
	var invalid *jsonschema.ValidationError
	if err := spec.Validate(doc); errors.As(err, &invalid) {
		wrong = append(wrong, deepest(invalid)...)
	}
	walk("", doc, func(place string, v object) {
		ref, ok := v["$ref"].(string)
		if !ok {
			return
		}
		if _, err := follow(doc, ref); err != nil {
			wrong = append(wrong, fmt.Sprintf("%s: $ref %s: %v", place, ref, err))
		}
	})
	components, _ := doc["components"].(object)
	messages, _ := components["messages"].(object)
	for name, message := range messages {
		place := "/components/messages/" + name
		m, _ := message.(object)
		examples, _ := m["examples"].([]any)
		if len(examples) == 0 {
			wrong = append(wrong, place+": no example")
		}
		for i, example := range examples {
			e, _ := example.(object)
			at := fmt.Sprintf("%s/examples/%d", place, i)
			for _, part := range []string{"headers", "payload"} {
				if err := agrees(m[part], e[part]); err != nil {
					wrong = append(wrong, fmt.Sprintf("%s/%s: %v", at, part, err))
				}
			}
			if err := decodes(name, e); err != nil {
				wrong = append(wrong, fmt.Sprintf("%s/payload: the codec: %v", at, err))
			}
		}
	}
	return wrong
}

// deepest returns the causes at the deepest place: of alternatives those that came
// furthest. That something else could be a reference helps nobody.
func deepest(e *jsonschema.ValidationError) (found []string) {
	depth := 0
	var look func(e *jsonschema.ValidationError)
	look = func(e *jsonschema.ValidationError) {
		for _, cause := range e.Causes {
			look(cause)
		}
		text := e.Error()
		if len(e.Causes) > 0 || strings.HasSuffix(text, "missing property '$ref'") || len(e.InstanceLocation) < depth {
			return
		}
		if len(e.InstanceLocation) > depth {
			depth, found = len(e.InstanceLocation), nil
		}
		found = append(found, strings.ReplaceAll(text, "\n", " "))
	}
	look(e)
	slices.Sort(found)
	return slices.Compact(found)
}

// walk calls visit for each object in v.
func walk(place string, v any, visit func(string, object)) {
	switch v := v.(type) {
	case object:
		visit(place, v)
		for key, inner := range v {
			walk(place+"/"+key, inner, visit)
		}
	case []any:
		for i, inner := range v {
			walk(fmt.Sprintf("%s/%d", place, i), inner, visit)
		}
	}
}

// follow returns what a $ref points to: in the document, or a file next to it.
func follow(doc object, ref string) (any, error) {
	file, pointer, inside := strings.Cut(ref, "#")
	if file != "" {
		if inside {
			return nil, errors.New("schemas are referred to as a whole")
		}
		return jsonschema.NewCompiler().Compile(file)
	}
	var v any = doc
	for token := range strings.SplitSeq(strings.TrimPrefix(pointer, "/"), "/") {
		at, _ := v.(object)
		next, ok := at[token]
		if !ok {
			return nil, fmt.Errorf("there is no %s", token)
		}
		v = next
	}
	return v, nil
}

// agrees validates an example by the schema of a payload or of headers.
func agrees(shape, example any) error {
	if shape == nil {
		if example != nil {
			return errors.New("there is no schema for it")
		}
		return nil
	}
	compiler := jsonschema.NewCompiler()
	compiler.AssertFormat()
	of, _ := shape.(object)
	if inner, ok := of["schema"].(object); ok {
		file, _ := inner["$ref"].(string)
		schema, err := compiler.Compile(file)
		if err != nil {
			return err
		}
		return schema.Validate(example)
	}
	if err := compiler.AddResource("mem:///schema", shape); err != nil {
		return err
	}
	schema, err := compiler.Compile("mem:///schema")
	if err != nil {
		return err
	}
	return schema.Validate(example)
}

func targets() approval.Targets {
	return approval.Targets{
		{Name: "payments", Kind: approval.Service, ID: "4189d3c2-8882-4871-a3c2-d380272eed88"},
		{Name: "functions", Kind: approval.FunctionGraph},
		{Name: "hosts", Kind: approval.HSS},
		{Name: "insight", Kind: approval.DataArtsInsight},
	}
}

// decodes reads an example as the worker and its readers do.
func decodes(message string, example object) error {
	body, err := json.Marshal(example["payload"])
	if err != nil {
		return err
	}
	switch message {
	case "connectionRequested", "endpointRequested":
		_, err = events.DecodeRequest(nil, body, targets())
	case "requestEnded":
		_, err = events.DecodeResult(nil, body)
	case "reviewSubmitted":
		if _, err = review.Decode(body); err == nil {
			header := nats.Header{}
			headers, _ := example["headers"].(object)
			for name, value := range headers {
				header.Set(name, fmt.Sprint(value))
			}
			_, err = cloudevent.Parse(header, body)
		}
	case "reviewRefused":
		_, err = cloudevent.Parse(nil, body)
	case "deadLetter":
	default:
		err = errors.New("this test knows no codec for it")
	}
	return err
}

func TestAsyncAPI(t *testing.T) {
	t.Parallel()
	for _, wrong := range check(t, asyncAPI(t, "", "")) {
		t.Errorf("docs/asyncapi.yaml: %s", wrong)
	}
}

// TestAsyncAPIFindsMistakes: a wrong document fails with its place.
func TestAsyncAPIFindsMistakes(t *testing.T) {
	t.Parallel()
	for _, test := range []struct{ old, now, place, text string }{
		{"action: receive", "action: take", "/operations/takeRequest", "action"},
		{"asyncapi: 3.1.0", "asyncapi: 3.2.0", "/asyncapi", "3.1.0"},
		{"\n    address: vpcep.requests.{target}", "\n    adress: vpcep.requests.{target}", "/channels/requests", "adress"},
		{"x-jetstream: {stream: VPCEP_RESULTS}", "jetstream: {stream: VPCEP_RESULTS}", "/channels/results", "jetstream"},
		{"\noperations:", "\noperation:", "", "operation"},
		{"{$ref: '#/channels/requests'}", "{$ref: '#/channels/request'}", "/operations/takeRequest/channel", "there is no request"},
		{"connection-requested.schema.json", "connection.schema.json", "/components/messages/connectionRequested/payload/schema", "connection.schema.json"},
		{"endpoint_id: 705290f3-0d00-41f2-aedc-71f09844e879", "endpoint: 705290f3-0d00-41f2-aedc-71f09844e879", "/components/messages/connectionRequested/examples/0/payload", "endpoint_id"},
		{"target: hosts", "target: payments", "/components/messages/endpointRequested/examples/1/payload", "the codec"},
		{"verdict: hold", "verdict: held", "/components/messages/requestEnded/examples/0/payload", "verdict"},
		{"Vpcep-Deadletter-Reason: bad_id", "Vpcep-Deadletter-Reason: bad", "/components/messages/deadLetter/examples/0/headers", "Vpcep-Deadletter-Reason"},
	} {
		found := strings.Join(check(t, asyncAPI(t, test.old, test.now)), "\n")
		if !strings.Contains(found, test.place) || !strings.Contains(found, test.text) {
			t.Errorf("%q instead of %q: found %q, want %q and %q", test.now, test.old, found, test.place, test.text)
		}
	}
}

// TestAsyncAPINamesWhatTheCodeUses compares streams, subjects and enumerations.
func TestAsyncAPINamesWhatTheCodeUses(t *testing.T) {
	t.Parallel()
	var outcomes []string
	for _, o := range append(approval.Outcomes(), events.ShadowOutcome) {
		outcomes = append(outcomes, string(o))
	}
	type channel struct {
		Address    string                             `yaml:"address"`
		Parameters map[string]struct{ Enum []string } `yaml:"parameters"`
		Messages   map[string]struct{}                `yaml:"messages"`
		JetStream  struct{ Stream, Consumer string }  `yaml:"x-jetstream"`
		Ignored    map[string]any                     `yaml:",inline"`
	}
	var doc struct {
		Channels   map[string]channel `yaml:"channels"`
		Components struct {
			Messages map[string]struct {
				Name string `yaml:"name"`
			} `yaml:"messages"`
		} `yaml:"components"`
	}
	text, err := docs.Read(docs.AsyncAPI)
	if err == nil {
		err = yaml.Unmarshal(text, &doc)
	}
	if err != nil {
		t.Fatal(err)
	}
	want := map[string]channel{
		"requests":         {Address: events.RequestsSubject + ".{target}"},
		"sweptRequests":    {Address: events.SweepSubject + ".{target}"},
		"results":          {Address: events.ResultsSubject + ".{outcome}.{target}.{decisionId}"},
		"deadLetters":      {Address: events.DeadLettersSubject + ".{reason}"},
		"reviewsSubmitted": {Address: events.ReviewsSubmittedSubject + ".{target}.{requestId}"},
		"reviewsRefused":   {Address: events.ReviewsRefusedSubject + ".{target}.{requestId}"},
	}
	streams := map[string][2]string{
		"requests": {events.RequestsStream, events.ConsumerName}, "sweptRequests": {events.RequestsStream, events.ConsumerName},
		"results": {events.ResultsStream}, "deadLetters": {events.DeadLettersStream},
		"reviewsSubmitted": {events.ReviewsStream, events.ReviewsConsumerName}, "reviewsRefused": {events.ReviewsStream},
	}
	for name, c := range doc.Channels {
		if got := [2]string{c.JetStream.Stream, c.JetStream.Consumer}; c.Address != want[name].Address || got != streams[name] {
			t.Errorf("/channels/%s is %s in %v, want %s in %v", name, c.Address, got, want[name].Address, streams[name])
		}
	}
	if len(doc.Channels) != len(want) {
		t.Errorf("%d channels, want %d", len(doc.Channels), len(want))
	}
	if got := doc.Channels["results"].Parameters["outcome"].Enum; !slices.Equal(got, outcomes) {
		t.Errorf("outcomes are %q, want %q", got, outcomes)
	}
	if got := doc.Channels["deadLetters"].Parameters["reason"].Enum; !slices.Equal(got, events.DeadLetterReasons()) {
		t.Errorf("reasons are %q, want %q", got, events.DeadLetterReasons())
	}
	for message, name := range map[string]string{
		"connectionRequested": events.TypeConnection, "endpointRequested": events.TypeEndpoint, "requestEnded": "vpcep.request.<outcome>",
		"reviewSubmitted": events.TypeReviewSubmitted, "reviewRefused": events.TypeReviewRefused,
	} {
		if got := doc.Components.Messages[message].Name; got != name {
			t.Errorf("/components/messages/%s is called %q, want %q", message, got, name)
		}
	}
}

// TestEverySchemaIsNamed: docs/events.md and the embedded files have the same documents.
func TestEverySchemaIsNamed(t *testing.T) {
	t.Parallel()
	doc, err := os.ReadFile("events.md")
	if err != nil {
		t.Fatal(err)
	}
	files, err := filepath.Glob("schema/*")
	if err != nil || len(files) != len(docs.Names())-1 {
		t.Fatalf("%d files in docs/schema, %d are embedded: %v", len(files), len(docs.Names())-1, err)
	}
	for _, name := range docs.Names() {
		if !strings.Contains(string(doc), "`"+name+"`") {
			t.Errorf("docs/events.md does not name the schema `%s`", name)
		}
		if summary, err := docs.Summary(name); err != nil || len(summary) < 20 {
			t.Errorf("%s: the summary is %q: %v", name, summary, err)
		}
	}
	if _, err := docs.Read("../contract"); err == nil {
		t.Error("read what is no document")
	}
}
