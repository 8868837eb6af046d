package faulttest

import (
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

// lyingLists are the lists that the worker goes by, and the kinds of lie that can be
// found out or that end within the time in which a list may show the past. HSS does
// not say how many rows there are, so that nobody can tell that one is missing.
func lyingLists() []struct {
	api, operation string
	kinds          []simulator.FaultKind
} {
	connections := []simulator.FaultKind{
		simulator.MissingRows, simulator.MissingRows, simulator.ShiftedRows, simulator.SmallPages, simulator.LargePages, simulator.DuplicateRows,
		simulator.DuplicateRows, simulator.DuplicateMember, simulator.DelayedRows, simulator.Partial206, simulator.TruncatedJSON, simulator.StaleList,
	}
	return []struct {
		api, operation string
		kinds          []simulator.FaultKind
	}{
		{simulator.VPCEP, "ListServiceConnections", connections},
		{simulator.VPCEP, "ListServiceConnections", connections},
		{simulator.APIG, "ListEndpointConnections", connections},
		{simulator.VPCEP, "ListEndpoints", connections},
		{simulator.HSS, "ShowEndpointStatus", []simulator.FaultKind{
			simulator.DuplicateRows, simulator.DuplicateMember, simulator.DelayedRows, simulator.Partial206, simulator.TruncatedJSON, simulator.StaleList,
		}},
	}
}

// drawLie draws a lie that ends within minutes.
func drawLie(dice *rand.Rand) simulator.Fault {
	list := lyingLists()[dice.IntN(len(lyingLists()))]
	f := simulator.Fault{
		API: list.api, Operation: list.operation, Kind: list.kinds[dice.IntN(len(list.kinds))],
		After: time.Duration(dice.IntN(30)) * time.Second, For: time.Duration(1+dice.IntN(90)) * time.Second,
		Rows: dice.IntN(4),
	}
	if dice.IntN(2) == 0 {
		f.Probability = 0.2 + 0.7*dice.Float64()
	}
	switch f.Kind {
	case simulator.DuplicateRows:
		f.Field = []string{"domain_id", "marker_id", "created_at", "status", "none"}[dice.IntN(5)]
	case simulator.DuplicateMember:
		f.Field = []string{"domain_id", "marker_id", "created_at", "status"}[dice.IntN(4)]
	case simulator.DelayedRows:
		f.Delay = time.Duration(1+dice.IntN(25)) * time.Second
	case simulator.StaleList:
		// Lies add up; lists that show what was more than half a minute ago are
		// beyond what is promised.
		f.Delay = 4 * time.Second
		f.Probability, f.Rows = 0, 0
	default:
	}
	return f
}

// drawLies draws the lies of one world.
func drawLies(dice *rand.Rand) []simulator.Fault {
	var out []simulator.Fault
	for range 1 + dice.IntN(4) {
		f := drawLie(dice)
		if f.Kind == simulator.StaleList && slices.ContainsFunc(out, func(o simulator.Fault) bool { return o.Kind == f.Kind }) {
			continue
		}
		out = append(out, f)
	}
	return out
}

// TestListsThatLie is F23: random lists that leave rows out, show them twice or
// otherwise, or late. No limit is exceeded, nothing is created twice, and no
// request ends by a list that is not complete.
func TestListsThatLie(t *testing.T) {
	t.Parallel()
	const shares = 4
	lists := times(30, 500, 10_000)
	var sets []*policy.Set // by limit
	for limit := range 4 {
		files := policies()
		files["connections.yaml"] = strings.Replace(files["connections.yaml"],
			"domain_id: ["+partner+"]", fmt.Sprintf("domain_id: [%s]\n    limit: %d", partner, limit+1), 1)
		sets = append(sets, loadPolicies(t, files))
	}
	var mu sync.Mutex
	var f findings
	begin, told, requests := time.Now(), 0, 0
	t.Run("all", func(t *testing.T) {
		for share := range shares {
			t.Run(fmt.Sprint(share), func(t *testing.T) {
				t.Parallel()
				for seed := share; seed < lists; seed += shares {
					simulated(t, func(t *testing.T) {
						lies, asked, found := listsLie(t, uint64(seed), sets)
						mu.Lock()
						defer mu.Unlock()
						told, requests = told+lies, requests+asked
						if !found.none() {
							f.join(found)
						}
					})
				}
			})
		}
	})
	table.add(t, row{Name: "F23 lists that lie", Tries: lists, findings: f, Took: time.Since(begin), Note: fmt.Sprintf("%d requests, %d lies", requests, told)})
}

// listsLie is one world. It returns how many lies were told in it.
func listsLie(t *testing.T, seed uint64, sets []*policy.Set) (told, requests int, f findings) {
	t.Helper()
	dice := rand.New(rand.NewPCG(seed, 23))
	limit := 1 + dice.IntN(len(sets))
	r := newRig(t, 1+dice.IntN(3), 500, simulator.Config{Seed: seed, Delays: simulator.Delays{
		Accept: time.Duration(dice.IntN(5)) * time.Second, ListLag: time.Duration(dice.IntN(3)) * time.Second,
	}}, sets[limit-1])
	old := time.Now().Add(-time.Hour)
	before := map[string]int{} // accepted by target
	for range dice.IntN(limit + 2) {
		target := []string{"payments", "orders"}[dice.IntN(2)]
		r.connectAs(target, simulator.Connection{DomainID: partner, State: simulator.Accepted, CreatedAt: old})
		before[target]++
	}
	for range dice.IntN(8) { // rows that are nobody's matter
		r.connectAs([]string{"payments", "orders"}[dice.IntN(2)], simulator.Connection{
			DomainID: stranger, State: []string{simulator.Accepted, simulator.Rejected}[dice.IntN(2)], CreatedAt: old,
		})
	}
	lies := drawLies(dice)
	for _, lie := range lies {
		r.sim.Inject(lie)
	}
	contradicted := slices.ContainsFunc(lies, func(l simulator.Fault) bool {
		return l.Kind == simulator.DuplicateRows || l.Kind == simulator.DuplicateMember
	})

	// Answers to creations are lost, so that a list has to tell.
	var mu sync.Mutex
	posts := map[string]int{}                                         // creations that reached the cloud, by body
	lose, coin := map[string]bool{}, rand.New(rand.NewPCG(seed, 230)) // with mu held
	r.fault = func(req *http.Request) netFault {
		if req.Method != http.MethodPost || isAct(req) || strings.HasSuffix(req.URL.Path, "/batch-query") {
			return netFault{}
		}
		body, err := req.GetBody()
		if err != nil {
			panic(err) // all bodies can be had again
		}
		text, err := io.ReadAll(body)
		if err != nil {
			panic(err) // they are in memory
		}
		mu.Lock()
		defer mu.Unlock()
		key := req.URL.Path + " " + string(text)
		if _, drawn := lose[key]; !drawn {
			lose[key] = coin.IntN(2) == 0
		}
		posts[key]++
		return netFault{After: lose[key] && posts[key] == 1}
	}

	ask := func(req approval.Request, outcomes ...approval.Outcome) approval.Request {
		requests++
		req = r.event(req, fmt.Sprintf("lies-%d", requests), outcomes...)
		r.submit(req)
		return req
	}
	var partners, others []approval.Request
	for range 1 + dice.IntN(4) {
		made := old
		if dice.IntN(2) == 0 {
			made = time.Now()
		}
		req := r.connectAs([]string{"payments", "orders"}[dice.IntN(3)%2], simulator.Connection{DomainID: partner, State: simulator.PendingAcceptance, CreatedAt: made})
		// Where two ask, one may be held by a list that contradicts itself and find
		// later that the other has settled the connection.
		outcomes := []approval.Outcome{approval.OutcomeAccepted, approval.OutcomeHeld}
		asks := 1
		if dice.IntN(4) == 0 {
			asks = 2
			if contradicted {
				outcomes = append(outcomes, approval.OutcomeSuperseded)
			}
		}
		for range asks {
			partners = append(partners, ask(req, outcomes...))
		}
	}
	if dice.IntN(2) == 0 {
		others = append(others, ask(r.connect("payments", banned), approval.OutcomeRejected, approval.OutcomeHeld))
	}
	if dice.IntN(4) == 0 {
		ask(r.connect("orders", stranger), approval.OutcomeHeld)
	}
	if dice.IntN(3) == 0 { // what is nowhere
		t, _ := targets().ByName("payments")
		req := approval.Request{Target: t, EndpointID: uuid("e1111111", int(seed))}
		r.know(req, req.EndpointID, truth{})
		ask(req, approval.OutcomeGone)
	}
	for range dice.IntN(3) {
		ask(r.creation([]string{"functions", "hosts"}[dice.IntN(2)]), approval.OutcomeCreated)
	}
	begin := time.Now()
	f = r.judge()
	if took := time.Since(begin); took > 20*time.Minute {
		f.lost("seed %d: it took %s until all had ended", seed, took)
	}

	counters := r.sim.Counters()
	for _, lie := range lies {
		told += counters.Faults[string(lie.Kind)]
	}
	accepted := map[string]int{}
	for target, n := range before {
		accepted[target] += n
	}
	for _, c := range []struct{ name, id string }{{"payments", service}, {"orders", gateway}} {
		now := 0
		for _, row := range r.sim.Connections(c.id) {
			if row.DomainID == partner && row.State == simulator.Accepted {
				now++
			}
		}
		accepted[c.name] = now
		if now > max(limit, before[c.name]) {
			f.wrong("seed %d: %d connections of %s are accepted, %d were before, and the limit is %d", seed, now, c.name, before[c.name], limit)
		}
	}
	for key, n := range posts {
		if n > 1 {
			f.doubled("seed %d: a creation was sent %d times, and was done each time: %.200s", seed, n, key)
		}
	}
	for _, req := range append(partners, others...) {
		end := r.ends[req.ID]
		if end.Outcome != approval.OutcomeHeld {
			continue
		}
		because := func(code approval.ReasonCode) bool {
			return slices.ContainsFunc(end.Decision.Reasons, func(r approval.Reason) bool { return r.Code == code })
		}
		switch {
		case because(approval.ReasonLimitReached) && accepted[req.Target.Name] >= limit:
		case because(approval.ReasonFactMissing) && contradicted:
		default:
			f.wrong("seed %d: request %s (%s) ended held because of %v with %d of %d accepted", seed, req.EventID, req.Target.Name, end.Decision.Reasons, accepted[req.Target.Name], limit)
		}
	}
	if !f.none() {
		f.wrong("seed %d: the lies were %+v", seed, lies)
	}
	return told, requests, f
}
