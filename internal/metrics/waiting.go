package metrics

import (
	"container/heap"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// The causes for which requests wait.
const (
	WaitSlot         = "slot"         // all slots of the target are in use
	WaitListing      = "listing"      // the cloud's lists do not show the connection as expected yet
	WaitConfirmation = "confirmation" // the cloud does not show the wanted state yet
	WaitCloud        = "cloud"        // a cloud API answers with an error that may pass
	WaitOperator     = "operator"     // a cloud API answers with an error that only the operator can fix
	WaitInternal     = "internal"     // the ledger or the bus cannot be read or written
	WaitPaused       = "paused"       // an operator has paused the target
	WaitOther        = "other"        // another request or worker has to finish first
)

// WaitCauses returns every cause.
func WaitCauses() []string {
	return []string{WaitSlot, WaitListing, WaitConfirmation, WaitCloud, WaitOperator, WaitInternal, WaitPaused, WaitOther}
}

// waiting is a gauge of the requests that wait, by cause: those that this worker
// handles and that wait for the cloud, and those that it gave back, until they are
// due. It is safe for concurrent use.
type waiting struct {
	desc *prometheus.Desc
	now  func() time.Time

	mu     sync.Mutex
	counts map[string]int
	due    dueHeap
}

func newWaiting(name, help string) *waiting {
	return &waiting{
		desc: prometheus.NewDesc(prometheus.BuildFQName(namespace, "", name), help, []string{"cause"}, nil),
		now:  time.Now, counts: make(map[string]int),
	}
}

// until counts a request for cause until it is due.
func (w *waiting) until(cause string, at time.Time) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.expire()
	w.counts[cause]++
	heap.Push(&w.due, due{at, cause})
}

// add counts requests that begin (1) or end (-1) to wait.
func (w *waiting) add(cause string, delta int) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.counts[cause] += delta
}

func (w *waiting) expire() {
	for now := w.now(); len(w.due) > 0 && !w.due[0].at.After(now); {
		w.counts[heap.Pop(&w.due).(due).cause]-- //nolint:forcetypeassert // the heap holds nothing else
	}
}

// Describe implements prometheus.Collector.
func (w *waiting) Describe(ch chan<- *prometheus.Desc) { ch <- w.desc }

// Collect implements prometheus.Collector.
func (w *waiting) Collect(ch chan<- prometheus.Metric) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.expire()
	for _, cause := range WaitCauses() {
		ch <- prometheus.MustNewConstMetric(w.desc, prometheus.GaugeValue, float64(w.counts[cause]), cause)
	}
}

// due is a request that was given back.
type due struct {
	at    time.Time
	cause string
}

type dueHeap []due

func (h dueHeap) Len() int           { return len(h) }
func (h dueHeap) Less(i, j int) bool { return h[i].at.Before(h[j].at) }
func (h dueHeap) Swap(i, j int)      { h[i], h[j] = h[j], h[i] }
func (h *dueHeap) Push(x any)        { *h = append(*h, x.(due)) } //nolint:forcetypeassert // see heap.Push above
func (h *dueHeap) Pop() any {
	old := *h
	last := old[len(old)-1]
	*h = old[:len(old)-1]
	return last
}
