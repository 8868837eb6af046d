package submit

import "github.com/vpcep-approver/vpcep-approver/internal/approval"

// Submitted is a request that was submitted, as commands print it.
type Submitted struct {
	ID      string `json:"id"` // of the request: made from source and event_id
	EventID string `json:"event_id"`
	Source  string `json:"source"`
	Target  string `json:"target"`
}

// NewSubmitted returns what is printed of r.
func NewSubmitted(r approval.Request) Submitted {
	return Submitted{ID: r.ID, EventID: r.EventID, Source: r.Source, Target: r.Target.Name}
}
