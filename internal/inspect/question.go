package inspect

import (
	"cmp"
	"errors"
	"fmt"
	"time"

	"github.com/vpcep-approver/vpcep-approver/internal/approval"
	"github.com/vpcep-approver/vpcep-approver/internal/cli"
	"github.com/vpcep-approver/vpcep-approver/internal/submit"
)

// AnyEndpoint stands for the endpoint where none is named.
const AnyEndpoint = "00000000-0000-4000-8000-000000000001"

// Question is a request that the policies are asked about, with what the cloud would
// show of it.
type Question struct {
	submit.Spec

	Recorded       string // id of a request in the ledger
	Domain, State  string
	Accepted       cli.CountFlag
	Marker         int64
	Now, CreatedAt cli.TimeFlag
}

// Factual reports whether q says what the cloud shows.
func (q *Question) Factual() bool {
	return q.Domain != "" || q.State != "" || q.Marker != 0 || q.Accepted.Known || !q.CreatedAt.At.IsZero()
}

// Check reports what does not go together, in the words of flags.
func (q *Question) Check() error {
	factual := q.Factual()
	if q.Recorded != "" {
		factual = q.Domain != "" || q.State != "" || q.Marker != 0 || !q.CreatedAt.At.IsZero()
	}
	asked := q.Target != "" || q.EndpointID != "" || len(q.Claims) > 0
	switch {
	case q.Recorded != "" && (factual || asked || q.File != ""):
		return errors.New("--request takes the whole request and its facts from the ledger — only --now and --accepted go with it")
	case q.Recorded != "":
		var err error
		q.Recorded, err = CheckID(q.Recorded)
		return err
	case q.File != "" && asked:
		return errors.New("--file holds the whole request — leave --target, --endpoint-id and --claim out; the facts are given by flags")
	case q.File == "" && q.Target == "":
		return errors.New("no request — name its --target, give it as --file, or name one of the ledger by --request")
	}
	if q.Domain != "" {
		if err := approval.ValidID(q.Domain); err != nil {
			return fmt.Errorf("--domain-id: %w", err)
		}
	}
	return submit.CheckClaims(q.Claims)
}

// Input is what the policies are asked, of targets at now unless q has its own time.
func (q *Question) Input(targets approval.Targets, env cli.Environment, now time.Time) (approval.Input, error) {
	in := approval.Input{Now: q.Now.Or(now)}
	req, err := q.Request(targets, env)
	if err != nil {
		return in, cli.WithCode(cli.ExitInvalid, err)
	}
	if req.Source == submit.DefaultSource { // it came without an event around it
		req.Source, req.EventID, req.ID, req.Time = "", "", "", in.Now
	}
	in.Request = req
	if req.Creates() && q.Factual() {
		return in, fmt.Errorf("requests to %s create endpoints, and the cloud shows no facts of those — leave the facts out", req.Target.Name)
	}
	if !req.Creates() && q.Factual() {
		in.Facts = approval.Facts{
			EndpointID: req.EndpointID, DomainID: approval.CanonicalID(q.Domain), State: approval.State(cmp.Or(q.State, string(approval.Pending))),
			MarkerID: q.Marker, Accepted: q.Accepted.Count, CreatedAt: q.CreatedAt.At, ReadAt: in.Now,
		}
	}
	return in, nil
}
