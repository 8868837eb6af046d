package main

import (
	"flag"
	"os"
	"strings"
	"testing"
)

// natsRoles are the users of deploy/nats.
func natsRoles() []string {
	return []string{"worker", "setup", "producer", "reader", "operator", "reviewer", "console"}
}

func TestMain(m *testing.M) {
	// The long tests wait for workers more than they compute.
	if err := flag.Set("test.parallel", "8"); err != nil {
		panic(err) // there is no such flag any more
	}
	for _, role := range natsRoles() { // the files of deploy/nats name them
		if err := os.Setenv("VPCEP_"+strings.ToUpper(role)+"_PASSWORD", "p"); err != nil {
			panic(err) // the names are good
		}
	}
	m.Run()
}
