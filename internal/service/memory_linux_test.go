package service

import (
	"fmt"
	"os"
	"strings"
	"testing"
)

// fileMemory is what this process has in memory of its files, in kB.
func fileMemory(t *testing.T) int {
	t.Helper()
	status, err := os.ReadFile("/proc/self/status")
	if err != nil {
		t.Fatal(err)
	}
	_, after, _ := strings.Cut(string(status), "RssFile:")
	var kb int
	if _, err := fmt.Sscan(after, &kb); err != nil {
		t.Fatal(err)
	}
	return kb
}

// TestReleaseExecutable: most pages of the executable are given back, and what is needed
// of them comes again.
func TestReleaseExecutable(t *testing.T) {
	before := fileMemory(t)
	released, err := releaseExecutable()
	if err != nil || released == 0 {
		t.Fatalf("gave back %d bytes, %v", released, err)
	}
	if after := fileMemory(t); after > before*3/4 {
		t.Errorf("%d kB of files are in memory, %d before", after, before)
	}
	if text := fmt.Sprintf("%v", map[string]int{"a": 1}); text != "map[a:1]" {
		t.Errorf("after that, the program prints %s", text)
	}
}
