package events

import (
	"math/rand/v2"
	"testing"

	"github.com/vpcep-approver/vpcep-approver/internal/events/cloudevent"
	"github.com/vpcep-approver/vpcep-approver/internal/jsonappend/jsonappendtest"
)

// TestResultsAreWrittenAlike fails if a field is new, or is written otherwise than by the library.
func TestResultsAreWrittenAlike(t *testing.T) {
	t.Parallel()
	r := rand.New(rand.NewPCG(1, 2))
	written, left := 0, 0
	for i := range 20_000 {
		var d Record
		e := cloudevent.Event{Extensions: map[string]string{"causationid": "a", "traceparent": "b"}}
		jsonappendtest.Fill(r, &d, i%2 == 1)
		jsonappendtest.Fill(r, &e.ID, i%2 == 1)
		jsonappendtest.Fill(r, &e.Subject, i%2 == 1)
		jsonappendtest.Fill(r, &e.Time, i%2 == 1)
		// These are of the ledger, and no result has them.
		d.ActedAt, d.Sends, d.Revision, d.Waiting, d.History = zero(d.ActedAt), 0, 0, nil, nil
		want, wantHeader, err := cloudevent.EncodeWith(e, (*plainRecord)(&d))
		got, header, ok := encodeRecord(e, &d)
		switch {
		case !ok:
			left++
		case err != nil:
			t.Fatalf("%+v\nwritten as %s\nrefused: %v", d, got, err)
		case string(got) != string(want) || header["Content-Type"][0] != wantHeader["Content-Type"][0]:
			t.Fatalf("%+v\ngot  %s\nwant %s", d, got, want)
		default:
			written++
		}
	}
	if written < 5_000 || left == 0 {
		t.Errorf("%d written, %d left to the library", written, left)
	}
}

func zero[T any](T) (z T) { return z }
