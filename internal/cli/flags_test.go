package cli

import (
	"testing"
	"time"

	"github.com/spf13/pflag"
)

// TestFlagsRefuseWhatCannotBe: a limit or a duration below zero is no filter.
func TestFlagsRefuseWhatCannotBe(t *testing.T) {
	t.Parallel()
	f := pflag.NewFlagSet("", pflag.ContinueOnError)
	since, limit := Duration(f, "since", 0, ""), Number(f, "limit", 50, "")
	for _, args := range [][]string{{"--since", "-5s"}, {"--since", "0"}, {"--limit", "-1"}, {"--limit", "ten"}} {
		if err := f.Parse(args); err == nil {
			t.Errorf("%q is taken", args)
		}
	}
	if *since != 0 || *limit != 50 {
		t.Errorf("since %s, limit %d, want the defaults", *since, *limit)
	}
	if err := f.Parse([]string{"--since", "2d", "--limit", "0"}); err != nil || *since != 48*time.Hour || *limit != 0 {
		t.Errorf("since %s, limit %d, %v", *since, *limit, err)
	}
}

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
