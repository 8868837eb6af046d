package strictyaml

import "testing"

func TestNearest(t *testing.T) {
	t.Parallel()
	words := []string{"APPROVER_NATS_URL", "APPROVER_NATS_USER", "interval", "url"}
	for word, want := range map[string]string{
		"APPROVER_NAT_URL": "APPROVER_NATS_URL", "APPROVER_NATS_USR": "APPROVER_NATS_USER",
		"ulr": "url", "intreval": "interval", "INTERVAL": "interval", "xyz": "", "": "",
	} {
		if got := Nearest(word, words); got != want {
			t.Errorf("Nearest(%q) = %q, want %q", word, got, want)
		}
	}
}
