package ledger

import (
	"os"
	"regexp"
	"testing"
)

// TestOperateNamesTheKeyOfARequest: who erases by a wrong key believes that claims
// are gone, and they are not.
func TestOperateNamesTheKeyOfARequest(t *testing.T) {
	t.Parallel()
	doc, err := os.ReadFile("../../docs/operate.md")
	if err != nil {
		t.Fatal(err)
	}
	key, err := requestKey("REQUEST")
	if err != nil {
		t.Fatal(err)
	}
	named := regexp.MustCompile(`(?m)^nats kv purge vpcep-ledger (\S+)`).FindSubmatch(doc)
	if named == nil || string(named[1]) != key {
		t.Errorf("docs/operate.md purges %q, and the key is %s", named, key)
	}
}
