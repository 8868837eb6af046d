package faulttest

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/vpcep-approver/vpcep-approver/internal/approval"
	"github.com/vpcep-approver/vpcep-approver/internal/cloud/simulator"
)

// TestReloads is F14: the policies change all the time under load, and now and
// then a file is broken.
func TestReloads(t *testing.T) {
	t.Parallel()
	reloads := times(10, 60, 1000)
	w := newWorld(t, simulator.Config{})
	p := w.start("worker", options{}).ready()
	rules := map[string]string{} // id of the allow entry, by the digest of its set
	change := func(text string) {
		path := filepath.Join(w.policies, "connections.yaml")
		w.write(path+".new", text)
		if err := os.Rename(path+".new", path); err != nil {
			t.Fatal(err)
		}
		p.signal(syscall.SIGHUP)
	}
	loaded := func() float64 { return p.metric("vpcep_approver_policy_reloads_total") }
	files := policies()
	rules[loadPolicies(t, files).Digest()] = "partner"
	var f findings
	bad := 0
	for i := range reloads {
		if i%5 == 0 {
			w.settled(5 * time.Second) // else all would be decided under the last set
		}
		before := -1.0
		await(t, time.Minute, "the worker says how often it looked", func() bool { before = loaded(); return before >= 0 })
		text := strings.Replace(policies()["connections.yaml"], "id: partner", fmt.Sprintf("id: partner-%d", i), 1)
		if i%10 >= 7 {
			text = strings.Replace(text, "otherwise: hold", "otherwise: acept", 1)
			bad++
		} else {
			files["connections.yaml"] = text
			rules[loadPolicies(t, files).Digest()] = fmt.Sprintf("partner-%d", i)
		}
		change(text)
		w.ask(w.connect("payments", partner), fmt.Sprintf("reload-%d-a", i), approval.OutcomeAccepted)
		w.ask(w.connect("orders", banned), fmt.Sprintf("reload-%d-b", i), approval.OutcomeRejected)
		w.ask(w.connect("payments", stranger), fmt.Sprintf("reload-%d-c", i), approval.OutcomeHeld)
		await(t, time.Minute, "the worker has looked at the policies", func() bool { return loaded() > before })
		// The set before may have been looked at twice.
		if i%10 >= 7 && !until(t.Context(), time.Minute, func() bool { return p.metric("vpcep_approver_policy_reload_success") == 0 }) {
			f.wrong("reload %d: no metric tells that the policies are bad", i)
		}
	}
	w.settled(time.Minute)
	f.join(w.judge())
	h, err := w.look()
	if err != nil {
		f.wrong("%v", err)
	}
	digests := map[string]int{}
	for _, versions := range h.Entries {
		d := versions[0].Entry.Decision
		rule, known := rules[d.Digest]
		digests[d.Digest]++
		switch {
		case !known:
			f.wrong("a decision was made under %s, which was never a valid set", d.Digest)
		case d.Verdict == approval.Accept && d.Rule != rule:
			f.wrong("a decision under %s names the rule %s, its set has %s", d.Digest, d.Rule, rule)
		}
	}
	table.add(t, row{Name: "F14 policies reloaded", Tries: reloads, findings: f, Took: w.took(), Note: fmt.Sprintf("%d of them bad, decisions under %d digests", bad, len(digests))})
}

// TestSecrets is F22: with everything logged, and everything going wrong that
// can, no secret is to be found in anything that the worker says or stores.
func TestSecrets(t *testing.T) {
	t.Parallel()
	const canary = "CANARY"
	modes := map[string]struct {
		auth simulator.Auth
		env  []string
	}{
		"aksk": {simulator.Auth{AccessKey: "AKOFTORTURE000000001", SecretKey: canary + "secretkey", SecurityToken: canary + "securitytoken"}, []string{
			"HUAWEICLOUD_SDK_AK=AKOFTORTURE000000001", "HUAWEICLOUD_SDK_SK=" + canary + "secretkey", "HUAWEICLOUD_SDK_SECURITY_TOKEN=" + canary + "securitytoken",
		}},
		"token": {simulator.Auth{Token: canary + "token"}, []string{"HW_AUTH_TOKEN=" + canary + "token"}},
		"password": {simulator.Auth{User: "faulttest", Password: canary + "password", Domain: "account"}, []string{
			"HW_USER_NAME=faulttest", "HW_USER_PASSWORD=" + canary + "password", "HW_DOMAIN_NAME=account",
		}},
	}
	for mode, tt := range modes {
		t.Run(mode, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t, simulator.Config{Auth: tt.auth})
			w.noCreations = counts.least()
			p := start(t, "worker", w.config(options{more: "log: {level: trace}\n", auth: mode}), tt.env).ready()
			for i, kind := range simulator.FaultKinds() {
				if kind == simulator.Down || kind == simulator.ExpiredToken && mode != "password" {
					continue
				}
				// Not IAM: a user that it refuses must rest for minutes.
				api, count := []string{simulator.VPCEP, simulator.APIG, simulator.FunctionGraph}[i%3], 3
				if kind == simulator.ExpiredToken { // once: if the next token is refused, too, all rests for minutes
					api, count = simulator.VPCEP, 1
				}
				w.sim.Inject(simulator.Fault{API: api, Kind: kind, Count: count, Status: 500, Code: "EndPoint.0001", Delay: 100 * time.Millisecond})
				w.mixed(6, fmt.Sprintf("secret-%d", i))
			}
			w.malformed("secret-bad")
			w.settled(4 * time.Minute) // a creation may lose all its answers
			f := w.judge()
			_, metrics, err := p.get("/metrics")
			if err != nil {
				t.Fatal(err)
			}
			// The credential is refused at last, which is the loudest moment.
			w.sim.RemoveKey(tt.auth.AccessKey)
			w.sim.RevokeTokens()
			w.ask(w.connect("payments", stranger), "secret-refused")
			w.forgetLast()
			await(t, time.Minute, "the credential is refused", func() bool {
				return mode == "password" || p.metric("vpcep_approver_operator_fault_active", `api="vpcep",target="payments"`) == 1
			})
			said := map[string]string{"log": p.log.String(), "metrics": metrics}
			for _, stream := range []string{requestsStream, resultsStream, deadStream, bucketStream} {
				var b bytes.Buffer
				if err := w.read(stream, nil, func(m jetstream.Msg) {
					fmt.Fprintln(&b, m.Subject(), m.Headers(), string(m.Data()))
				}); err != nil {
					t.Fatal(err)
				}
				said[stream] = b.String()
			}
			if len(said["log"]) == 0 || !counts.least() && !strings.Contains(said["log"], `"level":"debug"`) { // creations that wait
				t.Error("the log says nothing at debug level: nothing was searched")
			}
			for where, text := range said {
				// The simulated IAM begins its tokens so.
				for _, secret := range []string{canary, "MII"} {
					if i := strings.Index(text, secret); i >= 0 {
						f.wrong("a secret is in the %s: …%s…", where, text[max(0, i-80):min(len(text), i+20)])
					}
				}
			}
			table.add(t, row{Name: "F22 secrets, mode " + mode, Tries: w.wanted(), findings: f, Took: w.took()})
		})
	}
}

// TestLimit is F17: 100 concurrent requests of one account, over three replicas,
// where the rule allows ten.
func TestLimit(t *testing.T) {
	t.Parallel()
	rounds := times(1, 1, 10)
	const limit, requests, replicas = 10, 100, 3
	var f findings
	begin := time.Now()
	for range rounds {
		w := newWorld(t, simulator.Config{})
		w.write(filepath.Join(w.policies, "connections.yaml"), strings.Replace(policies()["connections.yaml"],
			"domain_id: ["+partner+"]", fmt.Sprintf("domain_id: [%s]\n    limit: %d", partner, limit), 1))
		for i := range requests {
			w.ask(w.connect("payments", partner), fmt.Sprintf("limit-%d", i), approval.OutcomeAccepted, approval.OutcomeHeld)
		}
		for i := range replicas {
			w.start(fmt.Sprintf("replica-%d", i), options{})
		}
		w.settled(90 * time.Second)
		f.join(w.judge())
		if n := w.sim.Counters().Count(simulator.EffectAccept, ""); n != limit {
			f.wrong("%d of %d requests were accepted, the limit is %d", n, requests, limit)
		}
	}
	table.add(t, row{Name: "F17 limit of 10, 100 concurrent on three replicas", Tries: rounds * requests, findings: f, Took: time.Since(begin)})
}

// TestSoak is F19: under load for a while, heap, goroutines and open files stay
// where they are.
func TestSoak(t *testing.T) {
	counted(t)
	t.Parallel()
	span := time.Duration(times(8, 20, 1800)) * time.Second
	w := newWorld(t, simulator.Config{})
	p := w.start("worker", options{sweep: "2s"}).ready()
	gauges := []string{"go_goroutines", "process_open_fds", "go_memstats_heap_objects"}
	lowest := func() map[string]float64 { // the least of several looks, between two collections
		out := map[string]float64{}
		for range 10 {
			for _, g := range gauges {
				v := p.metric(g)
				if old, ok := out[g]; !ok || v < old {
					out[g] = v
				}
			}
			pass(t.Context(), 100*time.Millisecond)
		}
		return out
	}
	load := func(prefix string, until time.Time) {
		for i := 0; time.Now().Before(until); i++ {
			w.mixed(12, fmt.Sprintf("%s-%d", prefix, i))
			w.settled(10 * time.Second)
			for _, c := range w.sim.Connections("") { // else the lists would grow without end
				w.sim.Delete(c.ID)
			}
			pass(t.Context(), 200*time.Millisecond)
		}
	}
	load("warm", time.Now().Add(span/4))
	first := lowest()
	load("soak", time.Now().Add(span*3/4))
	last := lowest()
	f := w.judge()
	for _, g := range gauges {
		slack := map[string]float64{"go_goroutines": 20, "process_open_fds": 20, "go_memstats_heap_objects": 100_000}[g]
		if last[g] > 1.5*first[g]+slack {
			f.wrong("%s was %.0f after a quarter of the time and is %.0f at the end", g, first[g], last[g])
		}
	}
	table.add(t, row{Name: "F19 soak", Tries: w.wanted(), findings: f, Took: w.took(), Note: fmt.Sprintf("goroutines %.0f, %.0f; files %.0f, %.0f; heap objects %.0f, %.0f",
		first[gauges[0]], last[gauges[0]], first[gauges[1]], last[gauges[1]], first[gauges[2]], last[gauges[2]])})
}
