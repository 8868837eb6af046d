package main

import (
	"context"

	"github.com/ThreeDotsLabs/watermill"
	wmnats "github.com/ThreeDotsLabs/watermill-nats/v2/pkg/nats"
	"github.com/ThreeDotsLabs/watermill/message"
	"github.com/nats-io/nats.go"
)

// runWatermill handles requests with a Watermill router over its production NATS
// subscriber, with as many concurrent handlers as the worker has slots and the
// cheaper asynchronous acknowledgement. Its newer package, pkg/jetstream, handles
// one message at a time for each subscription and is marked as experimental.
func (p *plain) runWatermill(ctx context.Context) error {
	logger := watermill.NopLogger{}
	marshaler := plainMarshaler{}
	subscriber, err := wmnats.NewSubscriber(wmnats.SubscriberConfig{
		URL: p.nats, QueueGroupPrefix: "watermill", SubscribersCount: p.slots, Unmarshaler: marshaler,
		JetStream: wmnats.JetStreamConfig{
			DurablePrefix: "watermill", AckAsync: true,
			SubscribeOptions: []nats.SubOpt{nats.DeliverAll(), nats.AckExplicit(), nats.MaxAckPending(100_000)},
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
	return router.Run(ctx)
}

// plainMarshaler passes the bodies of messages on as they are.
type plainMarshaler struct{}

func (plainMarshaler) Marshal(topic string, m *message.Message) (*nats.Msg, error) {
	return &nats.Msg{Subject: topic, Data: m.Payload}, nil
}

func (plainMarshaler) Unmarshal(m *nats.Msg) (*message.Message, error) {
	return message.NewMessage(watermill.NewUUID(), m.Data), nil
}
