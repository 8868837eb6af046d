package inspect

import (
	"context"
	"encoding/base64"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/vpcep-approver/vpcep-approver/internal/cli"
	"github.com/vpcep-approver/vpcep-approver/internal/events"
)

// DeadLetter is a dead letter as commands print it.
type DeadLetter struct {
	Number     uint64              `json:"number"`
	Reason     string              `json:"reason"`
	Field      string              `json:"field,omitempty"`
	Text       string              `json:"text"`
	Subject    string              `json:"subject"`
	Original   uint64              `json:"original"` // its number among the requests
	Deliveries int                 `json:"deliveries"`
	StoredAt   time.Time           `json:"stored_at,omitzero"` // the original
	At         time.Time           `json:"at,omitzero"`
	Truncated  int                 `json:"truncated,omitempty"` // bytes of the original, if not all are here
	Header     map[string][]string `json:"header,omitempty"`
	Body       string              `json:"body,omitempty"`
	BodyBase64 string              `json:"body_base64,omitempty"` // if it is not text
}

// summaryOf is d without its header and its body.
func summaryOf(d events.DeadLetter) DeadLetter {
	return DeadLetter{
		Number: d.Sequence, Reason: d.Reason, Field: d.Field, Text: d.Text, Subject: d.Subject, Original: d.Original,
		Deliveries: d.Deliveries, StoredAt: utc(d.Stored), At: utc(d.At), Truncated: d.Truncated,
	}
}

// utc keeps the zero time, which is left out of JSON.
func utc(t time.Time) time.Time {
	if t.IsZero() {
		return time.Time{}
	}
	return t.UTC()
}

// NewDeadLetter returns all of d.
func NewDeadLetter(d events.DeadLetter) DeadLetter {
	v := summaryOf(d)
	v.Header = d.Header
	if utf8.Valid(d.Body) {
		v.Body = string(d.Body)
	} else {
		v.BodyBase64 = base64.StdEncoding.EncodeToString(d.Body)
	}
	return v
}

// DeadLetters are dead letters, the oldest first.
type DeadLetters struct {
	List []DeadLetter
	More int // older ones that were left out
}

// FindDeadLetters returns the latest dead letters of a reason, at most limit of
// them. An empty reason and the limit 0 are all.
func FindDeadLetters(ctx context.Context, bus *events.Bus, reason string, limit int) (DeadLetters, error) {
	out := DeadLetters{List: []DeadLetter{}}
	for d, err := range bus.DeadLetters(ctx) {
		if err != nil {
			return out, err
		}
		if reason == "" || d.Reason == reason {
			out.List = append(out.List, summaryOf(d))
		}
	}
	if n := len(out.List); limit > 0 && n > limit {
		out.More = n - limit
		out.List = out.List[out.More:]
	}
	return out, nil
}

// Table writes the dead letters as the rows of a table.
func (d DeadLetters) Table(row cli.Row, now time.Time) {
	row("NUMBER", "REASON", "FIELD", "AGE", "TEXT")
	for _, v := range d.List {
		row(strconv.FormatUint(v.Number, 10), cli.Printable(v.Reason), cli.Printable(cli.OrDash(v.Field)), cli.Age(now, v.At), cli.Printable(v.Text))
	}
}

// Details is the dead letter for people.
func (d DeadLetter) Details(p cli.Palette) string {
	b := lines{paint: p}
	b.add("reason", d.Reason)
	b.add("field", d.Field)
	b.add("text", d.Text)
	b.add("subject", fmt.Sprintf("%s, message %d, delivered %d times", d.Subject, d.Original, d.Deliveries))
	b.time("stored", d.StoredAt)
	b.time("stored", d.At)
	for _, name := range slices.Sorted(maps.Keys(d.Header)) {
		b.add("header", name+": "+strings.Join(d.Header[name], ", "))
	}
	if d.Truncated > 0 {
		b.add("body", fmt.Sprintf("the beginning of %d bytes", d.Truncated))
	}
	b.add("base64", d.BodyBase64)
	for text := range strings.Lines(d.Body) {
		b.text.WriteString("  " + cli.Printable(strings.TrimRight(text, "\r\n")) + "\n")
	}
	return b.text.String()
}
