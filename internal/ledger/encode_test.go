package ledger

import (
	"math/rand/v2"
	"testing"
	"time"

	"github.com/vpcep-approver/vpcep-approver/internal/approval"
	"github.com/vpcep-approver/vpcep-approver/internal/jsonappend/jsonappendtest"
)

// TestEntriesAreWrittenAlike fails if a field is new, or is written otherwise than by the library.
func TestEntriesAreWrittenAlike(t *testing.T) {
	t.Parallel()
	r := rand.New(rand.NewPCG(1, 2))
	written, left := 0, 0
	for i := range 20_000 {
		e, odd := &approval.Entry{}, i%2 == 1
		jsonappendtest.Fill(r, e, odd)
		if e.Result != nil && i%4 < 2 {
			e.Result.Request, e.Result.Decision = e.Request, e.Decision
		}
		want, err := encode(newStoredEntry(e))
		got, ok := encodeEntry(e)
		switch {
		case !ok:
			left++
		case err != nil:
			t.Fatalf("%+v\nwritten as %s\nrefused: %v", e, got, err)
		case string(got) != string(want):
			t.Fatalf("%+v\ngot  %s\nwant %s", e, got, want)
		default:
			written++
		}
		if data, again := encode(e); (again == nil) != (err == nil) || string(data) != string(want) {
			t.Fatalf("%+v\ngot  %s, %v\nwant %s, %v", e, data, again, want, err)
		}
	}
	if written < 5_000 || left == 0 {
		t.Errorf("%d written, %d left to the library", written, left)
	}
}

// TestEnded: what is stored of a request tells whether it has a result, and what cannot be
// read does not.
func TestEnded(t *testing.T) {
	t.Parallel()
	r := rand.New(rand.NewPCG(3, 4))
	ended := 0
	for range 2_000 {
		e := &approval.Entry{}
		jsonappendtest.Fill(r, e, false)
		if e.Request.Claims == nil {
			e.Request.Claims = approval.Claims{}
		}
		e.Request.Claims["Result"] = map[string]any{"Result": map[string]any{}} // of others, and no result
		data, err := encode(e)
		if err != nil {
			t.Fatal(err)
		}
		if got, want := Ended(data), e.Result != nil; got != want {
			t.Fatalf("%v, want %v: %s", got, want, data)
		}
		if e.Result != nil {
			ended++
		}
	}
	if ended < 100 || ended > 1_900 {
		t.Errorf("%d of 2,000 have a result; the test needs more of both", ended)
	}
	for _, text := range []string{
		``, `null`, `[]`, `{}`, `{"v":1}`, `{"Result":{}}`, `{"v":2,"Result":{}}`, `{"v":1,"Result":null}`, `{"v":1,"Result":{}`,
		`{"v":1,"Result":{}} {}`, `{"v":1,"Result":{},"Result":{}}`, `{"v":1,"result":{}}`, `{"v":1,"Result":{},`,
	} {
		if Ended([]byte(text)) {
			t.Errorf("%s counts as ended", text)
		}
	}
}

func BenchmarkEncodeEntry(b *testing.B) {
	e := heldEntry()
	b.Run("append", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			if _, ok := encodeEntry(e); !ok {
				b.Fatal("left to the library")
			}
		}
	})
	b.Run("library", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			if _, err := encode(newStoredEntry(e)); err != nil {
				b.Fatal(err)
			}
		}
	})
}

// heldEntry is an entry as most that end without a call.
func heldEntry() *approval.Entry {
	at := time.Date(2026, 11, 28, 1, 2, 3, 456_000_000, time.UTC)
	e := &approval.Entry{
		Request: approval.Request{
			ID: "0123456789abcdef0123456789abcdef", Source: "portal", EventID: "event-1", Time: at,
			Target: approval.Target{
				Name: "payments", Kind: approval.Service, ID: "4189d3c2-8882-4871-a3c2-d380272eed88",
				ProjectID: "5dd3c0b24cdc4d31952c49589182a89d", Region: "eu-101",
			},
			EndpointID: "705290f3-0d00-41f2-aedc-71f09844e879",
			Claims:     approval.Claims{"domain_id": "5fc973eea581490997e82ea11a1df31f", "ticket": "CHG-1", "size": int64(3)},
		},
		Decision: approval.Decision{
			ID: "0123456789abcdef0123456789abcdef", Verdict: approval.Hold, Policy: "payments",
			Reasons: []approval.Reason{{Code: approval.ReasonNotAllowed, Text: "no rule allows the account"}},
			Digest:  "sha256:0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef", At: at,
			Facts: approval.Facts{
				EndpointID: "705290f3-0d00-41f2-aedc-71f09844e879", MarkerID: 16777216, DomainID: "5fc973eea581490997e82ea11a1df31f",
				State: approval.Pending, CreatedAt: at, UpdatedAt: at, ReadAt: at,
			},
		},
		Progress: approval.Progress{Seconds: map[approval.Stage]float64{approval.StageQueued: 0.25, approval.StageVerify: 0.125}, Until: at},
	}
	e.Result = &approval.Result{
		Request: e.Request, Decision: e.Decision, Outcome: approval.OutcomeHeld, State: approval.Pending, Attempts: 1,
		Seconds: e.Progress.Seconds, Version: "v1.2.3", At: at,
	}
	return e
}
