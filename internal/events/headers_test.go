package events

import (
	"bytes"
	"fmt"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/nats-io/nats.go"

	"github.com/vpcep-approver/vpcep-approver/internal/events/broker"
	"github.com/vpcep-approver/vpcep-approver/internal/natstest"
)

// publishRaw publishes headers as no client library would.
func publishRaw(t *testing.T, s *natstest.Server, header, body string) {
	t.Helper()
	conn, err := net.Dial("tcp", s.URL[len("nats://"):])
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close() //nolint:errcheck // nothing depends on it
	if err := conn.SetDeadline(time.Now().Add(natstest.Hang)); err != nil {
		t.Fatal(err)
	}
	header = "NATS/1.0\r\n" + header + "\r\n"
	_, err = fmt.Fprintf(conn, "CONNECT {\"headers\":true,\"verbose\":false,\"protocol\":1}\r\nHPUB %s.payments %d %d\r\n%s%s\r\nPING\r\n",
		RequestsSubject, len(header), len(header)+len(body), header, body)
	if err != nil {
		t.Fatal(err)
	}
	var answer bytes.Buffer
	for !strings.Contains(answer.String(), "PONG") {
		buf := make([]byte, 4096)
		n, err := conn.Read(buf)
		if err != nil {
			t.Fatalf("the broker says %q, %v", answer.String(), err)
		}
		answer.Write(buf[:n])
	}
	if strings.Contains(answer.String(), "-ERR") {
		t.Fatalf("the broker says %q", answer.String())
	}
}

// TestBuryKeepsAnyHeader has headers that our client library reads but would not
// publish, or not as they are, or that mean something to it or to us.
func TestBuryKeepsAnyHeader(t *testing.T) {
	t.Parallel()
	many := strings.Repeat("a:\n", 21_000)
	tests := []struct {
		name   string
		header string
		want   nats.Header // nil: too large to be kept
	}{
		{"plain", "X-A: 1\r\n", nats.Header{"X-A": {"1"}}},
		{"space in the name", "X A: 1\r\n", nats.Header{"X A": {"1"}}},
		{"brackets", "X(A)[]{}: 1\r\n", nats.Header{"X(A)[]{}": {"1"}}},
		{"not ASCII", "é: ü\r\n", nats.Header{"é": {"ü"}}},
		{"not UTF-8", "\xff\x00: \xfe\x00\r\n", nats.Header{"\xff\x00": {"\xfe\x00"}}},
		{"empty name", ": 1\r\nX-A: 1\r\n", nats.Header{"X-A": {"1"}}},
		{"colon in the value", "X-A: b: c\r\n", nats.Header{"X-A": {"b: c"}}},
		{"carriage return", "X-A: b\rc\r\nX\rB: 2\r\n", nats.Header{"X-A": {"b\rc"}, "X\rB": {"2"}}},
		{"spaces at the end", "X-A: b  \r\n", nats.Header{"X-A": {"b  "}}},
		{"two values, one of them odd", "X-A: 1%\r\nX-A: \r2\r\n", nats.Header{"X-A": {"1%", "\r2"}}},
		{"two spellings", "X-A: 1\r\nx-a: 2\r\n", nats.Header{"X-A": {"1"}, "x-a": {"2"}}},
		{"of the broker", "Nats-Other: all\nnats-x: 1\r\n", nats.Header{"Nats-Other": {"all"}, "nats-x": {"1"}}},
		{"of the client library", "Status: 404\r\nDescription: none\r\n", nats.Header{"Status": {"404"}, "Description": {"none"}}},
		{
			"ours", "Vpcep-Deadletter-Reason: x\r\nvpcep-deadletter-request: y\r\nVpcep-Encoded-%: z\r\nVpcep-Original-A: b\r\n",
			nats.Header{"Vpcep-Deadletter-Reason": {"x"}, "vpcep-deadletter-request": {"y"}, "Vpcep-Encoded-%": {"z"}, "Vpcep-Original-A": {"b"}},
		},
		{"no header line", "nonsense\r\n", nats.Header{}},
		{"as many lines as there can be", many, nil},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			s, seen := natstest.StartWith(t, broker.Options{MaxPayload: 128 << 10}), newWatcher()
			b := connect(t, s, func(c *Config) { c.Observer = seen })
			publishRaw(t, s, tt.header, "no request")
			consume(t, b, done)
			seen.until(t, "it is dead-lettered", func(c map[string]int) bool { return c["slots"] == 0 && consumerInfo(t, b).AckFloor.Stream == 1 })
			var found []DeadLetter
			for d, err := range b.DeadLetters(t.Context()) {
				if err != nil {
					t.Fatal(err)
				}
				found = append(found, d)
			}
			if len(found) != 1 {
				t.Fatalf("%d dead letters", len(found))
			}
			d := found[0]
			if tt.want == nil {
				if d.Truncated == 0 {
					t.Errorf("kept %d headers, and not said to be a part", len(d.Header))
				}
				return
			}
			if diff := cmp.Diff(tt.want, d.Header); diff != "" || d.RequestID != "" || string(d.Body) != "no request" {
				t.Errorf("the dead letter is %+v; its headers (-want +got):\n%s", d, diff)
			}
			if err := b.Replay(t.Context(), d.Sequence); err != nil {
				t.Errorf("it cannot be replayed: %v", err)
			}
		})
	}
}
