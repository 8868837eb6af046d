package ledger

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"iter"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/go-json-experiment/json/jsontext"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/vpcep-approver/vpcep-approver/internal/approval"
)

// Filter chooses entries; the zero value chooses all.
type Filter struct {
	Target     string             // name
	EndpointID string             // of a connection
	DomainID   string             // of the account that was judged
	Outcomes   []approval.Outcome // any of these
	Open       bool               // only those without a result
	Since      time.Time          // decided at or after
	Until      time.Time          // decided before
}

// Match reports whether f chooses e. What is not decided yet is only among what
// is open.
func (f Filter) Match(e approval.Entry) bool {
	switch {
	case !e.Decided() && !f.Open:
		return false
	case f.Target != "" && e.Request.Target.Name != f.Target,
		f.EndpointID != "" && e.Request.EndpointID != f.EndpointID,
		f.DomainID != "" && e.Decision.Facts.DomainID != f.DomainID,
		f.Open && e.Result != nil,
		!f.Since.IsZero() && e.Decision.At.Before(f.Since),
		!f.Until.IsZero() && !e.Decision.At.Before(f.Until):
		return false
	case len(f.Outcomes) > 0:
		return e.Result != nil && slices.Contains(f.Outcomes, e.Result.Outcome)
	}
	return true
}

// List yields the entries that f chooses, in the order of their last change. An
// entry that cannot be read is yielded as an *UnreadableError, and the list goes
// on; any other error is the last thing it yields.
func (l *Ledger) List(ctx context.Context, f Filter) iter.Seq2[approval.Entry, error] {
	return func(yield func(approval.Entry, error) bool) {
		for found, err := range l.stored(ctx, RequestKeys("")) {
			var e approval.Entry
			if err == nil {
				e, err = entryOf(found)
			}
			if err == nil && !f.Match(e) {
				continue
			}
			if !yield(e, err) {
				return
			}
		}
	}
}

// stored yields the newest value of each key that pattern matches, in the order of
// their last change. An error is the last thing it yields.
func (l *Ledger) stored(ctx context.Context, pattern string, more ...jetstream.WatchOpt) iter.Seq2[jetstream.KeyValueEntry, error] {
	return func(yield func(jetstream.KeyValueEntry, error) bool) {
		ctx, cancel := context.WithCancel(ctx)
		defer cancel()
		watch, err := l.kv.Watch(ctx, pattern, append(more, jetstream.IgnoreDeletes())...)
		if err != nil {
			yield(nil, fmt.Errorf("list the ledger: %w", err))
			return
		}
		defer watch.Stop() //nolint:errcheck // nothing depends on the end of a read
		for {
			select {
			case <-ctx.Done():
				yield(nil, fmt.Errorf("list the ledger: %w", ctx.Err()))
				return
			case found, ok := <-watch.Updates():
				if found == nil { // all that is stored was seen
					if !ok {
						yield(nil, errors.New("list the ledger: the broker ended the list early"))
					}
					return
				}
				if !yield(found, nil) {
					return
				}
			}
		}
	}
}

// RequestIDs returns the ids of the requests that begin with prefix, which has at least
// prefixLen characters.
func (l *Ledger) RequestIDs(ctx context.Context, prefix string) ([]string, error) {
	if len(prefix) < prefixLen || token(prefix) != prefix {
		return nil, fmt.Errorf("%.80q is not the beginning of the id of a request", prefix)
	}
	var out []string
	for found, err := range l.stored(ctx, RequestKeys(prefix)) {
		if err != nil {
			return nil, err
		}
		if id := found.Key()[strings.LastIndex(found.Key(), ".")+1:]; strings.HasPrefix(id, prefix) {
			out = append(out, id)
		}
	}
	return out, nil
}

// History returns every stored version of the entry of a request, oldest first;
// the bucket keeps the last eight. It is empty if there is none.
func (l *Ledger) History(ctx context.Context, requestID string) ([]approval.Entry, error) {
	key, err := requestKey(requestID)
	if err != nil {
		return nil, err
	}
	versions, err := l.kv.History(ctx, key)
	if errors.Is(err, jetstream.ErrKeyNotFound) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("read the history of %s: %w", key, err)
	}
	var out []approval.Entry
	for _, v := range versions {
		if v.Operation() != jetstream.KeyValuePut {
			continue
		}
		e, err := entryOf(v)
		if err != nil {
			return nil, err
		}
		out = append(out, e)
	}
	return out, nil
}

func entryOf(v jetstream.KeyValueEntry) (approval.Entry, error) {
	return DecodeEntry(v.Key(), v.Revision(), v.Value())
}

// DecodeEntry decodes the value of a key of RequestKeys.
func DecodeEntry(key string, revision uint64, value []byte) (approval.Entry, error) {
	var s storedEntry
	if err := decode(key, revision, value, &s); err != nil {
		return approval.Entry{}, err
	}
	return *s.entry(revision), nil
}

// Ended reports whether the value of a key of RequestKeys is that of a request that has a
// result, without decoding all of it. It is false for another format, and for what is not JSON.
func Ended(value []byte) bool {
	dec := jsontext.NewDecoder(bytes.NewBuffer(value))
	if token, err := dec.ReadToken(); err != nil || token.Kind() != '{' {
		return false
	}
	known, ended := false, false
	for dec.PeekKind() == '"' {
		name, err := dec.ReadToken()
		if err != nil {
			return false
		}
		switch name.String() {
		case "v":
			v, err := dec.ReadValue()
			if err != nil {
				return false
			}
			known = string(v) == strconv.Itoa(format)
			continue
		case "Result":
			ended = dec.PeekKind() == '{'
		}
		if dec.SkipValue() != nil {
			return false
		}
	}
	if _, err := dec.ReadToken(); err != nil { // the end of the object
		return false
	}
	_, err := dec.ReadToken()
	return known && ended && errors.Is(err, io.EOF)
}
