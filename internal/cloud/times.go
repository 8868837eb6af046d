package cloud

import (
	"bytes"
	"encoding/json"
	"strconv"
	"strings"
	"time"
)

// wireTime reads all time formats that the APIs use. An unknown format gives the zero
// time, so that a response is not refused for a timestamp.
type wireTime struct{ time.Time }

func (t *wireTime) UnmarshalJSON(data []byte) error {
	t.Time = parseTime(string(bytes.Trim(data, `"`)))
	return nil
}

// parseTime parses RFC 3339 with or without a fraction and a zone (default UTC), and Unix
// times in seconds or milliseconds. It returns zero for everything else.
func parseTime(s string) time.Time {
	s = strings.TrimSpace(s)
	for _, layout := range []string{time.RFC3339Nano, "2006-01-02T15:04:05", time.DateTime, "2006-01-02T15:04:05Z0700"} {
		if t, err := time.Parse(layout, s); err == nil { // Parse accepts a fraction after the seconds
			return inRange(t)
		}
	}
	n, err := strconv.ParseInt(s, 10, 64)
	switch {
	case err != nil || n <= 0:
		return time.Time{}
	case n >= 1e11: // as seconds, it would be after the year 5000
		return inRange(time.UnixMilli(n))
	}
	return inRange(time.Unix(n, 0))
}

// inRange returns t in UTC, or zero if RFC 3339 cannot express it.
func inRange(t time.Time) time.Time {
	if t = t.UTC(); t.Year() < 1 || t.Year() > 9999 {
		return time.Time{}
	}
	return t
}

// wireInt reads an int64 from a JSON number or string. Anything else is 0.
type wireInt int64

func (i *wireInt) UnmarshalJSON(data []byte) error {
	n, err := strconv.ParseInt(string(bytes.Trim(data, `"`)), 10, 64)
	if err != nil {
		n = 0 // do not refuse the row for an unusual number
	}
	*i = wireInt(n)
	return nil
}

var (
	_ json.Unmarshaler = (*wireTime)(nil)
	_ json.Unmarshaler = (*wireInt)(nil)
)
