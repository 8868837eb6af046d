package ledger

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/go-json-experiment/json"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/vpcep-approver/vpcep-approver/internal/approval"
)

// Workers keeps the heartbeats of the workers. It is safe for concurrent use.
type Workers struct {
	bucket bucket
	keys   func(context.Context) ([]string, error)
}

// NewWorkers returns the heartbeats in the bucket of the workers, which is opened
// when it is first needed.
func NewWorkers(b Buckets) *Workers {
	return &Workers{bucket: bucket{open: b.WorkersBucket}, keys: b.WorkerKeys}
}

// storedWorker is an approval.WorkerStatus as it is stored, which others read, too.
type storedWorker struct {
	V            int                  `json:"v"`
	Instance     string               `json:"instance"`
	Host         string               `json:"host,omitzero"`
	Version      string               `json:"version,omitzero"`
	StartedAt    time.Time            `json:"started_at,omitzero"`
	SentAt       time.Time            `json:"sent_at,omitzero"`
	State        approval.WorkerState `json:"state"`
	Targets      []string             `json:"targets,omitzero"`
	InFlight     int                  `json:"in_flight"`
	PolicyDigest string               `json:"policy_digest,omitzero"`
	LastSweep    time.Time            `json:"last_sweep_at,omitzero"`

	PauseRevision uint64   `json:"pause_revision,omitzero"`
	Paused        []string `json:"paused,omitzero"`

	// In the order of targets: the number of connections, and how many seconds before
	// sent_at it was read. An empty list: not read yet.
	PendingConnections  [][]int       `json:"pending_connections,omitzero"`
	AcceptedConnections [][]int       `json:"accepted_connections,omitzero"`
	Faults              []storedFault `json:"faults,omitzero"`
}

// maxHeartbeat bounds what is stored for a worker, in bytes.
const maxHeartbeat = 64 << 10

// count writes what is known of the connections of each target.
func (s *storedWorker) count(known map[string]approval.Connections) {
	if known == nil {
		return
	}
	stored := func(c approval.ConnectionCount) []int {
		if c.At.IsZero() {
			return []int{}
		}
		return []int{c.N, int(max(s.SentAt.Sub(c.At), 0) / time.Second)}
	}
	for _, target := range s.Targets {
		s.PendingConnections = append(s.PendingConnections, stored(known[target].Pending))
		s.AcceptedConnections = append(s.AcceptedConnections, stored(known[target].Accepted))
	}
}

// connections is what count wrote; nil if it was left out.
func (s *storedWorker) connections() map[string]approval.Connections {
	if len(s.Targets) == 0 || len(s.PendingConnections) != len(s.Targets) || len(s.AcceptedConnections) != len(s.Targets) {
		return nil
	}
	read := func(c []int) approval.ConnectionCount {
		if len(c) != 2 {
			return approval.ConnectionCount{}
		}
		return approval.ConnectionCount{N: c[0], At: s.SentAt.Add(-time.Duration(c[1]) * time.Second)}
	}
	out := map[string]approval.Connections{}
	for i, target := range s.Targets {
		out[target] = approval.Connections{Pending: read(s.PendingConnections[i]), Accepted: read(s.AcceptedConnections[i])}
	}
	return out
}

// storedFault is an approval.WorkerFault as it is stored.
type storedFault struct {
	Kind      approval.FaultKind `json:"kind"`
	API       string             `json:"api,omitzero"`
	Operation string             `json:"operation,omitzero"`
	Target    string             `json:"target,omitzero"`
	Code      string             `json:"code,omitzero"`
	Text      string             `json:"text,omitzero"`
}

func storedFaults(faults []approval.WorkerFault) []storedFault {
	var out []storedFault
	for _, f := range faults {
		out = append(out, storedFault(f))
	}
	return out
}

func (s storedWorker) faults() []approval.WorkerFault {
	var out []approval.WorkerFault
	for _, f := range s.Faults {
		out = append(out, approval.WorkerFault(f))
	}
	return out
}

func (s storedWorker) version() int { return s.V }

func workerKey(instance string) string { return "worker." + instance }

// Store stores s as the latest heartbeat of its instance and returns the revision.
// last is the revision of the heartbeat before; 0: there was none. A heartbeat
// that comes late is refused: approval.ErrInstanceDead says that the instance was
// declared dead, or that its heartbeats stopped for so long that it might have been.
func (w *Workers) Store(ctx context.Context, s approval.WorkerStatus, last uint64) (uint64, error) {
	stored := storedWorker{
		V: format, Instance: s.Instance, Host: s.Host, Version: s.Version, StartedAt: s.StartedAt.UTC(), SentAt: s.SentAt.UTC(),
		State: s.State, Targets: s.Targets, InFlight: s.InFlight, PolicyDigest: s.PolicyDigest, LastSweep: s.LastSweep.UTC(),
		PauseRevision: s.PauseRevision, Paused: s.Paused, Faults: storedFaults(s.Faults),
	}
	stored.count(s.Connections)
	data, err := json.Marshal(stored, json.Deterministic(true))
	if err == nil && len(data) > maxHeartbeat {
		stored.PendingConnections, stored.AcceptedConnections = nil, nil
		data, err = json.Marshal(stored, json.Deterministic(true))
	}
	if err != nil {
		return 0, fmt.Errorf("encode a heartbeat: %w", err)
	}
	kv, err := w.bucket.get(ctx)
	if err != nil {
		return 0, err
	}
	key := workerKey(s.Instance)
	for range tries {
		var revision uint64
		if last == 0 {
			revision, err = kv.Create(ctx, key, data)
		} else {
			revision, err = kv.Update(ctx, key, data, last)
		}
		if err = written(key, err); !errors.Is(err, approval.ErrConflict) {
			return revision, err
		}
		// An earlier heartbeat that nobody waited for may have come through. Then
		// the instance was heard all the time; else it is dead.
		found, state, err := w.state(ctx, kv, s.Instance)
		if err != nil {
			return 0, err
		}
		if found == 0 || found == last || state == approval.WorkerDead {
			return 0, fmt.Errorf("%s: %w", s.Instance, approval.ErrInstanceDead)
		}
		last = found
	}
	return 0, fmt.Errorf("%s after %d tries: %w", key, tries, approval.ErrConflict)
}

// state is the revision and the state of an instance's latest heartbeat; 0 if
// there is none.
func (w *Workers) state(ctx context.Context, kv jetstream.KeyValue, instance string) (uint64, approval.WorkerState, error) {
	key := workerKey(instance)
	found, err := kv.Get(ctx, key)
	if errors.Is(err, jetstream.ErrKeyNotFound) {
		return 0, "", nil
	}
	if err != nil {
		return 0, "", fmt.Errorf("read the heartbeat %s: %w", key, err)
	}
	var s storedWorker
	if err := json.Unmarshal(found.Value(), &s); err != nil {
		return 0, "", &UnreadableError{Key: key, Revision: found.Revision(), Err: err}
	}
	return found.Revision(), s.State, nil
}

// CheckLiveness reports whether another instance is alive. since is the revision of any
// heartbeat after which every living worker has sent one. An instance that has no
// heartbeat any more is declared dead: whatever it sends later is refused.
func (w *Workers) CheckLiveness(ctx context.Context, instance string, since uint64) (approval.Liveness, error) {
	kv, err := w.bucket.get(ctx)
	if err != nil {
		return approval.InstanceUnknown, err
	}
	data, err := encode(storedWorker{V: format, Instance: instance, State: approval.WorkerDead, SentAt: time.Now().UTC()})
	if err != nil {
		return approval.InstanceUnknown, err
	}
	key := workerKey(instance)
	_, err = kv.Create(ctx, key, data)
	if err = written(key, err); err == nil {
		return approval.InstanceDead, nil
	}
	if !errors.Is(err, approval.ErrConflict) {
		return approval.InstanceUnknown, err
	}
	revision, state, err := w.state(ctx, kv, instance)
	switch {
	case err != nil || revision == 0: // it ended just now; the next look declares it dead
		return approval.InstanceUnknown, err
	case state == approval.WorkerDead:
		return approval.InstanceDead, nil
	case state == approval.WorkerStopped:
		return approval.InstanceStopped, nil
	case revision > since:
		return approval.InstanceAlive, nil
	}
	return approval.InstanceUnknown, nil
}

// Count returns the number of workers that live or whose heartbeat has not expired yet,
// and of those among them whose instance comes before the given one.
func (w *Workers) Count(ctx context.Context, instance string) (n, before int, err error) {
	keys, err := w.keys(ctx)
	if err != nil {
		return 0, 0, fmt.Errorf("count the workers: %w", err)
	}
	own := workerKey(instance)
	for _, key := range keys {
		if key < own {
			before++
		}
	}
	return len(keys), before, nil
}

// List returns the workers that live, by host and start. It is empty too if no
// worker has ever run.
func (w *Workers) List(ctx context.Context) ([]approval.WorkerStatus, error) {
	kv, err := w.bucket.get(ctx)
	if errors.Is(err, jetstream.ErrBucketNotFound) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	for range tries {
		var out []approval.WorkerStatus
		if out, err = w.list(ctx, kv); !errors.Is(err, jetstream.ErrKeyNotFound) {
			return out, err
		}
	}
	return nil, fmt.Errorf("list the workers, %d times: %w", tries, err)
}

// list reads all keys in one answer, and then each value. A watch leaves out a worker whose
// heartbeat replaces the one before meanwhile. The error is jetstream.ErrKeyNotFound if a
// heartbeat expired meanwhile, or has not come to the server that was asked.
func (w *Workers) list(ctx context.Context, kv jetstream.KeyValue) ([]approval.WorkerStatus, error) {
	keys, err := w.keys(ctx)
	if err != nil {
		return nil, fmt.Errorf("list the workers: %w", err)
	}
	var out []approval.WorkerStatus
	for _, key := range keys {
		found, err := kv.Get(ctx, key)
		if err != nil {
			return nil, fmt.Errorf("read the heartbeat %s: %w", key, err)
		}
		var s storedWorker
		if err := decode(key, found.Revision(), found.Value(), &s); err != nil {
			return nil, err
		}
		if s.State == approval.WorkerDead || s.State == approval.WorkerStopped {
			continue
		}
		out = append(out, approval.WorkerStatus{
			Instance: s.Instance, Host: s.Host, Version: s.Version, StartedAt: s.StartedAt, SentAt: s.SentAt, State: s.State,
			Targets: s.Targets, InFlight: s.InFlight, PolicyDigest: s.PolicyDigest, LastSweep: s.LastSweep,
			PauseRevision: s.PauseRevision, Paused: s.Paused, Connections: s.connections(), Faults: s.faults(),
		})
	}
	slices.SortFunc(out, func(a, b approval.WorkerStatus) int {
		return cmp.Or(strings.Compare(a.Host, b.Host), a.StartedAt.Compare(b.StartedAt), strings.Compare(a.Instance, b.Instance))
	})
	return out, nil
}
