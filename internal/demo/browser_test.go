package demo

import (
	"context"
	"encoding/json"
	"fmt"
	"net/url"
	"os"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/chromedp/chromedp"

	"github.com/vpcep-approver/vpcep-approver/internal/approval"
	"github.com/vpcep-approver/vpcep-approver/internal/cloud/simulator"
)

// chromiumVariable has TestBrowserDemo run, in the chromium of the PATH.
const chromiumVariable = "APPROVER_TEST_CHROMIUM"

// tab is a page of a real browser.
type tab struct {
	t   *testing.T
	ctx context.Context
}

// newTab starts a browser that ends with the test.
func newTab(t *testing.T) *tab {
	t.Helper()
	if os.Getenv(chromiumVariable) == "" {
		t.Skip("needs chromium; set " + chromiumVariable + "=require to run it")
	}
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Minute)
	t.Cleanup(cancel)
	ctx, stop := chromedp.NewContext(ctx)
	t.Cleanup(stop)
	if err := chromedp.Do(ctx); err != nil {
		t.Fatalf("start chromium: %v", err)
	}
	return &tab{t, ctx}
}

func (p *tab) do(actions ...chromedp.Action[chromedp.Void]) {
	p.t.Helper()
	if err := chromedp.Do(p.ctx, actions...); err != nil {
		p.t.Fatal(err)
	}
}

// sees waits until an expression is true, over pages that follow each other.
func (p *tab) sees(what, expression string) {
	p.t.Helper()
	last := error(nil)
	wait(p.t, what, func() bool {
		var done bool
		done, last = chromedp.Run(p.ctx, chromedp.Evaluate[bool](expression))
		return last == nil && done
	}, func() string {
		text, _ := chromedp.Run(p.ctx, chromedp.Evaluate[string]("document.body.innerText"))
		return fmt.Sprintf("%v; the page says:\n%s", last, text)
	})
}

// says waits until the page has a text.
func (p *tab) says(text string) {
	p.t.Helper()
	quoted, err := json.Marshal(text)
	if err != nil {
		p.t.Fatal(err)
	}
	p.sees("the page says "+text, "document.body.innerText.includes("+string(quoted)+")")
}

// wait waits until done reports true; instead says what there is if it never does.
func wait(t *testing.T, what string, done func() bool, instead func() string) {
	t.Helper()
	again := time.NewTicker(50 * time.Millisecond)
	defer again.Stop()
	end := time.After(time.Minute)
	for !done() {
		select {
		case <-again.C:
		case <-end:
			t.Fatalf("%s: it does not come: %s", what, instead())
		}
	}
}

// TestBrowserDemo is what a new user does: open the link that the demo prints, see a
// request arrive that is held, read why, approve it with a reason, and see it accepted by
// the cloud and on the live page.
func TestBrowserDemo(t *testing.T) {
	t.Parallel()
	p := newTab(t)
	d, out := serveDemo(t, 1)
	var link string
	wait(t, "the link", func() bool {
		link = regexp.MustCompile(`http://\S+/sign-in/link\?token=\S+|$`).FindString(out.String())
		return link != ""
	}, out.String)
	base, err := url.Parse(link)
	if err != nil {
		t.Fatal(err)
	}

	p.do(chromedp.Navigate(link), chromedp.Click("main button"))
	p.says(reviewer)
	p.says("Nothing waits for a review")
	asks := d.Sim.Connect(Service, simulator.Connection{DomainID: Stranger}) // without an event: the sweep finds it
	p.sees("the request arrives", `document.querySelectorAll("#refresh tbody tr").length === 1`)
	p.says(Stranger)
	p.do(chromedp.Click("#refresh tbody a"))
	p.says("No rule allows this request")
	p.says(asks.ID)
	if got, _ := d.Sim.Connection(asks.ID); got.State != simulator.PendingAcceptance {
		t.Fatalf("before the review it is %s in the cloud", got.State)
	}

	p.do(chromedp.SendKeys("#reason", "known from the demo"), chromedp.Click("button.yes"))
	p.says("Your review decided the request")
	wait(t, "accepted by the cloud", func() bool {
		got, ok := d.Sim.Connection(asks.ID)
		return ok && got.State == simulator.Accepted
	}, out.String)
	if n := d.Sim.Counters().Count(simulator.EffectAccept, asks.ID); n != 1 {
		t.Errorf("it was accepted %d times", n)
	}
	p.do(chromedp.Navigate("http://" + base.Host + "/live?text=approved+by+" + reviewer))
	p.sees("the row", `document.querySelectorAll('#live tr[data-outcome="`+string(approval.OutcomeAccepted)+`"]').length === 1`)
	p.do(chromedp.Click("#live a"))
	p.says(reviewer)
	p.says("known from the demo")
	p.sees("it is accepted", `document.querySelector('h1 [data-outcome="accepted"]') !== null`)
	wait(t, "the connections of all targets, also of those on which nothing happens", func() bool {
		p.do(chromedp.Navigate("http://" + base.Host + "/targets"))
		text, err := chromedp.Run(p.ctx, chromedp.Evaluate[string]("document.body.innerText"))
		return err == nil && strings.Contains(text, "last read in the cloud") && !strings.Contains(text, "not read yet")
	}, out.String)
	p.do(chromedp.EmulateViewport(390, 800))
	if wide, err := chromedp.Run(p.ctx, chromedp.Evaluate[int64]("document.documentElement.scrollWidth")); err != nil || wide > 390 {
		t.Errorf("the targets at 390 pixels are %d wide, %v", wide, err)
	}
}
