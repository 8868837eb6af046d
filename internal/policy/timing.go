package policy

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/vpcep-approver/vpcep-approver/internal/approval"
	"github.com/vpcep-approver/vpcep-approver/internal/strictyaml"
)

// fromCondition holds from an instant on.
type fromCondition struct {
	reasonNumber
	at    time.Time
	text  string // as in the file
	place strictyaml.Position
}

func (c *fromCondition) test(in input, _ bool) truth {
	if in.Now.IsZero() {
		return unknown
	}
	return truthOf(!in.Now.Before(c.at))
}

func (c *fromCondition) name() string   { return "from" }
func (c *fromCondition) onClaims() bool { return false }
func (c *fromCondition) wanted() string { return "at or after " + c.at.Format(time.RFC3339) }
func (c *fromCondition) seen(in *approval.Input, _ bool) string {
	return in.Now.UTC().Format(time.RFC3339)
}

func (c *fromCondition) reason() approval.Reason {
	return approval.Reason{Code: approval.ReasonNotYetValid, Text: "A rule matches, but it is not in force before " + c.text + "."}
}

// expiresCondition holds before an instant.
type expiresCondition struct {
	reasonNumber
	at    time.Time // the first instant at which it does not hold
	text  string    // as in the file
	place strictyaml.Position
	line  []byte // of the file, for an excerpt
}

func (c *expiresCondition) test(in input, _ bool) truth {
	if in.Now.IsZero() {
		return unknown
	}
	return truthOf(in.Now.Before(c.at))
}

func (c *expiresCondition) name() string   { return "expires" }
func (c *expiresCondition) onClaims() bool { return false }
func (c *expiresCondition) wanted() string { return "before " + c.at.Format(time.RFC3339) }
func (c *expiresCondition) seen(in *approval.Input, _ bool) string {
	return in.Now.UTC().Format(time.RFC3339)
}

func (c *expiresCondition) reason() approval.Reason {
	return approval.Reason{Code: approval.ReasonExpired, Text: "A rule matches, but it expired on " + c.text + "."}
}

// instant reads a date or a time. A date is a day in UTC: its beginning, or its
// end if last is set, so that the day named is the last one.
func (d *decoder) instant(n *strictyaml.Node, last bool) (time.Time, bool) {
	const want = "a date such as 2027-06-30 or a time such as 2027-06-30T18:00:00+08:00"
	s, ok := d.Text(n, want)
	if !ok {
		return time.Time{}, false
	}
	if day, err := time.Parse(time.DateOnly, s); err == nil {
		if last {
			day = day.AddDate(0, 0, 1)
		}
		return day, true
	}
	at, err := time.Parse(time.RFC3339, s)
	if err != nil {
		d.Fail(n, "time", "got "+strictyaml.KindOf(n)+", want "+want, "write it in that form")
		return time.Time{}, false
	}
	return at.UTC(), true
}

// hoursCondition holds at some hours of some days, in the local time of a
// time zone. Where the clock is set back, an hour that comes twice counts both
// times; where it is set forward, one that is left out does not come.
type hoursCondition struct {
	reasonNumber
	days     [7]bool // by time.Weekday
	from, to int     // minutes since midnight; from < to, or over midnight if from > to
	zone     *time.Location
	place    strictyaml.Position

	dayNames         []string // as in the file
	fromAt, toAt     string
	haveFrom, haveTo bool // the keys were read
}

const dayMinutes = 24 * 60

func (c *hoursCondition) test(in input, _ bool) truth {
	if in.Now.IsZero() {
		return unknown
	}
	local := in.Now.In(c.zone)
	minute := local.Hour()*60 + local.Minute()
	day := local.Weekday()
	if c.from < c.to {
		return truthOf(c.days[day] && minute >= c.from && minute < c.to)
	}
	yesterday := (day + 6) % 7 // what is after midnight belongs to the day before
	return truthOf(c.days[day] && minute >= c.from || c.days[yesterday] && minute < c.to)
}

func (c *hoursCondition) name() string   { return "hours" }
func (c *hoursCondition) onClaims() bool { return false }

func (c *hoursCondition) wanted() string {
	days := "every day"
	if len(c.dayNames) > 0 {
		days = strings.Join(c.dayNames, " ")
	}
	return fmt.Sprintf("%s %s-%s %s", days, c.fromAt, c.toAt, c.zone)
}

func (c *hoursCondition) seen(in *approval.Input, _ bool) string {
	return strings.ToLower(in.Now.In(c.zone).Format("Mon 15:04 ")) + c.zone.String()
}

func (c *hoursCondition) reason() approval.Reason {
	return approval.Reason{Code: approval.ReasonOutsideHours, Text: "A rule matches, but only during these hours: " + c.wanted() + "."}
}

// dayNames are the days as files write them, by time.Weekday.
func dayNames() []string { return []string{"sun", "mon", "tue", "wed", "thu", "fri", "sat"} }

func hoursKeys() []key[hoursCondition] {
	clock := strictyaml.Form{Words: `a time such as "08:00"`, Schema: map[string]any{"type": "string", "pattern": `^([01][0-9]|2[0-3]):[0-5][0-9]$|^24:00$`}}
	return []key[hoursCondition]{
		{
			Name: "days", Doc: "The days of the week on which the hours begin; every day if the key is missing.",
			Form: strictyaml.Form{Words: "a list of mon, tue, wed, thu, fri, sat, sun", Schema: map[string]any{
				"type": "array", "minItems": 1, "uniqueItems": true, "items": map[string]any{"enum": dayNames()},
			}},
			Read: readDays,
		},
		{
			Name: "from", Must: true, Doc: "When the hours begin, in local time.", Form: clock,
			Read: func(d *decoder, n *strictyaml.Node, c *hoursCondition) {
				c.from, c.haveFrom = d.clock(n)
				c.fromAt = n.Value
			},
		},
		{
			Name: "to", Must: true, Doc: "When the hours end; at that minute they are over. Earlier than from: on the next day.", Form: clock,
			Read: func(d *decoder, n *strictyaml.Node, c *hoursCondition) {
				c.to, c.haveTo = d.clock(n)
				c.toAt = n.Value
			},
		},
		{
			Name: "timezone", Must: true, Doc: "The time zone of the clock, by its IANA name.",
			Form: strictyaml.Form{Words: "a name such as Asia/Shanghai", Schema: map[string]any{"type": "string", "minLength": 1}},
			Read: func(d *decoder, n *strictyaml.Node, c *hoursCondition) {
				s, ok := d.Text(n, "a time zone")
				if !ok {
					return
				}
				zone, err := time.LoadLocation(s)
				if err != nil || s == "Local" {
					d.Fail(n, "time-zone", fmt.Sprintf("%q is not a time zone of the IANA list", strictyaml.Cut(s)), "write a name such as Asia/Shanghai or UTC")
					return
				}
				if text := reversedZone(s); text != "" {
					d.Warn(n, "time-zone", text, "write a name such as Asia/Shanghai, or change the sign")
				}
				c.zone = zone
			},
		},
	}
}

// reversedZone returns what is odd about the time zone name if its sign is the
// other way round than people expect.
func reversedZone(name string) string {
	offset, ok := strings.CutPrefix(strings.ToLower(name), "etc/gmt")
	if !ok || len(offset) < 2 || strings.Trim(offset[1:], "0") == "" {
		return ""
	}
	where := "behind"
	if offset[0] == '-' {
		where = "ahead of"
	}
	return fmt.Sprintf("%s is %s hours %s UTC: the signs of these names are reversed", name, offset[1:], where)
}

func readDays(d *decoder, n *strictyaml.Node, c *hoursCondition) {
	names := dayNames()
	if n.Kind == strictyaml.List && len(n.Content) == 0 {
		d.Fail(n, "no-effect", "the list is empty, so the entry would never match", "name a day or delete the key for every day")
		return
	}
	d.Items(n, "a list of days", func(_ int, item *strictyaml.Node) {
		s, ok := d.Choice(item, names)
		if !ok {
			return
		}
		i := slices.Index(names, s)
		if c.days[i] {
			d.Fail(item, "duplicate-value", s+" is listed twice", "delete one of them")
			return
		}
		c.days[i] = true
		c.dayNames = append(c.dayNames, s)
	})
}

// clock reads hh:mm as minutes since midnight.
func (d *decoder) clock(n *strictyaml.Node) (int, bool) {
	s, ok := d.Text(n, "a time")
	if !ok {
		return 0, false
	}
	if s == "24:00" {
		return dayMinutes, true
	}
	at, err := time.Parse("15:04", s)
	if err != nil || len(s) != len("15:04") {
		d.Fail(n, "time", "got "+strictyaml.KindOf(n)+`, want a time such as "08:00"`, "write hours and minutes with two digits each")
		return 0, false
	}
	return at.Hour()*60 + at.Minute(), true
}

// readHours reads the hours of an entry.
func readHours(d *decoder, n *strictyaml.Node, e *entry) {
	c := &hoursCondition{place: strictyaml.At(n)}
	strictyaml.ReadMapping(d, n, "hours", d.keys.hours, c)
	if !c.haveFrom || !c.haveTo || c.zone == nil {
		return // reported already
	}
	if len(c.dayNames) == 0 {
		for i := range c.days {
			c.days[i] = true
		}
	}
	if c.from == c.to || c.from == dayMinutes {
		d.Fail(n, "contradiction", "the hours "+c.fromAt+" to "+c.toAt+" have no length", `for the whole day write from: "00:00" and to: "24:00"`)
		return
	}
	e.conds = append(e.conds, c)
}

// limitCondition holds while an account has fewer accepted connections on the
// target than the limit. The worker ensures that concurrent requests do
// not exceed it together: see approval.Decision.Limit.
type limitCondition struct {
	reasonNumber
	limit int
	place strictyaml.Position
}

func (c *limitCondition) test(in input, _ bool) truth {
	if !in.Facts.Accepted.Known {
		return unknown
	}
	return truthOf(in.Facts.Accepted.N < c.limit)
}

func (c *limitCondition) name() string   { return "limit" }
func (c *limitCondition) onClaims() bool { return false }
func (c *limitCondition) wanted() string {
	return "fewer than " + strictyaml.Counted(c.limit, "accepted connection", "accepted connections")
}

func (c *limitCondition) seen(in *approval.Input, _ bool) string {
	if !in.Facts.Accepted.Known {
		return "not counted"
	}
	return strictyaml.Counted(in.Facts.Accepted.N, "accepted connection", "accepted connections")
}

func (c *limitCondition) reason() approval.Reason {
	return approval.Reason{Code: approval.ReasonLimitReached, Text: "A rule matches, but the account has reached its limit of connections."}
}
