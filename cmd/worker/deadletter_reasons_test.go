package main

import (
	"context"
	"errors"
	"testing"

	"github.com/vpcep-approver/vpcep-approver/internal/approval"
	"github.com/vpcep-approver/vpcep-approver/internal/events"
	"github.com/vpcep-approver/vpcep-approver/internal/ledger"
	"github.com/vpcep-approver/vpcep-approver/internal/worker"
)

// TestWhatCanNeverBeSettledIsADeadLetter names the reasons.
func TestWhatCanNeverBeSettledIsADeadLetter(t *testing.T) {
	t.Parallel()
	later := &worker.RetryLaterError{Err: errors.New("away")}
	for _, tt := range []struct {
		err           error
		reason, field string
	}{
		{nil, "", ""},
		{later, "", ""},
		{&worker.IDReusedError{RequestID: "r"}, events.ReasonIDReused, "id"},
		{&worker.TooOldError{RequestID: "r"}, events.ReasonTooOld, ""},
		{&worker.TooOldError{RequestID: "r", Field: "time"}, events.ReasonTooOld, "time"},
		{&worker.RetryLaterError{Err: &ledger.UnstorableError{Key: "request.r", Err: errors.New("NaN")}}, events.ReasonUnstorable, ""},
	} {
		err := layingAside(func(context.Context, approval.Delivery) error { return tt.err })(t.Context(), approval.Delivery{})
		invalidErr, ok := errors.AsType[*events.InvalidEventError](err)
		if ok != (tt.reason != "") || ok && (invalidErr.Reason != tt.reason || invalidErr.Field != tt.field) || !ok && !errors.Is(err, tt.err) {
			t.Errorf("%v became %v, want reason %q", tt.err, err, tt.reason)
		}
	}
}
