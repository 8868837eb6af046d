package console_test

import (
	"net/http"
	"strings"
	"testing"

	"github.com/vpcep-approver/vpcep-approver/internal/approval"
	"github.com/vpcep-approver/vpcep-approver/internal/console"
)

const one = "review: {by: [network]}\n"

func TestApprove(t *testing.T) {
	t.Parallel()
	o := newOffice(t, one)
	held := o.hold("1")
	ann := o.signIn("ann")
	path := "/requests/" + held.Request.ID
	o.until("row of the request", func() bool { return strings.Contains(ann.get("/reviews").text, path) })
	wants(t, "before", ann.get(path), `value="approve"`, account, held.Request.EndpointID, "not_allowed", "partner", `name="marker_id" value="7"`)

	missing := ann.post(path+"/review", form(held, "approve", " \n"))
	if missing.status != http.StatusUnprocessableEntity {
		t.Errorf("without a reason: status %d", missing.status)
	}
	wants(t, "without a reason", missing, "a reason is required", `aria-invalid="true"`)
	for reason, want := range map[string]string{
		"\u202e\u200b": "a reason is required", "a\x0bb": "control characters", "a\xffb": "control characters", strings.Repeat("x", 1001): "at most 1000",
	} {
		got := ann.post(path+"/review", form(held, "approve", reason))
		if got.status != http.StatusUnprocessableEntity {
			t.Errorf("reason %.20q: status %d", reason, got.status)
		}
		wants(t, "a wrong reason", got, want, `value="approve"`)
	}

	after := ann.follow(ann.post(path+"/review", form(held, "approve", "known partner")))
	wants(t, "after", after, "Your review decided the request", "accepted", "See what was done")
	next := approval.RequestID(approval.SweepSource, held.Request.ID+"/review/1")
	wants(t, "the decision", ann.get("/requests/"+next), "known partner", "ann", "approves", "at console ops", `data-outcome="accepted"`)

	bob := o.signIn("bob")
	lost := bob.follow(bob.post(path+"/review", form(held, "reject", "too late")))
	wants(t, "the second", lost, "Somebody else was faster")
	o.until("list without the request", func() bool { return !strings.Contains(ann.get("/reviews").text, path) })
}

func TestReject(t *testing.T) {
	t.Parallel()
	o := newOffice(t, "mode: enforce\n"+one)
	held := o.hold("1")
	ann := o.signIn("ann")
	path := "/requests/" + held.Request.ID
	wants(t, "after", ann.follow(ann.post(path+"/review", form(held, "reject", "not a customer"))), "Your review decided the request", "rejected")
}

// TestTwoPeople: through one console, two people count as two only if the policy says so.
func TestTwoPeople(t *testing.T) {
	t.Parallel()
	o := newOffice(t, "review: {by: [network], approvals: 2, trust_consoles: true}\n")
	held := o.hold("1")
	path := "/requests/" + held.Request.ID
	ann, bob := o.signIn("ann"), o.signIn("bob")
	wants(t, "the first", ann.follow(ann.post(path+"/review", form(held, "approve", "one"))), "More is needed", "missing: 1")
	wants(t, "the second", bob.follow(bob.post(path+"/review", form(held, "approve", "two"))), "Your review decided the request")

	o.load("review: {by: [network], approvals: 2}\n", strings.Replace(people, "%s", o.public, 1))
	alone := o.hold("2")
	path = "/requests/" + alone.Request.ID
	wants(t, "one console", ann.get(path), "All reviews through this console count as one person")
	for _, b := range []*browser{ann, bob} {
		wants(t, "one console", b.follow(b.post(path+"/review", form(alone, "approve", "one"))), "More is needed", "missing: 1")
	}
}

func TestWhoMayNot(t *testing.T) {
	t.Parallel()
	o := newOffice(t, one)
	held := o.hold("1")
	path := "/requests/" + held.Request.ID

	vic := o.signIn("vic")
	if got := vic.get(path); strings.Contains(got.text, `value="approve"`) || !strings.Contains(got.text, "role reviewer") {
		t.Errorf("a viewer sees %s", got.text)
	}
	if got := vic.post(path+"/review", form(held, "approve", "x")); got.status != http.StatusForbidden {
		t.Errorf("a viewer posts: status %d", got.status)
	}
	own := o.signIn("own")
	if got := own.get(path); strings.Contains(got.text, `value="approve"`) {
		t.Error("the owner sees the form")
	}
	wants(t, "the owner", own.follow(own.post(path+"/review", form(held, "approve", "mine"))), "You may not review a request of your own")

	ann := o.signIn("ann")
	changed := form(held, "approve", "x")
	changed.Set("marker_id", "8")
	wants(t, "other facts", ann.follow(ann.post(path+"/review", changed)), "The request is not what you saw any more")
	for name, edit := range map[string]func(){
		"no verdict":   func() { changed.Set("verdict", "maybe") },
		"no number":    func() { changed.Set("marker_id", "seven") },
		"no such text": func() { changed.Set("marker_id", "7"); changed.Set("domain_id", "../x") },
	} {
		edit()
		if got := ann.post(path+"/review", changed); got.status != http.StatusBadRequest {
			t.Errorf("%s: status %d", name, got.status)
		}
	}
	// Who has lost the role may look, and nothing else.
	o.load(one, strings.Replace(strings.Replace(people, "%s", o.public, 1), "name: ann,", "name: ann, roles: [viewer],", 1))
	if got := ann.get(path); got.status != http.StatusOK || strings.Contains(got.text, `value="approve"`) {
		t.Errorf("without the role: status %d, %s", got.status, got.text)
	}
	if got := ann.post(path+"/review", form(held, "approve", "x")); got.status != http.StatusForbidden {
		t.Errorf("without the role: status %d", got.status)
	}
	record, err := o.book.Review(t.Context(), held.Request.Subject())
	if err != nil || len(record.Reviews.Said) != 0 {
		t.Errorf("counted %+v, %v", record, err)
	}
}

// TestUnknownConsole: a console whose key reviewers.yaml does not name offers nothing.
func TestUnknownConsole(t *testing.T) {
	t.Parallel()
	o := newOffice(t, one)
	held := o.hold("1")
	ann := o.signIn("ann")
	without, _, _ := strings.Cut(people, "consoles:")
	o.load(one, without)
	got := ann.get("/requests/" + held.Request.ID)
	wants(t, "the page", got, "does not name the key of this console")
	if strings.Contains(got.text, `value="approve"`) {
		t.Error("the form is shown")
	}
	if got := ann.post("/requests/"+held.Request.ID+"/review", form(held, "approve", "x")); got.status != http.StatusForbidden {
		t.Errorf("status %d", got.status)
	}
}

// TestHostileText: what an event says is text, and is seen as it is.
func TestHostileText(t *testing.T) {
	t.Parallel()
	o := newOffice(t, one)
	const evil = "<script>alert(1)</script>\"'\u202e\u200bx\x1b[2J"
	held := o.hold("1", func(r *approval.Request, _ *approval.Facts) {
		r.Source, r.Claims = evil, approval.Claims{"note": evil}
		r.TraceParent = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
	})
	ann := o.signIn("ann")
	path := "/requests/" + held.Request.ID
	got := ann.get(path)
	if strings.Contains(got.text, "<script>alert") || strings.ContainsAny(got.text, "\u202e\u200b\x1b") {
		t.Errorf("the page has what the event says: %s", got.text)
	}
	wants(t, "the page", got, "&lt;script&gt;alert(1)&lt;/script&gt;", "[U+202E]", "[U+200B]", "4bf92f3577b34da6a3ce929d0e0e4736")
	after := ann.follow(ann.post(path+"/review", form(held, "approve", "<b>\u202efine")))
	next := ann.get("/requests/" + approval.RequestID(approval.SweepSource, held.Request.ID+"/review/1"))
	wants(t, "after", after, "Your review decided")
	wants(t, "the decision", next, "&lt;b&gt;[U+202E]fine")
}

// TestTrace: the id of the event's trace leads to where traces are shown, if that is known,
// and only if it is one.
func TestTrace(t *testing.T) {
	t.Parallel()
	const id = "4bf92f3577b34da6a3ce929d0e0e4736"
	for name, tt := range map[string]struct {
		parent, url, want string
		lacks             []string
	}{
		"known":     {"00-" + id + "-00f067aa0ba902b7-01", "https://traces.example.org/t/{}?a=1&b=2", `<a href="https://traces.example.org/t/` + id + `?a=1&amp;b=2"><code>` + id + `</code></a>`, nil},
		"not known": {"00-" + id + "-00f067aa0ba902b7-01", "", "<code>" + id + "</code>", []string{"traces.example.org"}},
		"a path":    {"00-../../../../../../../../../admin0-00f067aa0ba902b7-01", "https://traces.example.org/t/{}", "", []string{"traces.example.org", "admin0"}},
		"capitals":  {"00-" + strings.ToUpper(id) + "-00f067aa0ba902b7-01", "https://traces.example.org/t/{}", "", []string{"traces.example.org"}},
		"no trace":  {"00-" + strings.Repeat("0", 32) + "-00f067aa0ba902b7-01", "https://traces.example.org/t/{}", "", []string{"traces.example.org"}},
		"short":     {"00-" + id, "https://traces.example.org/t/{}", "", []string{"traces.example.org"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			o := newOffice(t, one, func(cfg *console.Config) {
				if tt.url != "" {
					cfg.TraceURL = func(id string) string { return strings.ReplaceAll(tt.url, "{}", id) }
				}
			})
			held := o.hold("1", func(r *approval.Request, _ *approval.Facts) { r.TraceParent = tt.parent })
			got := o.signIn("ann").get("/requests/" + held.Request.ID)
			wants(t, "the page", got, tt.want)
			for _, text := range tt.lacks {
				if strings.Contains(got.text, text) {
					t.Errorf("the page has %q", text)
				}
			}
		})
	}
}

func TestChinese(t *testing.T) {
	t.Parallel()
	o := newOffice(t, one)
	held := o.hold("1")
	ann := o.signIn("ann")
	prefer := func(r *http.Request) { r.Header.Set("Accept-Language", "fr, zh-Hant-TW;q=0.8, en;q=0.5") }
	wants(t, "by header", ann.get("/requests/"+held.Request.ID, prefer), `lang="zh-CN"`, "批准", "原因")
	back := ann.post("/language", map[string][]string{"language": {"en"}, "back": {"/reviews?mine=1"}})
	if back.goTo != "/reviews?mine=1" {
		t.Errorf("back to %q", back.goTo)
	}
	wants(t, "by cookie", ann.get("/reviews", prefer), `lang="en"`, "Waiting for a review")
	for _, evil := range []string{"//evil.example", "https://evil.example/", `/\evil.example`, "javascript:alert(1)", ""} {
		if got := ann.post("/language", map[string][]string{"language": {"en"}, "back": {evil}}); got.goTo != "/" {
			t.Errorf("back to %q for %q", got.goTo, evil)
		}
	}
}

// TestWithoutTheBus: a list that may be old says so, and what cannot be read says why.
func TestWithoutTheBus(t *testing.T) {
	t.Parallel()
	o := newOffice(t, one)
	held := o.hold("1")
	ann := o.signIn("ann")
	path := "/requests/" + held.Request.ID
	o.until("row of the request", func() bool { return strings.Contains(ann.get("/reviews").text, path) })
	o.broker.Stop()
	o.until("no connection", func() bool { return !o.bus.Connected() })
	wants(t, "the work list", ann.get("/reviews"), "not connected to the bus", path)
	for name, got := range map[string]page{"the request": ann.get(path), "a review": ann.post(path+"/review", form(held, "approve", "x"))} {
		if got.status != http.StatusServiceUnavailable {
			t.Errorf("%s: status %d", name, got.status)
		}
		wants(t, name, got, "not connected to NATS")
	}
}
