package demo

import (
	"flag"
	"testing"
)

func TestMain(m *testing.M) {
	// They wait for a worker more than they compute.
	if err := flag.Set("test.parallel", "8"); err != nil {
		panic(err) // there is no such flag any more
	}
	m.Run()
}
