package ledgertest

import (
	"context"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/nats-io/nats.go/jetstream"
)

// Store is a bucket in memory: what the ledger uses of jetstream.KeyValue, with
// the same compare-and-set. Calling anything else panics.
type Store struct {
	jetstream.KeyValue

	mu     sync.Mutex
	seq    uint64
	values map[string][]*version // oldest first
	fault  func(op Op, key string) Fault
}

// version is one stored value of a key.
type version struct {
	key   string
	value []byte
	seq   uint64
	at    time.Time
}

func (v *version) Bucket() string                  { return "memory" }
func (v *version) Key() string                     { return v.key }
func (v *version) Value() []byte                   { return slices.Clone(v.value) }
func (v *version) Revision() uint64                { return v.seq }
func (v *version) Created() time.Time              { return v.at }
func (v *version) Delta() uint64                   { return 0 }
func (v *version) Operation() jetstream.KeyValueOp { return jetstream.KeyValuePut }

// do runs the deed of op on key, which may fail before or after it.
func (s *Store) do(ctx context.Context, op Op, key string, deed func() error) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	var f Fault
	if s.fault != nil {
		f = s.fault(op, key)
	}
	if f.Err != nil && !f.After {
		return f.Err
	}
	if err := deed(); err != nil {
		return err
	}
	return f.Err
}

// Get returns the newest value of key.
func (s *Store) Get(ctx context.Context, key string) (jetstream.KeyValueEntry, error) {
	var found *version
	err := s.do(ctx, Read, key, func() error {
		all := s.values[key]
		if len(all) == 0 {
			return jetstream.ErrKeyNotFound
		}
		found = all[len(all)-1]
		return nil
	})
	if err != nil {
		return nil, err
	}
	return found, nil
}

// Create stores the first value of key.
func (s *Store) Create(ctx context.Context, key string, value []byte, _ ...jetstream.KVCreateOpt) (uint64, error) {
	return s.write(ctx, key, value, 0)
}

// Update stores a value of key if the newest one is still that of revision last.
func (s *Store) Update(ctx context.Context, key string, value []byte, last uint64) (uint64, error) {
	return s.write(ctx, key, value, last)
}

func (s *Store) write(ctx context.Context, key string, value []byte, last uint64) (uint64, error) {
	var seq uint64
	err := s.do(ctx, Write, key, func() error {
		all := s.values[key]
		var newest uint64
		if len(all) > 0 {
			newest = all[len(all)-1].seq
		}
		if newest != last {
			return jetstream.ErrKeyExists
		}
		s.seq++
		seq = s.seq
		all = append(all, &version{key: key, value: slices.Clone(value), seq: seq, at: time.Now()})
		s.values[key] = all[max(0, len(all)-history):]
		return nil
	})
	if err != nil {
		return 0, err
	}
	return seq, nil
}

// history is how many values of a key the bucket keeps.
const history = 8

// History returns the values of key, oldest first.
func (s *Store) History(ctx context.Context, key string, _ ...jetstream.WatchOpt) ([]jetstream.KeyValueEntry, error) {
	var out []jetstream.KeyValueEntry
	err := s.do(ctx, Read, key, func() error {
		for _, v := range s.values[key] {
			out = append(out, v)
		}
		if len(out) == 0 {
			return jetstream.ErrKeyNotFound
		}
		return nil
	})
	return out, err
}

// Watch yields the newest values of the keys that begin as pattern does before
// its "*", in the order of their last change, and then nil.
func (s *Store) Watch(ctx context.Context, pattern string, _ ...jetstream.WatchOpt) (jetstream.KeyWatcher, error) {
	var found []*version
	err := s.do(ctx, Read, pattern, func() error {
		for key, all := range s.values {
			if strings.HasPrefix(key, strings.TrimRight(pattern, "*>")) {
				found = append(found, all[len(all)-1])
			}
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	slices.SortFunc(found, func(a, b *version) int { return int(a.seq) - int(b.seq) }) //nolint:gosec // small numbers
	updates := make(chan jetstream.KeyValueEntry, len(found)+1)
	for _, v := range found {
		updates <- v
	}
	updates <- nil
	return watcher(updates), nil
}

type watcher chan jetstream.KeyValueEntry

func (w watcher) Updates() <-chan jetstream.KeyValueEntry { return w }
func (w watcher) Stop() error                             { return nil }
