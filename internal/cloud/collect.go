package cloud

import (
	"context"

	"golang.org/x/sync/errgroup"

	"github.com/vpcep-approver/vpcep-approver/internal/approval"
)

const (
	maxPages      = 1000 // read from one list
	parallelPages = 8    // calls for pages of one list
)

// listRow is a row of a list. merge combines it with another row of the same key.
type listRow[T any] interface {
	comparable
	key() string
	merge(T) T
}

// retryIncomplete calls read, and a second time if the result is incomplete: the list
// may have changed between two pages.
func retryIncomplete(read func() error) error {
	err := read()
	if isIncomplete(err) {
		err = read()
	}
	return err
}

// collect reads all pages of a list, side by side. read must be safe for concurrent use. It
// is an error if the list is incomplete in two reads. If that is because rows came or went
// meanwhile, collect returns what the second one showed, too.
func collect[T listRow[T]](ctx context.Context, size int, read func(ctx context.Context, offset int) (page[T], error)) (*collector[T], error) {
	var out *collector[T]
	err := retryIncomplete(func() (err error) {
		out, err = collectOnce(ctx, size, read)
		return err
	})
	if err != nil && !isMoved(err) {
		return nil, err
	}
	return out, err
}

// collectOnce returns the rows that it has read also with an error.
func collectOnce[T listRow[T]](ctx context.Context, size int, read func(ctx context.Context, offset int) (page[T], error)) (*collector[T], error) {
	c := newCollector[T](0)
	for more := true; more; {
		if c.pages >= maxPages {
			return &c, incomplete("more than %d pages", maxPages)
		}
		p, err := read(ctx, c.offset)
		if err != nil {
			return &c, err
		}
		if more, err = c.addPage(p, size); err != nil {
			return &c, err
		}
		if more && c.pages == 1 && len(p.rows) == size {
			if more, err = c.addRest(ctx, size, read); err != nil {
				return &c, err
			}
		}
	}
	return &c, c.complete()
}

// pageOffsets returns the offsets of the pages from one offset on.
func pageOffsets(from, total, size int) []int {
	var out []int
	for ; from < total; from += size {
		out = append(out, from)
	}
	return out
}

// readPages reads pages side by side and returns them in order.
func readPages[P any](ctx context.Context, offsets []int, read func(ctx context.Context, offset int) (P, error)) ([]P, error) {
	pages := make([]P, len(offsets))
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(parallelPages)
	for i, offset := range offsets {
		group.Go(func() (err error) {
			if err := ctx.Err(); err != nil {
				return err // another page failed
			}
			pages[i], err = read(ctx, offset)
			return err
		})
	}
	return pages, group.Wait()
}

// collector combines the pages of a list.
type collector[T listRow[T]] struct {
	rows          []T
	index         map[string]int // in rows, by key
	pages, offset int
	total         int // rows that the list claims to have
	distinct      int // rows that differ in anything at all
}

// newCollector returns a collector with room for so many rows at first.
func newCollector[T listRow[T]](room int) collector[T] {
	return collector[T]{rows: make([]T, 0, room), index: make(map[string]int, room)}
}

// addPage adds a page of at most size rows, and reports whether there are more.
func (c *collector[T]) addPage(p page[T], size int) (more bool, err error) {
	if len(p.rows) > size {
		return false, incomplete("a page has %d rows, but the limit is %d", len(p.rows), size)
	}
	if err := c.add(p); err != nil {
		c.join(p.rows)
		return false, err
	}
	return len(p.rows) > 0 && c.offset < c.total, nil
}

// addRest adds the pages after the first one, and reports whether there are more: after a
// short page the rows of the next ones are others than those that were asked for.
func (c *collector[T]) addRest(ctx context.Context, size int, read func(ctx context.Context, offset int) (page[T], error)) (more bool, err error) {
	offsets := pageOffsets(c.offset, c.total, size)
	if c.pages+len(offsets) > maxPages {
		return false, incomplete("more than %d pages", maxPages)
	}
	pages, err := readPages(ctx, offsets, read)
	if err != nil {
		return false, err
	}
	for i, p := range pages {
		if more, err = c.addPage(p, size); err != nil {
			for _, later := range pages[i+1:] {
				c.join(later.rows)
			}
			return more, err
		}
		if !more || len(p.rows) < size {
			return more, nil
		}
	}
	return more, nil
}

// add appends the next page. Different rows with the same key are merged if they are
// on the same page; on two pages they show that the list has changed.
func (c *collector[T]) add(p page[T]) error {
	c.pages++
	switch {
	case p.total < 0:
		return incomplete("the total number of rows is missing")
	case c.pages > 1 && p.total != c.total:
		return moved("the total changed from %d to %d rows between two pages", c.total, p.total)
	}
	c.total = p.total
	before := len(c.rows)
	for _, r := range p.rows {
		key := approval.UUID(r.key())
		i, seen := c.index[key]
		switch {
		case !seen:
			c.index[key] = len(c.rows)
			c.rows = append(c.rows, r)
			c.distinct++
		case i < before:
			return moved("a row is on two pages")
		case c.rows[i] != r:
			c.rows[i] = c.rows[i].merge(r)
			c.distinct++
		}
	}
	c.offset += len(p.rows)
	return nil
}

// complete returns an error unless all rows are present. The total may count merged
// rows as one or as several.
func (c *collector[T]) complete() error {
	if len(c.rows) > c.total || c.distinct < c.total {
		if c.pages > 1 {
			return moved("the total is %d rows, but %d are shown", c.total, len(c.rows))
		}
		return incomplete("the total is %d rows, but %d are shown", c.total, len(c.rows))
	}
	return nil
}

// missing returns the ids that have no row.
func (c *collector[T]) missing(ids []string) []string {
	var out []string
	for _, id := range ids {
		if _, found := c.index[id]; !found {
			out = append(out, id)
		}
	}
	return out
}

// join adds the rows whose keys have none yet: they are of another read, in which a row may
// have changed.
func (c *collector[T]) join(rows []T) {
	for _, r := range rows {
		key := approval.UUID(r.key())
		if _, seen := c.index[key]; !seen {
			c.index[key] = len(c.rows)
			c.rows = append(c.rows, r)
		}
	}
}
