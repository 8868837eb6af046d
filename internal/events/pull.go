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

// pull requests n messages, for which the caller holds slots, and starts a delivery
// for each that arrives. It releases the slots that are left.
//
// It implements the pull protocol itself. The client library takes any message without
// a body and with a header named Status for a status of the broker, even a stored one,
// and drops it together with those that follow. A stored message has a reply subject
// for its acknowledgement, and a status has none.
func (c *consumeLoop) pull(ctx context.Context, n int) error {
	used := 0
	defer func() {
		for range n - used {
			<-c.slots
		}
	}()
	// The broker ends the pull first, so that it sends nothing to a closed inbox.
	pullCtx, cancel := c.interruptible(ctx, pullFor+pullHeartbeat)
	defer cancel()
	if c.setupDirty.Load() {
		return nil
	}
	inbox, msgs := c.nc.NewInbox(), make(chan *nats.Msg, 2*n+16)
	sub, err := c.nc.ChanSubscribe(inbox, msgs)
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
		case msg := <-msgs:
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
	for used < n { // messages that have arrived belong to this worker
		select {
		case msg := <-msgs:
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

// errNoHeartbeat means that the broker sent neither a message nor a heartbeat in time.
var errNoHeartbeat = errors.New("no message and no heartbeat from the broker")

// requestBatch sends a pull request. Its fields are the broker's
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

// parseStatus interprets a status of a pull: whether the pull is over, and why it failed.
func parseStatus(h nats.Header) (over bool, err error) {
	const idleHeartbeat, badRequest, noMessages, timeout, conflict, noResponders = "100", "400", "404", "408", "409", "503"
	description := h.Get("Description")
	switch status := h.Get("Status"); status {
	case idleHeartbeat:
		return false, nil
	case noMessages, timeout:
		return true, nil
	case noResponders:
		return true, nats.ErrNoResponders
	case conflict:
		if strings.EqualFold(description, "Batch Completed") {
			return true, nil
		}
		return true, fmt.Errorf("the broker ended the pull: %s", description)
	case badRequest:
		return true, fmt.Errorf("the broker refused the pull: %s", description)
	default:
		return true, fmt.Errorf("unexpected status %.20q from the broker: %.200q", status, description)
	}
}
