package inspect

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"iter"
	"slices"
	"time"

	"github.com/vpcep-approver/vpcep-approver/internal/approval"
	"github.com/vpcep-approver/vpcep-approver/internal/events"
	"github.com/vpcep-approver/vpcep-approver/internal/ledger"
	"github.com/vpcep-approver/vpcep-approver/internal/policy/workbench"
)

// FindDecided reads the decisions since then from the ledger, the latest change first. Of
// requests that ended before a decision there is nothing to compare. hole tells
// what could not be read: what rests on a part of the decisions is no proof.
func FindDecided(ctx context.Context, bus *events.Bus, book *ledger.Ledger, since time.Time) (list []approval.Entry, hole, err error) {
	found, err := Find(ctx, bus, book, ledger.Filter{Since: since}, 0)
	if err != nil {
		return nil, nil, err
	}
	return slices.DeleteFunc(found.Entries, func(e approval.Entry) bool { return !decided(e.Decision) }), found.Incomplete(), nil
}

// FindRecord returns the one request whose id begins so, with what people have said of
// it if it waits for a review.
func FindRecord(ctx context.Context, book *ledger.Ledger, id string) (workbench.Record, error) {
	history, err := FindHistory(ctx, book, id)
	if err != nil {
		return workbench.Record{}, err
	}
	r := workbench.RecordOf(history.Latest())
	if len(r.Decision.Review) == 0 {
		return r, nil
	}
	waiting, err := book.Review(ctx, r.Input.Request.Subject())
	if err != nil {
		return r, fmt.Errorf("read the reviews: %w", err)
	}
	if waiting != nil && waiting.Request.ID == r.ID {
		r.Input.Reviews = &waiting.Reviews
	}
	return r, nil
}

// decided reports whether the policies made d.
func decided(d approval.Decision) bool {
	return !slices.ContainsFunc(d.Reasons, func(r approval.Reason) bool {
		return r.Code == approval.ReasonNotDecided || r.Code == approval.ReasonNotVisible
	})
}

// WriteRecords writes decisions as an events.Record a line.
func WriteRecords(w io.Writer, list []approval.Entry) error {
	enc := json.NewEncoder(w)
	enc.SetEscapeHTML(false)
	for _, e := range list {
		if err := enc.Encode(events.NewRecord(e)); err != nil {
			return fmt.Errorf("write the records: %w", err)
		}
	}
	return nil
}

// ReadRecords yields the decisions in data, an events.Record a line. An error names
// the file and the line and is the last thing that is yielded.
func ReadRecords(name string, data []byte) iter.Seq2[workbench.Record, error] {
	return func(yield func(workbench.Record, error) bool) {
		n := 0
		for text := range bytes.Lines(data) {
			n++
			if len(bytes.TrimSpace(text)) == 0 {
				continue
			}
			r, err := readRecord(text)
			if err != nil {
				yield(r, fmt.Errorf("%s:%d: this is no record of worker policy records: %w", name, n, err))
				return
			}
			if !yield(r, nil) {
				return
			}
		}
	}
}

func readRecord(text []byte) (workbench.Record, error) {
	var d events.Record
	dec := json.NewDecoder(bytes.NewReader(text))
	dec.DisallowUnknownFields()
	if err := dec.Decode(&d); err != nil {
		return workbench.Record{}, err
	}
	r := d.Result()
	switch {
	case dec.More():
		return workbench.Record{}, errors.New("more than one record on the line")
	case r.Decision.At.IsZero():
		return workbench.Record{}, errors.New("it has no decision.time")
	case !slices.Contains(approval.Verdicts(), r.Decision.Verdict):
		return workbench.Record{}, fmt.Errorf("decision.verdict %.40q is none", r.Decision.Verdict)
	case r.Decision.Facts.Accepted.Known && r.Decision.Facts.Accepted.N < 0:
		return workbench.Record{}, fmt.Errorf("facts.accepted_connections %d is less than none; leave it out if nothing was counted", r.Decision.Facts.Accepted.N)
	}
	if err := approval.ValidName(r.Request.Target.Name); err != nil {
		return workbench.Record{}, fmt.Errorf("request.target: %w", err)
	}
	return workbench.RecordOf(approval.Entry{Request: r.Request, Decision: r.Decision}), nil
}
