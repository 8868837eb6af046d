package console

import "time"

// SetBeat sets the time between signs of life of streams. Call it before the first.
func (c *Console) SetBeat(d time.Duration) { c.beat = d }
