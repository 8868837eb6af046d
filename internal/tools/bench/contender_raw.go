package main

import (
	"context"
	"fmt"
	"os"
	"sync"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

// runRaw handles requests with the NATS client alone: pull, decide, call, publish,
// acknowledge. It is what a program without any promise costs, the limit for others.
func (p *plain) runRaw(ctx context.Context) error {
	nc, err := nats.Connect(p.nats)
	if err != nil {
		return err
	}
	defer nc.Close()
	js, err := jetstream.New(nc)
	if err != nil {
		return err
	}
	consumer, err := js.Consumer(ctx, requestsStream, consumerName)
	if err != nil {
		return err
	}
	messages, err := consumer.Messages(jetstream.PullMaxMessages(2 * p.slots))
	if err != nil {
		return err
	}
	stop := context.AfterFunc(ctx, messages.Stop)
	defer stop()
	var handlers sync.WaitGroup
	defer handlers.Wait()
	for range p.slots {
		handlers.Go(func() {
			for {
				m, err := messages.Next()
				if err != nil {
					return // stopped
				}
				if err := p.handleRaw(ctx, js, m); err != nil {
					fmt.Fprintln(os.Stderr, err)
				}
			}
		})
	}
	<-ctx.Done()
	return nil
}

func (p *plain) handleRaw(ctx context.Context, js jetstream.JetStream, m jetstream.Msg) error {
	subject, result, err := p.handle(ctx, m.Data())
	if err == nil {
		_, err = js.Publish(ctx, subject, result)
	}
	if err != nil {
		return err // it comes again after AckWait
	}
	return m.Ack()
}
