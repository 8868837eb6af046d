package worker

import (
	"maps"
	"time"

	"github.com/vpcep-approver/vpcep-approver/internal/approval"
)

// stages divides the time of a request into its stages, in seconds. It goes on
// from what earlier deliveries left in the ledger.
type stages struct {
	now     func() time.Time
	last    time.Time
	seconds map[approval.Stage]float64
}

func newStages(now func() time.Time, d *approval.Delivery, entry *approval.Entry) *stages {
	s := &stages{now: now, last: now(), seconds: map[approval.Stage]float64{}}
	taken, since, next := d.PublishedAt, s.last, approval.StageQueued
	switch p := entry.Progress; {
	case !p.Until.IsZero():
		maps.Copy(s.seconds, p.Seconds)
		taken, next = p.Until, p.Next
	case entry.Decided(): // by a worker that could not say more
		taken, next = entry.Decision.At, approval.StageAct
		s.add(approval.StageQueued, entry.Decision.At.Sub(d.PublishedAt))
	}
	s.add(next, since.Sub(taken))
	return s
}

// add counts d for stage. A clock that was set back takes nothing away.
func (s *stages) add(stage approval.Stage, d time.Duration) {
	s.seconds[stage] += max(d, 0).Seconds()
}

// record adds the time since the last record to stage, or to the outage if it was
// spent on what failed with err.
func (s *stages) record(stage approval.Stage, err error) {
	now := s.now()
	if err != nil && !isWait(err) {
		stage = approval.StageOutage
	}
	s.add(stage, now.Sub(s.last))
	s.last = now
}

// during is progress in the midst of a stage, of which nobody knows yet how it ends.
func (s *stages) during(stage approval.Stage) approval.Progress {
	p := s.progress(stage)
	if now := s.now(); now.After(s.last) {
		p.Seconds[stage] += now.Sub(s.last).Seconds()
		p.Until = now
	}
	return p
}

// progress is what the ledger shall hold of the time so far, if from now on the
// request is in stage next.
func (s *stages) progress(next approval.Stage) approval.Progress {
	return approval.Progress{Seconds: maps.Clone(s.seconds), Until: s.last, Next: next}
}
