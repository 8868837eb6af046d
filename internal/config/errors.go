package config

import (
	"fmt"
	"strings"
)

// problem is one thing wrong in what the user wrote.
type problem struct {
	where   string // "worker.yaml:3:5", "APPROVER_NATS_URL", "--nats-url"
	what    string // and what to do about it
	excerpt string // of the file; empty: none
}

// problems is all that is wrong, as one error.
type problems []problem

func (p problems) Error() string {
	var b strings.Builder
	if len(p) > 1 {
		fmt.Fprintf(&b, "%d problems", len(p))
	}
	for _, one := range p {
		if len(p) > 1 {
			b.WriteString("\n  ")
		}
		b.WriteString(one.where + ": " + one.what)
		for line := range strings.Lines(one.excerpt) {
			b.WriteString("\n    " + strings.TrimRight(line, "\n"))
		}
	}
	return b.String()
}
