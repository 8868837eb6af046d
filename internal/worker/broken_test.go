package worker

import (
	"context"
	"strings"
	"testing"
	"testing/synctest"

	"github.com/vpcep-approver/vpcep-approver/internal/approval"
)

// maker is a Creator that answers and shows what a test says.
type maker struct {
	answer  approval.Created
	err     error
	looks   []approval.Look // the last one stays
	noLook  bool
	creates int
}

func (m *maker) Create(context.Context, approval.Request) (approval.Created, error) {
	m.creates++
	return m.answer, m.err
}

func (m *maker) Look(context.Context, approval.Request, []string) (approval.Look, error) {
	if m.noLook {
		return approval.Look{}, cloudError{noReadBack: true}
	}
	if m.creates == 0 || len(m.looks) == 0 {
		return approval.Look{}, nil
	}
	look := m.looks[0]
	if len(m.looks) > 1 {
		m.looks = m.looks[1:]
	}
	return look, nil
}

func shows(s approval.State, why *approval.Failure) approval.Look {
	return approval.Look{Keys: []string{"made-1"}, Created: &approval.Created{EndpointID: "made-1", State: s}, Failure: why}
}

// TestACreationThatConnectsNothingFailed: an endpoint that the product shows as
// rejected or failed is no success, and the reason is told.
func TestACreationThatConnectsNothingFailed(t *testing.T) {
	t.Parallel()
	reason := &approval.Failure{Code: "EndPoint.2023", Text: "No route."}
	tests := []struct {
		name    string
		target  approval.Target
		maker   maker
		outcome approval.Outcome
		state   approval.State
		code    string
		text    string
	}{
		{"the answer says rejected", insight(), maker{noLook: true, answer: approval.Created{ID: "i", State: approval.Rejected}}, approval.OutcomeFailed, approval.Rejected, "not_connected", "rejected"},
		{"the answer says failed", insight(), maker{noLook: true, answer: approval.Created{ID: "i", State: approval.Failed}}, approval.OutcomeFailed, approval.Failed, "not_connected", "failed"},
		{"the answer says accepted", insight(), maker{noLook: true, answer: approval.Created{ID: "i", State: approval.Accepted}}, approval.OutcomeCreated, approval.Accepted, "", ""},
		{"the answer says that someone must accept", insight(), maker{noLook: true, answer: approval.Created{ID: "i", State: approval.Pending}}, approval.OutcomeCreated, approval.Pending, "", ""},
		{"the list shows failed", functions(), maker{looks: []approval.Look{shows(approval.Failed, nil)}}, approval.OutcomeFailed, approval.Failed, "not_connected", "failed"},
		{"the list shows failed and why", functions(), maker{looks: []approval.Look{shows(approval.Creating, nil), shows(approval.Failed, reason)}}, approval.OutcomeFailed, approval.Failed, "EndPoint.2023", "No route."},
		{"the list shows rejected", functions(), maker{looks: []approval.Look{shows(approval.Rejected, nil)}}, approval.OutcomeFailed, approval.Rejected, "not_connected", "rejected"},
		{"it is being deleted and stays so", functions(), maker{looks: []approval.Look{shows(approval.Deleting, nil)}}, approval.OutcomeFailed, approval.Deleting, "not_connected", "deleting"},
		{"what was there has failed", functions(), maker{answer: approval.Created{Existing: true, EndpointID: "made-1", State: approval.Failed}}, approval.OutcomeFailed, approval.Failed, "not_connected", "failed"},
		{"a state that is not documented, and then accepted", functions(), maker{looks: []approval.Look{shows("warmingUp", nil), shows("warmingUp", nil), shows(approval.Accepted, nil)}}, approval.OutcomeCreated, approval.Accepted, "", ""},
		{"a state that is not documented, and then failed", functions(), maker{looks: []approval.Look{shows("warmingUp", nil), shows(approval.Failed, nil)}}, approval.OutcomeFailed, approval.Failed, "not_connected", "failed"},
		{"a state that is not documented, for good", functions(), maker{looks: []approval.Look{shows("warmingUp", nil)}}, approval.OutcomeCreated, "warmingUp", "", ""},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				b := newBench(t, newFakeCloud(approval.Pending), always(approval.Accept))
				b.Creator = &tt.maker
				res, _ := b.deliver(t, creation(tt.target), 100)
				if res.Outcome != tt.outcome || res.State != tt.state || tt.maker.creates != 1 {
					t.Errorf("%s in state %q after %d creations, want %s in state %q", res.Outcome, res.State, tt.maker.creates, tt.outcome, tt.state)
				}
				switch {
				case tt.code == "" && res.Failure != nil:
					t.Errorf("failure %+v", res.Failure)
				case tt.code != "" && (res.Failure == nil || res.Failure.Code != tt.code || !strings.Contains(res.Failure.Text, tt.text)):
					t.Errorf("failure %+v, want %s with %q", res.Failure, tt.code, tt.text)
				}
				if res.Created == nil {
					t.Error("the result does not say what was created")
				}
			})
		})
	}
}

// TestACreationThatShowsInPartIsNotSentAgain: what is there would be made twice.
func TestACreationThatShowsInPartIsNotSentAgain(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t, newFakeCloud(approval.Pending), always(approval.Accept))
		m := &maker{err: cloudError{retryable: true, unknown: true}, looks: []approval.Look{{Keys: []string{"h1/v"}, Partial: true}}}
		b.Creator = m
		res, _ := b.deliver(t, creation(functions()), 100)
		if res.Outcome != approval.OutcomeUnknown || m.creates != 1 {
			t.Errorf("%s after %d creations, want unknown after one", res.Outcome, m.creates)
		}
	})
}

// TestAFailedConnectionSaysWhy: the cloud's code and reason are in the result,
// whether the connection had failed before or fails after the act.
func TestAFailedConnectionSaysWhy(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name       string
		state      approval.State
		code, text string
		wantCode   string
		wantText   string
	}{
		{"before", approval.Failed, "EndPoint.2023", "No route.", "EndPoint.2023", "No route."},
		{"after the act", approval.Pending, "EndPoint.2023", "No route.", "EndPoint.2023", "No route."},
		{"before, no reason", approval.Failed, "", "", "connection_failed", "failed"},
		{"after the act, no reason", approval.Pending, "", "", "connection_failed", "failed"},
		{"after the act, no code", approval.Pending, "", "No route.", "connection_failed", "No route."},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				cloud := newFakeCloud(tt.state)
				cloud.become = approval.Failed
				f := cloud.facts[endpoint]
				f.ErrorCode, f.ErrorText = tt.code, tt.text
				cloud.facts[endpoint] = f
				b := newBench(t, cloud, always(approval.Accept))
				res, _ := b.deliver(t, connection("1"), 100)
				if res.Outcome != approval.OutcomeFailed || res.Failure == nil || res.Failure.Code != tt.wantCode || !strings.Contains(res.Failure.Text, tt.wantText) {
					t.Errorf("%s, %+v", res.Outcome, res.Failure)
				}
			})
		})
	}
}
