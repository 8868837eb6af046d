package events

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/go-json-experiment/json"
	"github.com/nats-io/nats.go"
)

// pull asks for n requests, for which it holds slots, and begins to handle those
// that come. One pull at a time is enough: while it waits, nothing is waiting.
//
// It speaks the pull protocol itself. The library takes any message without a
// body and with a header named Status for the broker's word, also one that
// somebody stored, and drops it with those that come after it. What is stored
// comes with a subject for its acknowledgement, and the broker's word with none.
func (c *consumeLoop) pull(ctx context.Context, n int) error {
	used := 0
	defer func() {
		for range n - used {
			<-c.slots
		}
	}()
	// The broker ends the pull first, so that nothing is sent to nobody.
	pullCtx, cancel := c.interruptible(ctx, pullFor+pullHeartbeat)
	defer cancel()
	if c.setupDirty.Load() {
		return nil
	}
	inbox, came := c.nc.NewInbox(), make(chan *nats.Msg, 2*n+16)
	sub, err := c.nc.ChanSubscribe(inbox, came)
	if err != nil {
		return fmt.Errorf("pull %d requests: %w", n, err)
	}
	start := func(msg *nats.Msg) { //nolint:contextcheck // handlers outlive the pull, and ctx by their grace
		if msg.Reply != "" {
			c.pullServed()
		}
		if msg.Reply != "" && c.start(msg) {
			used++
		}
	}
	err = c.requestBatch(RequestsStream, ConsumerName, inbox, n, pullFor, pullHeartbeat)
	silence := time.NewTimer(2 * pullHeartbeat)
	defer silence.Stop()
	for done := false; err == nil && !done && used < n; {
		select {
		case msg := <-came:
			silence.Reset(2 * pullHeartbeat)
			if start(msg); msg.Reply == "" {
				if done, err = parseStatus(msg.Header); err == nil {
					c.pullServed()
				}
			}
		case <-silence.C:
			err = errNoHeartbeat
		case <-pullCtx.Done():
			done = true
		}
	}
	if unsubErr := sub.Unsubscribe(); err == nil && c.nc.IsConnected() {
		err = unsubErr
	}
	for used < n { // what has come by now is in this worker's hand
		select {
		case msg := <-came:
			start(msg)
			continue
		default:
		}
		break
	}
	if err != nil && pullCtx.Err() == nil {
		return fmt.Errorf("pull %d requests: %w", n, err)
	}
	return nil
}

// errNoHeartbeat says that the broker sent neither a message nor a heartbeat in time.
var errNoHeartbeat = errors.New("the broker is silent")

// requestBatch sends the request of a pull. Its fields are the broker's
// ConsumerGetNextRequest; times are in nanoseconds.
func (b *Bus) requestBatch(stream, consumer, inbox string, n int, wait, heartbeat time.Duration) error {
	body, err := json.Marshal(struct {
		Batch     int   `json:"batch"`
		Expires   int64 `json:"expires"`
		Heartbeat int64 `json:"idle_heartbeat,omitzero"`
	}{n, int64(wait), int64(heartbeat)})
	if err != nil {
		return err
	}
	return b.nc.PublishRequest(b.api("CONSUMER.MSG.NEXT."+stream+"."+consumer), inbox, body)
}

// parseStatus returns what the broker says of a pull: that it is over, or why it failed.
func parseStatus(h nats.Header) (over bool, err error) {
	const alive, badRequest, nothing, timeUp, conflict, nobody = "100", "400", "404", "408", "409", "503"
	description := h.Get("Description")
	switch status := h.Get("Status"); status {
	case alive:
		return false, nil
	case nothing, timeUp:
		return true, nil
	case nobody:
		return true, nats.ErrNoResponders
	case conflict:
		if strings.EqualFold(description, "Batch Completed") {
			return true, nil
		}
		return true, fmt.Errorf("the broker says: %s", description)
	case badRequest:
		return true, fmt.Errorf("the broker refuses it: %s", description)
	default:
		return true, fmt.Errorf("the broker answers %.20q: %.200q", status, description)
	}
}
