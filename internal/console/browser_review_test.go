package console_test

import (
	"testing"

	"github.com/chromedp/cdproto/network"
	"github.com/chromedp/chromedp"
)

// TestBrowserTwoPeople: the first approval leaves the request waiting with one missing,
// the same person again changes nothing, and the second person's decides it.
func TestBrowserTwoPeople(t *testing.T) {
	t.Parallel()
	browser := chromium(t)
	o := newOffice(t, "review: {by: [network], approvals: 2, trust_consoles: true}\n")
	held := o.hold("1")
	path := "/requests/" + held.Request.ID
	ann, bob := o.tab(browser), o.tab(browser)
	approve := func(p *tab, reason string) {
		p.open(path)
		p.do(chromedp.SendKeys("#reason", reason), chromedp.Click("button.yes"))
	}
	ann.enter("ann")
	ann.open(path)
	ann.says("Approvals wanted: 2, missing: 2")
	for _, reason := range []string{"known partner", "still a known partner"} {
		approve(ann, reason)
		ann.says("Your approval is counted. More is needed")
		ann.says("Approvals wanted: 2, missing: 1")
		ann.says(reason)
	}
	ann.sees("it is held", `document.querySelector('h1 [data-outcome="held"]') !== null`)

	bob.enter("bob")
	bob.sees("one is missing in the list", `document.querySelector("#refresh tbody tr").innerText.includes("1 of 2")`)
	bob.open(path)
	bob.says("still a known partner")
	approve(bob, "ticket 4711")
	bob.says("Your review decided the request")
	bob.do(chromedp.Click(".note a"))
	bob.says("ticket 4711")
	bob.says("still a known partner")
	bob.sees("it is accepted", `document.querySelector('h1 [data-outcome="accepted"]') !== null`)
	ann.open("/reviews")
	ann.says("Nothing waits for a review")
	ann.quiet()
	bob.quiet()
}

// TestBrowserReject: a reason is needed, and the page says so: the browser of one that
// is empty, the console of one that only looks like one.
func TestBrowserReject(t *testing.T) {
	t.Parallel()
	browser := chromium(t)
	o := newOffice(t, "mode: enforce\n"+one)
	held := o.hold("1")
	ann := o.tab(browser)
	ann.enter("ann")
	ann.open("/requests/" + held.Request.ID)
	ann.do(chromedp.Click("button.no"))
	ann.sees("the browser wants a reason", `document.querySelector("#reason:invalid") !== null && document.querySelector("#reason-wrong") === null`)
	ann.do(chromedp.SendKeys("#reason", "   "), chromedp.Click("button.no"))
	ann.says("a reason is required")
	ann.sees("the field is marked", `document.querySelector("#reason").getAttribute("aria-invalid") === "true"`)
	if record, err := o.book.Review(t.Context(), held.Request.Subject()); err != nil || len(record.Reviews.Said) != 0 {
		t.Errorf("counted without a reason: %+v, %v", record, err)
	}
	ann.do(chromedp.SendKeys("#reason", "not a customer"), chromedp.Click("button.no"))
	ann.says("Your review decided the request")
	ann.do(chromedp.Click(".note a"))
	ann.says("not a customer")
	ann.sees("it is rejected", `document.querySelector('h1 [data-outcome="rejected"]') !== null`)
	ann.quiet("422")
}

// TestBrowserLosesTheRace: both look at the request, one is faster. The other is told,
// without an error, and what was decided stays.
func TestBrowserLosesTheRace(t *testing.T) {
	t.Parallel()
	browser := chromium(t)
	o := newOffice(t, "mode: enforce\n"+one)
	held := o.hold("1")
	path := "/requests/" + held.Request.ID
	ann, bob := o.tab(browser), o.tab(browser)
	for _, p := range []struct {
		*tab

		name, reason string
	}{{ann, "ann", "not a customer"}, {bob, "bob", "known partner"}} {
		p.enter(p.name)
		p.open(path)
		p.do(chromedp.SendKeys("#reason", p.reason))
	}
	bob.do(chromedp.Click("button.yes"))
	bob.says("Your review decided the request")
	ann.do(chromedp.Click("button.no"))
	ann.says("Somebody else was faster")
	ann.sees("no form is left", `document.querySelector("form.review") === null`)
	ann.do(chromedp.Click(".note a"))
	ann.says("known partner")
	ann.sees("it stays accepted", `document.querySelector('h1 [data-outcome="accepted"]') !== null && !document.body.innerText.includes("not a customer")`)
	ann.quiet()
	bob.quiet()
}

// TestBrowserCookie: no script can read the cookie, and after sign-out a copy of it is
// refused.
func TestBrowserCookie(t *testing.T) {
	t.Parallel()
	browser := chromium(t)
	o := newOffice(t, one)
	ann, thief := o.tab(browser), o.tab(browser)
	ann.enter("ann")
	ann.sees("no cookie for scripts", `document.cookie === ""`)
	got, err := chromedp.Call(ann.ctx, network.GetCookies, network.GetCookiesParams{URLs: []string{o.server.URL}})
	if err != nil || len(got.Cookies) != 1 || !got.Cookies[0].HTTPOnly || got.Cookies[0].SameSite != network.CookieSameSiteLax {
		t.Fatalf("cookies %+v, %v", got.Cookies, err)
	}
	stolen := network.SetCookieParams{Name: got.Cookies[0].Name, Value: got.Cookies[0].Value, URL: o.server.URL}
	refusesCopies(t, ann, thief, stolen)
}

// refusesCopies signs owner out and finds that the copy of the cookie, which worked for
// thief before, opens nothing any more.
func refusesCopies(t *testing.T, owner, thief *tab, stolen network.SetCookieParams) {
	t.Helper()
	set := func(p *tab) {
		t.Helper()
		if _, err := chromedp.Call(p.ctx, network.SetCookie, stolen); err != nil {
			t.Fatal(err)
		}
		p.open("/reviews")
	}
	set(thief)
	thief.sees("a copy works before sign-out", `location.pathname === "/reviews"`)
	owner.do(chromedp.Click(".who form[action='/sign-out'] button"))
	owner.sees("signed out", `location.pathname === "/sign-in"`)
	for _, p := range []*tab{owner, thief} {
		set(p)
		p.sees("a copy is refused after sign-out", `location.pathname === "/sign-in"`)
	}
	owner.quiet("401")
	thief.quiet("401")
}
