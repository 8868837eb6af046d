package simulator

import (
	"cmp"
	"context"
	"math/rand/v2"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"
)

// FaultKind is a way to misbehave.
type FaultKind string

// The kinds of fault. Those that answer do so instead of the deed, unless
// Fault.Done is set; the first of them that fits a call is taken. Slow,
// StaleList, UnknownState and those that falsify lists go together with any other.
const (
	Throttle429   FaultKind = "throttle-429"   // 429 APIGW.0308; FSS.0429 and IAM.0012 in their APIs
	Throttle400   FaultKind = "throttle-400"   // 400 EndPoint.0022; VPCEP only
	Throttle500   FaultKind = "throttle-500"   // 500 APIG.9008; APIG only
	ServerError   FaultKind = "server-error"   // 500, or 502, 503, 504 by Status, with the code of the API
	HTML          FaultKind = "html"           // a page of the firewall; 200 or by Status
	Redirect302   FaultKind = "redirect-302"   // to nowhere
	ExpiredToken  FaultKind = "expired-token"  // 401 APIGW.0307, and the token of the call is good no more
	Refuse        FaultKind = "refuse"         // Status and Code of one's choice
	CutBefore     FaultKind = "cut-before"     // the connection is closed, nothing was done
	Down          FaultKind = "down"           // as cut-before, with no wait before
	CutAfter      FaultKind = "cut-after"      // the connection is closed when it is done
	Empty200      FaultKind = "empty-200"      // done, and the answer has no body
	TruncatedJSON FaultKind = "truncated-json" // done, and the answer breaks off
	Slow          FaultKind = "slow"           // Delay before the deed, or after it if Done
	StaleList     FaultKind = "stale-list"     // lists show the state of Delay ago
	UnknownState  FaultKind = "unknown-state"  // lists show a state that no reference knows
)

// FaultKinds returns all kinds, in the order of the documentation.
func FaultKinds() []FaultKind {
	return []FaultKind{
		Throttle429, Throttle400, Throttle500, ServerError, HTML, Redirect302, ExpiredToken, Refuse,
		CutBefore, Down, CutAfter, Empty200, TruncatedJSON, Slow, StaleList, UnknownState,
		MissingRows, ShiftedRows, SmallPages, LargePages, DuplicateRows, DuplicateMember, DelayedRows, WrongIdentity, Partial206,
		Permission, Quota, UnknownService, WrongProject,
	}
}

// Fault is one misbehaviour: of which calls, when, how often and how.
type Fault struct {
	API, Operation string // empty: any
	Kind           FaultKind
	Count          int           // how many calls it meets; 0: until it is cleared
	Probability    float64       // of meeting a call that fits; 0: always
	After          time.Duration // from Inject until it begins
	For            time.Duration // how long it then lasts; 0: until it is cleared
	Status         int           // HTTP status, where the kind leaves a choice; 0: the usual one
	Code           string        // error code of Refuse
	RetryAfter     time.Duration // header Retry-After, in whole seconds; 0: none
	Delay          time.Duration // of Slow, StaleList and LateRows; 0: 2 s, 10 s and 30 s
	Rows           int           // of those that falsify pages; 0: see the kinds
	Field          string        // of those that falsify rows; empty: domain_id
	Done           bool          // the deed is done before the fault answers
}

// activeFault is a fault in force.
type activeFault struct {
	Fault
	from time.Time
	left int // calls, if Count is set
	rng  *rand.Rand
}

// Inject puts f in force from now on, after those that are.
func (s *Simulator) Inject(f Fault) {
	s.mu.Lock()
	defer s.mu.Unlock()
	number := uint64(len(s.faults))
	s.faults = append(s.faults, &activeFault{
		Fault: f, from: s.now().Add(f.After), left: f.Count,
		rng: rand.New(rand.NewPCG(s.cfg.Seed, number)), //nolint:gosec // G404: the dice of a simulation are to repeat
	})
}

// ClearFaults ends all faults.
func (s *Simulator) ClearFaults() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.faults = nil
}

// Faults returns the faults in force or still to come, with the calls that are
// left to them as Count.
func (s *Simulator) Faults() []Fault {
	s.mu.Lock()
	defer s.mu.Unlock()
	var out []Fault
	for _, f := range s.faults {
		if f.Count > 0 && f.left == 0 || f.For > 0 && !s.now().Before(f.from.Add(f.For)) {
			continue
		}
		x := f.Fault
		x.Count = f.left
		out = append(out, x)
	}
	return out
}

// plan is what the faults do to one call.
type plan struct {
	answer       *Fault        // nil: the call is answered as it should be
	before       time.Duration // to wait before the deed
	after        time.Duration // to wait after it
	stale        time.Duration
	unknownState bool
	listFaults   []*Fault
	kinds        []FaultKind
}

// plan asks every fault in force, and uses up those that meet the call.
func (s *Simulator) plan(r route, now time.Time) plan {
	var p plan
	for _, f := range s.faults {
		lies := slices.Contains(listFaultKinds(), f.Kind)
		modifies := lies || f.Kind == Slow || f.Kind == StaleList || f.Kind == UnknownState
		if !modifies && p.answer != nil || !f.matches(r, now) {
			continue
		}
		p.kinds = append(p.kinds, f.Kind)
		if lies {
			p.listFaults = append(p.listFaults, &f.Fault)
			continue
		}
		switch f.Kind {
		case Slow:
			if f.Done {
				p.after += cmp.Or(f.Delay, 2*time.Second)
			} else {
				p.before += cmp.Or(f.Delay, 2*time.Second)
			}
		case StaleList:
			p.stale += cmp.Or(f.Delay, 10*time.Second)
		case UnknownState:
			p.unknownState = true
		default:
			p.answer = &f.Fault
		}
	}
	return p
}

// meets reports whether f meets a call of r at now, and counts it if so.
func (f *activeFault) matches(r route, now time.Time) bool {
	api := f.API
	if api == "" && f.Kind == Throttle400 {
		api = VPCEP
	}
	if api == "" && f.Kind == Throttle500 {
		api = APIG
	}
	switch {
	case api != "" && api != r.api, f.Operation != "" && !strings.EqualFold(f.Operation, r.operation):
		return false
	case now.Before(f.from), f.For > 0 && !now.Before(f.from.Add(f.For)):
		return false
	case slices.Contains(listFaultKinds(), f.Kind) && !slices.Contains(listOperations(), r.operation):
		return false
	case f.Count > 0 && f.left == 0:
		return false
	case f.Probability > 0 && f.rng.Float64() >= f.Probability:
		return false
	}
	if f.Count > 0 {
		f.left--
	}
	return true
}

// faultHeader names the fault in an answer that a fault made unlike what the
// reference says; what is only slow or stale is not marked.
const faultHeader = "X-Sim-Fault"

// play carries c out as p wants it.
func (s *Simulator) respond(ctx context.Context, w http.ResponseWriter, c *call, p plan) {
	f := p.answer
	if f != nil && f.Kind == Down {
		cut(w)
		return
	}
	wait(ctx, p.before)
	if f == nil {
		a := s.do(c, p)
		wait(ctx, p.after)
		if p.unknownState {
			a.header = map[string]string{faultHeader: string(UnknownState)}
		}
		if len(p.listFaults) > 0 {
			a.header = map[string]string{faultHeader: string(p.listFaults[0].Kind)}
		}
		s.write(w, c, a)
		return
	}
	var a answer
	if f.Done || slices.Contains([]FaultKind{CutAfter, Empty200, TruncatedJSON, Partial206}, f.Kind) {
		a = s.do(c, p)
		wait(ctx, p.after)
	}
	switch f.Kind {
	case CutBefore, CutAfter:
		cut(w)
		return
	case ExpiredToken:
		s.mu.Lock()
		if s.keyring.tokens[c.request.Header.Get("X-Auth-Token")].expires != (time.Time{}) {
			delete(s.keyring.tokens, c.request.Header.Get("X-Auth-Token"))
		}
		s.mu.Unlock()
	default:
	}
	a = f.answer(a, c)
	if a.header == nil {
		a.header = map[string]string{}
	}
	a.header[faultHeader] = string(f.Kind)
	if f.RetryAfter > 0 {
		a.header["Retry-After"] = strconv.Itoa(int((f.RetryAfter + time.Second - 1) / time.Second))
	}
	s.write(w, c, a)
}

// cut closes the connection without an answer.
func cut(w http.ResponseWriter) {
	if conn, _, err := http.NewResponseController(w).Hijack(); err == nil {
		_ = conn.Close() // there is nothing to do for a connection that is closed already
		return
	}
	panic(http.ErrAbortHandler) // the documented way where a connection cannot be taken over, as in HTTP/2
}

// falsify returns what f answers to c, whose right answer, if it was done, is a.
func (f *Fault) answer(a answer, c *call) answer {
	status := func(usual int) int {
		if f.Status != 0 {
			return f.Status
		}
		return usual
	}
	switch f.Kind {
	case Throttle429:
		const message = "The throttling threshold has been reached: policy user over ratelimit,limit:60,time:1 minute"
		switch c.api {
		case FunctionGraph:
			return refuse(http.StatusTooManyRequests, "FSS.0429", message)
		case IAM:
			return iamRefuse(http.StatusTooManyRequests, "IAM.0012", message)
		default:
			return gateway(http.StatusTooManyRequests, "APIGW.0308", message, c.id)
		}
	case Throttle400:
		return refuse(http.StatusBadRequest, "EndPoint.0022", "Too many requests. Try again later.")
	case Throttle500:
		return refuse(http.StatusInternalServerError, "APIG.9008", "Too many requests, try again later")
	case ServerError:
		return serverError(c, status(http.StatusInternalServerError))
	case Refuse:
		return refuse(status(http.StatusBadRequest), f.Code, "Refused on demand.")
	case ExpiredToken:
		return gateway(http.StatusUnauthorized, "APIGW.0307", "The token must be updated.", c.id)
	case HTML:
		return answer{
			status: status(http.StatusOK), header: map[string]string{"Content-Type": "text/html; charset=utf-8"},
			raw: []byte("<!DOCTYPE html>\n<html><head><title>Access denied</title></head><body><h1>Your request was blocked</h1></body></html>\n"),
		}
	case Redirect302:
		return answer{status: http.StatusFound, header: map[string]string{"Location": "/v1/elsewhere"}}
	case Empty200:
		return answer{status: http.StatusOK}
	case TruncatedJSON:
		return answer{
			status: a.status, header: map[string]string{"Content-Type": "application/json"},
			raw: []byte(`{"connections":[{"id":"705290f3-0d00-41f2-`),
		}
	case Partial206:
		if a.status == http.StatusOK {
			a.status = http.StatusPartialContent
		}
		return a
	case Permission, Quota, UnknownService, WrongProject:
		return operatorFault(f.Kind, c)
	default:
	}
	return refuse(http.StatusNotImplemented, "Simulator.0001", "The simulator knows no fault of the kind "+string(f.Kind))
}

// serverError is a failure of the API of c, or of the gateway before it.
func serverError(c *call, status int) answer {
	switch status {
	case http.StatusInternalServerError:
		switch c.api {
		case VPCEP:
			return refuse(status, "EndPoint.0001", "System error. Try again later.")
		case APIG:
			return refuse(status, "APIC.9000", "Failed to access an internal service")
		case FunctionGraph:
			return refuse(status, "FSS.0500", "Internal error")
		default:
			return gateway(status, "APIGW.0605", "Internal error", c.id)
		}
	case http.StatusBadGateway:
		return gateway(status, "APIGW.0202", "Backend unavailable", c.id)
	case http.StatusServiceUnavailable:
		return gateway(status, "APIGW.0613", "IAM is unavailable", c.id)
	case http.StatusGatewayTimeout:
		if c.api == VPCEP {
			return refuse(status, "EndPoint.0013", "The request timed out.")
		}
		return gateway(status, "APIGW.0203", "Backend timeout", c.id)
	default:
		return gateway(status, "APIGW.0201", "Backend error", c.id)
	}
}
