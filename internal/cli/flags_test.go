package cli

import (
	"testing"
	"time"
)

func TestSpans(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]time.Duration{"30d": 720 * time.Hour, "12h": 12 * time.Hour, "1m30s": 90 * time.Second, "0d": 0, "-1h": 0, "d": 0, "1000000d": 0, "5": 0} {
		var f DurationFlag
		if err := f.Set(text); (err == nil) != (want > 0) || f.Duration != want {
			t.Errorf("%q = %s, %v; want %s", text, f.Duration, err, want)
		}
	}
	for d, want := range map[time.Duration]string{0: "", 48 * time.Hour: "2d", 90 * time.Minute: "1h30m"} {
		if got := (&DurationFlag{d}).String(); got != want {
			t.Errorf("%s = %q, want %q", d, got, want)
		}
	}
}
