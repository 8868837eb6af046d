package console_test

import (
	"net/http/httptest"
	"net/url"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nkeys"
	"github.com/rs/zerolog"

	"github.com/vpcep-approver/vpcep-approver/internal/approval"
	"github.com/vpcep-approver/vpcep-approver/internal/console"
	"github.com/vpcep-approver/vpcep-approver/internal/events"
	"github.com/vpcep-approver/vpcep-approver/internal/ledger"
	"github.com/vpcep-approver/vpcep-approver/internal/natstest"
	"github.com/vpcep-approver/vpcep-approver/internal/service"
)

// TestRightsOfTheRole: the rights of deploy/nats/console.conf are enough for every page,
// for a review, and for the replay of a dead letter. One that needs more is refused, and
// what the console follows goes on meanwhile.
func TestRightsOfTheRole(t *testing.T) { // not in parallel: it sets variables
	for _, role := range []string{"WORKER", "SETUP", "PRODUCER", "READER", "OPERATOR", "REVIEWER", "CONSOLE"} {
		t.Setenv("VPCEP_"+role+"_PASSWORD", "p")
	}
	server, log := natstest.StartOptions(t, natstest.Options(t, "../../deploy/nats/nats-server.conf"))
	o := &office{t: t, links: map[string]string{}}
	o.targets = approval.Targets{{Name: "payments", Kind: approval.Service, ID: "4189d3c2-8882-4871-a3c2-d380272eed88", Region: "cn-north-4"}}
	connect := func(role string) *events.Bus {
		t.Helper()
		bus, err := events.Connect(t.Context(), events.Config{
			URL: server.ClientURL(), Create: role == "setup", Targets: o.targets, Ledger: service.CrashRecords, InboxPrefix: "_INBOX_vpcep_" + role,
			Login: func() (string, string, error) { return "vpcep-" + role, "p", nil },
		})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = bus.Close() })
		return bus
	}
	if err := connect("setup").Setup(t.Context()); err != nil {
		t.Fatal(err)
	}
	books := map[string]*ledger.Ledger{}
	buses := map[string]*events.Bus{"worker": connect("worker"), "console": connect("console")}
	for role, bus := range buses {
		bucket, err := bus.Bucket(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		books[role] = ledger.New(bucket, nil)
	}
	o.bus, o.book = buses["worker"], books["worker"]
	own := seed(t)
	pair, err := nkeys.FromSeed(own)
	if err != nil {
		t.Fatal(err)
	}
	if o.public, err = pair.PublicKey(); err != nil {
		t.Fatal(err)
	}
	o.load(one, strings.Replace(strings.Replace(people, "%s", o.public, 1), "name: ann,", "name: ann, roles: [reviewer, operator],", 1))
	var warnings lockedBuffer
	o.server = httptest.NewUnstartedServer(nil)
	o.console, err = console.New(console.Config{
		Bus: buses["console"], Ledger: books["console"], Policies: o, Targets: o.targets, Seed: own, Now: o.now, Log: zerolog.New(&warnings).Level(zerolog.WarnLevel),
		Site: console.Site{Listen: o.server.Listener.Addr().String()},
		SignIn: console.SignIn{Links: []string{"ann"}, OnLink: func(name, url string) {
			o.mu.Lock()
			defer o.mu.Unlock()
			o.links[name] = url
		}},
	})
	if err != nil {
		t.Fatal(err)
	}
	o.server.Config.Handler = o.console
	o.server.Start()
	o.run()

	held := o.hold("1")
	o.tell(1, approval.OutcomeAccepted, "told")
	ann := o.signIn("ann")
	path := "/requests/" + held.Request.ID
	o.until("row of the request", func() bool { return strings.Contains(ann.get("/reviews").text, path) })
	o.until("result", func() bool { return strings.Contains(ann.get("/live").text, "told") })
	wants(t, "a review", ann.follow(ann.post(path+"/review", form(held, "approve", "fine"))), "Your review decided the request")
	for _, page := range []string{path, "/policies", "/targets", "/system"} {
		if got := ann.get(page); got.status != 200 || strings.Contains(got.text, "cannot be listed") {
			t.Errorf("%s: %d %s", page, got.status, got.text)
		}
	}
	operator := connect("operator")
	if err := operator.SubmitRaw(t.Context(), "payments", nil, []byte("{no event")); err != nil {
		t.Fatal(err)
	}
	o.until("dead letter", func() bool { return strings.Contains(ann.get("/system").text, `data-label="Number">1<`) })
	replay := func(number string) page {
		return ann.follow(ann.post("/system/replay", url.Values{"number": {number}}))
	}
	wants(t, "a replay", replay("1"), "submitted again")
	o.until("dead letter again", func() bool { return strings.Contains(ann.get("/system").text, `data-label="Number">2<`) })
	if lines := log.With("Violation"); len(lines) > 0 {
		t.Errorf("the server refuses %q", lines)
	}

	poison := approval.RequestID("test", "poison")
	letter := nats.NewMsg("vpcep.deadletters.poison")
	letter.Data = []byte("{no event")
	for name, value := range map[string]string{"Reason": "poison", "Subject": "vpcep.requests.payments", "Sequence": "1", "Request": poison} {
		letter.Header.Set("Vpcep-Deadletter-"+name, value)
	}
	nc, err := nats.Connect(server.ClientURL(), nats.UserInfo("vpcep-worker", "p"), nats.CustomInboxPrefix("_INBOX_vpcep_worker"))
	if err != nil {
		t.Fatal(err)
	}
	defer nc.Close()
	if _, err := nc.RequestMsg(letter, time.Minute); err != nil {
		t.Fatal(err)
	}
	if err := ledger.NewDeliveries(o.bus).SetPoison(t.Context(), poison, 3); err != nil {
		t.Fatal(err)
	}
	wants(t, "a replay of poison", replay("3"), "lacks a permission", "worker deadletters replay 3", "STREAM.PURGE.KV_vpcep-ledger")
	wants(t, "the system", ann.get("/system"), `data-label="Number">3<`)
	o.tell(2, approval.OutcomeAccepted, "after the refusal")
	o.until("next result", func() bool { return strings.Contains(ann.get("/live").text, "after the refusal") })
	if text := warnings.String(); strings.Contains(text, "cannot be followed") {
		t.Errorf("the refusal interrupts the console: %s", text)
	}
}

// lockedBuffer is safe for concurrent use.
type lockedBuffer struct {
	mu  sync.Mutex
	all strings.Builder
}

func (b *lockedBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.all.Write(p)
}

func (b *lockedBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.all.String()
}
