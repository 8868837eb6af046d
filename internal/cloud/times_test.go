package cloud

import (
	"encoding/json"
	"testing"
	"time"
)

func TestTimes(t *testing.T) {
	t.Parallel()
	at := time.Date(2018, 1, 30, 7, 42, 1, 0, time.UTC)
	tests := []struct {
		name, json string
		want       time.Time
	}{
		{"as documented", `"2018-01-30T07:42:01Z"`, at},
		{"milliseconds without a zone", `"2018-01-30T07:42:01.123"`, at.Add(123 * time.Millisecond)},
		{"microseconds", `"2018-01-30T07:42:01.527363Z"`, at.Add(527363 * time.Microsecond)},
		{"epoch milliseconds", `1517298121000`, at},
		{"the same as text", `"1517298121000"`, at},
		{"epoch seconds", `1517298121`, at},
		{"a zone is honored", `"2018-01-30T15:42:01+08:00"`, at},
		{"a zone without a colon", `"2018-01-30T15:42:01+0800"`, at},
		{"a space in the middle", `"2018-01-30 07:42:01"`, at},
		{"another form", `"30 Jan 2018"`, time.Time{}},
		{"null", `null`, time.Time{}},
		{"an object", `{"seconds":1}`, time.Time{}},
		{"a negative number", `-5`, time.Time{}},
		{"a number without bounds", `99999999999999999999`, time.Time{}},
		{"past the year 9999", `9223372036854775807`, time.Time{}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			var got wireTime
			if err := json.Unmarshal([]byte(tt.json), &got); err != nil || !got.Equal(tt.want) {
				t.Errorf("%s = %v, %v, want %v", tt.json, got.Time, err, tt.want)
			}
		})
	}
}

func TestInts(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]wireInt{
		`422321321312321321`: 422321321312321321, `"16777510"`: 16777510, `2147483648`: 2147483648,
		`null`: 0, `1.5`: 0, `"x"`: 0, `{}`: 0, `99999999999999999999`: 0,
	} {
		var got wireInt
		if err := json.Unmarshal([]byte(text), &got); err != nil || got != want {
			t.Errorf("%s = %d, %v, want %d", text, got, err, want)
		}
	}
}

// FuzzTimes: whatever comes is no error, and what is read can be written and
// read again.
func FuzzTimes(f *testing.F) {
	f.Add("2018-01-30T07:42:01Z")
	f.Add("1517298121000")
	f.Add("9999-12-31T23:59:59.999999999-23:59")
	f.Fuzz(func(t *testing.T, s string) {
		got := parseTime(s)
		if got.IsZero() {
			return
		}
		text, err := got.MarshalText()
		if err != nil {
			t.Fatalf("parseTime(%q) = %v, which cannot be written: %v", s, got, err)
		}
		if again := parseTime(string(text)); !again.Equal(got) {
			t.Errorf("%q: %v, then %v", s, got, again)
		}
	})
}
