package console_test

import (
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/chromedp/cdproto/cdp"
	"github.com/chromedp/cdproto/emulation"
	"github.com/chromedp/cdproto/log"
	"github.com/chromedp/cdproto/runtime"
	"github.com/chromedp/chromedp"

	"github.com/vpcep-approver/vpcep-approver/internal/approval"
	"github.com/vpcep-approver/vpcep-approver/internal/console"
	"github.com/vpcep-approver/vpcep-approver/internal/ledger"
)

var update = flag.Bool("update", false, "write the picture of the README")

// chromiumVariable has these tests run, in the chromium of the PATH. axeVariable names
// the file axe.min.js of axe-core.
const (
	chromiumVariable = "APPROVER_TEST_CHROMIUM"
	axeVariable      = "APPROVER_TEST_AXE"
)

// chromium starts a browser that ends with the test.
func chromium(t *testing.T, options ...chromedp.ExecAllocatorOption) context.Context {
	t.Helper()
	if os.Getenv(chromiumVariable) == "" {
		t.Skip("needs chromium; set " + chromiumVariable + "=require to run it")
	}
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Minute)
	t.Cleanup(cancel)
	ctx, stop := chromedp.NewContext(ctx, chromedp.WithAllocatorOptions(options...))
	t.Cleanup(stop)
	if err := chromedp.Do(ctx); err != nil {
		t.Fatalf("start chromium: %v", err)
	}
	return ctx
}

// tab is a page of a person, with cookies of its own.
type tab struct {
	o   *office
	ctx context.Context

	mu       sync.Mutex
	problems []string // errors and warnings of the browser
}

func (o *office) tab(browser context.Context) *tab {
	o.t.Helper()
	p := &tab{o: o}
	ctx, stop := chromedp.NewContext(browser, chromedp.WithNewBrowserContext())
	o.t.Cleanup(stop)
	p.ctx = ctx
	p.do(chromedp.Func(func(context.Context, *chromedp.Target) error { return nil }))
	if err := chromedp.Listen(ctx, p.hear); err != nil {
		o.t.Fatal(err)
	}
	if _, err := chromedp.Call(ctx, log.Enable, cdp.Empty{}); err != nil {
		o.t.Fatal(err)
	}
	return p
}

// hear keeps what a page complains about, such as a breach of the content policy.
func (p *tab) hear(event any) {
	p.mu.Lock()
	defer p.mu.Unlock()
	switch e := event.(type) {
	case *log.EventEntryAdded:
		p.problems = append(p.problems, fmt.Sprintf("%s: %s %s", e.Entry.Level, e.Entry.Text, e.Entry.URL))
	case *runtime.EventExceptionThrown:
		p.problems = append(p.problems, fmt.Sprint(e.ExceptionDetails.Text, " ", e.ExceptionDetails.Exception))
	}
}

// quiet fails the test if the browser complained, but of what has one of these texts.
func (p *tab) quiet(except ...string) {
	p.o.t.Helper()
	p.mu.Lock()
	defer p.mu.Unlock()
problems:
	for _, problem := range p.problems {
		for _, text := range except {
			if strings.Contains(problem, text) {
				continue problems
			}
		}
		p.o.t.Errorf("the browser says %s", problem)
	}
}

func (p *tab) do(actions ...chromedp.Action[chromedp.Void]) {
	p.o.t.Helper()
	if err := chromedp.Do(p.ctx, actions...); err != nil {
		p.o.t.Fatal(err)
	}
}

// sees waits until an expression is true, over pages that follow each other.
func (p *tab) sees(what, expression string) {
	p.o.t.Helper()
	again := time.NewTicker(50 * time.Millisecond)
	defer again.Stop()
	end := time.After(time.Minute)
	for {
		done, err := chromedp.Run(p.ctx, chromedp.Evaluate[bool](expression))
		if err == nil && done {
			return
		}
		select {
		case <-again.C:
		case <-end:
			text, _ := chromedp.Run(p.ctx, chromedp.Evaluate[string]("document.body.innerText"))
			p.o.t.Fatalf("%s: %v; the page says:\n%s", what, err, text)
		}
	}
}

// says waits until the page has a text.
func (p *tab) says(text string) {
	p.o.t.Helper()
	quoted, err := json.Marshal(text)
	if err != nil {
		p.o.t.Fatal(err)
	}
	p.sees(text, "document.body.innerText.includes("+string(quoted)+")")
}

// open goes to a path.
func (p *tab) open(path string) { p.o.t.Helper(); p.do(chromedp.Navigate(p.o.server.URL + path)) }

// enter signs in by the one-time link.
func (p *tab) enter(name string) {
	p.o.t.Helper()
	p.open("/sign-in/link?token=" + p.o.link(name))
	p.do(chromedp.Click("main button"))
	p.says(name)
}

// TestBrowserReview: a held request arrives, two people look at it, the first decides,
// and the second is told.
func TestBrowserReview(t *testing.T) {
	t.Parallel()
	browser := chromium(t)
	o := newOffice(t, one)
	ann, bob := o.tab(browser), o.tab(browser)
	ann.enter("ann")
	ann.says("Nothing waits for a review")
	held := o.hold("1")
	path := "/requests/" + held.Request.ID
	ann.sees("the row arrives", `document.querySelector('a[href="`+path+`"]') !== null`)
	ann.do(chromedp.Click(`a[href="` + path + `"]`))
	ann.says("No rule allows this request")
	ann.says("does not match")
	ann.do(chromedp.Click("button.yes"))
	ann.sees("a reason is wanted", `document.querySelector("#reason:invalid") !== null && location.search === ""`)
	bob.enter("bob")
	bob.open(path)
	bob.do(chromedp.SendKeys("#reason", "not known"))

	ann.do(chromedp.SendKeys("#reason", "known partner"), chromedp.Click("button.yes"))
	ann.says("Your review decided the request")
	ann.do(chromedp.Reload())
	ann.says("Your review decided the request")
	ann.do(chromedp.Click(`.note a`))
	ann.says("known partner")
	ann.sees("it is accepted", `document.querySelector('h1 [data-outcome="accepted"]') !== null`)

	bob.do(chromedp.Click("button.no"))
	bob.says("Somebody else was faster")
	bob.do(chromedp.Click(".who form[action='/sign-out'] button"))
	bob.says("one-time link")
	bob.open(path)
	bob.sees("signed out", `location.pathname === "/sign-in"`)
	ann.quiet()
	bob.quiet()
}

// TestBrowserWithoutScript: every form works without JavaScript.
func TestBrowserWithoutScript(t *testing.T) {
	t.Parallel()
	browser := chromium(t)
	o := newOffice(t, "mode: enforce\n"+one)
	held := o.hold("1")
	ann := o.tab(browser)
	if _, err := chromedp.Call(ann.ctx, emulation.SetScriptExecutionDisabled, emulation.SetScriptExecutionDisabledParams{Value: true}); err != nil {
		t.Fatal(err)
	}
	ann.open("/sign-in/link?token=" + o.link("ann"))
	ann.do(chromedp.Click("main button"), chromedp.WaitVisible(".name"))
	ann.open("/requests/" + held.Request.ID)
	ann.do(chromedp.SendKeys("#reason", "not a customer"), chromedp.Click("button.no"), chromedp.WaitVisible(".note.good"))
	ann.do(chromedp.Click("button[name=language]"), chromedp.WaitVisible("html[lang=zh-CN] main h1"))
	ann.open("/requests/" + approval.RequestID(approval.SweepSource, held.Request.ID+"/review/1"))
	ann.do(chromedp.WaitVisible(`h1 [data-outcome="rejected"]`))
	ann.quiet()
}

// TestBrowserLive: rows come once each and in order, over lost connections and reloads.
func TestBrowserLive(t *testing.T) {
	t.Parallel()
	browser := chromium(t)
	o := newOffice(t, one)
	ann := o.tab(browser)
	ann.enter("ann")
	ann.open("/live")
	ann.says("Connected")
	const all = 300
	for n := range all {
		o.tell(n, approval.OutcomeAccepted, fmt.Sprint("result ", n))
		if n == 100 || n == 200 {
			o.server.CloseClientConnections()
		}
	}
	ann.sees("the last row", fmt.Sprintf(`document.querySelector("#live tr:first-child")?.innerText.includes("result %d")`, all-1))
	const right = `(() => { const ids = [...document.querySelectorAll("#live tr")].map((r) => Number(r.id.slice(2))); return ids.length === %d && ids.every((id, i) => i === 0 || id === ids[i - 1] - 1); })()`
	ann.sees("every row once, in order", fmt.Sprintf(right, all))
	ann.do(chromedp.Reload())
	ann.sees("after a reload", fmt.Sprintf(right, 100))
	ann.do(chromedp.Click("#pause"))
	o.tell(all, approval.OutcomeRejected, "while paused")
	ann.sees("paused", `document.getElementById("light").textContent === "Paused"`)
	ann.do(chromedp.Click("#pause"))
	ann.says("while paused")
	ann.quiet("Failed to load resource", "ERR_")
}

// TestBrowserPages has axe look at every page in both themes, and keeps pictures of
// them for people to look at.
func TestBrowserPages(t *testing.T) {
	t.Parallel()
	browser := chromium(t)
	axe, err := os.ReadFile(os.Getenv(axeVariable))
	if err != nil {
		t.Fatalf("%s must name axe.min.js of axe-core: %v", axeVariable, err)
	}
	o := newOffice(t, "review: {by: [network], approvals: 2}\n", func(cfg *console.Config) {
		cfg.TraceURL = func(id string) string { return "https://traces.example.org/trace/" + id }
	})
	held := o.hold("1", func(r *approval.Request, _ *approval.Facts) {
		r.TraceParent = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
		r.Claims = approval.Claims{"requester": "dev@example.org", "tags": map[string]any{"env": "prod"}, "note": "urgent \u202egnp.exe"}
	})
	o.hold("2")
	now := time.Now()
	worker := approval.WorkerStatus{
		Instance: "7QXRVOEB5ZP2MQ6K", Host: "approver-7d9c5b6f4-x2x8k", Version: "v1.0.0", State: approval.WorkerRunning, StartedAt: now.Add(-26 * time.Hour), SentAt: now, LastSweep: now.Add(-time.Minute),
		Targets: []string{"payments"}, PolicyDigest: o.Current().Digest(), InFlight: 3,
		Connections: map[string]approval.Connections{"payments": {Pending: approval.ConnectionCount{N: 2, At: now.Add(-time.Minute)}}},
		Faults:      []approval.WorkerFault{{Kind: approval.FaultOperator, API: "vpcep", Operation: "list", Target: "payments", Code: "EndPoint.0004", Text: "The user has no permission for this operation."}},
	}
	o.beat(worker)
	for n := range 12 {
		o.tell(n, approval.Outcomes()[n%10], "The account is on the list.")
	}
	if err := o.bus.SubmitRaw(t.Context(), "payments", nil, []byte("{no event")); err != nil {
		t.Fatal(err)
	}
	o.load("review: {by: [network], approvals: 2}\n", strings.Replace(strings.Replace(people, "%s", o.public, 1), "name: ann,", "name: ann, roles: [reviewer, operator],", 1))
	visitor, ann := o.tab(browser), o.tab(browser)
	ann.enter("ann")
	ann.sees("the list", `document.querySelectorAll("#refresh tbody tr").length === 2`)
	o.until("dead letter", func() bool {
		for _, err := range o.bus.DeadLetters(t.Context()) {
			return err == nil
		}
		return false
	})
	if got := o.signIn("bob"); got != nil {
		got.follow(got.post("/requests/"+held.Request.ID+"/review", form(held, "approve", "Known partner, ticket 4711.\nChecked by phone.")))
	}
	folder := t.ArtifactDir()
	pages := []struct {
		tab        *tab
		name, path string
	}{
		{visitor, "sign-in", "/sign-in"},
		{visitor, "link", "/sign-in/link?token=x"},
		{ann, "reviews", "/reviews"},
		{ann, "request", "/requests/" + held.Request.ID},
		{ann, "live", "/live"},
		{ann, "policies", "/policies?target=payments&domain_id=" + account},
		{ann, "targets", "/targets"},
		{ann, "system", "/system"},
		{ann, "error", "/requests/" + strings.Repeat("0", 32)},
	}
	all := []shot{{"light", 1280}, {"light", 390}, {"dark", 1280}, {"dark", 390}}
	for _, page := range pages {
		page.tab.look(folder, page.name, page.path, string(axe), all)
	}
	if *update {
		ann.picture("/requests/"+held.Request.ID, "../../docs/console.png")
	}
	for _, p := range []*tab{ann, visitor} {
		p.do(chromedp.Click("button[name=language]"), chromedp.WaitVisible("html[lang=zh-CN]"))
	}
	for _, page := range pages {
		page.tab.look(folder, page.name+"-zh", page.path, string(axe), []shot{all[0], all[3]})
	}
	ann.quiet("404")
	visitor.quiet()
	t.Logf("pictures are in %s", folder)
}

// beat stores the heartbeats of a worker until the test ends.
func (o *office) beat(worker approval.WorkerStatus) {
	ctx, cancel := context.WithCancel(context.Background())
	var beating sync.WaitGroup
	beating.Go(func() {
		workers, again := ledger.NewWorkers(o.bus), time.NewTicker(time.Second)
		defer again.Stop()
		for revision := uint64(0); ; {
			worker.SentAt = time.Now()
			var err error
			if revision, err = workers.Store(ctx, worker, revision); err != nil && ctx.Err() == nil {
				o.t.Log(err)
			}
			select {
			case <-ctx.Done():
				return
			case <-again.C:
			}
		}
	})
	o.t.Cleanup(func() {
		cancel()
		beating.Wait()
	})
}

// picture writes the picture of the README.
func (p *tab) picture(path, file string) {
	p.o.t.Helper()
	media := emulation.SetEmulatedMediaParams{Features: []*emulation.MediaFeature{{Name: "prefers-color-scheme", Value: "light"}}}
	if _, err := chromedp.Call(p.ctx, emulation.SetEmulatedMedia, media); err != nil {
		p.o.t.Fatal(err)
	}
	p.do(chromedp.EmulateViewport(1024, 1000))
	p.open(path)
	picture, err := chromedp.Run(p.ctx, chromedp.CaptureScreenshot())
	if err != nil {
		p.o.t.Fatal(err)
	}
	if err := os.WriteFile(file, picture, 0o600); err != nil {
		p.o.t.Fatal(err)
	}
}

// shot is how a page is looked at.
type shot struct {
	theme string
	width int64
}

// look takes pictures of a page, and has axe check each.
func (p *tab) look(folder, name, path, axe string, shots []shot) {
	p.o.t.Helper()
	for _, s := range shots {
		media := emulation.SetEmulatedMediaParams{Features: []*emulation.MediaFeature{{Name: "prefers-color-scheme", Value: s.theme}}}
		if _, err := chromedp.Call(p.ctx, emulation.SetEmulatedMedia, media); err != nil {
			p.o.t.Fatal(err)
		}
		p.do(chromedp.EmulateViewport(s.width, 800))
		p.open(path)
		picture, err := chromedp.Run(p.ctx, chromedp.FullScreenshot(100))
		if err != nil {
			p.o.t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(folder, fmt.Sprintf("%s-%s-%d.png", name, s.theme, s.width)), picture, 0o600); err != nil {
			p.o.t.Fatal(err)
		}
		if wide, err := chromedp.Run(p.ctx, chromedp.Evaluate[int64]("document.documentElement.scrollWidth")); err != nil || wide > s.width {
			p.o.t.Errorf("%s at %d pixels is %d wide, %v", name, s.width, wide, err)
		}
		if _, err := chromedp.Run(p.ctx, chromedp.Evaluate[int](axe+";0")); err != nil {
			p.o.t.Fatal(err)
		}
		found, err := chromedp.Run(p.ctx, chromedp.Evaluate[string](
			`axe.run(document).then((r) => r.violations.map((v) => v.id + ": " + v.help + " " + v.nodes.map((n) => n.html).slice(0, 3).join(" ")).join("\n"))`, chromedp.EvalAwaitPromise))
		if err != nil {
			p.o.t.Fatal(err)
		}
		if found != "" {
			p.o.t.Errorf("%s in %s at %d pixels: axe finds\n%s", name, s.theme, s.width, found)
		}
	}
}
