package config

import (
	"fmt"
	"io/fs"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/vpcep-approver/vpcep-approver/internal/approval"
	"github.com/vpcep-approver/vpcep-approver/internal/cli"
	"github.com/vpcep-approver/vpcep-approver/internal/cloud"
)

// testEnvironment has these variables, as NAME=text, and these files.
func testEnvironment(files map[string]string, environ ...string) cli.Environment {
	return cli.Environment{
		Environ: environ,
		ReadFile: func(name string) ([]byte, error) {
			if text, ok := files[name]; ok {
				return []byte(text), nil
			}
			return nil, &fs.PathError{Op: "open", Path: name, Err: fs.ErrNotExist}
		},
	}
}

// secretText stands for a secret; no error may hold it.
const secretText = "canary-5e7fa2"

const fullFile = `
nats:
  url: tls://a:4222,tls://b:4222
  data_dir: /var/lib/worker
  credentials_file: /etc/worker/nats.creds
  create: false
  replicas: 3
  tls: {ca: ca.pem, cert: cert.pem, key: key.pem}
cloud:
  region: eu-west-101
  auth: {mode: password}
  endpoints: {vpcep: "http://127.0.0.1:8080/", iam: https://iam.example.org}
  allow_http: true
  rate_per_second: 2.5
  rates: {apig: 30/m, iam: 20/s, vpcep: 1.5}
  concurrency: 8
targets:
  - {name: payments, kind: service, id: 4189d3c2-8882-4871-a3c2-d380272eed88, project_id: 6e9dfd51d1124e8d8498dce894923a0d, policies: [payments, platform-*]}
  - {name: orders, kind: gateway, id: 9f2e4fd2e4a34a5fa1d4e46a2a9ad4a1, project_id: 6e9dfd51d1124e8d8498dce894923a0d, service_id: 5189d3c2-8882-4871-a3c2-d380272eed88}
  - {name: insight, kind: dataarts-insight, project_id: 6e9dfd51d1124e8d8498dce894923a0d, workspace_id: 7e9dfd51d1124e8d8498dce894923a0d}
policies: {dir: /etc/worker/policies, stable_for: 30s}
sweep: {interval: 90s}
ledger: {max_age: 2400h}
http: {listen: ":8081", probes: ":8082", web_config: web.yml, pprof: true}
worker: {slots: 12, max_age: 2h, confirm_for: 20m, shutdown_grace: 5s}
log: {level: debug, format: json}
`

func TestConfigFromAFullFile(t *testing.T) {
	t.Parallel()
	got, err := Load(testEnvironment(map[string]string{"worker.yaml": fullFile}), Flags{File: "worker.yaml"})
	if err != nil {
		t.Fatal(err)
	}
	const project = "6e9dfd51d1124e8d8498dce894923a0d"
	want := Config{
		File: "worker.yaml",
		NATS: NATS{
			URL: "tls://a:4222,tls://b:4222", DataDir: "/var/lib/worker", Listen: "127.0.0.1:4222", CredentialsFile: "/etc/worker/nats.creds",
			Replicas: 3, TLS: TLS{CA: "ca.pem", Cert: "cert.pem", Key: "key.pem"},
		},
		Cloud: Cloud{
			Region: "eu-west-101", AuthMode: "password", AllowHTTP: true, RatePerSecond: 2.5, Concurrency: 8,
			Rates:     map[string]float64{"hss": 5.0 / 60, "apig": 0.5, "iam": 20, "vpcep": 1.5},
			Endpoints: map[string]string{"vpcep": "http://127.0.0.1:8080", "iam": "https://iam.example.org"},
		},
		Targets: approval.Targets{
			{Name: "payments", Kind: approval.Service, ID: "4189d3c2-8882-4871-a3c2-d380272eed88", ProjectID: project, Region: "eu-west-101", Policies: "payments,platform-*"},
			{Name: "orders", Kind: approval.Gateway, ID: "9f2e4fd2e4a34a5fa1d4e46a2a9ad4a1", ProjectID: project, ServiceID: "5189d3c2-8882-4871-a3c2-d380272eed88", Region: "eu-west-101"},
			{Name: "insight", Kind: approval.DataArtsInsight, ProjectID: project, WorkspaceID: "7e9dfd51d1124e8d8498dce894923a0d", Region: "eu-west-101"},
		},
		Policies: Policies{Dir: "/etc/worker/policies", StableFor: 30 * time.Second},
		Sweep:    Sweep{Interval: 90 * time.Second},
		Ledger:   Ledger{MaxAge: 2400 * time.Hour},
		HTTP:     HTTP{Listen: ":8081", Probes: ":8082", WebConfig: "web.yml", Pprof: true},
		Worker:   Worker{Slots: 12, MaxAge: 2 * time.Hour, ConfirmFor: 20 * time.Minute, ShutdownGrace: 5 * time.Second},
		Console:  Console{Listen: "127.0.0.1:8090"},
		Log:      Log{Level: "debug", Format: "json"},
	}
	ignore := cmp.Options{
		cmpopts.IgnoreUnexported(Config{}), cmpopts.IgnoreFields(Cloud{}, "Credentials"), cmpopts.IgnoreFields(NATS{}, "User"), cmpopts.IgnoreFields(Console{}, "OIDC.ClientSecret"),
	}
	if diff := cmp.Diff(want, got, ignore); diff != "" {
		t.Errorf("Load (-want +got):\n%s", diff)
	}
	if got.NATS.User != nil {
		t.Error("NATS.User is set without a user")
	}
}

// Every setting of the table is reached by its key, its variable and its flag.
func TestEverySettingHasThreeSpellings(t *testing.T) {
	t.Parallel()
	samples := map[string]string{
		"url": "https://api.example.org", "path": "some/where", "bool": "true", "int": "2", "region": "la-south-2",
		"number": "3.5", "rate": "7/m", "duration": "7m", "host:port": "127.0.0.1:7", "name": "hub", "cidr": "10.0.0.0/8", "subject": "_INBOX_mine", "aksk|token|password": "token",
		"trace|debug|info|warn|error": "warn", "auto|json|console": "json",
	}
	for _, s := range settings() {
		if s.secret {
			continue
		}
		text := samples[s.form]
		switch s.key {
		case "nats.url":
			text = "tls://other:4222"
		case "console.trace_url":
			text += "/{trace_id}"
		case "ledger.max_age":
			text = "2401h"
		}
		section, rest, _ := strings.Cut(s.key, ".")
		inner, outer := rest, ""
		if mid, last, ok := strings.Cut(rest, "."); ok {
			inner, outer = mid+": {"+last, "}"
		}
		both := map[string][]string{
			"nats.tls.":      {"APPROVER_NATS_TLS_CERT=c", "APPROVER_NATS_TLS_KEY=k"},
			"console.tls.":   {"APPROVER_CONSOLE_TLS_CERT=c", "APPROVER_CONSOLE_TLS_KEY=k"},
			"console.oidc.":  {"APPROVER_CONSOLE_OIDC_ISSUER=https://id.example.org", "APPROVER_CONSOLE_OIDC_CLIENT_ID=console"},
			"console.proxy.": {"APPROVER_CONSOLE_PROXY_HEADER=X-User", "APPROVER_CONSOLE_PROXY_ADDRESSES=10.0.0.1"},
		}
		ways := []struct {
			name   string
			env    cli.Environment
			flags  Flags
			source string
		}{
			{"file", testEnvironment(map[string]string{"worker.yaml": fmt.Sprintf("%s: {%s: %q%s}", section, inner, text, outer)}), Flags{File: "worker.yaml"}, "file"},
			{"variable", testEnvironment(nil, s.env()+"="+text), Flags{}, "environment"},
			{"flag", testEnvironment(nil), Flags{Values: map[string]string{s.key: text}}, "flag"},
		}
		for _, way := range ways {
			for prefix, pairs := range both {
				if !strings.HasPrefix(s.key, prefix) {
					continue
				}
				for _, pair := range pairs {
					if !strings.HasPrefix(pair, s.env()+"=") {
						way.env.Environ = append(way.env.Environ, pair)
					}
				}
			}
			cfg, err := Load(way.env, way.flags)
			if err != nil {
				t.Errorf("%s by %s: %v", s.key, way.name, err)
				continue
			}
			if got := cfg.values[s.key]; got.text != text || got.source != way.source {
				t.Errorf("%s by %s = %+v, want %q from the %s", s.key, way.name, got, text, way.source)
			}
		}
	}
}

func TestConfigProblems(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name string
		file string
		env  []string
		want string // a part of the error; empty: none
	}{
		{"nothing", "", nil, ""},
		{"only comments", "# nothing yet\n", nil, ""},
		{"a section without lines", "nats:\n  # url: x\n", nil, ""},
		{"an anchor", "sweep: &s {interval: 2m}\n", nil, ""},
		{"an alias", "sweep: &s {interval: 2m}\nhttp: *s\n", nil, "worker.yaml:2:7: http: YAML aliases are not supported"},
		{"a tag", "sweep: {interval: !!str 2m}\n", nil, "worker.yaml:1:19: sweep.interval: YAML tags such as !!str are not supported"},
		{"a text for a section", "nats: " + secretText + "\n", nil, "worker.yaml:1:7: nats: got a value, want settings"},
		{"an empty variable is not set", "", []string{"APPROVER_SWEEP_INTERVAL="}, ""},
		{"variables of tests are let be", "", []string{"APPROVER_TEST_DOCKER=require"}, ""},
		{"a second document", "sweep: {}\n---\nsweep: {}\n", nil, "worker.yaml:2:1: a second YAML document starts here"},
		{"not UTF-8", "a: \xff\xfe", nil, "worker.yaml:1:4: the file holds bytes that are not UTF-8"},
		{"control characters", "a: \x01", nil, "worker.yaml:1:4: the file holds the control character U+0001"},
		{"a list at the top", "- a\n", nil, "worker.yaml:1:1: got a list, want settings with their values"},
		{"targets is no list", "targets: {name: a}\n", nil, "targets: got a mapping, want a list of targets"},
		{"a target's policies are no list", "targets: [{name: a, kind: hss, project_id: 6e9dfd51d1124e8d8498dce894923a0d, policies: payments}]\n", nil, "want a list of names of policies"},
		{"a target admits no policy", "targets: [{name: a, kind: hss, project_id: 6e9dfd51d1124e8d8498dce894923a0d, policies: []}]\n", nil, "the list is empty, so no policy could decide"},
		{"a target's policy that cannot be one", "targets: [{name: a, kind: hss, project_id: 6e9dfd51d1124e8d8498dce894923a0d, policies: [a, 'B,*']}]\n", nil, `"B,*" is neither the name of a policy nor a pattern`},
		{"a target's policy twice quoted", "targets: [{name: a, kind: hss, project_id: 6e9dfd51d1124e8d8498dce894923a0d, policies: ['*', \"a-?\"]}]\n", nil, ""},
		{"a setting of another section", "http: {interval: 2m}\n", nil, "did you mean sweep.interval?"},
		{"too long an interval", "sweep: {interval: 25h}\n", nil, `sweep.interval: "25h" is not within 1s to 24h`},
		{"a short life shortens the confirmation", "worker: {max_age: 30m}\n", nil, ""},
		{"confirmed after it ended", "worker: {max_age: 30m, confirm_for: 1h}\n", nil, "worker.confirm_for (1h) is longer than worker.max_age (30m)"},
		{"http on this machine", "cloud: {endpoints: {vpcep: 'http://localhost:1'}}\n", nil, ""},
		{"http elsewhere", "cloud: {endpoints: {vpcep: 'http://sim:1'}}\n", nil, "plain HTTP would send credentials in clear"},
		{"http elsewhere, said aloud", "cloud: {allow_http: true, endpoints: {vpcep: 'http://sim:1'}}\n", nil, ""},
		{"an endpoint without a host", "cloud: {endpoints: {vpcep: 'https:///x'}}\n", nil, "not a base URL"},
		{"two ways into NATS", "nats: {credentials_file: a, nkey_seed_file: b}\n", nil, "more than one way to authenticate"},
		{"a user without password", "", []string{"APPROVER_NATS_USER=bob"}, "set both APPROVER_NATS_USER and APPROVER_NATS_PASSWORD"},
		{"a certificate without key", "nats: {tls: {cert: a}}\n", nil, "cert and key go together"},
		{"a certificate of the console without key", "console: {tls: {cert: a}}\n", nil, "console.tls: cert and key go together"},
		{"a provider without a client", "console: {oidc: {issuer: 'https://id.example.org/'}}\n", nil, "issuer and client_id go together"},
		{"a provider in clear", "console: {oidc: {issuer: 'http://id.example.org', client_id: a}}\n", nil, "not the https address of a provider"},
		{"a provider", "console: {oidc: {issuer: 'https://id.example.org/realms/a/', client_id: a}}\n", []string{"APPROVER_CONSOLE_OIDC_CLIENT_SECRET=" + secretText}, ""},
		{"a proxy from anywhere", "console: {proxy: {header: X-User}}\n", nil, "header and addresses go together"},
		{"a proxy that is everybody", "console: {proxy: {header: X-User, addresses: '10.0.0.1, 0.0.0.0/0'}}\n", nil, `"0.0.0.0/0" is everybody`},
		{"a proxy that is everybody by IPv6", "console: {proxy: {header: X-User, addresses: '::/0'}}\n", nil, `"::/0" is everybody`},
		{"a proxy without an address", "console: {proxy: {header: X-User, addresses: '10.0.0.1, proxy'}}\n", nil, `"proxy" is neither an address nor a network`},
		{"a proxy", "console: {proxy: {header: X-User, addresses: '10.0.0.1, fd00::/8'}}\n", nil, ""},
		{"a header with a blank", "console: {proxy: {header: 'X User', addresses: 10.0.0.1}}\n", nil, "is not the name of a header"},
		{"traces", "console: {trace_url: 'https://traces.example.org/explore?left={\"query\":\"{trace_id}\"}#a'}\n", nil, ""},
		{"traces without an id", "console: {trace_url: 'https://traces.example.org/'}\n", nil, "not an http or https address with {trace_id} in it"},
		{"traces at a host by id", "console: {trace_url: 'https://{trace_id}.example.org/'}\n", nil, "not an http or https address with {trace_id} in it"},
		{"traces by script", "console: {trace_url: 'javascript:alert(\"{trace_id}\")'}\n", nil, "not an http or https address with {trace_id} in it"},
		{"traces with a password", "console: {trace_url: 'https://a:b@traces.example.org/{trace_id}'}\n", nil, "not an http or https address with {trace_id} in it"},
		{"a console below a path", "console: {url: 'https://example.org/console'}\n", nil, "not the address of a site"},
		{"embedded with replicas", "nats: {url: embedded, replicas: 3}\n", nil, "the embedded server is alone"},
		{"embedded with credentials", "nats: {url: embedded, credentials_file: a}\n", nil, "the embedded server knows a user with password only"},
		{"embedded with a user", "nats: {url: embedded}\n", []string{"APPROVER_NATS_USER=bob", "APPROVER_NATS_PASSWORD=x"}, ""},
		{"embedded and open to the network", "nats: {url: embedded, listen: ':4222'}\n", nil, "passwords would cross the network in clear"},
		{"embedded and open, said aloud", "nats: {url: embedded, listen: ':4222', allow_plaintext: true}\n", nil, ""},
		{"a broker elsewhere in clear", "nats: {url: 'nats://broker.example.org:4222'}\n", nil, "worker.yaml:1:13: nats://broker.example.org:4222 would be without TLS"},
		{"one of two brokers in clear", "nats: {url: 'nats://127.0.0.1:4222,ws://10.0.0.1:80'}\n", nil, "ws://10.0.0.1:80 would be without TLS"},
		{"a broker in clear, with a password", "nats: {url: 'nats://broker:4222'}\n", []string{"APPROVER_NATS_USER=bob", "APPROVER_NATS_PASSWORD=" + secretText}, "would be without TLS"},
		{"a broker in clear, said aloud", "nats: {url: 'nats://broker:4222', allow_plaintext: true}\n", nil, ""},
		{"a broker on this machine", "nats: {url: 'nats://localhost:4222,nats://127.0.0.9:4222,nats://[::1]:4222'}\n", nil, ""},
		{"a broker with TLS", "nats: {url: 'tls://broker:4222,wss://broker:443'}\n", nil, ""},
		{"a broker whose authority is given", "nats: {url: 'nats://broker:4222', tls: {ca: ca.pem}}\n", nil, ""},
		{"a broker with TLS first", "nats: {url: 'nats://broker:4222', tls: {first: true}}\n", nil, ""},
		{"a domain with dots", "nats: {domain: a.b}\n", nil, `"a.b" is not a name without dots`},
		{"an inbox with wildcards", "nats: {inbox_prefix: '_INBOX.>'}\n", nil, `"_INBOX.>" is not a subject without blanks and wildcards`},
		{"a NATS URL without host", "nats: {url: 'nats://'}\n", nil, "no host"},
		{"an http NATS URL", "nats: {url: 'http://a'}\n", nil, "the scheme is not one of nats, tls, ws, wss"},
		{"a secret twice", "", []string{"APPROVER_CLOUD_TOKEN=" + secretText, "APPROVER_CLOUD_TOKEN_FILE=x"}, "keep one of them"},
		{"a secret's file is missing", "", []string{"APPROVER_CLOUD_TOKEN_FILE=/none"}, "/none cannot be read: file does not exist"},
		{"Kubernetes service links", "", []string{"APPROVER_METRICS_V2_SERVICE_HOST=10.0.0.1"}, "enableServiceLinks: false"},
		{"a rate of an API in words", "cloud: {rates: {hss: five a minute}}\n", nil, "is not a rate from 4/m to 10000/s"},
		{"a rate by the hour", "cloud: {rates: {hss: 300/h}}\n", nil, "is not a rate from 4/m to 10000/s"},
		{"a rate without a unit", "cloud: {rates: {hss: 5/}}\n", nil, "is not a rate from 4/m to 10000/s"},
		{"a rate at which no creation could be sent", "cloud: {rates: {hss: 1/m}}\n", nil, "is not a rate from 4/m to 10000/s"},
		{"a negative rate", "cloud: {rates: {hss: -5/m}}\n", nil, "is not a rate from 4/m to 10000/s"},
		{"a rate of an API that is not there", "cloud: {rates: {hsss: 5/m}}\n", nil, "hss"},
		{"a rate of nothing", "cloud: {rate_per_second: .nan}\n", nil, "is not a number from 0.01 to 10000"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			_, err := Load(testEnvironment(map[string]string{"worker.yaml": tt.file}, tt.env...), Flags{File: "worker.yaml"})
			switch {
			case tt.want == "" && err != nil:
				t.Errorf("%q: %v", tt.file, err)
			case tt.want != "" && (err == nil || !strings.Contains(err.Error(), tt.want)):
				t.Errorf("%q: error %v, want %q", tt.file, err, tt.want)
			}
			if err != nil && strings.Contains(err.Error(), secretText) {
				t.Errorf("a secret is in the error: %v", err)
			}
		})
	}
}

// A file that nobody named, such as one in a folder that others write to, does
// not decide where secrets go.
func TestAFileThatWasFoundSendsNoSecretElsewhere(t *testing.T) {
	t.Parallel()
	const ask = "name the file: --config worker.yaml"
	login := []string{"APPROVER_NATS_USER=bob", "APPROVER_NATS_PASSWORD=" + secretText}
	tests := []struct {
		name string
		file string
		env  []string
		want string
	}{
		{"another domain", "cloud: {endpoints: {iam: 'https://iam.example.org'}}\n", nil, "worker.yaml:1:26: cloud.endpoints.iam: "},
		{"a domain that looks alike", "cloud: {endpoints: {iam: 'https://iam.notmyhuaweicloud.com'}}\n", nil, ask},
		{"a domain that begins alike", "cloud: {endpoints: {iam: 'https://iam.myhuaweicloud.com.example.org'}}\n", nil, ask},
		{"this machine", "cloud: {endpoints: {vpcep: 'http://127.0.0.1:8080'}}\n", nil, ask},
		{"the provider in clear", "cloud: {allow_http: true, endpoints: {iam: 'http://iam.myhuaweicloud.com'}}\n", nil, ask},
		{"the provider's domain", "cloud: {endpoints: {iam: 'https://iam.cn-north-4.myhuaweicloud.com'}}\n", nil, ""},
		{"the provider's domain in Europe", "cloud: {endpoints: {iam: 'https://IAM.eu-west-101.myhuaweicloud.eu'}}\n", nil, ""},
		{"said by a variable", "", []string{"APPROVER_CLOUD_ENDPOINTS_IAM=https://iam.example.org"}, ""},
		{"overruled by a variable", "cloud: {endpoints: {iam: 'https://iam.example.org'}}\n", []string{"APPROVER_CLOUD_ENDPOINTS_IAM=https://iam.cn-north-4.myhuaweicloud.com"}, ""},
		{"named by a variable", "cloud: {endpoints: {iam: 'https://iam.example.org'}}\n", []string{"APPROVER_CONFIG=worker.yaml"}, ""},
		{"the password of a broker", "nats: {url: 'tls://broker.example.org:4222'}\n", login, ask},
		{"a broker without a password", "nats: {url: 'tls://broker.example.org:4222'}\n", nil, ""},
		{"the password of a broker said by a variable", "sweep: {interval: 2m}\n", append([]string{"APPROVER_NATS_URL=tls://broker.example.org:4222"}, login...), ""},
	}
	for _, tt := range tests {
		_, err := Load(testEnvironment(map[string]string{"worker.yaml": tt.file}, tt.env...), Flags{})
		if (err != nil) != (tt.want != "") || err != nil && (!strings.Contains(err.Error(), tt.want) || !strings.Contains(err.Error(), ask) || strings.Contains(err.Error(), secretText)) {
			t.Errorf("%s: %v, want %q", tt.name, err, tt.want)
		}
		if _, err := Load(testEnvironment(map[string]string{"worker.yaml": tt.file}, tt.env...), Flags{File: "worker.yaml"}); err != nil {
			t.Errorf("%s, with --config: %v", tt.name, err)
		}
	}
}

// TestEnterpriseProjectOfATarget: only HSS knows one, by an id or one of two words.
func TestEnterpriseProjectOfATarget(t *testing.T) {
	t.Parallel()
	const project = "0605767d3b80d5762f8ec0034e1d0a12"
	for _, tt := range []struct{ target, want string }{
		{"kind: hss, enterprise_project_id: 0", ""},
		{"kind: hss, enterprise_project_id: all_granted_eps", ""},
		{"kind: hss, enterprise_project_id: 4189d3c2-8882-4871-a3c2-d380272eed88", ""},
		{"kind: hss, enterprise_project_id: all_granted_ep", "is no enterprise project"},
		{"kind: hss, enterprise_project_id: 1", "is no enterprise project"},
		{"kind: functiongraph, enterprise_project_id: 0", "only an hss target"},
	} {
		text := "targets:\n  - {name: hosts, project_id: " + project + ", " + tt.target + "}\n"
		cfg, err := Load(testEnvironment(map[string]string{"worker.yaml": text}), Flags{})
		switch {
		case tt.want != "":
			if err == nil || !strings.Contains(err.Error(), tt.want) || !strings.Contains(err.Error(), "worker.yaml:2:") {
				t.Errorf("%s: error %v, want %q", tt.target, err, tt.want)
			}
		case err != nil || cfg.Targets[0].EnterpriseProjectID == "":
			t.Errorf("%s: %+v, %v", tt.target, cfg.Targets, err)
		}
	}
}

// One thing of the cloud as two targets would have its connections decided twice,
// perhaps against each other, or its endpoints made twice.
func TestOneThingIsOneTarget(t *testing.T) {
	t.Parallel()
	const (
		id      = "4189d3c2-8882-4871-a3c2-d380272eed88"
		project = "0605767d3b80d5762f8ec0034e1d0a12"
		place   = "9d8c7b6a5f4e4d3c8b2a1f0e9d8c7b6a"
	)
	target := func(name, kind string, keys ...string) string {
		out := "{name: " + name + ", kind: " + kind
		for i := 0; i < len(keys); i += 2 {
			out += ", " + keys[i] + ": " + keys[i+1]
		}
		return out + "}"
	}
	service := target("first", "service", "project_id", project, "id", id)
	gateway := target("first", "gateway", "project_id", project, "id", place, "service_id", id)
	insight := target("first", "dataarts-insight", "project_id", project, "workspace_id", place)
	tests := []struct {
		name, first, second string
		same                string // what the two have in common; empty: they are two things
	}{
		{"one service", service, target("second", "service", "project_id", project, "id", id), "endpoint service"},
		{"whatever its letters", service, target("second", "service", "project_id", project, "id", strings.ToUpper(id)), "endpoint service"},
		{"whatever its dashes", service, target("second", "service", "project_id", project, "id", strings.ReplaceAll(id, "-", "")), "endpoint service"},
		{"two services", service, target("second", "service", "project_id", project, "id", "5"+id[1:]), ""},
		{"a gateway's service", service, target("second", "gateway", "project_id", project, "id", place, "service_id", id), "endpoint service"},
		{"a gateway without its service", service, target("second", "gateway", "project_id", project, "id", place), ""},
		{"one gateway", gateway, target("second", "gateway", "project_id", project, "id", place), "gateway"},
		{"two gateways of a service", gateway, target("second", "gateway", "project_id", project, "id", project, "service_id", id), "endpoint service"},
		{"one place for functions", target("first", "functiongraph", "project_id", project), target("second", "functiongraph", "project_id", project), "project"},
		{"one place for servers", target("first", "hss", "project_id", project), target("second", "hss", "project_id", strings.ToUpper(project)), "project"},
		{"two kinds of place", target("first", "hss", "project_id", project), target("second", "functiongraph", "project_id", project), ""},
		{"two projects", target("first", "hss", "project_id", project), target("second", "hss", "project_id", place), ""},
		{"one workspace", insight, target("second", "dataarts-insight", "project_id", project, "workspace_id", place), "project and workspace"},
		{"two workspaces", insight, target("second", "dataarts-insight", "project_id", project, "workspace_id", project), ""},
		{"a workspace that is missing", insight, target("second", "dataarts-insight", "project_id", project), "no workspace_id"},
	}
	for _, tt := range tests {
		for _, pair := range [][2]string{{tt.first, tt.second}, {tt.second, tt.first}} {
			text := "targets:\n  - " + pair[0] + "\n  - " + pair[1] + "\n"
			_, err := Load(testEnvironment(map[string]string{"worker.yaml": text}), Flags{})
			switch {
			case tt.same == "" && err != nil:
				t.Errorf("%s: %v", tt.name, err)
			case strings.HasPrefix(tt.same, "no "):
				if err == nil || !strings.Contains(err.Error(), tt.same) || strings.Contains(err.Error(), "has the same") {
					t.Errorf("%s: error %v, want only that there is %s", tt.name, err, tt.same)
				}
			case tt.same != "":
				if err == nil || !strings.Contains(err.Error(), "has the same "+tt.same+" as target ") ||
					!strings.Contains(err.Error(), "target first") || !strings.Contains(err.Error(), "target second") {
					t.Errorf("%s: error %v, want that both have the same %s", tt.name, err, tt.same)
				}
			}
		}
	}
}

// A request that were tried for as long as it stays stored would be lost.
func TestMaxAgeIsBelowTheRetention(t *testing.T) {
	t.Parallel()
	for text, ok := range map[string]bool{"480h": true, "720h": false} {
		_, err := Load(testEnvironment(nil, "APPROVER_WORKER_MAX_AGE="+text), Flags{})
		if (err == nil) != ok {
			t.Errorf("worker.max_age %s: %v", text, err)
		}
	}
}

func TestCredentials(t *testing.T) {
	t.Parallel()
	files := map[string]string{"key": "file-secret\n", "two": "a\nb"}
	tests := []struct {
		name string
		mode string
		env  []string
		want cloud.Credentials
		err  string
	}{
		{"the SDK's variables", "aksk", []string{"HUAWEICLOUD_SDK_AK=ak", "HUAWEICLOUD_SDK_SK=sk"}, cloud.Credentials{AccessKey: "ak", SecretKey: "sk"}, ""},
		{"temporary, from a file", "aksk", []string{"HW_ACCESS_KEY=ak", "HW_SECRET_KEY_FILE=key", "HW_SECURITY_TOKEN=st"}, cloud.Credentials{AccessKey: "ak", SecretKey: "file-secret", SecurityToken: "st"}, ""},
		{"a stale token of another family is let be", "aksk", []string{"HUAWEICLOUD_SDK_AK=ak", "HUAWEICLOUD_SDK_SK=sk", "HW_SECURITY_TOKEN=stale"}, cloud.Credentials{AccessKey: "ak", SecretKey: "sk"}, ""},
		{"ours come first", "aksk", []string{"APPROVER_CLOUD_ACCESS_KEY=ak", "APPROVER_CLOUD_SECRET_KEY=sk", "HW_ACCESS_KEY=x", "HW_SECRET_KEY=x"}, cloud.Credentials{AccessKey: "ak", SecretKey: "sk"}, ""},
		{"token", "token", []string{"HW_AUTH_TOKEN=t"}, cloud.Credentials{Token: "t"}, ""},
		{
			"password", "password",
			[]string{"HW_USER_NAME=u", "HW_USER_PASSWORD=p", "HW_DOMAIN_NAME=d"},
			cloud.Credentials{User: "u", Password: "p", Domain: "d"},
			"",
		},
		{"none", "aksk", nil, cloud.Credentials{}, "not set — set APPROVER_CLOUD_ACCESS_KEY, APPROVER_CLOUD_SECRET_KEY; or HUAWEICLOUD_SDK_AK, HUAWEICLOUD_SDK_SK; or HW_ACCESS_KEY, HW_SECRET_KEY"},
		{"of another mode", "token", []string{"HW_ACCESS_KEY=ak", "HW_SECRET_KEY=" + secretText}, cloud.Credentials{}, "set APPROVER_CLOUD_TOKEN; or HW_AUTH_TOKEN"},
		{"a part is missing", "password", []string{"HW_USER_NAME=u", "HW_USER_PASSWORD=" + secretText}, cloud.Credentials{}, "HW_DOMAIN_NAME not set"},
		{"two families mixed", "aksk", []string{"HUAWEICLOUD_SDK_AK=ak", "HW_SECRET_KEY=" + secretText}, cloud.Credentials{}, "HUAWEICLOUD_SDK_SK not set"},
		{"variable and file", "token", []string{"HW_AUTH_TOKEN=" + secretText, "HW_AUTH_TOKEN_FILE=key"}, cloud.Credentials{}, "HW_AUTH_TOKEN_FILE is set too"},
		{"a file of two lines", "token", []string{"HW_AUTH_TOKEN_FILE=two"}, cloud.Credentials{}, "two holds no single line of text"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			cfg, err := Load(testEnvironment(files, append(tt.env, "APPROVER_CLOUD_AUTH_MODE="+tt.mode)...), Flags{})
			if err != nil {
				t.Fatal(err)
			}
			got, err := cfg.Cloud.Credentials()
			if got != tt.want {
				t.Errorf("credentials differ from what was set: %v", err)
			}
			switch {
			case tt.err == "" && err != nil:
				t.Error(err)
			case tt.err != "" && (err == nil || !strings.Contains(err.Error(), tt.err)):
				t.Errorf("error %v, want %q", err, tt.err)
			}
			if err != nil && strings.Contains(err.Error(), secretText) {
				t.Errorf("a secret is in the error: %v", err)
			}
		})
	}
}

func TestCredentialsAreReadAnew(t *testing.T) {
	t.Parallel()
	files := map[string]string{"token": "first"}
	cfg, err := Load(testEnvironment(files, "APPROVER_CLOUD_AUTH_MODE=token", "HW_AUTH_TOKEN_FILE=token"), Flags{})
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"first", "second"} {
		files["token"] = want
		if got, err := cfg.Cloud.Credentials(); err != nil || got.Token != want {
			t.Errorf("token %q, %v; want %q", got.Token, err, want)
		}
	}
}

// Whatever the file holds: no panic, every problem has a place, and what stands
// under a key that names a secret is not shown.
func FuzzConfigFile(f *testing.F) {
	f.Add(fullFile)
	wrong, err := os.ReadFile("testdata/wrong.yaml")
	if err != nil {
		f.Fatal(err)
	}
	f.Add(string(wrong))
	f.Add("nats: &a {url: *a}\n")
	f.Add("? [a]\n: b\n")
	f.Add("nats: {password: \"" + secretText + "\n  x\"}\n")
	f.Fuzz(func(t *testing.T, text string) {
		cfg, err := Load(testEnvironment(map[string]string{"worker.yaml": text}), Flags{})
		if err == nil {
			return
		}
		if cfg.File != "" || !strings.Contains(err.Error(), "worker.yaml") && !strings.Contains(err.Error(), "nats") && !strings.Contains(err.Error(), "default of") {
			t.Errorf("an error without a place: %v", err)
		}
	})
}
