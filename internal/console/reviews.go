package console

import (
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"time"

	"github.com/vpcep-approver/vpcep-approver/internal/inspect"
	"github.com/vpcep-approver/vpcep-approver/internal/review"
)

// pageSize is how many requests a page of the work list has.
const pageSize = 50

// reviewsView is the work list.
type reviewsView struct {
	Rows     []reviewRow
	Total    int // that match
	More     int // that are not kept
	Broken   int // that cannot be read
	Loaded   bool
	Stale    string // why the list may be old
	Stream   string // URL
	Page     int    // from 1
	Pages    int
	Previous string // URL; empty: there is none
	Next     string
	Target   string
	Targets  []string
	Mine     bool
}

// reviewRow is a request of the work list.
type reviewRow struct {
	ID, Target, Account, Asks string
	HeldAt, Until             time.Time
	Missing                   []missing
	Mine                      bool     // the person may decide
	Who                       []string // the others who may
}

// missing is how many approvals a policy still wants.
type missing struct {
	Policy     string
	Missing, N int
}

func (c *Console) reviewsPage(r *http.Request, v *visitor) (response, error) {
	query := r.URL.Query()
	out := reviewsView{Target: query.Get("target"), Mine: query.Get("mine") != "", Page: 1, Targets: c.targetNames()}
	if err := c.configured(out.Target); err != nil {
		return response{}, err
	}
	out.Stream = "/reviews/stream?after=" + c.changes.version() // before the list is read
	mine := ""
	if out.Mine {
		mine = v.Name
	}
	list := c.board.list(out.Target, mine)
	out.Total, out.More, out.Broken, out.Loaded = len(list.Items), list.More, list.Broken, list.Loaded
	if list.Err != nil {
		out.Stale = list.Err.Error()
	}
	out.Pages = max((out.Total+pageSize-1)/pageSize, 1)
	if n, err := strconv.Atoi(query.Get("page")); err == nil {
		out.Page = min(max(n, 1), out.Pages)
	}
	out.Previous, out.Next = pageURL(query, out.Page-1, out.Pages), pageURL(query, out.Page+1, out.Pages)
	from := (out.Page - 1) * pageSize
	for _, item := range list.Items[from:min(from+pageSize, out.Total)] {
		out.Rows = append(out.Rows, rowOf(item, v.Name))
	}
	return response{name: "reviews", title: "reviews.title", data: out}, nil
}

func pageURL(query url.Values, page, pages int) string {
	if page < 1 || page > pages {
		return ""
	}
	next := url.Values{"page": {strconv.Itoa(page)}}
	for _, name := range []string{"target", "mine"} {
		if value := query.Get(name); value != "" {
			next.Set(name, value)
		}
	}
	return "/reviews?" + next.Encode()
}

func rowOf(item *review.Item, name string) reviewRow {
	row := reviewRow{
		ID: item.Request.ID, Target: item.Request.Target.Name, Account: item.Facts.DomainID, Asks: inspect.Asks(item.Request),
		HeldAt: item.Reviews.HeldAt, Until: item.Until(), Mine: item.May(name),
	}
	for _, rule := range item.State.Rules {
		row.Missing = append(row.Missing, missing{rule.Policy, rule.Missing, rule.Approvals})
		for _, who := range rule.May {
			if who != name && !slices.Contains(row.Who, who) {
				row.Who = append(row.Who, who)
			}
		}
	}
	return row
}
