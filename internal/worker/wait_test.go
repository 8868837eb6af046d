package worker

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"math"
	"testing"
	"testing/synctest"
	"time"

	"github.com/rs/zerolog"

	"github.com/vpcep-approver/vpcep-approver/internal/approval"
)

// TestTheFirstGivingBackIsLogged: a request that waits is named once in the log at
// info, with its cause, and the ledger says why it waits.
func TestTheFirstGivingBackIsLogged(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name string
		edit func(c *fakeCloud)
		code string
		oper bool
	}{
		{"the API is away", func(c *fakeCloud) { c.fail = failing("facts", cloudError{retryable: true}) }, "EndPoint.2013", false},
		{"the permission is missing", func(c *fakeCloud) { c.fail = failing("act", cloudError{operator: true}) }, "EndPoint.0004", true},
		{"the endpoint does not show", func(c *fakeCloud) { c.set(func(f *approval.Facts) { f.State = approval.Absent }) }, "not_visible", false},
		{"the state does not show", func(c *fakeCloud) { c.stay = true }, "not_confirmed_yet", false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				cloud := newFakeCloud(approval.Pending)
				tt.edit(cloud)
				b := newBench(t, cloud, always(approval.Accept))
				var log bytes.Buffer
				b.Log = zerolog.New(&log).Level(zerolog.InfoLevel)
				d := connection("1")
				for ; d.Attempt <= 4; d.Attempt++ {
					if err := b.Handle(t.Context(), &d); err == nil {
						t.Fatal("it should wait")
					}
					<-time.After(time.Second)
				}
				lines := bytes.Split(bytes.TrimSpace(log.Bytes()), []byte("\n"))
				var line struct{ Request, Cause, Level, API, Target string }
				if err := json.Unmarshal(lines[0], &line); err != nil || len(lines) != 1 {
					t.Fatalf("logged %d lines (%v), want one:\n%s", len(lines), err, log.String())
				}
				if line.Level != "info" || line.Cause != tt.code || line.Request != d.Request.ID || (line.API != "") != tt.oper {
					t.Errorf("logged %+v, want %s of request %s", line, tt.code, d.Request.ID)
				}
				entry, err := b.ledger.Get(t.Context(), d.Request.ID)
				if err != nil || entry == nil || entry.Wait == nil || entry.Wait.Code != tt.code || (entry.Wait.Operator != nil) != tt.oper {
					t.Fatalf("the ledger holds %+v, %v", entry, err)
				}
				if tt.oper && (entry.Wait.Operator.API != "vpcep" || entry.Wait.RequestID != "req-1") {
					t.Errorf("the operator is told %+v", entry.Wait)
				}
			})
		})
	}
}

func failing(op string, err error) func(string, bool) error {
	return func(o string, after bool) error {
		if o == op && !after {
			return err
		}
		return nil
	}
}

// TestSecondsAreThoseOfTheWholeRequest: the stages add up over all deliveries, the
// time in which an API was away is the outage's, and queued ends when a worker first
// takes the request.
func TestSecondsAreThoseOfTheWholeRequest(t *testing.T) {
	t.Parallel()
	const queued = 7 * time.Second
	near := func(got float64, want time.Duration) bool { return math.Abs(got-want.Seconds()) < 0.01 }
	within := func(got float64, from, to time.Duration) bool {
		return got >= from.Seconds() && got <= to.Seconds()
	}
	outage := func(op string, d time.Duration) func(c *fakeCloud) {
		return func(c *fakeCloud) {
			begin := time.Now()
			c.fail = func(o string, after bool) error {
				if o == op && !after && time.Since(begin) < d {
					return cloudError{retryable: true}
				}
				return nil
			}
		}
	}
	for _, tt := range []struct {
		name string
		edit func(c *fakeCloud)
		want map[approval.Stage]func(float64) bool
	}{
		{"all goes well", func(*fakeCloud) {}, map[approval.Stage]func(float64) bool{
			approval.StageOutage: func(s float64) bool { return s == 0 },
		}},
		{"it is confirmed by a later delivery", func(c *fakeCloud) {
			c.stay = true
			time.AfterFunc(32*time.Second, func() { c.set(func(f *approval.Facts) { f.State = approval.Accepted }) })
		}, map[approval.Stage]func(float64) bool{
			approval.StageConfirm: func(s float64) bool { return within(s, 30*time.Second, 45*time.Second) },
			approval.StageAct:     func(s float64) bool { return near(s, 3*time.Second) },
			approval.StageOutage:  func(s float64) bool { return s == 0 },
		}},
		{"the API was away for the facts", outage("facts", 10*time.Minute), map[approval.Stage]func(float64) bool{
			approval.StageOutage: func(s float64) bool { return within(s, 10*time.Minute, 11*time.Minute) },
			approval.StageAct:    func(s float64) bool { return near(s, 3*time.Second) },
		}},
		{"the API was away for the act", outage("act", 10*time.Minute), map[approval.Stage]func(float64) bool{
			// The last call waits for its turn in the outage and goes through after it.
			approval.StageOutage: func(s float64) bool { return within(s, 10*time.Minute-3*time.Second, 11*time.Minute) },
		}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				cloud := newFakeCloud(approval.Pending)
				d := connection("1")
				d.PublishedAt = time.Now()
				<-time.After(queued)
				tt.edit(cloud)
				b := newBench(t, cloud, always(approval.Accept))
				b.Cloud = queueing{cloud, 3 * time.Second, func() {}}
				other := b.replica()
				var res approval.Result
				for worker := b.Worker; ; d.Attempt++ {
					err := worker.Handle(t.Context(), &d)
					if err == nil {
						res = b.results.got[d.Request.ID]
						break
					}
					later, ok := errors.AsType[*RetryLaterError](err)
					if !ok {
						t.Fatal(err)
					}
					<-time.After(later.After)
					worker, other = other, worker
				}
				sum := 0.0
				for _, s := range res.Seconds {
					sum += s
				}
				if total := res.At.Sub(d.PublishedAt); !near(sum, total) {
					t.Errorf("the stages add up to %v s of %v: %v", sum, total, res.Seconds)
				}
				if s := res.Seconds[approval.StageQueued]; !near(s, queued) {
					t.Errorf("queued for %v s, want %s", s, queued)
				}
				for stage, ok := range tt.want {
					if !ok(res.Seconds[stage]) {
						t.Errorf("%s took %v s: %v", stage, res.Seconds[stage], res.Seconds)
					}
				}
			})
		})
	}
}

// TestARequestThatWaitsIsStoredOnce: while nothing changes, nothing is written.
func TestARequestThatWaitsIsStoredOnce(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		cloud := newFakeCloud(approval.Pending)
		cloud.fail = failing("facts", cloudError{retryable: true})
		b := newBench(t, cloud, always(approval.Accept))
		d := connection("1")
		for ; d.Attempt <= 20; d.Attempt++ {
			if err := b.Handle(context.Background(), &d); err == nil {
				t.Fatal("it should wait")
			}
			<-time.After(time.Second)
		}
		if versions, err := b.ledger.History(t.Context(), d.Request.ID); err != nil || len(versions) != 1 || versions[0].Decided() {
			t.Errorf("the ledger holds %d versions, %v; want one that is not decided", len(versions), err)
		}
	})
}
