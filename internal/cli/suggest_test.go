package cli

import (
	"testing"
)

func TestSuggest(t *testing.T) {
	t.Parallel()
	candidates := []string{"APPROVER_NATS_URL", "APPROVER_NATS_USER", "interval", "url"}
	for word, want := range map[string]string{
		"APPROVER_NAT_URL": "APPROVER_NATS_URL", "APPROVER_NATS_USR": "APPROVER_NATS_USER",
		"ulr": "url", "intreval": "interval", "INTERVAL": "interval", "xyz": "", "": "",
	} {
		if got := Suggest(word, candidates); got != want {
			t.Errorf("suggest(%q) = %q, want %q", word, got, want)
		}
	}
}
