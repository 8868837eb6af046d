package main

import (
	"strings"
	"testing"
)

// recordedLines are decisions as worker policy records prints them: by the
// policies in testdata/workbench/now, but for the last, of a target that is no more.
const recordedLines = `{"request_id":"11111111111111111111111111111111","now":"2026-11-18T12:00:00Z","request":{"target":"payments","kind":"service","endpoint_id":"705290f3-0d00-41f2-aedc-71f09844e879"},"facts":{"domain_id":"ee9dfd51d1124e8d8498dce894923a0f","state":"pendingAcceptance","accepted":5},"decision":{"verdict":"accept","policy":"payments","rule":"acme"}}
{"request_id":"22222222222222222222222222222222","now":"2026-11-18T12:01:00Z","request":{"target":"payments","kind":"service","endpoint_id":"705290f3-0d00-41f2-aedc-71f09844e880","claims":{"tags":{"env":"staging"}}},"facts":{"domain_id":"ef7b2c6a51c94d0e9a3f5be27d1c4a8f","state":"pendingAcceptance"},"decision":{"verdict":"accept","policy":"payments","rule":"staging"}}
{"request_id":"33333333333333333333333333333333","now":"2026-11-18T12:02:00Z","request":{"target":"payments","kind":"service","endpoint_id":"705290f3-0d00-41f2-aedc-71f09844e881"},"facts":{"domain_id":"58d1e9a7c3b04f6e92a50c7d4b8f1e36","state":"pendingAcceptance"},"decision":{"verdict":"hold","policy":"payments"}}

{"request_id":"44444444444444444444444444444444","now":"2026-11-18T12:03:00Z","request":{"target":"functions","kind":"functiongraph","functiongraph":{"vpc_id":"ed4c0e5a-6b1f-4f0e-8c27-3a5d9e7b1c6f","subnet_id":"2b8f64c1-0d3e-4a57-b1c9-8e7f6a5d4c3b","flavor":"default"}},"facts":{},"decision":{"verdict":"accept","policy":"functions","rule":"office-vpc"}}
{"request_id":"55555555555555555555555555555555","now":"2026-11-18T12:04:00Z","request":{"target":"closed","kind":"service","endpoint_id":"705290f3-0d00-41f2-aedc-71f09844e882"},"facts":{"state":"pendingAcceptance"},"decision":{"verdict":"hold"}}
`

// officeEvent asks for an endpoint for functions.
const officeEvent = `{"specversion": "1.0", "id": "7", "source": "/portal", "type": "vpcep.endpoint.requested", "time": "2026-11-18T12:00:00Z",
 "data": {"target": "functions", "claims": {"team": "web\u001b[2J"}, "functiongraph":
  {"vpc_id": "ed4c0e5a-6b1f-4f0e-8c27-3a5d9e7b1c6f", "subnet_id": "2b8f64c1-0d3e-4a57-b1c9-8e7f6a5d4c3b", "flavor": "large"}}}
`

// TestPolicyCommands holds what people read to golden files. Unless files say
// otherwise there is no configuration, as in a fresh clone.
func TestPolicyCommands(t *testing.T) {
	t.Parallel()
	const now, next, failing, untested = "testdata/workbench/now", "testdata/workbench/next", "testdata/workbench/failing", "testdata/workbench/untested"
	const acme, left, at = "ee9dfd51d1124e8d8498dce894923a0f", "e70fde8e849b4e76a61dd8aa0ec05c8f", "2026-11-18T12:00:00Z"
	recorded := map[string]string{"records.jsonl": recordedLines}
	const beside = goodFile + "policies: {dir: " + now + ", shadow_dir: " + next + "}\n"
	with := func(name, text string) map[string]string {
		return map[string]string{"records.jsonl": recordedLines, name: text}
	}
	tests := []struct {
		name string
		call call
		code int
	}{
		{"help", call{args: []string{"policy", "--help"}}, exitDone},
		{"slip", call{args: []string{"policy", "exlpain"}}, exitUsage},

		{"check-sarif", call{args: []string{"policy", "check", "testdata/policies/odd", "-o", "sarif"}, files: map[string]string{"worker.yaml": goodFile}}, exitDone},
		{"check-targets-of-tests", call{args: []string{"policy", "check", now, "--strict"}}, exitDone},
		{"check-expired", call{args: []string{"policy", "check", next, "--strict", "--now", "2027-07-01", "--target", "payments=service", "--target", "functions=functiongraph"}}, exitInvalid},
		{"check-without-targets", call{args: []string{"policy", "check", untested}}, exitInvalid},
		{"check-bad-time", call{args: []string{"policy", "check", now, "--now", "soon"}}, exitUsage},
		{"check-two-folders", call{args: []string{"policy", "check", now, next}}, exitUsage},
		{"check-shadow", call{args: []string{"policy", "check"}, files: map[string]string{"worker.yaml": beside}}, exitDone},
		{"check-shadow-json", call{args: []string{"policy", "check", "-o", "json"}, environ: map[string]string{"APPROVER_POLICIES_SHADOW_DIR": "testdata/policies/wrong"}, files: map[string]string{"worker.yaml": beside}}, exitInvalid},
		{"check-no-folder", call{args: []string{"policy", "check", now + "/payments.yaml"}}, exitInvalid},

		{"help-of-test", call{args: []string{"policy", "test", "--help"}}, exitDone},
		{"test", call{args: []string{"policy", "test", now, "--coverage", "--min", "100"}}, exitDone},
		{"test-json", call{args: []string{"policy", "test", now, "-o", "json"}}, exitDone},
		{"test-failing", call{args: []string{"policy", "test", failing, "--coverage"}}, exitDiffers},
		{"test-failing-color", call{args: []string{"policy", "test", failing}, tty: true}, exitDiffers},
		{"test-junit", call{args: []string{"policy", "test", failing, "-o", "junit"}}, exitDiffers},
		{"test-min", call{args: []string{"policy", "test", failing, "--min", "80", "-o", "json"}}, exitDiffers},
		{"test-min-slip", call{args: []string{"policy", "test", now, "--min", "101"}}, exitUsage},
		{"test-none", call{args: []string{"policy", "test", untested}, files: map[string]string{"worker.yaml": goodFile}}, exitInvalid},
		{"test-other-kind", call{args: []string{"policy", "test", now, "--target", "payments=hss"}}, exitInvalid},

		{"help-of-explain", call{args: []string{"policy", "explain", "--help"}}, exitDone},
		{"explain-accept", call{args: []string{"policy", "explain", now, "--target", "payments", "--domain-id", strings.ToUpper(acme), "--accepted", "9", "--created-at", "2026-11-18", "--now", at}}, exitDone},
		{"explain-limit", call{args: []string{"policy", "explain", now, "--target", "payments", "--domain-id", acme, "--accepted", "10", "--now", at}}, exitDone},
		{"explain-lie", call{args: []string{"policy", "explain", now, "--target", "payments", "--domain-id", acme, "--claim", "domain_id=" + left, "--now", at}, tty: true}, exitDone},
		{"explain-json", call{args: []string{"policy", "explain", now, "--target", "payments", "--domain-id", left, "--marker-id", "16777510", "--now", at, "-o", "json"}}, exitDone},
		{"explain-shadow", call{args: []string{"policy", "explain", "--target", "payments", "--domain-id", "58d1e9a7c3b04f6e92a50c7d4b8f1e36", "--now", at}, files: map[string]string{"worker.yaml": beside}}, exitDone},
		{"explain-no-facts", call{args: []string{"policy", "explain", now, "--target", "payments", "--now", at}}, exitDone},
		{"explain-file", call{args: []string{"policy", "explain", now, "--file", "event.json", "--now", at}, files: map[string]string{"event.json": officeEvent}}, exitDone},
		{"explain-stdin", call{args: []string{"policy", "explain", now, "--file", "-", "--domain-id", acme, "--now", at}, stdin: `{"target": "payments", "endpoint_id": "705290f3-0d00-41f2-aedc-71f09844e879"}`}, exitDone},
		{"explain-file-with-facts", call{args: []string{"policy", "explain", now, "--file", "event.json", "--domain-id", acme}, files: map[string]string{"event.json": officeEvent}}, exitUsage},
		{"explain-other-target", call{args: []string{"policy", "explain", now, "--target", "more=gateway", "--domain-id", acme, "--now", at}}, exitDone},
		{"explain-nothing", call{args: []string{"policy", "explain", now}}, exitUsage},
		{"explain-target-slip", call{args: []string{"policy", "explain", now, "--target", "paymnts"}}, exitUsage},
		{"explain-creation-without-file", call{args: []string{"policy", "explain", now, "--target", "functions"}}, exitUsage},
		{"explain-bad-endpoint", call{args: []string{"policy", "explain", now, "--target", "payments", "--endpoint-id", "x"}}, exitInvalid},
		{"explain-bad-domain", call{args: []string{"policy", "explain", now, "--target", "payments", "--domain-id", "acme"}}, exitUsage},
		{"explain-request-and-target", call{args: []string{"policy", "explain", now, "--request", "abcd", "--target", "payments"}}, exitUsage},
		{"explain-bad-request", call{args: []string{"policy", "explain", now, "--request", "../x"}}, exitUsage},
		{"explain-unreachable", call{args: []string{"policy", "explain", now, "--request", "abcd", "--nats-url", "nats://127.0.0.1:1"}}, exitUnreachable},

		{"help-of-diff", call{args: []string{"policy", "diff", "--help"}}, exitDone},
		{"diff", call{args: []string{"policy", "diff", now, next}, tty: true}, exitDiffers},
		{"diff-nothing", call{args: []string{"policy", "diff", now, now}}, exitDone},
		{"diff-records", call{args: []string{"policy", "diff", now, next, "--records", "records.jsonl"}, files: recorded}, exitDiffers},
		{"diff-json", call{args: []string{"policy", "diff", now, next, "--records", "records.jsonl", "-o", "json"}, files: recorded}, exitDiffers},
		{"diff-shadow", call{args: []string{"policy", "diff"}, files: map[string]string{"worker.yaml": beside}}, exitDiffers},
		{"diff-no-folder", call{args: []string{"policy", "diff"}, files: map[string]string{"worker.yaml": goodFile}}, exitUsage},
		{"diff-one-folder", call{args: []string{"policy", "diff", now}}, exitUsage},

		{"help-of-backtest", call{args: []string{"policy", "backtest", "--help"}}, exitDone},
		{"backtest", call{args: []string{"policy", "backtest", next, "--against", now, "--records", "records.jsonl"}, files: recorded}, exitDiffers},
		{"backtest-same", call{args: []string{"policy", "backtest", now, "--records", "-"}, stdin: recordedLines}, exitDone},
		{"backtest-recorded", call{args: []string{"policy", "backtest", untested, "--records", "records.jsonl", "-o", "json"}, files: with("worker.yaml", goodFile)}, exitDiffers},
		{"backtest-allowed", call{args: []string{"policy", "backtest", next, "--target", "payments=service", "--target", "functions=functiongraph", "--records", "records.jsonl", "--allow-flips", "flips.txt"}, files: with("flips.txt", "# meant\naccept>reject payments payments/- *\nhold>accept * payments/staging * # new\n")}, exitDone},
		{"backtest-some-allowed", call{args: []string{"policy", "backtest", next, "--target", "payments=service", "--target", "functions=functiongraph", "--records", "records.jsonl", "--allow-flips", "flips.txt"}, files: with("flips.txt", "hold>accept * payments/staging *\n")}, exitDiffers},
		{"backtest-flips-slip", call{args: []string{"policy", "backtest", now, "--records", "records.jsonl", "--allow-flips", "flips.txt"}, files: with("flips.txt", "hold accept payments *\n")}, exitInvalid},
		{"backtest-no-flips", call{args: []string{"policy", "backtest", now, "--allow-flips", "none.txt"}}, exitInvalid},
		{"backtest-no-records", call{args: []string{"policy", "backtest", now, "--records", "none.jsonl"}}, exitInvalid},
		{"backtest-empty", call{args: []string{"policy", "backtest", now, "--records", "-"}}, exitDone},
		{"backtest-broken-record", call{args: []string{"policy", "backtest", now, "--records", "-"}, stdin: strings.Replace(recordedLines, `"verdict":"hold"`, `"verdict":"maybe"`, 1)}, exitInvalid},
		{"backtest-against-nothing", call{args: []string{"policy", "backtest", now, "--against", "none"}}, exitInvalid},
		{"backtest-since-slip", call{args: []string{"policy", "backtest", now, "--since", "30 days"}}, exitUsage},
		{"backtest-unreachable", call{args: []string{"policy", "backtest", now, "--nats-url", "nats://127.0.0.1:1"}}, exitUnreachable},
		{"help-of-records", call{args: []string{"policy", "records", "--help"}}, exitDone},

		{"schema-slip", call{args: []string{"policy", "schema", "tset"}}, exitUsage},
		{"help-of-new", call{args: []string{"policy", "new", "--help"}}, exitDone},
		{"new-without-name", call{args: []string{"policy", "new"}}, exitUsage},
		{"new-without-target", call{args: []string{"policy", "new", "partners"}}, exitUsage},
		{"new-bad-name", call{args: []string{"policy", "new", "../partners", "--target", "payments=service"}}, exitUsage},
		{"new-unknown-target", call{args: []string{"policy", "new", "partners", "--target", "payment", "--dir", now}}, exitUsage},
		{"new-other-kind", call{args: []string{"policy", "new", "partners", "--target", "payments=hss", "--dir", now}}, exitUsage},
		{"new-taken", call{args: []string{"policy", "new", "payments", "--target", "payments", "--dir", now}}, exitInvalid},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			got := tt.call.do(t.Context())
			if got.code != tt.code {
				t.Errorf("exit %d, want %d\n%s%s", got.code, tt.code, got.stdout, got.stderr)
			}
			if strings.Contains(got.stdout+got.stderr, "\x1b[2J") {
				t.Errorf("what others wrote steers the terminal:\n%q", got.stdout+got.stderr)
			}
			golden(t, "testdata/cli/policy-"+tt.name+".txt", got.text(tt.call))
		})
	}
}
