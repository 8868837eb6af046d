package events

import (
	"context"
	"fmt"
	"iter"
	"maps"
	"slices"

	"github.com/go-json-experiment/json"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/vpcep-approver/vpcep-approver/internal/approval"
)

// For the next message that matches, the broker looks at all before it, and takes no new
// ones meanwhile. Where that may be millions, it is asked otherwise.
const (
	maxFollow    = 1 << 15 // messages that it may look at
	maxEach      = 50_000  // subjects that are read one by one; it lists up to 100,000
	eachTogether = 16      // of them at a time: each may have it load a block of 8 MB
)

// Held calls each with the requests that ended with one of outcomes, from behind a
// position; 0: all that are stored. They are in no order, and some may come twice. It returns
// the position to continue from, also with an error. If the stream of results was made again,
// it begins at its beginning. Results that are no results of a worker are left out.
func (b *Bus) Held(ctx context.Context, after uint64, each func(approval.Held), outcomes ...approval.Outcome) (last uint64, err error) {
	have, err := b.streamInfo(ctx, ResultsStream)
	if err == nil && have == nil {
		err = &SetupError{[]Difference{missing(resourceOf(ResultsStream))}}
	}
	if err != nil {
		return after, err
	}
	end := have.info.State.LastSeq
	if after > end {
		after = 0
	}
	for _, outcome := range outcomes {
		for m, err := range b.matching(ctx, ResultsStream, resultSubject(string(outcome), "*", "*"), after, end, maxEach) {
			if err != nil {
				return after, fmt.Errorf("read the results that are %s: %w", outcome, err)
			}
			r, err := DecodeResult(m.Header, m.Data)
			if err != nil || m.Subject != resultSubject(string(outcome), r.Request.Target.Name, r.Decision.ID) {
				continue
			}
			each(approval.Held{
				RequestID: r.Request.ID, Subject: r.Request.Subject(), Target: r.Request.Target.Name, Outcome: outcome, At: r.At,
			})
		}
	}
	return end, nil
}

// matching yields the messages whose subject filter matches from behind a sequence until
// another, in any order, and may yield others. It reads up to each subjects one by one. An
// error is the last item.
func (b *Bus) matching(ctx context.Context, stream, filter string, after, end uint64, each int) iter.Seq2[message, error] {
	return func(yield func(message, error) bool) {
		read := b.behind(ctx, stream, filter, after, end)
		if end-after > maxFollow {
			all, err := b.count(ctx, stream, filter)
			switch {
			case err != nil:
				yield(message{}, err)
				return
			case all > each:
				read = b.behind(ctx, stream, ">", after, end)
			default:
				read = b.ofSubjects(ctx, stream, filter)
			}
		}
		read(yield)
	}
}

// count returns how many messages of a stream filter matches.
func (b *Bus) count(ctx context.Context, stream, filter string) (int, error) {
	first, left, err := b.direct(ctx, stream, directGet{From: 1, Next: filter, Batch: 1})
	return len(first) + left, err
}

// behind yields the stored messages of a subject from behind a sequence until another,
// oldest first. An error is the last item.
func (b *Bus) behind(ctx context.Context, stream, subject string, after, end uint64) iter.Seq2[message, error] {
	return func(yield func(message, error) bool) {
		for more := true; more && after < end; {
			var batch []message
			var err error
			get := directGet{From: after + 1, Next: subject, Batch: directScan, MaxBytes: directMaxBytes}
			if batch, more, err = b.patient(ctx, stream, get); err != nil {
				yield(message{}, err)
				return
			}
			for _, m := range batch {
				if after = m.sequence; !yield(m, nil) {
					return
				}
			}
		}
	}
}

// ofSubjects yields the messages of each subject that filter matches, in no order. The
// broker knows where each is, so it takes no longer if the stream has many others. An error is
// the last item.
func (b *Bus) ofSubjects(ctx context.Context, stream, filter string) iter.Seq2[message, error] {
	return func(yield func(message, error) bool) {
		messages, end, err := b.subjects(ctx, stream, filter)
		if err != nil {
			yield(message{}, err)
			return
		}
		for names := range slices.Chunk(slices.Sorted(maps.Keys(messages)), eachTogether) {
			var gets []directGet
			for _, name := range names {
				if messages[name] == 1 {
					gets = append(gets, directGet{Last: name})
					continue
				}
				for m, err := range b.behind(ctx, stream, name, 0, end) {
					if !yield(m, err) || err != nil {
						return
					}
				}
			}
			found, _, err := b.patient(ctx, stream, gets...)
			if err != nil {
				yield(message{}, err)
				return
			}
			for _, m := range found {
				if !yield(m, nil) {
					return
				}
			}
		}
	}
}

// subjects returns the subjects that filter matches with the number of their messages, and
// the last sequence of the stream.
func (b *Bus) subjects(ctx context.Context, stream, filter string) (messages map[string]uint64, end uint64, err error) {
	request, err := json.Marshal(map[string]string{"subjects_filter": filter})
	if err != nil {
		return nil, 0, err
	}
	have, err := lookup[jetstream.StreamInfo](ctx, b, "look at the "+resourceOf(stream), "STREAM.INFO."+stream, request)
	switch {
	case err != nil:
		return nil, 0, err
	case have == nil:
		return nil, 0, &SetupError{[]Difference{missing(resourceOf(stream))}}
	}
	return have.info.State.Subjects, have.info.State.LastSeq, nil
}
