// Package submit makes requests of what people say by flags or in a file.
package submit

import (
	"bytes"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"time"

	"github.com/vpcep-approver/vpcep-approver/internal/approval"
	"github.com/vpcep-approver/vpcep-approver/internal/cli"
	"github.com/vpcep-approver/vpcep-approver/internal/events"
)

// DefaultSource is the source of events that name none.
const DefaultSource = "vpcep-approver/submit"

// Spec says what to request.
type Spec struct {
	Target, EndpointID string
	Claims             []string // dotted.path=value
	File               string   // with a CloudEvent or the data of one; "-": stdin
	ID, Source         string   // of the event
}

// Check reports what does not go together in s.
func (s Spec) Check() error {
	switch {
	case s.File != "" && (s.Target != "" || s.EndpointID != "" || len(s.Claims) > 0):
		return errors.New("--file holds the whole request — leave --target, --endpoint-id and --claim out")
	case s.File == "" && s.Target == "":
		return errors.New("no --target — name one, or give the request as --file")
	case s.File == "" && s.EndpointID == "":
		return errors.New("no --endpoint-id — name the endpoint; creations are given as --file")
	}
	return CheckClaims(s.Claims)
}

// Request makes the request and checks it as a worker with these targets would.
// Without targets it implies the one that the request names.
func (s Spec) Request(targets approval.Targets, env cli.Environment) (approval.Request, error) {
	var body []byte
	var err error
	if s.File == "" {
		var claims map[string]any
		if claims, err = parseClaims(s.Claims); err == nil {
			body, err = json.Marshal(map[string]any{"target": s.Target, "endpoint_id": s.EndpointID, "claims": claims})
		}
	} else {
		body, err = readInput(env, s.File)
	}
	if err != nil {
		return approval.Request{}, err
	}
	event, data, err := s.event(body)
	if err != nil {
		return approval.Request{}, err
	}
	if len(targets) == 0 { // a producer's machine knows no targets: the worker judges
		targets = impliedTarget(data)
	}
	req, err := events.DecodeRequest(nil, event, targets)
	if err != nil {
		return approval.Request{}, fmt.Errorf("the request would not be taken: %w", err)
	}
	if req.Source == approval.SweepSource {
		return approval.Request{}, fmt.Errorf("the source %s is the sweep's own; use another", req.Source)
	}
	return req, nil
}

// maxInput is the most that is read of a file or stdin: more is never taken.
const maxInput = 4 * events.MaxEvent

func readInput(env cli.Environment, name string) ([]byte, error) {
	in := env.Stdin
	if name != "-" {
		data, err := env.ReadFile(name)
		if err != nil {
			if errors.Is(err, fs.ErrNotExist) {
				return nil, fmt.Errorf("--file: there is no file %s", name)
			}
			return nil, fmt.Errorf("--file: %w", err)
		}
		in = bytes.NewReader(data)
	}
	data, err := io.ReadAll(io.LimitReader(in, maxInput))
	if err != nil {
		return nil, fmt.Errorf("--file %s: %w", name, err)
	}
	return data, nil
}

// event returns body as a CloudEvent in structured mode, and its data.
func (s Spec) event(body []byte) (event, data []byte, err error) {
	var fields map[string]json.RawMessage
	if err := json.Unmarshal(body, &fields); err != nil {
		return nil, nil, fmt.Errorf("the request is no JSON object: %w", err)
	}
	if _, whole := fields["specversion"]; whole {
		if s.ID != "" || s.Source != "" {
			return nil, nil, errors.New("the file holds a whole event — leave --id and --source out")
		}
		return body, fields["data"], nil
	}
	e := struct {
		SpecVersion string          `json:"specversion"`
		ID          string          `json:"id"`
		Source      string          `json:"source"`
		Type        string          `json:"type"`
		Time        time.Time       `json:"time"`
		Data        json.RawMessage `json:"data"`
	}{"1.0", s.ID, s.Source, events.TypeEndpoint, time.Now().UTC(), body}
	if e.ID == "" {
		e.ID = rand.Text()
	}
	if e.Source == "" {
		e.Source = DefaultSource
	}
	if _, connection := fields["endpoint_id"]; connection {
		e.Type = events.TypeConnection
	}
	event, err = json.Marshal(e)
	return event, body, err
}

// impliedTarget is the target that data names, of the kind that its parameters
// go with.
func impliedTarget(data []byte) approval.Targets {
	var d struct {
		Target          string          `json:"target"`
		FunctionGraph   json.RawMessage `json:"functiongraph"`
		HSS             json.RawMessage `json:"hss"`
		DataArtsInsight json.RawMessage `json:"dataarts_insight"`
	}
	if json.Unmarshal(data, &d) != nil || approval.ValidName(d.Target) != nil {
		return nil // reading the request tells what is wrong
	}
	t := approval.Target{Name: d.Target, Kind: approval.Service}
	switch {
	case d.FunctionGraph != nil:
		t.Kind = approval.FunctionGraph
	case d.HSS != nil:
		t.Kind = approval.HSS
	case d.DataArtsInsight != nil:
		t.Kind = approval.DataArtsInsight
	}
	return approval.Targets{t}
}
