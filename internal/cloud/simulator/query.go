package simulator

import (
	"net/url"
	"strconv"
)

// query returns the parameters of the query; what cannot be read is not there.
func (c *call) query() url.Values { return c.request.URL.Query() }

// number returns a parameter of the query as a number from lowest to highest, or
// absent if it is not given. It is not ok if it is something else.
func (c *call) number(name string, absent, lowest, highest int64) (int64, bool) {
	text := c.query().Get(name)
	if text == "" {
		return absent, !c.query().Has(name)
	}
	n, err := strconv.ParseInt(text, 10, 64)
	return n, err == nil && n >= lowest && n <= highest
}

// page cuts the page of at most limit elements from offset out of all.
func page[T any](all []T, offset, limit int64) []T {
	n := int64(len(all))
	offset = min(offset, n)
	return all[offset : offset+min(limit, n-offset)]
}
