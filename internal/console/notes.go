package console

import (
	"crypto/rand"
	"sync"
	"time"
)

const (
	noteLife = 10 * time.Minute
	maxNotes = 1000
)

// note is what became of something that a person did. It is shown on the page to
// which they are sent after it.
type note struct {
	Kind   string // good, wait or bad
	Key    string // of the text
	Args   []any
	Detail string // in English, as the worker says it

	person string
	until  time.Time
}

// notes are kept for a while, so that a reload shows them again. It is safe for
// concurrent use.
type notes struct {
	now func() time.Time
	mu  sync.Mutex
	all map[string]*note
}

func newNotes(now func() time.Time) *notes { return &notes{now: now, all: map[string]*note{}} }

// add keeps n for person and returns its id.
func (n *notes) add(person string, add note) string {
	id, now := rand.Text(), n.now()
	add.person, add.until = person, now.Add(noteLife)
	n.mu.Lock()
	defer n.mu.Unlock()
	for key, old := range n.all {
		if now.After(old.until) {
			delete(n.all, key)
		}
	}
	if len(n.all) >= maxNotes {
		clear(n.all) // a note is a courtesy; the page shows the state itself
	}
	n.all[id] = &add
	return id
}

// find returns the note with an id if it is person's; else nil.
func (n *notes) find(id, person string) *note {
	n.mu.Lock()
	defer n.mu.Unlock()
	if found := n.all[id]; found != nil && found.person == person && n.now().Before(found.until) {
		return found
	}
	return nil
}
