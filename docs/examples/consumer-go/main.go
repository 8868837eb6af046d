// Command consumer-go prints each result of vpcep-approver on a line. The types in
// types_gen.go are made from the JSON Schema by go generate.
package main

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"log"
	"os"
	"os/signal"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

//go:generate go tool go-jsonschema --tags json --struct-name-from-title -p main -o types_gen.go ../../schema/request-ended.schema.json

func main() {
	url := flag.String("nats-url", nats.DefaultURL, "`address` of the NATS server")
	durable := flag.String("durable", "consumer-go", "`name` under which the server remembers how far this program has read")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	if err := run(ctx, *url, *durable, os.Stdout); err != nil && !errors.Is(err, context.Canceled) {
		log.Fatal(err)
	}
}

// run prints results until ctx ends.
func run(ctx context.Context, url, durable string, out io.Writer) error {
	nc, err := nats.Connect(url, nats.Name("consumer-go"), nats.MaxReconnects(-1))
	if err != nil {
		return fmt.Errorf("connect to %s: %w", url, err)
	}
	defer nc.Close()
	js, err := jetstream.New(nc)
	if err != nil {
		return err
	}
	consumer, err := js.CreateOrUpdateConsumer(ctx, "VPCEP_RESULTS", jetstream.ConsumerConfig{
		Durable: durable, AckPolicy: jetstream.AckExplicitPolicy, FilterSubject: "vpcep.results.>",
	})
	if err != nil {
		return fmt.Errorf("open the results: %w", err)
	}
	seen := map[string]bool{} // a real consumer keeps the ids where it keeps what it does with results
	for {
		msg, err := consumer.Next(jetstream.FetchContext(ctx))
		if errors.Is(err, nats.ErrTimeout) {
			continue
		}
		if err != nil {
			return fmt.Errorf("read a result: %w", err)
		}
		if err := handle(msg.Data(), seen, out); err != nil {
			// It stays on the server and comes again: this program may be too old for it.
			log.Printf("%s: %v", msg.Subject(), err)
			if err := msg.NakWithDelay(time.Minute); err != nil {
				log.Print(err)
			}
			continue
		}
		if err := msg.Ack(); err != nil {
			log.Print(err) // it comes again, and is known then
		}
	}
}

// handle prints an event unless it was seen before.
func handle(data []byte, seen map[string]bool, out io.Writer) error {
	var event RequestEnded
	if err := json.Unmarshal(data, &event); err != nil {
		return fmt.Errorf("not a result as the schema has it: %w", err)
	}
	if seen[event.Id] {
		return nil
	}
	seen[event.Id] = true
	result := event.Data
	what, why := "an endpoint", "no reason"
	if result.Request.EndpointId != nil {
		what = "endpoint " + *result.Request.EndpointId
	}
	if len(result.Decision.Reasons) > 0 {
		why = result.Decision.Reasons[0].Text
	}
	_, err := fmt.Fprintf(out, "%s: %s, %s: %s\n", event.Type, result.Request.Target, what, why)
	return err
}
