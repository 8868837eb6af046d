package cloud

import (
	"bytes"
	"sync"

	"github.com/go-json-experiment/json/jsontext"
)

// cachedRows is the size of each half of a rowCache: two full pages.
const cachedRows = 2 * vpcepPage

// rowCache keeps decoded rows of connection lists by the bytes that they were read from, so
// that a row that is read again and has not changed is not decoded again. Reads for many
// requests show nearly the same page many times a second. It is safe for concurrent use.
type rowCache struct {
	mu     sync.Mutex
	recent map[string]connection
	older  map[string]connection // what recent was when it was full
}

// read decodes a row like readConnection.
func (c *rowCache) read(dec *jsontext.Decoder) (connection, error) {
	row, err := dec.ReadValue()
	if err != nil {
		return connection{}, err
	}
	if r, ok := c.get(row); ok {
		return r, nil
	}
	one := decoders.Get().(*jsontext.Decoder)
	defer decoders.Put(one)
	one.Reset(bytes.NewBuffer(row))
	r, err := readConnection(one)
	if err == nil {
		c.put(row, r)
	}
	return r, err
}

func (c *rowCache) get(row jsontext.Value) (r connection, ok bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if r, ok = c.recent[string(row)]; ok {
		return r, true
	}
	if r, ok = c.older[string(row)]; ok {
		c.add(string(row), r)
	}
	return r, ok
}

func (c *rowCache) put(row jsontext.Value, r connection) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.add(string(row), r)
}

// add keeps a row as recent. The caller holds c.mu.
func (c *rowCache) add(row string, r connection) {
	if c.recent == nil || len(c.recent) >= cachedRows {
		c.recent, c.older = map[string]connection{}, c.recent
	}
	c.recent[row] = r
}
