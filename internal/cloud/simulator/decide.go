package simulator

import "net/http"

// The actions of VPCEP and APIG.
const (
	receive = "receive"
	reject  = "reject"
)

// denial says why a connection cannot be decided, with VPCEP's code; apigAction
// translates it.
type denial struct {
	status        int
	code, message string
}

// decidable returns the endpoint id of v, or why it cannot be received or rejected now.
func (s *Simulator) decidable(v *service, id string, c *call) (*endpoint, *denial) {
	e := s.cloud.endpoints[id]
	if e == nil {
		return nil, &denial{http.StatusNotFound, "EndPoint.2006", "The endpoint does not exist."}
	}
	state := e.stateAt(c.now).state
	switch {
	case state == gone:
		return nil, &denial{http.StatusNotFound, "EndPoint.2006", "The endpoint does not exist."}
	case e.service != v:
		return nil, &denial{http.StatusBadRequest, "EndPoint.2013", "The endpoint does not belong to the endpoint service."}
	case state == Deleting:
		return nil, &denial{http.StatusBadRequest, "EndPoint.2018", "The endpoint is being deleted."}
	case state == Creating:
		return nil, &denial{http.StatusBadRequest, "EndPoint.2019", "The endpoint is being created. Try again later."}
	case state == Failed:
		return nil, &denial{http.StatusBadRequest, "EndPoint.2047", "A failed endpoint cannot be modified."}
	}
	return e, nil
}

// decide applies verb to e, which decidable has returned. It reports whether e changed.
func (s *Simulator) decide(e *endpoint, verb string, c *call) bool {
	kind, already := EffectAccept, Accepted
	if verb == reject {
		kind, already = EffectReject, Rejected
	}
	if e.stateAt(c.now).state == already {
		s.tally.repeats++
		return false
	}
	if verb == receive {
		ends := Accepted
		if e.AcceptEnds != "" {
			ends = e.AcceptEnds
		}
		e.replaceFuture(c.now, step{c.now, Creating}, step{c.now.Add(s.cfg.Delays.Accept), ends})
	} else {
		e.replaceFuture(c.now, step{c.now, Rejected})
	}
	s.effect(c, kind, e.ID, e.ID)
	if e.decidedBy != "" && e.decidedBy != kind {
		s.tally.reversals++
	}
	e.decidedBy = kind
	return true
}
