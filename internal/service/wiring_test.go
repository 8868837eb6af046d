package service

import (
	"context"
	"errors"
	"strings"
	"testing"

	"github.com/vpcep-approver/vpcep-approver/internal/approval"
	"github.com/vpcep-approver/vpcep-approver/internal/events"
	"github.com/vpcep-approver/vpcep-approver/internal/ledger"
	"github.com/vpcep-approver/vpcep-approver/internal/worker"
)

// TestUnstorableIsLaidAside: what can never be written must not come for ever.
func TestUnstorableIsLaidAside(t *testing.T) {
	t.Parallel()
	handle := deadLetterUnprocessable(func(context.Context, *approval.Delivery) error {
		return errors.Join(errors.New("record the decision"), &ledger.UnstorableError{Key: "request.1", Err: errors.New("year outside of range")})
	})
	invalidErr, ok := errors.AsType[*events.InvalidEventError](handle(t.Context(), &approval.Delivery{}))
	if !ok || invalidErr.Reason != events.ReasonUnstorable || !strings.Contains(invalidErr.Text, "request.1") {
		t.Errorf("%+v", invalidErr)
	}
}

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
		err := deadLetterUnprocessable(func(context.Context, *approval.Delivery) error { return tt.err })(t.Context(), &approval.Delivery{})
		invalidErr, ok := errors.AsType[*events.InvalidEventError](err)
		if ok != (tt.reason != "") || ok && (invalidErr.Reason != tt.reason || invalidErr.Field != tt.field) || !ok && !errors.Is(err, tt.err) {
			t.Errorf("%v became %v, want reason %q", tt.err, err, tt.reason)
		}
	}
}
