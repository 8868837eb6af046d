package e2e

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/cloudevents/sdk-go/v2/event"
	natsgo "github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

// producer is somebody else's program: it sends requests as CloudEvents and
// reads what comes of them, with public libraries only.
type producer struct {
	t  *testing.T
	nc *natsgo.Conn
	js jetstream.JetStream
}

// producer connects from outside of the containers.
func (s *stack) producer() producer {
	s.t.Helper()
	url, err := s.nats.ConnectionString(s.t.Context())
	if err != nil {
		s.t.Fatal(err)
	}
	var nc *natsgo.Conn
	// The port of a container is there before the server in it is.
	eventually(s.t, "NATS takes a connection", func() error {
		nc, err = natsgo.Connect(url, natsgo.Timeout(10*time.Second))
		return err
	})
	s.t.Cleanup(nc.Close)
	js, err := jetstream.New(nc)
	if err != nil {
		s.t.Fatal(err)
	}
	return producer{t: s.t, nc: nc, js: js}
}

// structured sends a request as a JSON event that the CloudEvents SDK wrote.
func (p producer) structured(id, kind string, data map[string]any) {
	p.t.Helper()
	e := event.New()
	e.SetID(id)
	e.SetSource("/shop/requests")
	e.SetType(kind)
	e.SetTime(time.Now())
	e.SetSubject("Zürich 2")
	if err := e.SetData("application/json", data); err != nil {
		p.t.Fatal(err)
	}
	body, err := json.Marshal(e)
	if err != nil {
		p.t.Fatal(err)
	}
	p.publish(&natsgo.Msg{
		Subject: requestSubject(data), Data: body,
		Header: natsgo.Header{"Content-Type": {"application/cloudevents+json; charset=utf-8"}},
	})
}

// binary sends a request with its attributes in headers, in another case than
// the standard's own and percent-encoded where it must be.
func (p producer) binary(id, kind string, data map[string]any) {
	p.t.Helper()
	body, err := json.Marshal(data)
	if err != nil {
		p.t.Fatal(err)
	}
	p.publish(&natsgo.Msg{
		Subject: requestSubject(data), Data: body,
		Header: natsgo.Header{
			"Ce-Specversion": {"1.0"}, "Ce-Id": {id}, "Ce-Source": {"/shop/requests"}, "Ce-Type": {kind},
			"Ce-Time": {time.Now().UTC().Format(time.RFC3339Nano)}, "Ce-Subject": {"Z%C3%BCrich%202"},
			"ce-datacontenttype": {"application/json"},
		},
	})
}

// requestSubject is the subject of a request for the target in data.
func requestSubject(data map[string]any) string {
	return fmt.Sprintf("vpcep.requests.%v", data["target"])
}

func (p producer) publish(m *natsgo.Msg) {
	p.t.Helper()
	ctx, cancel := context.WithTimeout(p.t.Context(), 20*time.Second)
	defer cancel()
	if _, err := p.js.PublishMsg(ctx, m); err != nil {
		p.t.Fatalf("publish: %v", err)
	}
}

// result is what the tests look at of a result.
type result struct {
	Subject string // of the message
	Type    string // of the event
	Data    struct {
		Request struct {
			EventID string `json:"event_id"`
			Source  string `json:"source"`
			Target  string `json:"target"`
		} `json:"request"`
		Decision struct {
			ID      string `json:"id"`
			Verdict string `json:"verdict"`
			Policy  string `json:"policy"`
			Rule    string `json:"rule"`
			Reasons []struct {
				Code string `json:"code"`
				Text string `json:"text"`
			} `json:"reasons"`
		} `json:"decision"`
		Facts struct {
			DomainID string `json:"domain_id"`
		} `json:"facts"`
		Outcome string `json:"outcome"`
		Status  string `json:"status"`
		Created *struct {
			Addresses []string `json:"addresses"`
		} `json:"created"`
	} `json:"data"`
}

// result waits for the result of the request with this event id.
func (p producer) result(id string) (found result) {
	p.t.Helper()
	eventually(p.t, "the result of "+id, func() error {
		all := p.results()
		i := slices.IndexFunc(all, func(r result) bool { return r.Data.Request.EventID == id })
		if i < 0 {
			return fmt.Errorf("there are %d results, and none of it", len(all))
		}
		found = all[i]
		return nil
	})
	return found
}

// results returns the results that are there, of all requests; each has to be a
// valid CloudEvent.
func (p producer) results() []result {
	p.t.Helper()
	var out []result
	for _, m := range p.stored("VPCEP_RESULTS") {
		var e event.Event
		if err := json.Unmarshal(m.Data, &e); err != nil {
			p.t.Fatalf("result on %s: %v\n%s", m.Subject, err, m.Data)
		}
		if err := e.Validate(); err != nil {
			p.t.Fatalf("result on %s is no valid CloudEvent: %v\n%s", m.Subject, err, m.Data)
		}
		r := result{Subject: m.Subject, Type: e.Type()}
		if err := e.DataAs(&r.Data); err != nil {
			p.t.Fatalf("result on %s: %v\n%s", m.Subject, err, m.Data)
		}
		out = append(out, r)
	}
	return out
}

// stored returns the messages that are in a stream.
func (p producer) stored(name string) []*jetstream.RawStreamMsg {
	p.t.Helper()
	ctx, cancel := context.WithTimeout(p.t.Context(), 20*time.Second)
	defer cancel()
	stream, err := p.js.Stream(ctx, name)
	if err != nil {
		p.t.Fatalf("stream %s: %v", name, err)
	}
	var out []*jetstream.RawStreamMsg
	for seq := range stream.CachedInfo().State.LastSeq {
		m, err := stream.GetMsg(ctx, seq+1)
		if err != nil {
			p.t.Fatalf("stream %s: message %d: %v", name, seq+1, err)
		}
		out = append(out, m)
	}
	return out
}

// ended checks how a request ended.
func (p producer) ended(id, outcome, target string) result {
	p.t.Helper()
	r := p.result(id)
	subject := fmt.Sprintf("vpcep.results.%s.%s.%s", outcome, target, r.Data.Decision.ID)
	if r.Subject != subject || r.Type != "vpcep.request."+outcome || r.Data.Outcome != outcome || r.Data.Request.Source != "/shop/requests" {
		p.t.Errorf("request %s: got %+v, want outcome %s on subject %s", id, r, outcome, subject)
	}
	return r
}

// order is one request and how it must end.
type order struct {
	id      string
	kind    string
	data    map[string]any
	outcome string
	effect  string // in the cloud; empty: none
}

// effectsOf is what is to be done in the cloud for these orders.
func effectsOf(orders []order) (effects []string) {
	for _, o := range orders {
		if o.effect != "" {
			effects = append(effects, o.effect)
		}
	}
	return effects
}

// order makes the i-th order, and its endpoint: of every account and kind in turn.
func (s *stack) order(i int) order {
	o := order{id: fmt.Sprintf("order-%d", i), kind: connectionRequested}
	for j, end := range []struct{ account, outcome, effect string }{{acme, "accepted", "accept "}, {leftUs, "rejected", "reject "}, {stranger, "held", ""}} {
		if i%4 != j {
			continue
		}
		endpoint := s.connect(end.account)
		o.data, o.outcome = connection(endpoint), end.outcome
		if end.effect != "" {
			o.effect = end.effect + endpoint
		}
		return o
	}
	o.kind, o.outcome, o.effect = endpointRequested, "created", "create functiongraph"
	o.data = map[string]any{"target": "functions", "functiongraph": map[string]any{
		"vpc_id": allowedVPC, "subnet_id": fmt.Sprintf("3d1f0f6a-8f5e-4c39-9a0c-%012d", i), "flavor": "default",
	}}
	return o
}
