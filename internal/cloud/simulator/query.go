package simulator

import (
	"net/url"
	"strconv"
)

// query returns the query parameters. Malformed ones are missing.
func (c *call) query() url.Values { return c.request.URL.Query() }

// number returns a query parameter as a number from lowest to highest, or absent if the
// parameter is missing. The result is false for other values.
func (c *call) number(name string, absent, lowest, highest int64) (int64, bool) {
	text := c.query().Get(name)
	if text == "" {
		return absent, !c.query().Has(name)
	}
	n, err := strconv.ParseInt(text, 10, 64)
	return n, err == nil && n >= lowest && n <= highest
}

// page returns at most limit elements of all from offset on.
func page[T any](all []T, offset, limit int64) []T {
	n := int64(len(all))
	offset = min(offset, n)
	return all[offset : offset+min(limit, n-offset)]
}
