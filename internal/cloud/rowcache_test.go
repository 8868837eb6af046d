package cloud

import (
	"fmt"
	"strings"
	"testing"

	"github.com/go-json-experiment/json/jsontext"

	"github.com/vpcep-approver/vpcep-approver/internal/approval"
)

// TestRowCacheReadsLikeTheDecoder: a row that is known by its bytes is the same connection,
// and what cannot be decoded is the same error each time.
func TestRowCacheReadsLikeTheDecoder(t *testing.T) {
	t.Parallel()
	id := ids(2)
	rows := []string{
		rowJSON(id[0], approval.Pending),
		rowJSON(id[0], approval.Accepted), // the same connection, a moment later
		rowJSON(id[1], approval.Pending),
		strings.ToUpper(id[0]), // no row at all
		`{"id":"` + id[0] + `"}`,
		`{"id":"` + id[0] + `","id":"` + id[1] + `","status":"accepted"}`,
		`{"id":"` + id[0] + `","Status":"accepted"}`,
		`{"id":"` + id[0] + `","status":7}`,
		`{"id":"` + id[0] + `","status":"failed","error":[{"error_code":"E1","error_message":"it failed"}]}`,
		`null`, `[]`, `7`, `"text"`, `{"id":"` + id[0], ``,
	}
	var cache rowCache
	for range 3 {
		for _, row := range rows {
			want, wantErr := readConnection(jsontext.NewDecoder(strings.NewReader(row)))
			got, err := cache.read(jsontext.NewDecoder(strings.NewReader(row)))
			if (err != nil) != (wantErr != nil) || err == nil && got != want {
				t.Errorf("%s is %+v, %v; want %+v, %v", row, got, err, want, wantErr)
			}
			if err != nil && decodeError(err).Error() != decodeError(wantErr).Error() {
				t.Errorf("%s: error %q, want %q", row, decodeError(err), decodeError(wantErr))
			}
		}
	}
	if n := len(cache.recent); n != 4 {
		t.Errorf("%d rows are kept, want the 4 that can be decoded", n)
	}
}

func TestRowCacheIsBounded(t *testing.T) {
	t.Parallel()
	var cache rowCache
	read := func(n int) {
		row := fmt.Sprintf(`{"id":"705290f3-0d00-41f2-aedc-%012x","status":"accepted"}`, n)
		if _, err := cache.read(jsontext.NewDecoder(strings.NewReader(row))); err != nil {
			t.Fatal(err)
		}
	}
	for n := range 5 * cachedRows {
		read(n)
		read(0) // is read all the time, so it stays
		if len(cache.recent) > cachedRows || len(cache.older) > cachedRows {
			t.Fatalf("%d and %d rows are kept", len(cache.recent), len(cache.older))
		}
	}
	if _, ok := cache.get(jsontext.Value(`{"id":"705290f3-0d00-41f2-aedc-000000000000","status":"accepted"}`)); !ok {
		t.Error("a row that is read all the time was dropped")
	}
	if _, ok := cache.get(jsontext.Value(`{"id":"705290f3-0d00-41f2-aedc-000000000001","status":"accepted"}`)); ok {
		t.Error("a row that was read once is still there")
	}
}
