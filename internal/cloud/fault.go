package cloud

import (
	"sync"
	"time"
)

// faultFor is how long a fault counts as active if no call of the kind follows:
// the request that met it may have gone to another worker.
const faultTTL = 15 * time.Minute

// faults keeps which APIs refuse what only the operator can fix. The keys are
// APIs and names of targets, so there are few.
type faults struct {
	observer Observer

	mu     sync.Mutex
	active map[faultKey]*activeFault
}

type faultKey struct{ api, target string }

type activeFault struct {
	operations map[string]bool
	expiry     *time.Timer
}

func newFaults(obs Observer) *faults {
	return &faults{observer: obs, active: map[faultKey]*activeFault{}}
}

// met takes note of the fault e.
func (f *faults) report(e *Error) {
	fault, ok := e.OperatorFault()
	if !ok {
		return
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	key := faultKey{e.API, e.Target}
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

// over takes note that an operation works again.
func (f *faults) resolve(api, operation, target string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	key := faultKey{api, target}
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

// end drops key; with f.mu held.
func (f *faults) end(key faultKey) {
	delete(f.active, key)
	f.observer.OperatorFaultOver(key.api, key.target)
}
