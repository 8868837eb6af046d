package faulttest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"runtime"
	"strconv"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/rs/zerolog"

	"github.com/vpcep-approver/vpcep-approver/internal/approval"
	"github.com/vpcep-approver/vpcep-approver/internal/cloud"
	"github.com/vpcep-approver/vpcep-approver/internal/cloud/simulator"
	"github.com/vpcep-approver/vpcep-approver/internal/ledger/ledgertest"
	"github.com/vpcep-approver/vpcep-approver/internal/metrics"
	"github.com/vpcep-approver/vpcep-approver/internal/policy"
	"github.com/vpcep-approver/vpcep-approver/internal/worker"
)

// rig is the worker in simulated time: the story, the client of the cloud and
// the ledger are the real ones; the network, the bus and the bucket are in
// memory. It belongs into a bubble of testing/synctest.
type rig struct {
	*ground
	store    *ledgertest.Fake
	sets     []*policy.Set
	inForce  atomic.Int32
	replicas []*worker.Worker
	ctx      context.Context
	running  sync.WaitGroup

	// doom is asked at each crash point; nil: nothing happens.
	doom func(point string, r approval.Request) doom
	// fault is asked of each call of the cloud; nil: nothing happens.
	fault func(r *http.Request) netFault
	// answered is told what the cloud answered, received or not; nil: nobody is.
	answered func(r *http.Request, status int, body []byte)

	// saw is told what a look at a connection found; nil: nobody is.
	saw func(r approval.Request, f approval.Facts)

	// forgive takes out of a history what is not the worker's; nil: nothing.
	forgive func(h *history)

	// evaluate decides; nil: the set that is in force does.
	evaluate func(in *approval.Input) approval.Decision

	mu      sync.Mutex
	results []published
	ends    map[string]approval.Result // by request id
	stuck   []string                   // what was given up
	most    int                        // deliveries that one request took
}

// doom is what befalls the handling of a delivery at a crash point.
type doom struct {
	Kill  bool
	Stall time.Duration
}

// netFault is what befalls a call of the cloud.
type netFault struct {
	Refused bool          // the connection is refused: never sent
	Before  bool          // cut before the cloud did it
	After   bool          // cut after the cloud did it
	Delay   time.Duration // before anything else
	Status  int           // answer this instead, if not 0
	Body    string
	Header  map[string]string
}

const ackWait = 10 * time.Second

func newRig(t testing.TB, replicas int, rate float64, cfg simulator.Config, sets ...*policy.Set) *rig {
	t.Helper()
	r := &rig{ground: newGround(cfg), store: ledgertest.NewFake(), sets: sets, ends: map[string]approval.Result{}, ctx: t.Context()}
	for range replicas {
		client := r.client(t, rate, nil)
		r.replicas = append(r.replicas, &worker.Worker{
			Cloud: client, Creator: client, Limiter: places{client, r.store}, Policy: r, Ledger: r.store, Reviews: r.store, Results: r,
			Metrics: metrics.New(prometheus.NewRegistry(), metrics.Labels{}, metrics.Build{}),
			Log:     zerolog.Nop(), Now: time.Now, Limits: worker.DefaultLimits(),
			Slots: worker.NewTargetSlots(4096, len(targets()), time.Now), Targets: targets(), Version: "faulttest",
		})
	}
	return r
}

// places counts by the cloud's lists and reserves in the ledger, as the worker does.
type places struct {
	*cloud.Client
	store *ledgertest.Fake
}

func (p places) Reserve(ctx context.Context, req approval.Request, domain string, limit int, counted approval.AccountCount) (bool, error) {
	return p.store.Reserve(ctx, req, domain, limit, counted)
}

// use gives every replica a client of its own that edit has changed.
func (r *rig) use(t testing.TB, rate float64, edit func(*cloud.Config)) {
	t.Helper()
	for _, w := range r.replicas {
		client := r.client(t, rate, edit)
		w.Cloud, w.Creator, w.Limiter = client, client, places{client, r.store}
	}
}

// client makes a client of the simulated cloud. edit changes its settings.
func (r *rig) client(t testing.TB, rate float64, edit func(*cloud.Config)) *cloud.Client {
	t.Helper()
	cfg := cloud.Config{
		Region: region, RatePerSecond: rate, Transport: (*wire)(r), Targets: targets(),
		Auth: cloud.Auth{Mode: cloud.ModeToken, Source: func() (cloud.Credentials, error) {
			return cloud.Credentials{Token: simulator.DefaultAuth().Token}, nil
		}},
	}
	if edit != nil {
		edit(&cfg)
	}
	client, err := cloud.New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	return client
}

// Evaluate decides by the set that is in force.
func (r *rig) Evaluate(in *approval.Input) approval.Decision {
	if r.evaluate != nil {
		return r.evaluate(in)
	}
	return r.sets[r.inForce.Load()].Evaluate(in)
}

// Publish keeps the first result of a decision, as the bus does.
func (r *rig) Publish(_ context.Context, res approval.Result) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, p := range r.results {
		if p.RequestID == res.Request.ID {
			return nil
		}
	}
	r.results = append(r.results, published{RequestID: res.Request.ID, Outcome: res.Outcome, EventID: res.Decision.ID})
	r.ends[res.Request.ID] = res
	return nil
}

// outcome is how a request ended; empty if it has not.
func (r *rig) outcome(requestID string) approval.Outcome {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, p := range r.results {
		if p.RequestID == requestID {
			return p.Outcome
		}
	}
	return ""
}

// submit hands req in and lets it be delivered until it is settled: again after
// ackWait if the worker died or stalled, and after the delay that it asked for.
func (r *rig) submit(req approval.Request) {
	r.running.Go(func() {
		published, settled := time.Now(), make(chan struct{})
		var once sync.Once
		for attempt := 1; ; attempt++ {
			if attempt > 1000 {
				r.mu.Lock()
				r.stuck = append(r.stuck, fmt.Sprintf("request %s (%s) was delivered 1000 times", req.ID, req.Subject()))
				r.mu.Unlock()
				return
			}
			r.mu.Lock()
			r.most = max(r.most, attempt)
			r.mu.Unlock()
			h := &handling{rig: r, stalled: make(chan struct{}), ended: make(chan struct{})}
			r.running.Go(func() { h.run(attempt, approval.Delivery{Request: req, Attempt: attempt, PublishedAt: published}) })
			wait := ackWait
			select {
			case <-settled:
				return
			case <-h.stalled:
			case <-h.ended:
				if later, ok := errors.AsType[*worker.RetryLaterError](h.err); ok {
					wait = later.After
				} else if h.back {
					once.Do(func() { close(settled) })
				}
			}
			select {
			case <-settled:
				return
			case <-h.endedWell():
				once.Do(func() { close(settled) })
				return
			case <-time.After(wait):
			}
		}
	})
}

// handling is one delivery in the hands of one replica.
type handling struct {
	rig     *rig
	stalled chan struct{} // closed when it stalls
	ended   chan struct{} // closed when it is over, one way or the other
	stall   sync.Once
	back    bool // it came back; else it was killed
	err     error
}

func (h *handling) run(attempt int, d approval.Delivery) {
	defer close(h.ended)
	w := *h.rig.replicas[attempt%len(h.rig.replicas)]
	w.Cloud, w.Creator = doomedCloud{w.Cloud, h}, doomedCreator{w.Creator, h}
	w.Ledger, w.Results = doomedLedger{w.Ledger, h}, doomedResults{w.Results, h}
	err := w.Handle(h.rig.ctx, &d)
	h.back, h.err = true, err
}

// endedWell is closed if h stalled, woke and settled its request; it never is
// for one that has ended already.
func (h *handling) endedWell() <-chan struct{} {
	select {
	case <-h.ended:
		return nil
	default:
	}
	well := make(chan struct{})
	h.rig.running.Go(func() {
		<-h.ended
		if h.back && h.err == nil {
			close(well)
		}
	})
	return well
}

// at lets happen what is to happen to the handling at point.
func (h *handling) at(point string, r approval.Request) {
	if h.rig.doom == nil {
		return
	}
	d := h.rig.doom(point, r)
	if d.Stall > 0 {
		h.stall.Do(func() { close(h.stalled) })
		pass(context.Background(), d.Stall)
	}
	if d.Kill {
		runtime.Goexit()
	}
}

type doomedCloud struct {
	worker.Cloud
	h *handling
}

func (k doomedCloud) Facts(ctx context.Context, r approval.Request) (approval.Facts, error) {
	k.h.at("before-facts", r)
	f, err := k.Cloud.Facts(ctx, r)
	if err == nil && k.h.rig.saw != nil {
		k.h.rig.saw(r, f)
	}
	k.h.at("after-facts", r)
	return f, err
}

func (k doomedCloud) Act(ctx context.Context, r *approval.Request, v approval.Verdict) error {
	k.h.at("before-act", *r)
	err := k.Cloud.Act(ctx, r, v)
	k.h.at("after-act", *r)
	return err
}

func (k doomedCloud) Await(ctx context.Context, r approval.Request, want approval.State, actedAt time.Time) (approval.State, error) {
	k.h.at("before-confirm", r)
	s, err := k.Cloud.Await(ctx, r, want, actedAt)
	k.h.at("after-confirm", r)
	return s, err
}

type doomedCreator struct {
	worker.Creator
	h *handling
}

func (k doomedCreator) Create(ctx context.Context, r approval.Request) (approval.Created, error) {
	k.h.at("before-create", r)
	c, err := k.Creator.Create(ctx, r)
	k.h.at("after-create", r)
	return c, err
}

type doomedLedger struct {
	worker.Ledger
	h *handling
}

func (k doomedLedger) Record(ctx context.Context, e *approval.Entry) (*approval.Lock, error) {
	name := writeName(e, "record")
	k.h.at("before-"+name, e.Request)
	c, err := k.Ledger.Record(ctx, e)
	k.h.at("after-"+name, e.Request)
	return c, err
}

func (k doomedLedger) Put(ctx context.Context, e *approval.Entry) error {
	name := writeName(e, "note")
	k.h.at("before-"+name, e.Request)
	err := k.Ledger.Put(ctx, e)
	k.h.at("after-"+name, e.Request)
	return err
}

func writeName(e *approval.Entry, name string) string {
	if e.Result != nil {
		return "result"
	}
	return name
}

type doomedResults struct {
	worker.Results
	h *handling
}

func (k doomedResults) Publish(ctx context.Context, r approval.Result) error {
	k.h.at("before-publish", r.Request)
	err := k.Results.Publish(ctx, r)
	k.h.at("after-publish", r.Request)
	return err
}

// points are the names of the failpoints, here and in internal/service/failpoints_on.go.
func points() []string {
	var out []string
	for _, name := range []string{"facts", "record", "act", "note", "confirm", "result", "publish", "create"} {
		out = append(out, "before-"+name, "after-"+name)
	}
	return out
}

// wire is the network between the client and the simulated cloud.
type wire rig

var (
	errReset   = &net.OpError{Op: "read", Net: "tcp", Err: syscall.ECONNRESET}
	errRefused = &net.OpError{Op: "dial", Net: "tcp", Err: syscall.ECONNREFUSED}
)

// RoundTrip has the simulator answer, unless a fault befalls the call.
func (w *wire) RoundTrip(req *http.Request) (*http.Response, error) {
	var f netFault
	if w.fault != nil {
		f = w.fault(req)
	}
	if f.Delay > 0 {
		timer := time.NewTimer(f.Delay)
		defer timer.Stop()
		select {
		case <-timer.C:
		case <-req.Context().Done():
			return nil, req.Context().Err()
		}
	}
	if req.Body != nil {
		defer func() { _ = req.Body.Close() }()
	}
	switch {
	case f.Refused:
		return nil, errRefused
	case f.Before:
		return nil, errReset
	case f.Status != 0:
		return answer(req, f.Status, f.Header, []byte(f.Body)), nil
	}
	served := req.Clone(req.Context())
	served.URL = &url.URL{Path: req.URL.Path, RawPath: req.URL.RawPath, RawQuery: req.URL.RawQuery}
	served.RequestURI, served.Host = req.URL.RequestURI(), req.URL.Host
	if served.Body == nil {
		served.Body = http.NoBody
	}
	rec := httptest.NewRecorder()
	w.sim.ServeHTTP(rec, served)
	if w.answered != nil {
		w.answered(req, rec.Code, rec.Body.Bytes())
	}
	if f.After {
		return nil, errReset
	}
	res := rec.Result()
	res.Request = req
	return res, nil
}

func answer(req *http.Request, status int, header map[string]string, body []byte) *http.Response {
	h := http.Header{"Content-Type": {"application/json"}}
	for name, value := range header {
		h.Set(name, value)
	}
	return &http.Response{
		Status: strconv.Itoa(status), StatusCode: status, Proto: "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1,
		Header: h, Body: io.NopCloser(bytes.NewReader(body)), ContentLength: int64(len(body)), Request: req,
	}
}

// api is the API that a call goes to, from its host.
func api(r *http.Request) string {
	for _, name := range cloud.APIs() {
		if len(r.URL.Host) > len(name) && r.URL.Host[:len(name)+1] == name+"." {
			return name
		}
	}
	return r.URL.Host
}

// judge waits until everything is settled and lets the checker look.
func (r *rig) judge() findings {
	r.running.Wait()
	h := r.history()
	r.mu.Lock()
	h.Results = append(h.Results, r.results...)
	stuck := append([]string(nil), r.stuck...)
	r.mu.Unlock()
	for _, a := range h.Asked {
		var err error
		if h.Entries[a.RequestID], err = r.versions(a.RequestID); err != nil {
			stuck = append(stuck, err.Error())
		}
	}
	if r.forgive != nil {
		r.forgive(&h)
	}
	f := check(h)
	f.Lost = append(f.Lost, stuck...)
	return f
}

// versions are the stored values of a request's entry; none if there is no entry.
func (r *rig) versions(requestID string) ([]version, error) {
	stored, err := r.store.Store.History(context.WithoutCancel(r.ctx), ledgertest.RequestKey(requestID))
	if err != nil {
		return nil, nil //nolint:nilerr // the checker misses it
	}
	var out []version
	for _, v := range stored {
		decoded, err := decodeVersion(v.Value(), v.Created())
		if err != nil {
			return nil, err
		}
		out = append(out, decoded)
	}
	return out, nil
}
