package submit

import (
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestParseClaims(t *testing.T) {
	t.Parallel()
	got, err := parseClaims([]string{"requester=alice@example.org", "tags.env=prod", "tags.team=a=b", "empty=", `tags."example.com/a=\"b"=c`})
	want := map[string]any{"requester": "alice@example.org", "tags": map[string]any{"env": "prod", "team": "a=b", `example.com/a="b`: "c"}, "empty": ""}
	if diff := cmp.Diff(want, got); diff != "" || err != nil {
		t.Errorf("parseClaims: %v (-want +got):\n%s", err, diff)
	}
	for _, wrong := range [][]string{{"tags"}, {"=x"}, {"a=1", "a=2"}, {"a=1", "a.b=2"}, {"a.b=2", "a=1"}, {"a..b=1"}, {"example.com/a=1"}, {`a."b=1`}} {
		if got, err := parseClaims(wrong); err == nil {
			t.Errorf("parseClaims(%q) = %v, want an error", wrong, got)
		}
	}
}
