package console

import (
	"bytes"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/vpcep-approver/vpcep-approver/internal/inspect"
)

// liveRows is how many results the page begins with.
const liveRows = 100

// liveFilter is what of the results a page shows, as its URL says.
type liveFilter struct{ Outcome, Target, Text string }

func newLiveFilter(query url.Values) liveFilter {
	return liveFilter{Outcome: query.Get("outcome"), Target: query.Get("target"), Text: strings.ToLower(strings.TrimSpace(query.Get("text")))}
}

func (f liveFilter) match(d *decided) bool {
	return (f.Outcome == "" || d.Outcome == f.Outcome) && (f.Target == "" || d.Target == f.Target) &&
		(f.Text == "" || strings.Contains(strings.ToLower(d.ID+" "+d.Asks+" "+d.Account+" "+d.Rule+" "+d.Reason), f.Text))
}

// query is the part of a URL that says f.
func (f liveFilter) query(after uint64) string {
	out := url.Values{"after": {strconv.FormatUint(after, 10)}}
	for name, value := range map[string]string{"outcome": f.Outcome, "target": f.Target, "text": f.Text} {
		if value != "" {
			out.Set(name, value)
		}
	}
	return out.Encode()
}

// liveView is the page that shows decisions when they are made.
type liveView struct {
	liveFilter

	Rows     []decided
	Stream   string // URL
	Outcomes []string
	Targets  []string
	Stale    string // why nothing comes
}

func (c *Console) livePage(r *http.Request, _ *visitor) (response, error) {
	out := liveView{liveFilter: newLiveFilter(r.URL.Query()), Outcomes: inspect.OutcomeNames(), Targets: c.targetNames()}
	if out.Outcome != "" && !slices.Contains(out.Outcomes, out.Outcome) {
		return response{}, notFound("error.outcome", out.Outcome)
	}
	if err := c.configured(out.Target); err != nil {
		return response{}, err
	}
	rows, newest, err := c.feed.latest(out.match, liveRows)
	out.Rows, out.Stream = rows, "/live/stream?"+out.query(newest)
	if err != nil {
		out.Stale = err.Error()
	}
	return response{name: "live", title: "live.title", data: out}, nil
}

// configured refuses a target that is not in the configuration: an empty list of it
// would say that nothing waits.
func (c *Console) configured(target string) error {
	if _, ok := c.cfg.Targets.ByName(target); ok || target == "" {
		return nil
	}
	return notFound("error.target", target)
}

func (c *Console) targetNames() []string {
	var out []string
	for _, t := range c.cfg.Targets {
		out = append(out, t.Name)
	}
	return out
}

// liveStream sends results as they come, from the one after Last-Event-ID, or after the
// page's last one.
func (c *Console) liveStream(w http.ResponseWriter, r *http.Request) {
	filter, after := newLiveFilter(r.URL.Query()), r.URL.Query().Get("after")
	if last := r.Header.Get("Last-Event-ID"); last != "" {
		after = last
	}
	sequence, err := strconv.ParseUint(after, 10, 64)
	if err != nil {
		http.Error(w, "after must be a sequence", http.StatusBadRequest)
		return
	}
	rights, stopRights := c.rights.watch()
	defer stopRights()
	s, ok := c.open(w, r)
	if !ok {
		return
	}
	defer c.streams.Add(-1)
	missed, gap, next, stop := c.feed.from(sequence)
	defer stop()
	l := c.language(r)
	if gap {
		if !s.send("event: gap\ndata: reload\n\n") {
			return
		}
		sequence = 0
	}
	if !c.sendRows(s, l, filter, missed) {
		return
	}
	beat := time.NewTicker(c.beat)
	defer beat.Stop()
	for {
		var sent bool
		select {
		case <-r.Context().Done():
			return
		case <-c.closing:
			return
		case <-beat.C:
			sent = c.valid(r) && s.send(": beat\n\n")
		case <-rights:
			sent = c.valid(r)
		case d, open := <-next:
			// After a restart of the console, what the browser has is read again.
			rows := slices.DeleteFunc(append([]decided{d}, waitingIn(next)...), func(d decided) bool { return d.Sequence <= sequence })
			sent = open && c.sendRows(s, l, filter, rows)
		}
		if !sent {
			return
		}
	}
}

// waitingIn takes what is in next already, so that many results need one write.
func waitingIn(next <-chan decided) []decided {
	var out []decided
	for len(out) < lagLimit {
		select {
		case d, open := <-next:
			if !open {
				return out
			}
			out = append(out, d)
		default:
			return out
		}
	}
	return out
}

// sendRows sends the rows that match, each with its sequence as the id of the event.
func (c *Console) sendRows(s stream, l *language, filter liveFilter, rows []decided) bool {
	var out bytes.Buffer
	for i := range rows {
		if !filter.match(&rows[i]) {
			continue
		}
		var row bytes.Buffer
		if err := l.pages["live"].ExecuteTemplate(&row, "decided", rows[i]); err != nil {
			c.cfg.Log.Error().Err(err).Msg("a result cannot be rendered")
			return false
		}
		text := strings.ReplaceAll(strings.ReplaceAll(row.String(), "\r", " "), "\n", " ")
		fmt.Fprintf(&out, "id: %d\nevent: row\ndata: %s\n\n", rows[i].Sequence, text)
	}
	return out.Len() == 0 || s.send(out.String())
}
