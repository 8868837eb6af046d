package main

import (
	"bufio"
	"context"
	"errors"
	"io"
	"testing"

	"github.com/vpcep-approver/vpcep-approver/docs/examples/exampletest"
)

// TestConsumer reads the golden results of the worker, one of them twice.
func TestConsumer(t *testing.T) {
	t.Parallel()
	url, golden := exampletest.Start(t), exampletest.Golden(t)
	exampletest.Publish(t, url, golden["accepted"], golden["accepted"], golden["refused"], golden["held"])

	ctx, cancel := context.WithCancel(t.Context())
	in, out := io.Pipe()
	done := make(chan error, 1)
	go func() { done <- run(ctx, url, "test", out) }()
	lines := bufio.NewScanner(in)
	for _, want := range []string{
		"vpcep.request.accepted: payments, endpoint 705290f3-0d00-41f2-aedc-71f09844e879: The domain is on the list.",
		"vpcep.request.refused: hosts, an endpoint: The domain is on the list.",
		"vpcep.request.held: orders, endpoint 705290f3-0d00-41f2-aedc-71f09844e879: no reason",
	} {
		if !lines.Scan() || lines.Text() != want {
			t.Errorf("got %q, want %q", lines.Text(), want)
		}
	}
	cancel()
	if err := <-done; !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
}

// TestConsumerRefusesWhatIsNoResult: the generated types check what they read.
func TestConsumerRefusesWhatIsNoResult(t *testing.T) {
	t.Parallel()
	for _, text := range []string{`{}`, `[]`, `{"specversion": "1.0"}`} {
		if err := handle([]byte(text), map[string]bool{}, io.Discard); err == nil {
			t.Errorf("took %s for a result", text)
		}
	}
}
