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

// FaultKind is a kind of fault.
type FaultKind string

// The kinds of fault. Most respond instead of the operation, unless Fault.Done is set;
// the first that matches a call wins. Slow, StaleList, UnknownState and the list faults
// combine with other faults.
const (
	Throttle429   FaultKind = "throttle-429"  // 429 APIGW.0308; FunctionGraph: FSS.0429, IAM: IAM.0012
	Throttle400   FaultKind = "throttle-400"  // 400 EndPoint.0022; VPCEP only
	Throttle500   FaultKind = "throttle-500"  // 500 APIG.9008; APIG only
	ServerError   FaultKind = "server-error"  // 500 with the code of the API; Status can set 502, 503 or 504
	HTML          FaultKind = "html"          // HTML page of a firewall, with 200 or Status
	Redirect302   FaultKind = "redirect-302"  // a redirect
	ExpiredToken  FaultKind = "expired-token" // 401 APIGW.0307; a token issued by IAM becomes invalid
	Refuse        FaultKind = "refuse"        // Status and Code
	CutBefore     FaultKind = "cut-before"    // the connection closes before the operation
	Down          FaultKind = "down"          // as cut-before, without latency
	CutAfter      FaultKind = "cut-after"     // the connection closes after the operation
	Empty200      FaultKind = "empty-200"     // the operation succeeds; the response has no body
	TruncatedJSON FaultKind = "garbage-json"  // the operation succeeds; the response is truncated
	Slow          FaultKind = "slow"          // Delay before the operation, or after it if Done
	StaleList     FaultKind = "stale-list"    // lists show the state of Delay ago
	UnknownState  FaultKind = "unknown-state" // lists show an undocumented state
)

// FaultKinds returns all kinds, in the order of docs/simulator.md.
func FaultKinds() []FaultKind {
	return []FaultKind{
		Throttle429, Throttle400, Throttle500, ServerError, HTML, Redirect302, ExpiredToken, Refuse,
		CutBefore, Down, CutAfter, Empty200, TruncatedJSON, Slow, StaleList, UnknownState,
		MissingRows, ShiftedRows, SmallPages, LargePages, DuplicateRows, DuplicateMember, DelayedRows, WrongIdentity, Partial206,
		Permission, Quota, UnknownService, WrongProject,
	}
}

// Fault describes a fault and the calls that it affects.
type Fault struct {
	API, Operation string // empty: any
	Kind           FaultKind
	Count          int           // number of calls affected; 0: unlimited
	Probability    float64       // that a matching call is affected; 0: always
	After          time.Duration // from Inject to the start of the fault
	For            time.Duration // duration; 0: unlimited
	Status         int           // HTTP status, if the kind has a choice; 0: its default
	Code           string        // error code of Refuse
	RetryAfter     time.Duration // header Retry-After, in whole seconds; 0: none
	Delay          time.Duration // of Slow, StaleList and LateRows; 0: 2 s, 10 s and 30 s
	Rows           int           // parameter of list faults; 0: see the kinds
	Field          string        // parameter of list faults; empty: domain_id
	Done           bool          // the operation is carried out before the fault responds
}

// activeFault is an injected fault.
type activeFault struct {
	Fault
	from time.Time
	left int // remaining calls, if Count is set
	rng  *rand.Rand
}

// Inject adds f after the existing faults.
func (s *Simulator) Inject(f Fault) {
	s.mu.Lock()
	defer s.mu.Unlock()
	number := uint64(len(s.faults))
	s.faults = append(s.faults, &activeFault{
		Fault: f, from: s.now().Add(f.After), left: f.Count,
		rng: rand.New(rand.NewPCG(s.cfg.Seed, number)), //nolint:gosec // G404: a simulation must be repeatable
	})
}

// ClearFaults removes all faults.
func (s *Simulator) ClearFaults() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.faults = nil
}

// Faults returns the active and upcoming faults, with their remaining calls as Count.
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

// plan is the effect of the faults on a call.
type plan struct {
	answer       *Fault        // determines the response; nil: none
	before       time.Duration // wait before the operation
	after        time.Duration // wait after the operation
	stale        time.Duration
	unknownState bool
	listFaults   []*Fault
	kinds        []FaultKind
}

// plan returns the effect of all matching faults, and counts them.
func (s *Simulator) plan(r route, now time.Time) plan {
	var p plan
	for _, f := range s.faults {
		list := slices.Contains(listFaultKinds(), f.Kind)
		modifies := list || f.Kind == Slow || f.Kind == StaleList || f.Kind == UnknownState
		if !modifies && p.answer != nil || !f.matches(r, now) {
			continue
		}
		p.kinds = append(p.kinds, f.Kind)
		if list {
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

// matches reports whether f affects a call of r at now, and counts the call if so.
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

// faultHeader names the fault that made a response deviate from the reference. Slow and
// stale responses do not have it.
const faultHeader = "X-Sim-Fault"

// respond serves c with the faults of p.
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

// cut closes the connection without a response.
func cut(w http.ResponseWriter) {
	if conn, _, err := http.NewResponseController(w).Hijack(); err == nil {
		_ = conn.Close() // it may be closed already
		return
	}
	panic(http.ErrAbortHandler) // closes connections that cannot be hijacked, as in HTTP/2
}

// answer returns the response of f to c. a is the response of the operation, if it was
// carried out.
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
		return refuse(status(http.StatusBadRequest), f.Code, "Refused by a fault.")
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
	return refuse(http.StatusNotImplemented, "Simulator.0001", "The simulator does not know the fault kind "+string(f.Kind))
}

// serverError returns a failure of the API of c or of its gateway.
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
