package cloud

import (
	"errors"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/vpcep-approver/vpcep-approver/internal/approval"
)

// Class says what an error means for the caller. It depends on the error code first
// and on the HTTP status second, never on a text.
type Class string

// The classes. All but ClassOK are errors.
const (
	ClassOK          Class = "ok"
	ClassRetry       Class = "retry"           // temporary failure
	ClassUnknown     Class = "outcome_unknown" // as retry, but it may have taken effect
	ClassThrottle    Class = "throttle"        // too many calls; no effect
	ClassSlow        Class = "slow_retry"      // busy for minutes; no effect
	ClassOpen        Class = "breaker_open"    // not sent: the circuit breaker is open
	ClassCredentials Class = "credentials"     // the credential is refused; no effect
	ClassOperator    Class = "operator"        // permission, quota, wrong id, host or project; no effect
	ClassGone        Class = "gone"            // the endpoint no longer exists
	ClassAlreadyDone Class = "already_done"    // the list must confirm it
	ClassFinal       Class = "final"           // the content of the request is wrong
)

// Classes returns every class.
func Classes() []Class {
	return []Class{
		ClassOK, ClassRetry, ClassUnknown, ClassThrottle, ClassSlow, ClassOpen,
		ClassCredentials, ClassOperator, ClassGone, ClassAlreadyDone, ClassFinal,
	}
}

var (
	// ErrCredentials is wrapped by errors about a refused credential.
	ErrCredentials = errors.New("the credential is refused")
	// ErrNoReadBack is wrapped by the error of Look for creations that cannot be read.
	ErrNoReadBack = errors.New("this creation cannot be read back")
)

// Error is the error of a call. It never contains the cloud's own message, which may
// quote secrets of the request.
type Error struct {
	API, Op   string // such as "vpcep", "AcceptOrRejectEndpoint"
	Target    string // name of the target; empty if there is none
	Class     Class
	Status    int           // HTTP status; 0 without a response
	Code      string        // the cloud's error code, or one of this package in snake_case
	Text      string        // the meaning and the next step
	RequestID string        // the cloud's id of the request
	Wait      time.Duration // time until a retry; 0 if unknown
	Err       error         // the cause; may be nil

	changes       bool // the call is not safe
	notSent       bool // the request was certainly not sent
	authenticated bool // the response proves that the API accepted the credential
	refusesKey    bool // the refusal concerns the key itself
	notPermitted  bool // approval.Permit refused the call
	maybeDone     bool // an earlier attempt of the call may have taken effect
}

func (e *Error) Error() string {
	var b strings.Builder
	b.WriteString(e.API + " " + e.Op + ": ")
	if e.Status != 0 {
		b.WriteString(strconv.Itoa(e.Status) + " ")
	}
	if e.Code != "" {
		b.WriteString(e.Code + " ")
	}
	b.WriteString("(" + string(e.Class) + ")")
	if e.Text != "" {
		b.WriteString(": " + e.Text)
	}
	if e.Err != nil {
		b.WriteString(": " + e.Err.Error())
	}
	if e.RequestID != "" {
		b.WriteString(" [request id " + e.RequestID + "]")
	}
	return b.String()
}

func (e *Error) Unwrap() error { return e.Err }

// Retryable reports whether the same call can succeed later. That includes what only
// the operator can fix, which must not fail a request.
func (e *Error) Retryable() bool {
	switch e.Class {
	case ClassFinal, ClassGone, ClassOK:
		return false
	default:
		return true
	}
}

// RetryAfter returns the time to wait before a retry; 0 leaves it to the caller.
func (e *Error) RetryAfter() time.Duration {
	if e.Wait > 0 {
		return e.Wait
	}
	switch e.Class {
	case ClassThrottle:
		return 2 * time.Second
	case ClassSlow:
		return 30 * time.Second
	case ClassOperator:
		return operatorWait
	case ClassCredentials:
		return checkInterval
	default:
		return 0
	}
}

// OutcomeUnknown reports whether the call may have taken effect.
func (e *Error) OutcomeUnknown() bool {
	return e.maybeDone || e.changes && !e.notSent && (e.Class == ClassUnknown || e.Class == ClassRetry)
}

// NoReadBack reports whether e says that the creation cannot be read back.
func (e *Error) NoReadBack() bool { return errors.Is(e.Err, ErrNoReadBack) }

// Gone reports whether the endpoint no longer exists.
func (e *Error) Gone() bool { return e.Class == ClassGone }

// operatorWait is the minimum wait after an operator fault; the caller adds its own
// backoff.
const operatorWait = 5 * time.Second

// OperatorFault returns e as a fault that only the operator can fix. The result is
// false if e is not one.
func (e *Error) OperatorFault() (approval.OperatorFault, bool) {
	if e.Class != ClassOperator && e.Class != ClassCredentials {
		return approval.OperatorFault{}, false
	}
	f := approval.OperatorFault{API: e.API, Operation: e.Op, Code: e.Code, Text: e.Text, RequestID: e.RequestID}
	if f.Code == "" {
		f.Code = "http_" + strconv.Itoa(e.Status)
	}
	return f, true
}

// Failure returns e in the form that the result event has.
func (e *Error) Failure() approval.Failure {
	f := approval.Failure{Code: e.Code, Text: e.Text, RequestID: e.RequestID}
	if f.Code == "" {
		f.Code = string(e.Class)
	}
	if f.Text == "" {
		f.Text = "the cloud did not carry out " + e.Op
	}
	return f
}

// refuse returns the error of an invalid call that is not sent.
func refuse(api, op, code string, err error) *Error {
	return &Error{API: api, Op: op, Class: ClassFinal, Code: code, Err: err, notSent: true}
}

// asError returns the *Error in err.
func asError(err error) (*Error, bool) { return errors.AsType[*Error](err) }

// is reports whether err is an *Error of class c.
func is(err error, c Class) bool {
	e, ok := asError(err)
	return ok && e.Class == c
}

// byStatus returns the class of a response without a known code. body says whether the
// response has the form of an API error; if not, it comes from something in front of
// the API and decides nothing.
//
// Only statuses about the content of the request end a request. Other refusals may
// pass once the operator has fixed the cause.
func byStatus(status int, body bool) (class Class, text string) {
	switch {
	case status == http.StatusTooManyRequests:
		return ClassThrottle, "too many calls"
	case status >= 300 && status < 400:
		return ClassUnknown, "the response is a redirect, which is not followed; check the endpoint of this API"
	case status == http.StatusProxyAuthRequired:
		return ClassOperator, "a proxy requires a login; check the proxy settings of the process"
	case !body && status == http.StatusNotFound:
		return ClassOperator, "there is no API at this address; check the endpoint of this API"
	case !body:
		return ClassUnknown, "the response is not from the API; check for a firewall, proxy or load balancer in between"
	case status == http.StatusUnauthorized:
		return ClassCredentials, "the credential is refused"
	case status >= 500 || status == http.StatusRequestTimeout:
		return ClassUnknown, "the API failed or timed out"
	}
	switch status {
	case http.StatusConflict, http.StatusLocked, http.StatusTooEarly, http.StatusPreconditionFailed:
		return ClassSlow, "the resource is busy"
	case http.StatusForbidden, http.StatusPaymentRequired:
		return ClassOperator, "the API does not permit the request; check the permissions, the project and the region"
	case http.StatusNotFound, http.StatusGone:
		return ClassOperator, "the API does not know the resource; check the target's id, its project and the region"
	case http.StatusBadRequest, http.StatusNotAcceptable, http.StatusLengthRequired, http.StatusRequestEntityTooLarge,
		http.StatusRequestURITooLong, http.StatusUnsupportedMediaType, http.StatusRequestedRangeNotSatisfiable,
		http.StatusExpectationFailed, http.StatusUnprocessableEntity, http.StatusFailedDependency,
		http.StatusRequestHeaderFieldsTooLarge:
		return ClassFinal, "the API refuses the content of the request"
	}
	return ClassOperator, "the API refuses the request; check the endpoint, the project and the region"
}
