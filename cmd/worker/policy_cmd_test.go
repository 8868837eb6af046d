package main

import (
	"strings"
	"testing"

	"github.com/vpcep-approver/vpcep-approver/internal/cli"
)

// recordedLines are decisions as worker policy records prints them: by the
// policies in testdata/workbench/now, but for the last, of a target that is no more.
const recordedLines = `{"request":{"id":"11111111111111111111111111111111","event_id":"e1","source":"/portal","target":"payments","target_kind":"service","endpoint_id":"705290f3-0d00-41f2-aedc-71f09844e879"},"decision":{"id":"11111111111111111111111111111111","verdict":"accept","policy":"payments","rule":"acme","time":"2026-11-18T12:00:00Z","reasons":[]},"facts":{"domain_id":"ee9dfd51d1124e8d8498dce894923a0f","status":"pendingAcceptance","accepted_connections":5}}
{"request":{"id":"22222222222222222222222222222222","event_id":"e2","source":"/portal","target":"payments","target_kind":"service","endpoint_id":"705290f3-0d00-41f2-aedc-71f09844e880","claims":{"tags":{"env":"staging"}}},"decision":{"id":"22222222222222222222222222222222","verdict":"accept","policy":"payments","rule":"staging","time":"2026-11-18T12:01:00Z","reasons":[]},"facts":{"domain_id":"ef7b2c6a51c94d0e9a3f5be27d1c4a8f","status":"pendingAcceptance"}}
{"request":{"id":"33333333333333333333333333333333","event_id":"e3","source":"/portal","target":"payments","target_kind":"service","endpoint_id":"705290f3-0d00-41f2-aedc-71f09844e881"},"decision":{"id":"33333333333333333333333333333333","verdict":"hold","policy":"payments","time":"2026-11-18T12:02:00Z","reasons":[]},"facts":{"domain_id":"58d1e9a7c3b04f6e92a50c7d4b8f1e36","status":"pendingAcceptance"}}

{"request":{"id":"44444444444444444444444444444444","event_id":"e4","source":"/portal","target":"functions","target_kind":"functiongraph","parameters":{"functiongraph":{"vpc_id":"ed4c0e5a-6b1f-4f0e-8c27-3a5d9e7b1c6f","subnet_id":"2b8f64c1-0d3e-4a57-b1c9-8e7f6a5d4c3b","flavor":"default"}}},"decision":{"id":"44444444444444444444444444444444","verdict":"accept","policy":"functions","rule":"office-vpc","time":"2026-11-18T12:03:00Z","reasons":[]},"facts":{}}
{"request":{"id":"55555555555555555555555555555555","event_id":"e5","source":"/portal","target":"closed","target_kind":"service","endpoint_id":"705290f3-0d00-41f2-aedc-71f09844e882"},"decision":{"id":"55555555555555555555555555555555","verdict":"hold","time":"2026-11-18T12:04:00Z","reasons":[]},"facts":{"status":"pendingAcceptance"}}
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
	const withShadow = goodFile + "policies: {dir: " + now + ", shadow_dir: " + next + "}\n"
	with := func(name, text string) map[string]string {
		return map[string]string{"records.jsonl": recordedLines, name: text}
	}
	tests := []struct {
		name string
		call call
		code int
	}{
		{"help", call{args: []string{"policy", "--help"}}, cli.ExitDone},
		{"slip", call{args: []string{"policy", "exlpain"}}, cli.ExitUsage},

		{"check-sarif", call{args: []string{"policy", "check", "testdata/policies/odd", "-o", "sarif"}, files: map[string]string{"worker.yaml": goodFile}}, cli.ExitDone},
		{"check-targets-of-tests", call{args: []string{"policy", "check", now, "--strict"}}, cli.ExitDone},
		{"check-expired", call{args: []string{"policy", "check", next, "--strict", "--now", "2027-07-01", "--target", "payments=service", "--target", "functions=functiongraph"}}, cli.ExitInvalid},
		{"check-without-targets", call{args: []string{"policy", "check", untested}}, cli.ExitInvalid},
		{"check-bad-time", call{args: []string{"policy", "check", now, "--now", "soon"}}, cli.ExitUsage},
		{"check-two-folders", call{args: []string{"policy", "check", now, next}}, cli.ExitUsage},
		{"check-shadow", call{args: []string{"policy", "check"}, files: map[string]string{"worker.yaml": withShadow}}, cli.ExitDone},
		{"check-shadow-json", call{args: []string{"policy", "check", "-o", "json"}, environ: map[string]string{"APPROVER_POLICIES_SHADOW_DIR": "testdata/policies/wrong"}, files: map[string]string{"worker.yaml": withShadow}}, cli.ExitInvalid},
		{"check-no-folder", call{args: []string{"policy", "check", now + "/payments.yaml"}}, cli.ExitInvalid},

		{"help-of-test", call{args: []string{"policy", "test", "--help"}}, cli.ExitDone},
		{"test", call{args: []string{"policy", "test", now, "--coverage", "--min", "100"}}, cli.ExitDone},
		{"test-json", call{args: []string{"policy", "test", now, "-o", "json"}}, cli.ExitDone},
		{"test-failing", call{args: []string{"policy", "test", failing, "--coverage"}}, cli.ExitDiffers},
		{"test-failing-color", call{args: []string{"policy", "test", failing}, tty: true}, cli.ExitDiffers},
		{"test-junit", call{args: []string{"policy", "test", failing, "-o", "junit"}}, cli.ExitDiffers},
		{"test-min", call{args: []string{"policy", "test", failing, "--min", "80", "-o", "json"}}, cli.ExitDiffers},
		{"test-min-slip", call{args: []string{"policy", "test", now, "--min", "101"}}, cli.ExitUsage},
		{"test-none", call{args: []string{"policy", "test", untested}, files: map[string]string{"worker.yaml": goodFile}}, cli.ExitInvalid},
		{"test-other-kind", call{args: []string{"policy", "test", now, "--target", "payments=hss"}}, cli.ExitInvalid},

		{"help-of-explain", call{args: []string{"policy", "explain", "--help"}}, cli.ExitDone},
		{"explain-accept", call{args: []string{"policy", "explain", now, "--target", "payments", "--domain-id", strings.ToUpper(acme), "--accepted", "9", "--created-at", "2026-11-18", "--now", at}}, cli.ExitDone},
		{"explain-limit", call{args: []string{"policy", "explain", now, "--target", "payments", "--domain-id", acme, "--accepted", "10", "--now", at}}, cli.ExitDone},
		{"explain-lie", call{args: []string{"policy", "explain", now, "--target", "payments", "--domain-id", acme, "--claim", "domain_id=" + left, "--now", at}, tty: true}, cli.ExitDone},
		{"explain-json", call{args: []string{"policy", "explain", now, "--target", "payments", "--domain-id", left, "--marker-id", "16777510", "--now", at, "-o", "json"}}, cli.ExitDone},
		{"explain-shadow", call{args: []string{"policy", "explain", "--target", "payments", "--domain-id", "58d1e9a7c3b04f6e92a50c7d4b8f1e36", "--now", at}, files: map[string]string{"worker.yaml": withShadow}}, cli.ExitDone},
		{"explain-no-facts", call{args: []string{"policy", "explain", now, "--target", "payments", "--now", at}}, cli.ExitDone},
		{"explain-file", call{args: []string{"policy", "explain", now, "--file", "event.json", "--now", at}, files: map[string]string{"event.json": officeEvent}}, cli.ExitDone},
		{"explain-stdin", call{args: []string{"policy", "explain", now, "--file", "-", "--domain-id", acme, "--now", at}, stdin: `{"target": "payments", "endpoint_id": "705290f3-0d00-41f2-aedc-71f09844e879"}`}, cli.ExitDone},
		{"explain-file-with-facts", call{args: []string{"policy", "explain", now, "--file", "event.json", "--domain-id", acme}, files: map[string]string{"event.json": officeEvent}}, cli.ExitUsage},
		{"explain-other-target", call{args: []string{"policy", "explain", now, "--target", "more=gateway", "--domain-id", acme, "--now", at}}, cli.ExitDone},
		{"explain-nothing", call{args: []string{"policy", "explain", now}}, cli.ExitUsage},
		{"explain-target-slip", call{args: []string{"policy", "explain", now, "--target", "paymnts"}}, cli.ExitUsage},
		{"explain-creation-without-file", call{args: []string{"policy", "explain", now, "--target", "functions"}}, cli.ExitUsage},
		{"explain-bad-endpoint", call{args: []string{"policy", "explain", now, "--target", "payments", "--endpoint-id", "x"}}, cli.ExitInvalid},
		{"explain-bad-domain", call{args: []string{"policy", "explain", now, "--target", "payments", "--domain-id", "acme"}}, cli.ExitUsage},
		{"explain-request-and-target", call{args: []string{"policy", "explain", now, "--request", "abcd", "--target", "payments"}}, cli.ExitUsage},
		{"explain-bad-request", call{args: []string{"policy", "explain", now, "--request", "../x"}}, cli.ExitUsage},
		{"explain-unreachable", call{args: []string{"policy", "explain", now, "--request", "abcd", "--nats-url", "nats://127.0.0.1:1"}}, cli.ExitUnreachable},

		{"help-of-diff", call{args: []string{"policy", "diff", "--help"}}, cli.ExitDone},
		{"diff", call{args: []string{"policy", "diff", now, next}, tty: true}, cli.ExitDiffers},
		{"diff-nothing", call{args: []string{"policy", "diff", now, now}}, cli.ExitDone},
		{"diff-records", call{args: []string{"policy", "diff", now, next, "--records", "records.jsonl"}, files: recorded}, cli.ExitDiffers},
		{"diff-json", call{args: []string{"policy", "diff", now, next, "--records", "records.jsonl", "-o", "json"}, files: recorded}, cli.ExitDiffers},
		{"diff-shadow", call{args: []string{"policy", "diff"}, files: map[string]string{"worker.yaml": withShadow}}, cli.ExitDiffers},
		{"diff-no-folder", call{args: []string{"policy", "diff"}, files: map[string]string{"worker.yaml": goodFile}}, cli.ExitUsage},
		{"diff-one-folder", call{args: []string{"policy", "diff", now}}, cli.ExitUsage},

		{"help-of-backtest", call{args: []string{"policy", "backtest", "--help"}}, cli.ExitDone},
		{"backtest", call{args: []string{"policy", "backtest", next, "--against", now, "--records", "records.jsonl"}, files: recorded}, cli.ExitDiffers},
		{"backtest-same", call{args: []string{"policy", "backtest", now, "--records", "-"}, stdin: recordedLines}, cli.ExitDone},
		{"backtest-recorded", call{args: []string{"policy", "backtest", untested, "--records", "records.jsonl", "-o", "json"}, files: with("worker.yaml", goodFile)}, cli.ExitDiffers},
		{"backtest-allowed", call{args: []string{"policy", "backtest", next, "--target", "payments=service", "--target", "functions=functiongraph", "--records", "records.jsonl", "--allow-flips", "flips.txt"}, files: with("flips.txt", "# meant\naccept>reject payments payments/- *\nhold>accept * payments/staging * # new\n")}, cli.ExitDone},
		{"backtest-some-allowed", call{args: []string{"policy", "backtest", next, "--target", "payments=service", "--target", "functions=functiongraph", "--records", "records.jsonl", "--allow-flips", "flips.txt"}, files: with("flips.txt", "hold>accept * payments/staging *\n")}, cli.ExitDiffers},
		{"backtest-flips-slip", call{args: []string{"policy", "backtest", now, "--records", "records.jsonl", "--allow-flips", "flips.txt"}, files: with("flips.txt", "hold accept payments *\n")}, cli.ExitInvalid},
		{"backtest-no-flips", call{args: []string{"policy", "backtest", now, "--allow-flips", "none.txt"}}, cli.ExitInvalid},
		{"backtest-no-records", call{args: []string{"policy", "backtest", now, "--records", "none.jsonl"}}, cli.ExitInvalid},
		{"backtest-empty", call{args: []string{"policy", "backtest", now, "--records", "-"}}, cli.ExitDone},
		{"backtest-broken-record", call{args: []string{"policy", "backtest", now, "--records", "-"}, stdin: strings.Replace(recordedLines, `"verdict":"hold"`, `"verdict":"maybe"`, 1)}, cli.ExitInvalid},
		{"backtest-against-nothing", call{args: []string{"policy", "backtest", now, "--against", "none"}}, cli.ExitInvalid},
		{"backtest-since-slip", call{args: []string{"policy", "backtest", now, "--since", "30 days"}}, cli.ExitUsage},
		{"backtest-unreachable", call{args: []string{"policy", "backtest", now, "--nats-url", "nats://127.0.0.1:1"}}, cli.ExitUnreachable},
		{"help-of-records", call{args: []string{"policy", "records", "--help"}}, cli.ExitDone},

		{"schema-slip", call{args: []string{"policy", "schema", "tset"}}, cli.ExitUsage},
		{"help-of-new", call{args: []string{"policy", "new", "--help"}}, cli.ExitDone},
		{"new-without-name", call{args: []string{"policy", "new"}}, cli.ExitUsage},
		{"new-without-target", call{args: []string{"policy", "new", "partners"}}, cli.ExitUsage},
		{"new-bad-name", call{args: []string{"policy", "new", "../partners", "--target", "payments=service"}}, cli.ExitUsage},
		{"new-unknown-target", call{args: []string{"policy", "new", "partners", "--target", "payment", "--dir", now}}, cli.ExitUsage},
		{"new-other-kind", call{args: []string{"policy", "new", "partners", "--target", "payments=hss", "--dir", now}}, cli.ExitUsage},
		{"new-taken", call{args: []string{"policy", "new", "payments", "--target", "payments", "--dir", now}}, cli.ExitInvalid},
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
