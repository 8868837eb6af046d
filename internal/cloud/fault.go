package cloud

import (
	"sync"
	"time"
)

// faultTTL is how long a fault stays active without another call of its operation: the
// request may have moved to another worker.
const faultTTL = 15 * time.Minute

// faults tracks the active operator faults by API and target. It is safe for concurrent
// use.
type faults struct {
	observer Observer

	mu     sync.Mutex
	active map[faultKey]*activeFault
	worked map[operationKey]time.Time // when the latest call that worked was sent
}

type faultKey struct{ api, target string }

type operationKey struct {
	faultKey
	operation string
}

type activeFault struct {
	operations map[string]bool
	expiry     *time.Timer
}

func newFaults(obs Observer) *faults {
	return &faults{observer: obs, active: map[faultKey]*activeFault{}, worked: map[operationKey]time.Time{}}
}

// report records e if it is an operator fault, of a call that was sent at sent. It says
// nothing any more if a call of the same operation was sent later, and worked.
func (f *faults) report(e *Error, sent time.Time) {
	fault, ok := e.OperatorFault()
	if !ok {
		return
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	key := faultKey{e.API, e.Target}
	if sent.Before(f.worked[operationKey{key, e.Op}]) {
		return
	}
	a := f.active[key]
	if a == nil {
		a = &activeFault{operations: map[string]bool{}}
		a.expiry = time.AfterFunc(faultTTL, func() { f.expire(key, a) })
		f.active[key] = a
	}
	a.operations[e.Op] = true
	a.expiry.Reset(faultTTL)
	f.observer.OperatorFault(e.Target, fault)
}

// keep has a fault stay active: a call of its target waits, which is not sent because the
// credential is refused. Of all the calls that wait for the credential one is sent now
// and then, and it may always be that of another target.
func (f *faults) keep(api, target string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if a := f.active[faultKey{api, target}]; a != nil {
		a.expiry.Reset(faultTTL)
	}
}

// resolve records that an operation works, by a call that was sent at sent.
func (f *faults) resolve(api, operation, target string, sent time.Time) {
	f.mu.Lock()
	defer f.mu.Unlock()
	key := faultKey{api, target}
	if op := (operationKey{key, operation}); sent.After(f.worked[op]) {
		f.worked[op] = sent
	}
	a := f.active[key]
	if a == nil {
		return
	}
	if delete(a.operations, operation); len(a.operations) == 0 {
		a.expiry.Stop()
		f.end(key)
	}
}

func (f *faults) expire(key faultKey, a *activeFault) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.active[key] == a {
		f.end(key)
	}
}

// end removes key. The caller holds f.mu.
func (f *faults) end(key faultKey) {
	delete(f.active, key)
	f.observer.OperatorFaultOver(key.api, key.target)
}
