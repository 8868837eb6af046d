package cli

import (
	"testing"
	"time"
)

// TestPrintable: nothing that is not seen, or moves what is seen, reaches a terminal.
func TestPrintable(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]string{
		"known partner, 已知": "known partner, 已知", "a\x1b[2Jb": `a\u001b[2Jb`, "a\nb\t": `a\u000ab\u0009`, "\u202eb": `\u202eb`,
		"\u061cb": `\u061cb`, "a\u2028b": `a\u2028b`, "a\u00adb": `a\u00adb`, "a\u2060\u2064b": `a\u2060\u2064b`, "a\U000e0041b": `a\U000e0041b`,
	} {
		if got := Printable(text); got != want {
			t.Errorf("%q = %q, want %q", text, got, want)
		}
	}
}

func TestAge(t *testing.T) {
	t.Parallel()
	now := time.Date(2026, 11, 18, 12, 0, 0, 0, time.UTC)
	for d, want := range map[time.Duration]string{
		5 * time.Second: "5s", 90 * time.Second: "1m", 125 * time.Minute: "2h5m", 50 * time.Hour: "2d",
	} {
		if got := Age(now, now.Add(-d)); got != want {
			t.Errorf("age of %s = %q, want %q", d, got, want)
		}
	}
	if got := Age(now, time.Time{}); got != "-" {
		t.Errorf("age of nothing = %q", got)
	}
}
