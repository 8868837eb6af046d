package faulttest

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/vpcep-approver/vpcep-approver/internal/approval"
	"github.com/vpcep-approver/vpcep-approver/internal/cloud/simulator"
)

// forged is one kind of hostile event. A well-formed one lies in what it says
// and must end in one of these outcomes; any other must end as a dead letter.
type forged struct {
	name     string
	reason   string      // of the dead letter
	header   nats.Header // in addition to the mark; nil: structured mode
	body     func(endpoint string) string
	outcomes []approval.Outcome
}

// event is a structured event with this data; extra are more attributes.
func eventWith(data, extra string) string {
	return `{"specversion":"1.0","id":"%ID%","source":"faulttest","type":"vpcep.connection.requested","time":"2026-11-21T09:00:00Z"` + extra + `,"data":` + data + `}`
}

func connectionEvent(data string) func(string) string {
	return func(endpoint string) string { return strings.ReplaceAll(eventWith(data, ""), "%EP%", endpoint) }
}

func raw(body string) func(string) string {
	return func(endpoint string) string { return strings.ReplaceAll(body, "%EP%", endpoint) }
}

// hostile are at least forty kinds of forged or hostile events. They are about a
// stranger's endpoint, which is held unless something goes wrong.
func hostile() []forged {
	held := []approval.Outcome{approval.OutcomeHeld}
	good := `{"target":"payments","endpoint_id":"%EP%"}`
	creation := func(target, block string) func(string) string {
		return raw(strings.Replace(eventWith(`{"target":"`+target+`",`+block+`}`, ""), "connection.requested", "endpoint.requested", 1))
	}
	ours, foreignVPC, subnet := uuid("aaaaaaaa", 1), uuid("dddddddd", 1), uuid("bbbbbbbb", 1)
	binary := func(more map[string]string) nats.Header {
		h := nats.Header{
			"ce-specversion": {"1.0"}, "ce-id": {"%ID%"}, "ce-source": {"faulttest"}, "ce-type": {"vpcep.connection.requested"}, "Content-Type": {"application/json"},
		}
		for name, value := range more {
			h[name] = []string{value}
		}
		return h
	}
	all := []forged{
		// Well-formed lies: what is claimed is never believed.
		{name: "claims the partner's domain", body: connectionEvent(`{"target":"payments","endpoint_id":"%EP%","claims":{"domain_id":"` + partner + `"}}`), outcomes: held},
		{name: "claims the state", body: connectionEvent(`{"target":"payments","endpoint_id":"%EP%","claims":{"status":"accepted","domain_id":"` + partner + `"}}`), outcomes: held},
		{name: "claims a verdict", body: connectionEvent(`{"target":"payments","endpoint_id":"%EP%","claims":{"verdict":"accept","policy":"connections","rule":"partner"}}`), outcomes: held},
		{name: "claims a list of domains", body: connectionEvent(`{"target":"payments","endpoint_id":"%EP%","claims":{"domain_id":["` + stranger + `","` + partner + `"]}}`), outcomes: held},
		{name: "claims facts", body: connectionEvent(`{"target":"payments","endpoint_id":"%EP%","claims":{"facts":{"domain_id":"` + partner + `"}}}`), outcomes: held},
		{name: "a time in the far future", body: raw(strings.Replace(eventWith(good, ""), "2026-11-21", "2126-11-21", 1)), outcomes: held},
		{name: "a time of long ago", body: raw(strings.Replace(eventWith(good, ""), "2026-11-21", "1926-11-21", 1)), outcomes: held},
		{name: "the id in upper case", body: func(endpoint string) string {
			return strings.ReplaceAll(eventWith(good, ""), "%EP%", strings.ToUpper(endpoint))
		}, outcomes: held},
		{name: "a creation in a foreign VPC", body: creation("functions", `"functiongraph":{"vpc_id":"`+foreignVPC+`","subnet_id":"`+subnet+`"}`), outcomes: held},
		{name: "a creation in ours and a foreign VPC", body: creation("hosts", `"hss":{"host_id_list":["`+subnet+`"],"vpc_list":[{"vpc_id":"`+ours+`","subnet_id_list":["`+subnet+`"]},{"vpc_id":"`+foreignVPC+`","subnet_id_list":["`+subnet+`"]}]}`), outcomes: held},
		{name: "a creation on a service of another", body: creation("insight", `"dataarts_insight":{"ds_type":"DWS","vpc_ep_server_id":"`+service+`"}`), outcomes: held},
		{name: "a server name that lies about its end", body: creation("insight", `"dataarts_insight":{"ds_type":"DWS","vpc_ep_server_name":"cn-north-4.`+foreign+`.`+service+`"}`), outcomes: held},

		// Targets.
		{name: "an unknown target", reason: "unknown_target", body: connectionEvent(`{"target":"nobody","endpoint_id":"%EP%"}`)},
		{name: "a target with a wildcard", reason: "unknown_target", body: connectionEvent(`{"target":"*","endpoint_id":"%EP%"}`)},
		{name: "a target with a dot", reason: "unknown_target", body: connectionEvent(`{"target":"payments.orders","endpoint_id":"%EP%"}`)},
		{name: "no target", reason: "bad_parameters", body: connectionEvent(`{"endpoint_id":"%EP%"}`)},
		{name: "two targets", reason: "bad_parameters", body: connectionEvent(`{"target":"payments","service_id":"` + service + `","endpoint_id":"%EP%"}`)},
		{name: "a service that is not ours", reason: "unknown_target", body: connectionEvent(`{"service_id":"` + foreign + `","endpoint_id":"%EP%"}`)},
		{name: "a gateway's id as a service's", reason: "unknown_target", body: connectionEvent(`{"service_id":"` + gateway + `","endpoint_id":"%EP%"}`)},
		{name: "a connection of a creation place", reason: "unknown_target", body: connectionEvent(`{"target":"functions","endpoint_id":"%EP%"}`)},
		{name: "a creation at a service", reason: "unknown_target", body: creation("payments", `"functiongraph":{"vpc_id":"`+ours+`","subnet_id":"`+subnet+`"}`)},
		{name: "the target as a number", reason: "bad_parameters", body: connectionEvent(`{"target":1,"endpoint_id":"%EP%"}`)},

		// Ids.
		{name: "a path in the id", reason: "bad_id", body: connectionEvent(`{"target":"payments","endpoint_id":"%EP%/../../` + service + `"}`)},
		{name: "an escaped path in the id", reason: "bad_id", body: connectionEvent(`{"target":"payments","endpoint_id":"..%%2f..%%2fquotas"}`)},
		{name: "a query in the id", reason: "bad_id", body: connectionEvent(`{"target":"payments","endpoint_id":"%EP%?status=accepted"}`)},
		{name: "a line break in the id", reason: "bad_id", body: connectionEvent(`{"target":"payments","endpoint_id":"%EP%\r\nX-Evil: 1"}`)},
		{name: "a zero byte in the id", reason: "bad_id", body: connectionEvent(`{"target":"payments","endpoint_id":"%EP%\u0000"}`)},
		{name: "an empty id", reason: "bad_id", body: connectionEvent(`{"target":"payments","endpoint_id":""}`)},
		{name: "two ids in one", reason: "bad_id", body: connectionEvent(`{"target":"payments","endpoint_id":"%EP%,%EP%"}`)},
		{name: "a list of ids", reason: "bad_parameters", body: connectionEvent(`{"target":"payments","endpoint_id":["%EP%"]}`)},
		{name: "look-alike digits in the id", reason: "bad_id", body: connectionEvent(`{"target":"payments","endpoint_id":"７05290f3-0d00-41f2-aedc-71f09844e879"}`)},
		{name: "a wildcard as the id", reason: "bad_id", body: connectionEvent(`{"target":"payments","endpoint_id":"*"}`)},

		// Members.
		{name: "an unknown member", reason: "bad_parameters", body: connectionEvent(`{"target":"payments","endpoint_id":"%EP%","verdict":"accept"}`)},
		{name: "a project of its own", reason: "bad_parameters", body: connectionEvent(`{"target":"payments","endpoint_id":"%EP%","project_id":"` + project + `"}`)},
		{name: "a member twice", reason: "unreadable", body: connectionEvent(`{"target":"orders","target":"payments","endpoint_id":"%EP%"}`)},
		{name: "a claim twice", reason: "unreadable", body: connectionEvent(`{"target":"payments","endpoint_id":"%EP%","claims":{"a":1,"a":2}}`)},
		{name: "a member in another case", reason: "bad_parameters", body: connectionEvent(`{"Target":"payments","endpoint_id":"%EP%"}`)},
		{name: "data as a string", reason: "bad_parameters", body: connectionEvent(`"{}"`)},
		{name: "data as a list", reason: "bad_parameters", body: connectionEvent(`[` + good + `]`)},
		{name: "no data", reason: "bad_parameters", body: raw(`{"specversion":"1.0","id":"%ID%","source":"faulttest","type":"vpcep.connection.requested"}`)},
		{name: "claims as a list", reason: "bad_parameters", body: connectionEvent(`{"target":"payments","endpoint_id":"%EP%","claims":[1]}`)},

		// Creations.
		{name: "two blocks", reason: "bad_parameters", body: creation("functions", `"functiongraph":{"vpc_id":"`+ours+`","subnet_id":"`+subnet+`"},"hss":{}`)},
		{name: "no block", reason: "bad_parameters", body: creation("functions", `"claims":{}`)},
		{name: "the block of another", reason: "bad_parameters", body: creation("functions", `"hss":{"host_id_list":["`+subnet+`"],"vpc_list":[{"vpc_id":"`+ours+`","subnet_id_list":["`+subnet+`"]}]}`)},
		{name: "an unknown data source", reason: "bad_parameters", body: creation("insight", `"dataarts_insight":{"ds_type":"dws","vpc_ep_server_id":"`+foreign+`"}`)},
		{name: "name and id of two services", reason: "bad_parameters", body: creation("insight", `"dataarts_insight":{"ds_type":"DWS","vpc_ep_server_id":"`+foreign+`","vpc_ep_server_name":"cn-north-4.x.`+service+`"}`)},
		{name: "a path in the VPC", reason: "bad_id", body: creation("functions", `"functiongraph":{"vpc_id":"`+ours+`/../x","subnet_id":"`+subnet+`"}`)},
		{name: "no hosts", reason: "bad_parameters", body: creation("hosts", `"hss":{"host_id_list":[],"vpc_list":[{"vpc_id":"`+ours+`","subnet_id_list":["`+subnet+`"]}]}`)},

		// Envelopes.
		{name: "an unknown type", reason: "unknown_type", body: raw(strings.Replace(eventWith(good, ""), "connection.requested", "connection.accepted", 1))},
		{name: "a type that begins well", reason: "unknown_type", body: raw(strings.Replace(eventWith(good, ""), "requested", "requested.v2", 1))},
		{name: "another version", reason: "unreadable", body: raw(strings.Replace(eventWith(good, ""), `"1.0"`, `"0.3"`, 1))},
		{name: "no source", reason: "unreadable", body: raw(strings.Replace(eventWith(good, ""), `"source":"faulttest",`, ``, 1))},
		{name: "an empty event id", reason: "unreadable", body: raw(strings.Replace(eventWith(good, ""), `"id":"%ID%"`, `"id":""`, 1))},
		{name: "a source twice", reason: "unreadable", body: raw(strings.Replace(eventWith(good, ""), `"source":"faulttest",`, `"source":"faulttest","source":"other",`, 1))},
		{name: "data and data in base64", reason: "unreadable", body: raw(eventWith(good, `,"data_base64":"e30="`))},
		{name: "a type in a header and in the body", reason: "unreadable", header: nats.Header{"Content-Type": {"application/cloudevents+json"}, "ce-specversion": {"1.0"}, "ce-type": {"vpcep.connection.requested"}}, body: raw(eventWith(good, ""))},
		{name: "a batch", reason: "unreadable", header: nats.Header{"Content-Type": {"application/cloudevents-batch+json"}}, body: raw("[" + eventWith(good, "") + "]")},
		{name: "a header twice", reason: "unreadable", header: nats.Header{"ce-specversion": {"1.0"}, "ce-id": {"%ID%", "other"}, "ce-source": {"faulttest"}, "ce-type": {"vpcep.connection.requested"}}, body: raw(good)},
		{name: "headers that differ in case", reason: "unreadable", header: binary(map[string]string{"Ce-Id": "other"}), body: raw(good)},
		{name: "broken percent-encoding", reason: "unreadable", header: binary(map[string]string{"ce-subject": "%zz"}), body: raw(good)},
		{name: "binary with a body that is XML", reason: "unreadable", header: binary(map[string]string{"Content-Type": "application/xml"}), body: raw("<target>payments</target>")},

		// What the broker says of a pull looks the same, but for where it goes.
		{name: "as if there was nothing", reason: "unreadable", header: nats.Header{"Status": {"404"}, "Description": {"No Messages"}}, body: raw("")},
		{name: "as if the consumer was deleted", reason: "unreadable", header: nats.Header{"Status": {"409"}, "Description": {"Consumer Deleted"}}, body: raw("")},
		{name: "as if the broker was idle", reason: "unreadable", header: nats.Header{"Status": {"100"}}, body: raw("")},

		// Bytes.
		{name: "nothing", reason: "unreadable", body: raw("")},
		{name: "a zero", reason: "unreadable", body: raw("\x00")},
		{name: "HTML", reason: "unreadable", body: raw("<html><body>accepted</body></html>")},
		{name: "JSON that breaks off", reason: "unreadable", body: raw(eventWith(good, "")[:120])},
		{name: "two events in one", reason: "unreadable", body: raw(eventWith(good, "") + eventWith(good, ""))},
		{name: "not UTF-8", reason: "unreadable", body: raw(strings.Replace(eventWith(good, ""), "faulttest", "tort\xffure", 1))},
		{name: "half a surrogate", reason: "unreadable", body: raw(strings.Replace(eventWith(good, ""), "faulttest", `\ud800`, 1))},
		{name: "deep JSON", reason: "unreadable", body: connectionEvent(`{"target":"payments","endpoint_id":"%EP%","claims":{"a":` + strings.Repeat("[", 5000) + strings.Repeat("]", 5000) + `}}`)},
		{name: "deeper than allowed", reason: "unreadable", body: connectionEvent(`{"target":"payments","endpoint_id":"%EP%","claims":{"a":` + strings.Repeat(`{"a":`, 30) + `1` + strings.Repeat("}", 30) + `}}`)},
		{name: "too large", reason: "too_large", body: connectionEvent(`{"target":"payments","endpoint_id":"%EP%","claims":{"a":"` + strings.Repeat("a", 70<<10) + `"}}`)},
		{name: "a number without an end", outcomes: held, body: connectionEvent(`{"target":"payments","endpoint_id":"%EP%","claims":{"a":1` + strings.Repeat("0", 400) + `}}`)},
		{name: "a comment", reason: "unreadable", body: raw("/* accept */" + eventWith(good, ""))},
		{name: "a byte order mark", outcomes: held, body: raw("\ufeff" + eventWith(good, ""))},
	}
	return all
}

// TestHostileEvents is F15: every kind of hostile event, and good ones between
// them. Those that are no requests are dead letters, those that lie are held,
// and none is accepted.
func TestHostileEvents(t *testing.T) {
	t.Parallel()
	kinds := hostile()
	if len(kinds) < 40 {
		t.Fatalf("%d kinds of hostile events, at least 40 are promised", len(kinds))
	}
	w := newWorld(t, simulator.Config{})
	w.start("worker", options{}).ready()
	marks := map[string]bool{}
	for round := range times(1, 1, 20) {
		for i, kind := range kinds {
			eventID := fmt.Sprintf("hostile-%d-%d", round, i)
			endpoint := w.connect("payments", stranger)
			r := approval.Request{ID: approval.RequestID(source, eventID)}
			fill := strings.NewReplacer("%ID%", eventID).Replace
			header := nats.Header{}
			for name, values := range kind.header {
				for _, v := range values {
					header[name] = append(header[name], fill(v))
				}
			}
			header[markHeader] = []string{eventID}
			if kind.outcomes != nil {
				w.note(asked{RequestID: r.ID, Subject: kind.name, Mark: eventID, Outcomes: kind.outcomes})
			} else {
				w.note(asked{RequestID: r.ID, Subject: kind.name, Mark: eventID, Bad: true, Reason: kind.reason})
			}
			marks[eventID] = true
			// A subject that names no target of ours: what the event says counts.
			w.publish("vpcep.requests.hostile", header, []byte(fill(kind.body(endpoint.EndpointID))))
		}
		w.mixed(12, fmt.Sprintf("good-%d", round))
	}
	w.settled(time.Minute)
	f := w.judge()
	h, err := w.look()
	if err != nil {
		f.wrong("%v", err)
	}
	for _, r := range h.Results {
		forgedOne := slices.ContainsFunc(slices.Collect(maps.Keys(marks)), func(mark string) bool { return approval.RequestID(source, mark) == r.RequestID })
		if forgedOne && r.Outcome != approval.OutcomeHeld {
			f.wrong("a forged event ended %s", r.Outcome)
		}
	}
	for _, a := range w.asked {
		if a.Bad && len(h.Dead) > 0 && !slices.ContainsFunc(h.Dead, func(d deadLetter) bool { return d.Mark == a.Mark }) {
			f.lost("%q is no dead letter", a.Subject)
		}
	}
	table.add(t, row{Name: "F15 forged and hostile events", Tries: len(marks), findings: f, Took: w.took(), Note: fmt.Sprintf("%d kinds", len(kinds))})
}

// TestOtherTargetsEndpoint is the rest of F15, in simulated time: an endpoint is
// asked for at a target that it does not belong to.
func TestOtherTargetsEndpoint(t *testing.T) {
	t.Parallel()
	simulated(t, func(t *testing.T) {
		files := policies()
		// The gateway lets in whom the service does not.
		files["connections.yaml"] = strings.Replace(files["connections.yaml"], "targets: [payments, orders]", "targets: [payments]", 1)
		files["orders.yaml"] = "version: 1\npolicy: orders\nowner: faulttest\ntargets: [orders]\nallow:\n  - {id: all, any_domain: true}\n"
		r := newRig(t, 1, 100, simulator.Config{}, loadPolicies(t, files))
		begin := time.Now()
		const n = 20
		for i := range n {
			req := r.connect("payments", stranger)
			req.Target, _ = targets().ByName("orders")
			r.submit(r.event(req, fmt.Sprintf("other-%d", i), approval.OutcomeGone))
		}
		f := r.judge()
		if effects := r.sim.Counters().Effects; len(effects) > 0 {
			f.wrong("%d actions were made: %+v", len(effects), effects[0])
		}
		table.add(t, row{Name: "F15 other target's endpoint", Tries: n, findings: f, Took: time.Since(begin), Note: "simulated time"})
	})
}
