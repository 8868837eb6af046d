package cloud

import (
	"strings"
	"testing"

	"github.com/go-json-experiment/json/jsontext"

	"github.com/vpcep-approver/vpcep-approver/internal/approval"
)

// TestRowsInAnySpelling: the spelling of ids in a list does not matter.
func TestRowsInAnySpelling(t *testing.T) {
	t.Parallel()
	const id, account = "705290f3-0d00-41f2-aedc-71f09844e879", "6e9dfd51d1124e8d8498dce894923a0d"
	for _, at := range []string{id, strings.ToUpper(id), strings.ReplaceAll(id, "-", "")} {
		for _, of := range []string{account, strings.ToUpper(account), approval.UUID(account)} {
			text := `{"id":"` + at + `","domain_id":"` + of + `","marker_id":1,"status":"accepted","created_at":"2026-11-01T00:00:00Z","updated_at":"2026-11-01T00:00:00Z"}`
			row, err := readConnection(jsontext.NewDecoder(strings.NewReader(text)))
			if err != nil {
				t.Fatal(err)
			}
			if f := row.facts(); f.EndpointID != id || f.DomainID != account {
				t.Errorf("%s of %s is shown as %s of %s", at, of, f.EndpointID, f.DomainID)
			}
			s := snapshot{collector: newCollector[connection](1)}
			s.join([]connection{row})
			for _, asked := range []string{at, strings.ReplaceAll(id, "-", "")} {
				if _, ok := s.row(asked); !ok {
					t.Errorf("the row of %s is not found by %s", at, asked)
				}
				if n, err := countList(s).of(of, asked); n.Accepted != 0 || err != nil {
					t.Errorf("%s counts itself, written %s: %+v, %v", at, asked, n, err)
				}
			}
			another := row
			another.ID = strings.Replace(row.ID, "7", "8", 1)
			s.join([]connection{another})
			if n, err := countList(s).of(of, another.ID); n.Accepted != 1 || err != nil {
				t.Errorf("the account %s has %+v, %v; want 1", of, n, err)
			}
		}
	}
}
