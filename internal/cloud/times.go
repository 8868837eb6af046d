package cloud

import (
	"bytes"
	"encoding/json"
	"strconv"
	"strings"
	"time"
)

// wireTime reads every form of time that the APIs are known to use. A form that
// is not known leaves the zero time: no answer is thrown away for a timestamp.
type wireTime struct{ time.Time }

func (t *wireTime) UnmarshalJSON(data []byte) error {
	t.Time = parseTime(string(bytes.Trim(data, `"`)))
	return nil
}

// parseTime reads RFC 3339 with or without a fraction and a zone (without one it
// is UTC), and epoch times in seconds or milliseconds; zero for all else.
func parseTime(s string) time.Time {
	s = strings.TrimSpace(s)
	for _, layout := range []string{time.RFC3339Nano, "2006-01-02T15:04:05", time.DateTime, "2006-01-02T15:04:05Z0700"} {
		if t, err := time.Parse(layout, s); err == nil { // a fraction is taken after any seconds
			return inRange(t)
		}
	}
	n, err := strconv.ParseInt(s, 10, 64)
	switch {
	case err != nil || n <= 0:
		return time.Time{}
	case n >= 1e11: // as seconds, past the year 5000
		return inRange(time.UnixMilli(n))
	}
	return inRange(time.Unix(n, 0))
}

// inRange returns t in UTC, or zero if it could not be written as RFC 3339.
func inRange(t time.Time) time.Time {
	if t = t.UTC(); t.Year() < 1 || t.Year() > 9999 {
		return time.Time{}
	}
	return t
}

// wireInt is an int64, also if it comes as a string; 0 if it is anything else.
type wireInt int64

func (i *wireInt) UnmarshalJSON(data []byte) error {
	n, err := strconv.ParseInt(string(bytes.Trim(data, `"`)), 10, 64)
	if err != nil {
		n = 0 // an unusual number must not spoil the row that it is in
	}
	*i = wireInt(n)
	return nil
}

var (
	_ json.Unmarshaler = (*wireTime)(nil)
	_ json.Unmarshaler = (*wireInt)(nil)
)
