package console_test

import (
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/nats-io/nkeys"
	"github.com/rs/zerolog"

	"github.com/vpcep-approver/vpcep-approver/internal/approval"
	"github.com/vpcep-approver/vpcep-approver/internal/console"
	"github.com/vpcep-approver/vpcep-approver/internal/events"
	"github.com/vpcep-approver/vpcep-approver/internal/ledger"
	"github.com/vpcep-approver/vpcep-approver/internal/natstest"
	"github.com/vpcep-approver/vpcep-approver/internal/service"
)

// TestRightsOfTheRole: the rights of deploy/nats/console.conf are enough for every page
// and for a review.
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
	o.load(one, strings.Replace(people, "%s", o.public, 1))
	o.server = httptest.NewUnstartedServer(nil)
	o.console, err = console.New(console.Config{
		Bus: buses["console"], Ledger: books["console"], Policies: o, Targets: o.targets, Seed: own, Now: o.now, Log: zerolog.Nop(),
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
	if lines := log.With("Violation"); len(lines) > 0 {
		t.Errorf("the server refuses %q", lines)
	}
}
