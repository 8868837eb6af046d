package faulttest

import (
	"cmp"
	"context"
	"flag"
	"fmt"
	"net/http"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"pgregory.net/rapid"

	"github.com/vpcep-approver/vpcep-approver/internal/approval"
	"github.com/vpcep-approver/vpcep-approver/internal/cloud/simulator"
	"github.com/vpcep-approver/vpcep-approver/internal/policy"
)

// step is one thing that happens in a story. Everything in it is drawn before
// the story runs, so that a failing one shrinks and prints as it is.
type step struct {
	After time.Duration
	Do    string // one of stepKinds
	On    int    // which connection or event, counted round
	Who   string // the account of a new connection
	Where string // the target of a new connection or creation
	Ends  string // the state that an accept of a new connection leads to
	Set   int    // the policies that are in force from then on
	State string // what a person or the cloud makes of a connection
	Lie   simulator.Fault
	Pause time.Duration // between two lines of a file of policies
}

func stepKinds() []string {
	return []string{"connect", "connect", "connect", "ask again", "repeat", "create", "policies", "person", "delete", "odd state", "stale list", "lie", "lie", "identity", "operator", "slow policies"}
}

// mishap befalls the nth crash point or call from the last mishap on.
type mishap struct {
	Gap  int
	Kind string
}

// story is a whole history to be.
type story struct {
	Steps   []step
	Dooms   []mishap // at crash points: kill, short stall, long stall
	Faults  []mishap // of calls of the cloud
	Visible time.Duration
	Accept  time.Duration
}

func (s story) String() string {
	var b strings.Builder
	fmt.Fprintf(&b, "accept takes %s, lists show it after %s\n", s.Accept, s.Visible)
	for i, st := range s.Steps {
		fmt.Fprintf(&b, "%2d. +%s %s %+v\n", i, st.After, st.Do, st)
	}
	fmt.Fprintf(&b, "crash points: %v\ncalls: %v", s.Dooms, s.Faults)
	return b.String()
}

// drawLieOfModel draws how a list lies, or an operator's fault, that ends.
func drawLieOfModel(t *rapid.T) simulator.Fault {
	lists := lyingLists()
	list := lists[rapid.IntRange(0, len(lists)-1).Draw(t, "list")]
	f := simulator.Fault{
		API: list.api, Operation: list.operation, Kind: rapid.SampledFrom(list.kinds).Draw(t, "kind"),
		For:  time.Duration(rapid.IntRange(1, 60).Draw(t, "for")) * time.Second,
		Rows: rapid.IntRange(0, 2).Draw(t, "rows"),
	}
	switch f.Kind {
	case simulator.DuplicateRows, simulator.DuplicateMember:
		f.Field = rapid.SampledFrom([]string{"domain_id", "marker_id", "created_at", "status"}).Draw(t, "field")
	case simulator.DelayedRows, simulator.StaleList:
		f.Kind, f.Delay = simulator.DelayedRows, 10*time.Second // stale lists are steps of their own
	default:
	}
	return f
}

// refusals are what only the operator can fix, as a step may have it.
func refusals() []simulator.FaultKind {
	return []simulator.FaultKind{simulator.Permission, simulator.Quota, simulator.WrongProject}
}

func drawStory(t *rapid.T) story {
	seconds := func(label string, most int) time.Duration {
		return time.Duration(rapid.IntRange(0, most).Draw(t, label)) * time.Second
	}
	mishaps := func(label string, most int, kinds ...string) []mishap {
		return rapid.SliceOfN(rapid.Custom(func(t *rapid.T) mishap {
			return mishap{Gap: rapid.IntRange(1, 12).Draw(t, "gap"), Kind: rapid.SampledFrom(kinds).Draw(t, "kind")}
		}), 0, most).Draw(t, label)
	}
	steps := rapid.SliceOfN(rapid.Custom(func(t *rapid.T) step {
		return step{
			After: seconds("after", 30),
			Do:    rapid.SampledFrom(stepKinds()).Draw(t, "do"),
			On:    rapid.IntRange(0, 5).Draw(t, "on"),
			Who:   rapid.SampledFrom([]string{partner, banned, stranger}).Draw(t, "who"),
			Where: rapid.SampledFrom([]string{"payments", "orders"}).Draw(t, "where"),
			Ends:  rapid.SampledFrom([]string{"", "", "", "", simulator.Failed}).Draw(t, "ends"),
			Set:   rapid.IntRange(0, 1).Draw(t, "set"),
			State: rapid.SampledFrom([]string{simulator.Accepted, simulator.Rejected}).Draw(t, "state"),
			Lie:   rapid.Custom(drawLieOfModel).Draw(t, "lie"),
			Pause: time.Duration(rapid.IntRange(1, 4900).Draw(t, "pause")) * time.Millisecond,
		}
	}), 1, 12).Draw(t, "steps")
	return story{
		Steps:   steps,
		Dooms:   mishaps("dooms", 6, "kill", "stall 5s", "stall 25s"),
		Faults:  mishaps("faults", 8, "before", "after", "refused", "429", "400", "500", "html", "slow", "206", "403"),
		Visible: seconds("visible", 8),
		Accept:  seconds("accept", 20),
	}
}

// thing is what the reference model knows of one subject.
type thing struct {
	request approval.Request
	account string
	former  []string // accounts that it had before
	ends    string
	touched bool // a person decided it
	deleted bool
}

// event is what the reference model knows of one request.
type asking struct {
	thing   *thing
	request approval.Request
	from    int // the change of policies that was the last before it
}

// model runs stories and says what each may come to.
type model struct {
	*rig
	things  []*thing
	askings []*asking
	sets    []int // in force, one after the other; with mu held
	lied    bool  // rows contradicted one another
	folder  *modelFolder
	faults  []mishap
	dooms   []mishap
	mishaps int // drawn
	begin   time.Time
	mu      sync.Mutex
	calls   int
	passes  int
	journal []string // all that happened: the story alone does not tell in which order
}

// verdict is the reference: what a set makes of an account. Set 0 is that of all
// tests; set 1 lets the stranger in, and the partner not any more.
func (m *model) verdict(set int, account string) approval.Verdict {
	return []map[string]approval.Verdict{
		{partner: approval.Accept, banned: approval.Reject, stranger: approval.Hold},
		{partner: approval.Reject, banned: approval.Hold, stranger: approval.Accept},
	}[set][account]
}

// modelTruth is what may be true of an account whichever set is in force.
func modelTruth(domain string) truth {
	return truth{Domain: domain, Allowed: domain != banned, Denied: domain != stranger}
}

// modelFolder is a folder of policies on the disk, for stories in which it is
// written slowly.
type modelFolder struct {
	dir     string
	src     *policy.Source
	partial []string // digests that were in force and are no whole set
}

// inFolder lets the policies of m come from a folder, in which set 0 lies.
func (m *model) inFolder(t *testing.T) (stop func()) {
	t.Helper()
	dir := t.TempDir()
	for name, text := range policies() {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	m.folder = &modelFolder{dir: dir, src: policy.NewSource(dir, targets(), nil)}
	if err := m.folder.src.LoadStable(t.Context(), time.Minute); err != nil {
		t.Fatal(err)
	}
	m.folder.src.OnReload = func(set *policy.Set) {
		now := slices.IndexFunc(m.rig.sets, func(s *policy.Set) bool { return s.Digest() == set.Digest() })
		m.mu.Lock()
		defer m.mu.Unlock()
		if now < 0 {
			m.folder.partial = append(m.folder.partial, set.Digest())
			return
		}
		m.sets = append(m.sets, now)
		m.journal = append(m.journal, m.clock()+fmt.Sprintf("set %d is in force", now))
	}
	m.evaluate = m.folder.src.Evaluate
	ctx, cancel := context.WithCancel(t.Context())
	var watching sync.WaitGroup
	watching.Go(func() { m.folder.src.Watch(ctx, 2*time.Second) })
	return func() {
		cancel()
		watching.Wait()
	}
}

// write puts a set into the folder: line by line, or by a rename if pause is 0.
func (m *model) write(set int, pause time.Duration) {
	const name = "connections.yaml"
	text := []map[string]string{policies(), otherPolicies()}[set][name]
	path := filepath.Join(m.folder.dir, name)
	var err error
	if pause == 0 {
		if err = os.WriteFile(path+"~", []byte(text), 0o600); err == nil {
			err = os.Rename(path+"~", path)
		}
	}
	part := ""
	for line := range strings.Lines(text) {
		if pause == 0 || err != nil {
			break
		}
		part += line
		if err = os.WriteFile(path, []byte(part), 0o600); err == nil {
			pass(m.ctx, pause)
		}
	}
	if err != nil {
		m.rig.mu.Lock()
		defer m.rig.mu.Unlock()
		m.stuck = append(m.stuck, err.Error())
	}
}

// current is the change of policies that was the last.
func (m *model) current() int {
	m.mu.Lock()
	defer m.mu.Unlock()
	return len(m.sets) - 1
}

func otherPolicies() map[string]string {
	files := policies()
	files["connections.yaml"] = strings.NewReplacer(
		"domain_id: ["+partner+"]", "domain_id: ["+stranger+"]",
		"domain_id: ["+banned+"]", "domain_id: ["+partner+"]",
	).Replace(files["connections.yaml"])
	return files
}

// may are the outcomes that the reference allows for a.
func (m *model) may(a *asking) []approval.Outcome {
	if a.request.Creates() {
		out := []approval.Outcome{approval.OutcomeCreated}
		if m.mishaps >= 3 { // it is sent three times at most
			out = append(out, approval.OutcomeUnknown)
		}
		return out
	}
	var out []approval.Outcome
	verdicts := map[approval.Verdict]bool{}
	for _, set := range m.sets[a.from:] {
		for _, account := range append(a.thing.former, a.thing.account) {
			v := m.verdict(set, account)
			verdicts[v] = true
			switch v {
			case approval.Accept:
				out = append(out, approval.OutcomeAccepted)
			case approval.Reject:
				out = append(out, approval.OutcomeRejected)
			default:
				out = append(out, approval.OutcomeHeld)
			}
		}
	}
	// It may have been decided by one set and checked by another before the act, or a
	// list that contradicted itself showed no account.
	if len(verdicts) > 1 || m.lied {
		out = append(out, approval.OutcomeHeld)
	}
	askedBefore := slices.ContainsFunc(m.askings, func(o *asking) bool { return o != a && o.thing == a.thing })
	switch {
	case a.thing.touched, askedBefore && (len(m.sets) > 1 || len(a.thing.former) > 0 || m.lied):
		out = append(out, approval.OutcomeSuperseded)
	}
	if a.thing.deleted {
		out = append(out, approval.OutcomeGone)
	}
	if a.thing.ends == simulator.Failed || a.thing.deleted {
		out = append(out, approval.OutcomeFailed)
	}
	return out
}

// next returns what befalls what, by the next mishap of list, and notes it.
func (m *model) next(list *[]mishap, count *int, what string) string {
	m.mu.Lock()
	defer m.mu.Unlock()
	*count++
	kind := ""
	if len(*list) > 0 && *count >= (*list)[0].Gap {
		kind = (*list)[0].Kind
		*list, *count = (*list)[1:], 0
		what += ": " + kind
	}
	m.journal = append(m.journal, m.clock()+what)
	return kind
}

// note adds to the journal.
func (m *model) note(what string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.journal = append(m.journal, m.clock()+what)
}

func (m *model) clock() string { return fmt.Sprintf("%8.3f ", time.Since(m.begin).Seconds()) }

// answer notes what the cloud said, as far as a line goes.
func (m *model) answer(r *http.Request, status int, body []byte) {
	m.note(fmt.Sprintf("  %s answered %d %.250s", path.Base(r.URL.Path), status, body))
}

func (m *model) doomAt(point string, r approval.Request) doom {
	switch m.next(&m.dooms, &m.passes, cmp.Or(r.EventID, "a connection")+" "+point) {
	case "kill":
		return doom{Kill: true}
	case "stall 5s":
		return doom{Stall: 5 * time.Second}
	case "stall 25s":
		return doom{Stall: 25 * time.Second}
	}
	return doom{}
}

func (m *model) faultOf(r *http.Request) netFault {
	switch m.next(&m.faults, &m.calls, r.Method+" "+r.URL.Path+"?"+r.URL.RawQuery) {
	case "before":
		return netFault{Before: true}
	case "after":
		return netFault{After: true}
	case "refused":
		return netFault{Refused: true}
	case "429":
		return netFault{Status: 429, Body: `{"error_code":"APIGW.0308","error_msg":"Throttled"}`, Header: map[string]string{"Retry-After": "4"}}
	case "400":
		return netFault{Status: 400, Body: `{"error":{"code":"EndPoint.0022","message":"Too many requests"}}`}
	case "500":
		return netFault{Status: 500, Body: `{"error_code":"APIG.9999","error_msg":"Unknown"}`}
	case "html":
		return netFault{Status: 502, Body: "<html>", Header: map[string]string{"Content-Type": "text/html"}}
	case "slow":
		return netFault{Delay: 8 * time.Second}
	case "206":
		return netFault{Status: 206, Body: `{"connections":[],"endpoints":[],"data_list":[],"total_count":0}`}
	case "403":
		return netFault{Status: 403, Body: `{"error":{"code":"EndPoint.0004","message":"Insufficient permissions."}}`}
	}
	return netFault{}
}

// take does one step.
func (m *model) take(s step, n int) {
	pass(m.ctx, s.After)
	m.note(fmt.Sprintf("step %d: %s", n, s.Do))
	pick := func() *thing {
		if len(m.things) == 0 {
			return nil
		}
		return m.things[s.On%len(m.things)]
	}
	ask := func(t *thing) {
		r := m.event(t.request, fmt.Sprintf("model-%d", n))
		m.askings = append(m.askings, &asking{thing: t, request: r, from: m.current()})
		m.submit(r)
	}
	switch s.Do {
	case "connect":
		t := &thing{account: s.Who, ends: s.Ends}
		t.request = m.connectAs(s.Where, simulator.Connection{DomainID: s.Who, State: simulator.PendingAcceptance, AcceptEnds: s.Ends})
		// Either set may be in force when it is decided.
		m.ground.mu.Lock()
		m.truths[t.request.Subject()] = modelTruth(s.Who)
		m.ground.mu.Unlock()
		m.things = append(m.things, t)
		ask(t)
	case "create":
		t := &thing{request: m.creation([]string{"functions", "hosts"}[s.On%2])}
		m.things = append(m.things, t)
		ask(t)
	case "ask again":
		if t := pick(); t != nil {
			ask(t)
		}
	case "repeat":
		if len(m.askings) > 0 {
			m.submit(m.askings[s.On%len(m.askings)].request)
		}
	case "policies":
		if m.folder != nil {
			m.write(s.Set, 0)
			break
		}
		m.inForce.Store(int32(s.Set))
		m.sets = append(m.sets, s.Set)
	case "slow policies":
		m.running.Go(func() { m.write(s.Set, s.Pause) })
	case "lie":
		m.lied = m.lied || s.Lie.Kind == simulator.DuplicateRows || s.Lie.Kind == simulator.DuplicateMember
		m.sim.Inject(s.Lie)
	case "operator":
		m.sim.Inject(simulator.Fault{API: s.Lie.API, Kind: refusals()[s.On%len(refusals())], For: s.Lie.For})
	case "identity":
		if t := pick(); t != nil && !t.request.Creates() && !t.deleted {
			t.former = append(t.former, t.account)
			t.account = s.Who
			m.reidentify(t.request, simulator.Identity{DomainID: s.Who, MarkerID: int64(1_000_000 + n)}, modelTruth)
		}
	case "person":
		if t := pick(); t != nil && !t.request.Creates() && !t.deleted {
			t.touched = true
			m.sim.SetState(t.request.EndpointID, s.State)
		}
	case "delete":
		if t := pick(); t != nil && !t.request.Creates() {
			t.deleted = true
			m.sim.Delete(t.request.EndpointID)
		}
	case "odd state":
		m.sim.Inject(simulator.Fault{Kind: simulator.UnknownState, Count: 2})
	case "stale list":
		// Two together would make a list that is older than the half minute after
		// which a list is believed: no worker could do right by that.
		if !slices.ContainsFunc(m.sim.Faults(), func(f simulator.Fault) bool { return f.Kind == simulator.StaleList }) {
			m.sim.Inject(simulator.Fault{Kind: simulator.StaleList, Count: 2, Delay: 15 * time.Second})
		}
	}
}

// forgiven leaves the first of equal actions on a connection that a person
// decided, too: a worker that stalls just before its call cannot know that a
// person has turned round meanwhile what another worker did.
func (m *model) forgiven(h *history) {
	touched, seen := map[string]bool{}, map[effect]bool{}
	for _, t := range m.things {
		touched[t.request.Subject()] = t.touched
	}
	h.Effects = slices.DeleteFunc(h.Effects, func(e effect) bool {
		key := effect{Subject: e.Subject, Did: e.Did}
		again := touched[e.Subject] && seen[key]
		seen[key] = true
		return again
	})
}

// tell runs a story in simulated time and returns what is wrong with its end. If
// anything is, it comes with all that happened: what runs at the same instant has
// no order, so the story told again may end well.
func tell(t *testing.T, s story, sets []*policy.Set) (f findings, journal string, requests int) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, 3, 100, simulator.Config{Delays: simulator.Delays{Accept: s.Accept, ListLag: s.Visible, Delete: 5 * time.Second}}, sets...)
		m := &model{rig: r, sets: []int{0}, faults: s.Faults, dooms: s.Dooms, mishaps: len(s.Faults) + len(s.Dooms), begin: time.Now()}
		r.doom, r.fault, r.answered, r.forgive = m.doomAt, m.faultOf, m.answer, m.forgiven
		if slices.ContainsFunc(s.Steps, func(st step) bool { return st.Do == "slow policies" }) {
			defer m.inFolder(t)()
		}
		for n, st := range s.Steps {
			m.take(st, n)
		}
		f = r.judge()
		if m.folder != nil && len(m.folder.partial) > 0 {
			f.wrong("a part of the files was in force: %v", m.folder.partial)
		}
		for _, a := range m.askings {
			if got, may := r.outcome(a.request.ID), m.may(a); got != "" && !slices.Contains(may, got) {
				f.wrong("request %s of %s ended %s, the model allows %v", a.request.EventID, cmp.Or(a.thing.account, "a creation"), got, may)
			}
		}
		requests = len(m.askings)
		if !f.none() {
			journal = strings.Join(m.journal, "\n")
		}
	})
	return f, journal, requests
}

// TestStories tells stories again that once ended badly, several times each: the
// order of what happens at the same instant is another one each time.
func TestStories(t *testing.T) {
	t.Parallel()
	seconds := func(n int) time.Duration { return time.Duration(n) * time.Second }
	stories := map[string]story{
		"two looks at a list from before there was anything": {
			Steps: []step{
				{Do: "connect", Who: banned, Where: "payments"},
				{Do: "person", State: simulator.Accepted},
				{Do: "stale list", After: seconds(14)},
				{Do: "repeat", After: seconds(4)},
			},
			Faults:  []mishap{{Gap: 2, Kind: "slow"}, {Gap: 1, Kind: "slow"}},
			Visible: seconds(7), Accept: seconds(3),
		},
		"a creation on its way for long, and a stale list": {
			Steps:   []step{{Do: "create", On: 1}, {Do: "stale list", After: seconds(20)}},
			Dooms:   []mishap{{Gap: 7, Kind: "stall 5s"}, {Gap: 5, Kind: "kill"}},
			Faults:  []mishap{{Gap: 2, Kind: "slow"}},
			Visible: seconds(8),
		},
	}
	sets := []*policy.Set{loadPolicies(t, policies()), loadPolicies(t, otherPolicies())}
	for name, s := range stories {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			begin := time.Now()
			tries := times(5, 20, 1000)
			for range tries {
				if f, journal, _ := tell(t, s, sets); !f.none() {
					t.Fatalf("%s\n%s\n%s", f, s, journal)
				}
			}
			table.add(t, row{Name: "F18 " + name, Tries: tries, Took: time.Since(begin)})
		})
	}
}

// TestModel is F18 and more: random stories of events, states, faults, deaths,
// stalls and changes of policies, each against the reference model. A story that
// fails is made shorter and printed.
func TestModel(t *testing.T) {
	if checks := flag.Lookup("rapid.checks"); checks.Value.String() == checks.DefValue {
		if err := checks.Value.Set(fmt.Sprint(times(40, 200, 20_000))); err != nil {
			t.Fatal(err)
		}
	}
	sets := []*policy.Set{loadPolicies(t, policies()), loadPolicies(t, otherPolicies())}
	begin := time.Now()
	stories, requests := 0, 0
	rapid.Check(t, func(rt *rapid.T) {
		s := drawStory(rt)
		f, journal, n := tell(t, s, sets)
		stories++
		requests += n
		if !f.none() {
			rt.Fatalf("%s\n%s\n%s", f, s, journal)
		}
	})
	if t.Failed() {
		return // rapid has told it
	}
	table.add(t, row{Name: "F18 random stories against the model", Tries: stories, Took: time.Since(begin), Note: fmt.Sprintf("%d requests", requests)})
}
