package events

import (
	"encoding/json"
	"os"
	"regexp"
	"strings"
	"testing"

	"github.com/vpcep-approver/vpcep-approver/internal/approval"
)

// TestDocs holds the code to what docs/events.md promises.
func TestDocs(t *testing.T) {
	t.Parallel()
	text, err := os.ReadFile("../../docs/events.md")
	if err != nil {
		t.Fatal(err)
	}
	doc := string(text)
	for _, names := range [][]string{
		{RequestsStream, ResultsStream, DeadLettersStream, LedgerBucket, ConsumerName},
		{RequestsSubject + ".<target>", ResultsSubject + ".<outcome>.<target>.<decision id>", DeadLettersSubject + ".<reason>"},
		RequestTypes(), DeadLetterReasons(), dataSourceTypes(),
	} {
		for _, name := range names {
			if !strings.Contains(doc, "`"+name+"`") {
				t.Errorf("docs/events.md does not name `%s`", name)
			}
		}
	}
	for _, o := range approval.Outcomes() {
		if !strings.Contains(doc, "`"+string(o)+"`") {
			t.Errorf("docs/events.md does not name the outcome `%s`", o)
		}
	}
	requests, results := 0, 0
	for _, block := range regexp.MustCompile("(?s)```json\n(.*?)```").FindAllStringSubmatch(doc, -1) {
		body := []byte(block[1])
		if strings.Contains(block[1], `"type": "vpcep.request.`) {
			results++
			resultExample(t, body)
			continue
		}
		requests++
		r, err := DecodeRequest(nil, body, targets())
		if err != nil {
			t.Errorf("an example is no request: %v\n%s", err, body)
			continue
		}
		roundTrip(t, r)
	}
	if requests != 4 || results != 1 {
		t.Errorf("found examples of %d requests and %d results, want 4 and 1", requests, results)
	}
}

// resultExample holds that the example has exactly the members that the worker
// writes for it.
func resultExample(t *testing.T, body []byte) {
	t.Helper()
	r, err := DecodeResult(nil, body)
	if err != nil {
		t.Errorf("the example is no result: %v", err)
		return
	}
	again, _, err := encodeResult(r, r.Decision.ID, 1<<20)
	if err != nil {
		t.Fatal(err)
	}
	var want, got any
	if err := json.Unmarshal(body, &want); err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(again, &got); err != nil {
		t.Fatal(err)
	}
	a, errA := json.Marshal(want)
	b, errB := json.Marshal(got)
	if errA != nil || errB != nil || string(a) != string(b) {
		t.Errorf("the example differs from what the worker writes:\n%s\n%s", a, b)
	}
}
