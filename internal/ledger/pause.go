package ledger

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/vpcep-approver/vpcep-approver/internal/approval"
)

// pauseKey is the one key that says which targets are paused.
const pauseKey = "pause"

// Pauses keeps which targets are paused. It is safe for concurrent use.
type Pauses struct{ bucket bucket }

// NewPauses returns the pauses in the ledger's bucket, which is opened when it is first
// needed.
func NewPauses(b Buckets) *Pauses { return &Pauses{bucket: bucket{open: b.Bucket}} }

// storedPauses is an approval.Pauses as it is stored.
type storedPauses struct {
	V       int                    `json:"v"`
	All     storedPause            `json:"all,omitzero"`
	Targets map[string]storedPause `json:"targets,omitzero"`
}

func (s storedPauses) version() int { return s.V }

type storedPause struct {
	Paused bool      `json:"paused"`
	At     time.Time `json:"at"`
}

// Read returns what is paused. What cannot be read is an error, never "nothing".
func (p *Pauses) Read(ctx context.Context) (approval.Pauses, error) {
	kv, err := p.bucket.get(ctx)
	if err != nil {
		return approval.Pauses{}, err
	}
	found, err := kv.Get(ctx, pauseKey)
	if errors.Is(err, jetstream.ErrKeyNotFound) {
		return approval.Pauses{}, nil
	}
	if err != nil {
		return approval.Pauses{}, fmt.Errorf("read %s of the ledger: %w", pauseKey, err)
	}
	var s storedPauses
	if err := decode(pauseKey, found.Revision(), found.Value(), &s); err != nil {
		return approval.Pauses{}, err
	}
	out := approval.Pauses{All: approval.Pause(s.All), Revision: found.Revision()}
	if len(s.Targets) > 0 {
		out.Targets = make(map[string]approval.Pause, len(s.Targets))
	}
	for target, pause := range s.Targets {
		out.Targets[target] = approval.Pause(pause)
	}
	return out, nil
}

// Change pauses or resumes a target, all if it is empty, and returns what is paused then.
func (p *Pauses) Change(ctx context.Context, target string, paused bool, at time.Time) (approval.Pauses, error) {
	for range tries {
		have, err := p.Read(ctx)
		if err != nil {
			return have, err
		}
		next := have.With(target, paused, at)
		if next.Revision, err = p.store(ctx, next); !errors.Is(err, approval.ErrConflict) {
			return next, err
		}
	}
	return approval.Pauses{}, fmt.Errorf("%s after %d tries: %w", pauseKey, tries, approval.ErrConflict)
}

// store stores p in the place of what was read at its revision.
func (p *Pauses) store(ctx context.Context, next approval.Pauses) (uint64, error) {
	s := storedPauses{V: format, All: storedPause{next.All.Paused, next.All.At.UTC()}}
	if len(next.Targets) > 0 {
		s.Targets = make(map[string]storedPause, len(next.Targets))
	}
	for target, pause := range next.Targets {
		s.Targets[target] = storedPause{pause.Paused, pause.At.UTC()}
	}
	data, err := encode(s)
	if err != nil {
		return 0, err
	}
	kv, err := p.bucket.get(ctx)
	if err != nil {
		return 0, err
	}
	var revision uint64
	if next.Revision == 0 {
		revision, err = kv.Create(ctx, pauseKey, data)
	} else {
		revision, err = kv.Update(ctx, pauseKey, data, next.Revision)
	}
	return revision, written(pauseKey, err)
}
