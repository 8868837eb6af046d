package main

import (
	"context"

	"github.com/ThreeDotsLabs/watermill"
	wmnats "github.com/ThreeDotsLabs/watermill-nats/v2/pkg/nats"
	"github.com/ThreeDotsLabs/watermill/message"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

// runWatermill handles requests with a Watermill router over its production NATS
// subscriber, with as many concurrent handlers as the worker has slots and the
// cheaper asynchronous acknowledgement. Its newer package, pkg/jetstream, handles
// one message at a time for each subscription and is marked as experimental.
//
// The consumer is restrained until all subscriptions are made. Else the first one
// gets the whole backlog and handles it alone, one message after the other.
func (p *plain) runWatermill(ctx context.Context) error {
	release, err := p.restrainedConsumer(ctx)
	if err != nil {
		return err
	}
	logger := watermill.NopLogger{}
	marshaler := plainMarshaler{}
	subscriber, err := wmnats.NewSubscriber(wmnats.SubscriberConfig{
		URL: p.nats, QueueGroupPrefix: watermillConsumer, SubscribersCount: p.slots, Unmarshaler: marshaler,
		JetStream: wmnats.JetStreamConfig{
			DurablePrefix: watermillConsumer, AckAsync: true,
			SubscribeOptions: []nats.SubOpt{nats.DeliverAll(), nats.AckExplicit()},
		},
	}, logger)
	if err != nil {
		return err
	}
	publisher, err := wmnats.NewPublisher(wmnats.PublisherConfig{URL: p.nats, Marshaler: marshaler}, logger)
	if err != nil {
		return err
	}
	router, err := message.NewRouter(message.RouterConfig{}, logger)
	if err != nil {
		return err
	}
	router.AddConsumerHandler("approve", requestsSubject+">", subscriber, func(m *message.Message) error { //nolint:contextcheck // the message has it
		subject, result, err := p.handle(m.Context(), m.Payload)
		if err != nil {
			return err
		}
		return publisher.Publish(subject, message.NewMessage(watermill.NewUUID(), result))
	})
	ended := make(chan error, 1)
	go func() { ended <- router.Run(ctx) }()
	select {
	case err := <-ended:
		return err
	case <-router.Running():
	}
	if err := release(ctx); err != nil {
		return err
	}
	return <-ended
}

// watermillConsumer is the name of the consumer and of its queue group.
const watermillConsumer = "watermill"

// restrainedConsumer makes the consumer. It delivers one message at a time before
// release is called.
func (p *plain) restrainedConsumer(ctx context.Context) (release func(context.Context) error, err error) {
	nc, err := nats.Connect(p.nats)
	if err != nil {
		return nil, err
	}
	js, err := jetstream.New(nc)
	if err != nil {
		return nil, err
	}
	config := jetstream.ConsumerConfig{
		Durable: watermillConsumer, DeliverSubject: nc.NewInbox(), DeliverGroup: watermillConsumer,
		FilterSubject: requestsSubject + ">", AckPolicy: jetstream.AckExplicitPolicy, MaxAckPending: 1,
	}
	_, err = js.CreatePushConsumer(ctx, requestsStream, config)
	return func(ctx context.Context) error {
		defer nc.Close()
		config.MaxAckPending = 4 * p.slots
		_, err := js.UpdatePushConsumer(ctx, requestsStream, config)
		return err
	}, err
}

// plainMarshaler passes the bodies of messages on as they are.
type plainMarshaler struct{}

func (plainMarshaler) Marshal(topic string, m *message.Message) (*nats.Msg, error) {
	return &nats.Msg{Subject: topic, Data: m.Payload}, nil
}

func (plainMarshaler) Unmarshal(m *nats.Msg) (*message.Message, error) {
	return message.NewMessage(watermill.NewUUID(), m.Data), nil
}
