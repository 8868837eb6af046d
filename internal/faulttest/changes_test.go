package faulttest

import (
	"bytes"
	"cmp"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/vpcep-approver/vpcep-approver/internal/approval"
	"github.com/vpcep-approver/vpcep-approver/internal/cloud/simulator"
	"github.com/vpcep-approver/vpcep-approver/internal/policy"
)

// unavailable is how an API says that it does not work.
var unavailable = netFault{Status: http.StatusServiceUnavailable, Body: "<html>503</html>", Header: map[string]string{"Content-Type": "text/html"}}

// outages are random times in which an API takes no accepts and rejects.
type outages []outage

type outage struct {
	from, to time.Duration
	fault    netFault
}

// onTheWay is how long a slow call is under way before the cloud carries it out.
const onTheWay = 8 * time.Second

func drawOutages(dice *rand.Rand, most int) outages {
	faults := []netFault{
		unavailable,
		{Refused: true},
		{Before: true},
		{Delay: onTheWay},
		{Status: http.StatusTooManyRequests, Body: `{"error_code":"APIGW.0308","error_msg":"Throttled"}`, Header: map[string]string{"Retry-After": "20"}},
		{Status: http.StatusForbidden, Body: `{"error":{"code":"EndPoint.0004","message":"m"}}`},
	}
	var out outages
	for range dice.IntN(most + 1) {
		from := time.Duration(dice.IntN(120)) * time.Second
		out = append(out, outage{from, from + time.Duration(5+dice.IntN(120))*time.Second, faults[dice.IntN(len(faults))]})
	}
	return out
}

func (o outages) at(since time.Duration) netFault {
	for _, a := range o {
		if since >= a.from && since < a.to {
			return a.fault
		}
	}
	return netFault{}
}

// isAct reports whether a call accepts or rejects connections.
func isAct(r *http.Request) bool {
	return r.Method == http.MethodPost && strings.HasSuffix(r.URL.Path, "/connections/action")
}

// looks is what each request saw of its connection, in order.
type looks struct {
	mu  sync.Mutex
	all map[string][]look // by request id
}

type look struct {
	at    time.Time
	facts approval.Facts
}

func (s *looks) saw(r approval.Request, f approval.Facts) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.all == nil {
		s.all = map[string][]look{}
	}
	s.all[r.ID] = append(s.all[r.ID], look{time.Now(), f})
}

// before returns the last look of a request up to a time.
func (s *looks) before(requestID string, at time.Time) (last look) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, l := range s.all[requestID] {
		if !l.at.After(at) {
			last = l
		}
	}
	return last
}

// judgedAs returns what the decision that stood at a time was made on.
func judgedAs(versions []version, at time.Time) approval.Facts {
	var facts approval.Facts
	for _, v := range versions {
		if v.At.After(at) {
			break
		}
		facts = v.Entry.Decision.Facts
	}
	return facts
}

// verdicts are the outcomes of each account by the policies of all tests.
var verdicts = map[string]approval.Outcome{
	partner: approval.OutcomeAccepted, banned: approval.OutcomeRejected, stranger: approval.OutcomeHeld,
}

// TestIdentityChanges is F24: between the decision and the act an endpoint id becomes
// another account's, or another connection's of the same account, while the worker
// stalls or the API takes no accepts. Every act must be on what was judged, and on
// what the last look before it found.
func TestIdentityChanges(t *testing.T) {
	t.Parallel()
	const each = 50
	requests := times(180, 600, 20_000)
	set := loadPolicies(t, policies())
	var f findings
	begin, acts, changed := time.Now(), 0, 0
	for seed := range uint64(requests / each) {
		simulated(t, func(t *testing.T) {
			n, c, found := identitiesChange(t, seed, each, set)
			acts, changed = acts+n, changed+c
			f.join(found)
		})
	}
	if changed < requests/20 {
		f.wrong("only %d acts came after a change: too little was tried", changed)
	}
	table.add(t, row{Name: "F24 identity changes before the act", Tries: requests, findings: f, Took: time.Since(begin), Note: fmt.Sprintf("%d acts, %d of them after the change", acts, changed)})
}

func identitiesChange(t *testing.T, seed uint64, requests int, set *policy.Set) (acts, changed int, f findings) {
	t.Helper()
	dice := rand.New(rand.NewPCG(seed, 24))
	r := newRig(t, 2, 500, simulator.Config{Seed: seed, Delays: walk()}, set)
	begin, down, seen := time.Now(), drawOutages(dice, 3), &looks{}
	r.fault = func(req *http.Request) netFault {
		if isAct(req) {
			return down.at(time.Since(begin))
		}
		return netFault{}
	}
	r.saw = seen.saw
	type change struct {
		request       approval.Request
		point         string // where the worker stalls; empty: it does not
		wait, stalled time.Duration
		to            simulator.Identity
		once          sync.Once
	}
	changes := map[string]*change{} // by event id
	at := map[string]time.Time{}    // of the change, by endpoint id
	var mu sync.Mutex
	do := func(c *change) {
		r.running.Go(func() {
			pass(r.ctx, c.wait)
			mu.Lock()
			at[c.request.EndpointID] = time.Now()
			mu.Unlock()
			r.reidentify(c.request, c.to, truthOf)
		})
	}
	r.doom = func(point string, req approval.Request) (d doom) {
		if c := changes[req.EventID]; c != nil && c.point == point {
			c.once.Do(func() {
				do(c)
				d.Stall = c.stalled
			})
		}
		return d
	}
	points := []string{"before-facts", "after-facts", "before-record", "after-record", "before-act", "before-note", "after-note"}
	domains := []string{partner, partner, banned, stranger}
	var asked []approval.Request
	for i := range requests {
		domain := domains[dice.IntN(len(domains))]
		c := &change{request: r.connect([]string{"payments", "orders"}[i%2], domain)}
		var other string
		switch dice.IntN(4) {
		case 0:
			c.to.MarkerID = 1_000_000 + int64(i)
		case 1:
			c.to.CreatedAt = time.Now().Add(-time.Hour)
		default:
			other = domains[dice.IntN(len(domains))]
			c.to.DomainID = other
			if dice.IntN(2) == 0 {
				c.to.MarkerID = 1_000_000 + int64(i)
			}
		}
		if c.wait = time.Duration(dice.IntN(150_000)) * time.Millisecond; dice.IntN(2) == 0 {
			c.point = points[dice.IntN(len(points))]
			c.stalled = time.Duration(dice.IntN(9_000)) * time.Millisecond // it is not delivered again meanwhile
			if dice.IntN(2) == 0 {
				c.stalled += 50 * time.Second // longer than an act goes by old facts
			}
			c.wait = time.Duration(dice.Int64N(int64(c.stalled + time.Second)))
		}
		req := r.event(c.request, fmt.Sprintf("identity-%d", i), verdicts[domain], verdicts[cmp.Or(other, domain)])
		changes[req.EventID] = c
		asked = append(asked, req)
	}
	for _, req := range asked {
		if c := changes[req.EventID]; c.point == "" {
			do(c)
		}
		r.submit(req)
	}
	f = r.judge()
	for _, e := range r.sim.Counters().Effects {
		i := slices.IndexFunc(asked, func(req approval.Request) bool { return req.EndpointID == e.EndpointID })
		if i < 0 {
			continue // the checker tells
		}
		acts++
		if when, ok := at[e.EndpointID]; ok && !when.After(e.At) {
			changed++
		}
		versions, err := r.versions(asked[i].ID)
		if err != nil {
			f.wrong("%v", err)
			continue
		}
		judged := judgedAs(versions, e.At)
		// What was looked at while the call was on its way came too late.
		sent := e.At
		if delay := down.at(e.At.Add(-onTheWay).Sub(begin)).Delay; delay > 0 {
			sent = e.At.Add(-delay)
		}
		last := seen.before(asked[i].ID, sent)
		age := sent.Sub(last.at)
		switch {
		case !judged.Same(last.facts):
			f.wrong("seed %d: %s of %s, stalled %s, %s after it changed: it was judged as %+v, and the last look before found %+v",
				seed, e.Kind, e.EndpointID, changes[asked[i].EventID].point, e.At.Sub(at[e.EndpointID]), judged, last.facts)
		case age > oneLook:
			f.wrong("seed %d: %s of %s by facts that were %s old", seed, e.Kind, e.EndpointID, age)
		}
	}
	return acts, changed, f
}

// TestDenyWhileAnAcceptWaits is F25: accepts wait for their API, for its rate or
// for a repeat while a deny is loaded, or their rule expires. Nothing that lets the
// account in is sent from then on.
func TestDenyWhileAnAcceptWaits(t *testing.T) {
	t.Parallel()
	const each = 60
	requests := times(180, 600, 20_000)
	sets := []*policy.Set{loadPolicies(t, policies()), loadPolicies(t, otherPolicies())}
	var f findings
	begin, before, kept := time.Now(), 0, 0
	for seed := range uint64(requests / each) {
		simulated(t, func(t *testing.T) {
			sent, waited, found := denyIsLoaded(t, seed, each, sets)
			before, kept = before+sent, kept+waited
			f.join(found)
		})
	}
	if before == 0 || kept < requests/20 {
		f.wrong("%d accepts were sent before the deny and %d waited when it came: too little was tried", before, kept)
	}
	table.add(t, row{Name: "F25 a deny is loaded while accepts wait", Tries: requests, findings: f, Took: time.Since(begin), Note: fmt.Sprintf("%d sent before it, %d waited", before, kept)})
}

func denyIsLoaded(t *testing.T, seed uint64, requests int, sets []*policy.Set) (sent, waited int, f findings) {
	t.Helper()
	dice := rand.New(rand.NewPCG(seed, 25))
	r := newRig(t, 2, float64(1+dice.IntN(20)), simulator.Config{Seed: seed, Delays: walk()}, sets...)
	begin, down := time.Now(), drawOutages(dice, 3)
	inForce := time.Duration(1+dice.IntN(100_000)) * time.Millisecond
	if seed%3 == 0 { // the rule expires instead
		expires := begin.Add(inForce).Truncate(time.Second)
		inForce = expires.Sub(begin)
		files := policies()
		files["connections.yaml"] = strings.Replace(files["connections.yaml"], "domain_id: ["+partner+"]", "domain_id: ["+partner+"]\n    expires: "+expires.UTC().Format(time.RFC3339), 1)
		r.sets = []*policy.Set{loadPolicies(t, files), sets[1]}
	}
	var mu sync.Mutex
	decided := map[string]bool{} // requests that an accept was recorded for, and not sent
	r.fault = func(req *http.Request) netFault {
		if !isAct(req) {
			return netFault{}
		}
		mu.Lock()
		defer mu.Unlock()
		body, err := req.GetBody()
		if err != nil {
			f.wrong("%v", err)
			return netFault{}
		}
		text, err := io.ReadAll(body)
		if err != nil {
			f.wrong("%v", err)
		}
		accepts := bytes.Contains(text, []byte(`"receive"`)) || bytes.Contains(text, []byte(`"accept"`))
		switch since := time.Since(begin); {
		case accepts && since > inForce:
			f.wrong("seed %d: an accept was sent %s after the deny was in force", seed, since-inForce)
		case accepts:
			sent++
		}
		return down.at(time.Since(begin))
	}
	stall := map[string]time.Duration{}
	r.doom = func(point string, req approval.Request) (d doom) {
		mu.Lock()
		defer mu.Unlock()
		switch {
		case point == "after-record":
			decided[req.ID] = true
		case point == "after-act":
			delete(decided, req.ID)
		case point == "before-act" && stall[req.ID] > 0:
			d.Stall = stall[req.ID]
			delete(stall, req.ID)
		}
		return d
	}
	r.running.Go(func() {
		pass(r.ctx, inForce)
		if seed%3 != 0 {
			r.inForce.Store(1)
		}
		mu.Lock()
		defer mu.Unlock()
		waited = len(decided)
	})
	for i := range requests {
		// By the other policies the partner is denied. What is sent just before counts.
		req := r.connect([]string{"payments", "orders"}[i%2], partner)
		r.ground.mu.Lock()
		r.truths[req.Subject()] = truth{Domain: partner, Allowed: true, Denied: true}
		r.ground.mu.Unlock()
		req = r.event(req, fmt.Sprintf("deny-%d", i), approval.OutcomeAccepted, approval.OutcomeRejected, approval.OutcomeHeld)
		if dice.IntN(4) == 0 {
			mu.Lock()
			stall[req.ID] = time.Duration(dice.IntN(100)) * time.Second
			mu.Unlock()
		}
		r.submit(req)
	}
	f.join(r.judge())
	return sent, waited, f
}
