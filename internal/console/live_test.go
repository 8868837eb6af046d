package console_test

import (
	"bufio"
	"context"
	"fmt"
	"net/http"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/vpcep-approver/vpcep-approver/internal/approval"
	"github.com/vpcep-approver/vpcep-approver/internal/ledger"
)

// tell publishes how a request ended.
func (o *office) tell(n int, outcome approval.Outcome, reason string) {
	o.t.Helper()
	id := approval.RequestID("told", fmt.Sprint(n))
	r := approval.Result{
		Request: approval.Request{ID: id, Source: "told", EventID: fmt.Sprint(n), Target: o.targets[0], EndpointID: endpoint},
		Decision: approval.Decision{
			ID: id, Verdict: approval.Accept, Policy: "p", Rule: "partner", Digest: o.Current().Digest(), At: time.Now(),
			Reasons: []approval.Reason{{Code: approval.ReasonAllowed, Text: reason}}, Facts: approval.Facts{DomainID: account},
		},
		Outcome: outcome, At: time.Now().UTC(), Attempts: 1, Seconds: map[approval.Stage]float64{approval.StageVerify: 0.5},
	}
	if err := o.bus.Publish(o.t.Context(), r); err != nil {
		o.t.Fatal(err)
	}
}

// events reads rows of a stream until there are n, and returns their ids and texts.
func (b *browser) events(path, last string, n int) (ids, texts []string) {
	b.o.t.Helper()
	ctx, cancel := context.WithTimeout(b.o.t.Context(), time.Minute)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, b.o.server.URL+path, nil)
	if err != nil {
		b.o.t.Fatal(err)
	}
	if last != "" {
		req.Header.Set("Last-Event-ID", last)
	}
	resp, err := b.Do(req)
	if err != nil {
		b.o.t.Fatal(err)
	}
	defer resp.Body.Close() //nolint:errcheck // only read
	lines := bufio.NewScanner(resp.Body)
	for len(texts) < n && lines.Scan() {
		if id, ok := strings.CutPrefix(lines.Text(), "id: "); ok {
			ids = append(ids, id)
		}
		if data, ok := strings.CutPrefix(lines.Text(), "data: "); ok {
			texts = append(texts, data)
		}
	}
	if len(texts) < n {
		b.o.t.Fatalf("%d of %d events came: %v", len(texts), n, lines.Err())
	}
	return ids, texts
}

func TestLive(t *testing.T) {
	t.Parallel()
	o := newOffice(t, one)
	ann := o.signIn("ann")
	o.tell(1, approval.OutcomeAccepted, "<i>first</i>\u202e")
	stream := regexp.MustCompile(`data-stream="([^"]+)"`)
	var shown page
	o.until("first row", func() bool { shown = ann.get("/live"); return strings.Contains(shown.text, `id="s-`) })
	for _, path := range []string{"/live?target=paymnts", "/live?outcome=acepted", "/reviews?target=paymnts"} {
		if got := ann.get(path); got.status != http.StatusNotFound {
			t.Errorf("%s: status %d", path, got.status)
		}
	}
	wants(t, "the page", shown, "&lt;i&gt;first&lt;/i&gt;[U+202E]", "p/partner", "0.5 s")
	from := strings.ReplaceAll(stream.FindStringSubmatch(shown.text)[1], "&amp;", "&")

	o.tell(2, approval.OutcomeRejected, "second")
	o.tell(3, approval.OutcomeAccepted, "third\r\nevent: evil\ndata: x")
	ids, texts := ann.events(from, "", 2)
	if len(ids) != 2 || !strings.Contains(texts[0], "second") || !strings.Contains(texts[1], "third") || strings.Contains(texts[1], "<script") {
		t.Errorf("after the page: %q %q", ids, texts)
	}
	again, texts := ann.events(from, ids[0], 1)
	if again[0] != ids[1] {
		t.Errorf("after %s: %q %q", ids[0], again, texts)
	}
	filtered := ann.get("/live?outcome=rejected&target=payments&text=SECOND")
	if !strings.Contains(filtered.text, "second") || strings.Contains(filtered.text, "first") || !strings.Contains(filtered.text, "outcome=rejected") {
		t.Errorf("filtered: %s", filtered.text)
	}
	if _, texts := ann.events("/live/stream?after=0&outcome=rejected", "", 1); !strings.Contains(texts[0], "second") {
		t.Errorf("filtered stream: %q", texts)
	}
	if got := ann.get("/live/stream?after=x"); got.status != http.StatusBadRequest {
		t.Errorf("status %d", got.status)
	}
	wants(t, "targets", ann.get("/targets"), "Accepted 2", "Rejected 1", `href="/live?target=payments&amp;outcome=accepted"`)
	wants(t, "policies", ann.get("/policies"), "partner", `data-label="Decisions">3<`)
}

// TestReviewsStream: the stream says what changed after the page was made, also before the
// browser connected, and while it was not connected; and nothing else.
func TestReviewsStream(t *testing.T) {
	t.Parallel()
	o := newOffice(t, one)
	ann := o.signIn("ann")
	o.until("list", func() bool { return strings.Contains(ann.get("/reviews").text, "Nothing waits") })
	stream := regexp.MustCompile(`data-follow="([^"]+)"`)
	from := stream.FindStringSubmatch(ann.get("/reviews").text)[1]
	held := o.hold("1")
	row := "/requests/" + held.Request.ID
	o.until("row", func() bool { return strings.Contains(ann.get("/reviews").text, row) })
	ids, texts := ann.events(from, "", 1)
	if texts[0] != "reviews" {
		t.Errorf("after the page: %q", texts)
	}
	o.hold("2")
	again, _ := ann.events(from, ids[0], 1)
	if again[0] == ids[0] {
		t.Errorf("after %s: %q", ids[0], again)
	}
	if ids, _ := ann.events(from, "of another process", 1); ids[0] != again[0] {
		t.Errorf("after a restart: %q, want %q", ids, again)
	}
	done, current := make(chan string, 1), stream.FindStringSubmatch(ann.get("/reviews").text)[1]
	go func() {
		ids, _ := ann.events(current, "", 1)
		done <- ids[0]
	}()
	select {
	case id := <-done:
		t.Errorf("%s came without a change", id)
	case <-time.After(100 * time.Millisecond):
	}
	o.hold("3")
	if id := <-done; id == again[0] {
		t.Errorf("the change after %s has the same version", id)
	}
}

func TestPoliciesAndSystem(t *testing.T) {
	t.Parallel()
	o := newOffice(t, one)
	ann := o.signIn("ann")
	wants(t, "an account that is allowed", ann.get("/policies?target=payments&domain_id=b70fde8e849b4e76a61dd8aa0ec05c81"), `data-verdict="accept"`, "p/partner")
	wants(t, "another", ann.get("/policies?target=payments&domain_id="+account), `data-verdict="hold"`, "does not match")
	wants(t, "no account", ann.get("/policies?target=payments&domain_id=%3Cb%3E"), "The request cannot be read", "&lt;b&gt;")
	wants(t, "an event", ann.get("/policies?data=%7B"), "The request cannot be read")

	shown := regexp.MustCompile(`(?s)data-label="(Pending|Accepted)"><span>(.*?)</span>`)
	cells := func() map[string]string {
		out := map[string]string{}
		for _, cell := range shown.FindAllStringSubmatch(ann.get("/targets").text, -1) {
			out[cell[1]] = regexp.MustCompile("<[^>]*>").ReplaceAllString(cell[2], "")
		}
		return out
	}
	if got := cells(); got["Pending"] != "not read yet: no running worker reads this target" || got["Accepted"] != got["Pending"] {
		t.Errorf("without a worker the target has %q", got)
	}
	told, err := ledger.NewWorkers(o.bus).Store(t.Context(), approval.WorkerStatus{
		Instance: "told", State: approval.WorkerRunning, StartedAt: time.Now(), SentAt: time.Now(), Targets: []string{"payments"}, Connections: map[string]approval.Connections{"payments": {}},
	}, 0)
	if err != nil {
		t.Fatal(err)
	}
	if got := cells(); got["Pending"] != "not read yet: the next sweep reads it" || got["Accepted"] != got["Pending"] {
		t.Errorf("before a sweep the target has %q", got)
	}
	status := approval.WorkerStatus{
		Instance: "told", Host: "host-a", State: approval.WorkerRunning, StartedAt: time.Now(), LastSweep: time.Now(),
		SentAt: time.Now(), Targets: []string{"payments"},
		Connections: map[string]approval.Connections{"payments": {Pending: approval.ConnectionCount{At: time.Now().Add(-90 * time.Second)}}},
		Faults:      []approval.WorkerFault{{Kind: approval.FaultOperator, API: "vpcep", Target: "payments", Code: "EndPoint.0004", Text: "<grant> it"}},
	}
	if _, err := ledger.NewWorkers(o.bus).Store(t.Context(), status, told); err != nil {
		t.Fatal(err)
	}
	wants(t, "the system", ann.get("/system"), "host-a", "what only an operator can fix", "EndPoint.0004", "&lt;grant&gt; it")
	if got := cells(); !strings.HasPrefix(got["Pending"], "0 1m") || got["Accepted"] != "not read yet: the cloud cannot be read" {
		t.Errorf("the target has %q", got)
	}
	status.Instance, status.Connections = "other", map[string]approval.Connections{"payments": {
		Pending: approval.ConnectionCount{N: 9, At: time.Now().Add(-time.Hour)}, Accepted: approval.ConnectionCount{N: 4, At: time.Now().Add(-2*time.Hour - 10*time.Minute)},
	}}
	if _, err := ledger.NewWorkers(o.bus).Store(t.Context(), status, 0); err != nil {
		t.Fatal(err)
	}
	if got := cells(); !strings.HasPrefix(got["Pending"], "0 1m") || !strings.HasPrefix(got["Accepted"], "4 2h") {
		t.Errorf("the target has %q, want the latest reads", got)
	}

	if err := o.bus.SubmitRaw(t.Context(), "payments", nil, []byte("{no event")); err != nil {
		t.Fatal(err)
	}
	o.until("dead letter", func() bool {
		return strings.Contains(ann.get("/system").text, "unreadable") || strings.Contains(ann.get("/system").text, `data-label="Number">1<`)
	})
	if got := ann.post("/system/replay", map[string][]string{"number": {"1"}}); got.status != http.StatusForbidden {
		t.Errorf("a reviewer replays: %d", got.status)
	}
	o.load(one, strings.Replace(strings.Replace(people, "%s", o.public, 1), "name: ann,", "name: ann, roles: [operator],", 1))
	wants(t, "an operator", ann.get("/system"), `action="/system/replay"`)
	wants(t, "replayed", ann.follow(ann.post("/system/replay", map[string][]string{"number": {"1"}})), "submitted again")
	wants(t, "twice", ann.follow(ann.post("/system/replay", map[string][]string{"number": {"1"}})), "was not replayed")
}
