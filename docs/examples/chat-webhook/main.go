// Command chat-webhook posts each request that vpcep-approver holds to the webhook of a
// chat, with who may decide it. It needs the right to read results, and nothing else.
package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"log"
	"net/http"
	"os"
	"os/signal"
	"strings"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

// held is the part of a result that is posted. The whole is in
// docs/schema/request-ended.schema.json; members that are not named here are ignored.
type held struct {
	Data struct {
		Request struct {
			ID         string `json:"id"`
			Target     string `json:"target"`
			EndpointID string `json:"endpoint_id"`
		} `json:"request"`
		Decision struct {
			Reasons []struct {
				Text string `json:"text"`
			} `json:"reasons"`
			Review []struct {
				By        []string `json:"by"`
				Approvals int      `json:"approvals"`
			} `json:"review"`
		} `json:"decision"`
		Facts struct {
			DomainID string `json:"domain_id"`
		} `json:"facts"`
	} `json:"data"`
}

func main() {
	url := flag.String("nats-url", nats.DefaultURL, "`address` of the NATS server")
	durable := flag.String("durable", "chat-webhook", "`name` under which the server remembers how far this program has read")
	flag.Parse()
	webhook := os.Getenv("CHAT_WEBHOOK_URL") // who knows it can post, so it is no flag
	if webhook == "" {
		log.Fatal("CHAT_WEBHOOK_URL is not set: give the address of the webhook")
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	p := poster{webhook: webhook, client: &http.Client{Timeout: 10 * time.Second}, retry: 30 * time.Second}
	if err := p.run(ctx, *url, *durable); err != nil && !errors.Is(err, context.Canceled) {
		log.Fatal(err)
	}
}

type poster struct {
	webhook string
	client  *http.Client
	retry   time.Duration // after a post that failed
}

// run posts until ctx ends. A result is acknowledged once it is posted, so one that
// the chat did not take comes again.
func (p poster) run(ctx context.Context, url, durable string) error {
	nc, err := nats.Connect(url, nats.Name("chat-webhook"), nats.MaxReconnects(-1))
	if err != nil {
		return fmt.Errorf("connect to %s: %w", url, err)
	}
	defer nc.Close()
	js, err := jetstream.New(nc)
	if err != nil {
		return err
	}
	consumer, err := js.CreateOrUpdateConsumer(ctx, "VPCEP_RESULTS", jetstream.ConsumerConfig{
		Durable: durable, AckPolicy: jetstream.AckExplicitPolicy, FilterSubject: "vpcep.results.held.>", DeliverPolicy: jetstream.DeliverAllPolicy,
	})
	if err != nil {
		return fmt.Errorf("open the results: %w", err)
	}
	for {
		msg, err := consumer.Next(jetstream.FetchContext(ctx))
		if errors.Is(err, nats.ErrTimeout) {
			continue
		}
		if err != nil {
			return fmt.Errorf("read a result: %w", err)
		}
		if err := p.post(ctx, msg.Data()); err != nil {
			log.Printf("%s: %v; trying again in %s", msg.Subject(), err, p.retry)
			if err := msg.NakWithDelay(p.retry); err != nil {
				log.Print(err)
			}
			continue
		}
		if err := msg.Ack(); err != nil {
			log.Print(err) // it is posted twice then
		}
	}
}

// post posts a held request.
func (p poster) post(ctx context.Context, data []byte) error {
	var event held
	if err := json.Unmarshal(data, &event); err != nil {
		return fmt.Errorf("not a result: %w", err)
	}
	body, err := json.Marshal(map[string]string{"text": text(event)})
	if err != nil {
		return err
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, p.webhook, bytes.NewReader(body))
	if err != nil {
		return errors.New("CHAT_WEBHOOK_URL is not an address")
	}
	req.Header.Set("Content-Type", "application/json")
	answer, err := p.client.Do(req)
	if err != nil { // its text has the address, which is a secret
		return errors.New("the chat cannot be reached")
	}
	defer answer.Body.Close()                                       //nolint:errcheck // nothing depends on it
	_, _ = io.Copy(io.Discard, io.LimitReader(answer.Body, 64<<10)) // so that the connection is used again
	if answer.StatusCode/100 != 2 {
		return fmt.Errorf("the chat answers %s", answer.Status)
	}
	return nil
}

// text is what people read. Nothing of what the requester claims is in it: anybody can
// claim anything.
func text(event held) string {
	d := event.Data
	var b strings.Builder
	fmt.Fprintf(&b, "A request to %s waits for a person.", d.Request.Target)
	if d.Request.EndpointID != "" {
		fmt.Fprintf(&b, "\nendpoint: %s", d.Request.EndpointID)
	}
	if d.Facts.DomainID != "" {
		fmt.Fprintf(&b, "\naccount: %s", d.Facts.DomainID)
	}
	for _, reason := range d.Decision.Reasons {
		fmt.Fprintf(&b, "\nwhy: %s", reason.Text)
	}
	for _, review := range d.Decision.Review {
		fmt.Fprintf(&b, "\nmay decide: %s; approvals needed: %d", strings.Join(review.By, ", "), review.Approvals)
	}
	fmt.Fprintf(&b, "\nsee it: worker reviews show %s", d.Request.ID)
	return b.String()
}
