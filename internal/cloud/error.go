package cloud

import (
	"errors"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/vpcep-approver/vpcep-approver/internal/approval"
)

// Class is what an answer means for whoever asked. It is told from the error
// code first and from the HTTP status second, never from a text.
type Class string

// The classes. Only the first is not an error.
const (
	ClassOK          Class = "ok"
	ClassRetry       Class = "retry"           // broken, may pass
	ClassUnknown     Class = "outcome_unknown" // as retry, and it may have been done
	ClassThrottle    Class = "throttle"        // too many calls; not done
	ClassSlow        Class = "slow_retry"      // busy, passes in minutes; not done
	ClassOpen        Class = "breaker_open"    // not even called: the API is down
	ClassCredentials Class = "credentials"     // the credential is refused; not done
	ClassOperator    Class = "operator"        // permission, quota, wrong id, host or project; not done
	ClassGone        Class = "gone"            // the endpoint does not exist any more
	ClassAlreadyDone Class = "already_done"    // the list has to confirm it
	ClassFinal       Class = "final"           // the request's own content is wrong
)

// Classes returns every class.
func Classes() []Class {
	return []Class{
		ClassOK, ClassRetry, ClassUnknown, ClassThrottle, ClassSlow, ClassOpen,
		ClassCredentials, ClassOperator, ClassGone, ClassAlreadyDone, ClassFinal,
	}
}

var (
	// ErrCredentials is wrapped by errors that stand for a refused credential.
	ErrCredentials = errors.New("the credential is refused")
	// ErrNoReadBack is wrapped by the error of Look where nothing can be read.
	ErrNoReadBack = errors.New("this creation cannot be read back")
)

// Error is a call that did not succeed. Its text never repeats the cloud's own,
// which may quote what was sent.
type Error struct {
	API, Op   string // such as "vpcep", "AcceptOrRejectEndpoint"
	Target    string // name of the target that it was called for; empty if there is none
	Class     Class
	Status    int           // HTTP status; 0 if there was no answer
	Code      string        // the cloud's error code, or ours in snake_case
	Text      string        // what it means and, if one can do something, what
	RequestID string        // the cloud's id of the call
	Wait      time.Duration // from Retry-After or what it stands for; 0 if unknown
	Err       error         // what lies under it, if anything

	changes       bool // the call was to change something
	notSent       bool // it provably never left
	authenticated bool // the answer can only come from an API that has accepted the credential
	refusesKey    bool // a refusal of the credential that speaks of the key itself
	// withheld says that the caller did not permit it, see approval.Permit.
	notPermitted bool
	// inDoubt says that an earlier try of the same call may have been carried out.
	maybeDone bool
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

// Retryable reports whether the same call can succeed later. What only the
// operator can fix can: it is no reason to fail a request.
func (e *Error) Retryable() bool {
	switch e.Class {
	case ClassFinal, ClassGone, ClassOK:
		return false
	default:
		return true
	}
}

// RetryAfter is how long to wait before the next try; 0 leaves it to the caller.
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

// OutcomeUnknown reports whether the call may have changed something although
// it did not succeed.
func (e *Error) OutcomeUnknown() bool {
	return e.maybeDone || e.changes && !e.notSent && (e.Class == ClassUnknown || e.Class == ClassRetry)
}

// NoReadBack reports whether e says that a creation can never be looked for.
func (e *Error) NoReadBack() bool { return errors.Is(e.Err, ErrNoReadBack) }

// Gone reports whether the endpoint does not exist any more.
func (e *Error) Gone() bool { return e.Class == ClassGone }

// operatorWait is the least wait after what the operator must fix; the caller's
// own backoff adds to it.
const operatorWait = 5 * time.Second

// OperatorFault returns e as a fault that only the operator can fix, and whether
// it is one.
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

// Failure is the form for requester and support.
func (e *Error) Failure() approval.Failure {
	f := approval.Failure{Code: e.Code, Text: e.Text, RequestID: e.RequestID}
	if f.Code == "" {
		f.Code = string(e.Class)
	}
	if f.Text == "" {
		f.Text = "the cloud did not carry out the call " + e.Op
	}
	return f
}

// refuse is the error of a call that is wrong before it is made.
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

// byStatus is the class of an answer without a code that we know. body tells
// whether the answer was in one of the API's own error shapes; if not, something
// in front of the API has spoken, and what it says is not the API's last word.
//
// An answer ends a request only where the status says that the content of the
// call is wrong. All else that is refused may be right once the operator has
// fixed it.
func byStatus(status int, body bool) (class Class, text string) {
	switch {
	case status == http.StatusTooManyRequests:
		return ClassThrottle, "too many calls"
	case status >= 300 && status < 400:
		return ClassUnknown, "answered with a redirect, which is not followed; check the endpoint of this API"
	case status == http.StatusProxyAuthRequired:
		return ClassOperator, "a proxy requires a login; check the proxy settings of the process"
	case !body && status == http.StatusNotFound:
		return ClassOperator, "no such address; check the endpoint of this API"
	case !body:
		return ClassUnknown, "the answer is not one of the API's; a firewall, proxy or load balancer may stand in between"
	case status == http.StatusUnauthorized:
		return ClassCredentials, "the credential is not accepted"
	case status >= 500 || status == http.StatusRequestTimeout:
		return ClassUnknown, "the API is broken or does not answer in time"
	}
	switch status {
	case http.StatusConflict, http.StatusLocked, http.StatusTooEarly, http.StatusPreconditionFailed:
		return ClassSlow, "the resource is busy"
	case http.StatusForbidden, http.StatusPaymentRequired:
		return ClassOperator, "the API does not permit the call; check the permissions, the project and the region"
	case http.StatusNotFound, http.StatusGone:
		return ClassOperator, "the API does not know what is called; check the target's id, its project and the region"
	case http.StatusBadRequest, http.StatusNotAcceptable, http.StatusLengthRequired, http.StatusRequestEntityTooLarge,
		http.StatusRequestURITooLong, http.StatusUnsupportedMediaType, http.StatusRequestedRangeNotSatisfiable,
		http.StatusExpectationFailed, http.StatusUnprocessableEntity, http.StatusFailedDependency,
		http.StatusRequestHeaderFieldsTooLarge:
		return ClassFinal, "the API refuses the content of the call"
	}
	return ClassOperator, "the API refuses the call; check the endpoint, the project and the region"
}
