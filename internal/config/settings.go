package config

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/vpcep-approver/vpcep-approver/internal/cli"
	"github.com/vpcep-approver/vpcep-approver/internal/cloud"
)

// Setting is one row of the table that everything about settings is made from:
// flags, environment variables, keys of the file, defaults, the documentation
// and what `worker config show` prints.
type Setting struct {
	key    string // in the file, such as "nats.url"; flag and variable follow from it
	form   string // what a value looks like, for --help and the documentation
	def    string // empty: none
	doc    string
	secret bool     // only by environment or file of its own: no key in the file, no flag, never shown
	vars   []string // secrets: the variables in the order they are tried; each also with "_FILE"
	// set checks text and puts it into c; its errors do not repeat the key. Nil
	// for secrets, which are read when they are needed.
	set func(c *Config, text string) error
}

// within reports whether key names s or its section.
func (s Setting) within(key string) bool {
	rest, ok := strings.CutPrefix(s.key, key)
	return ok && (rest == "" || rest[0] == '.')
}

// flag is the name of the flag of s, without dashes.
func (s Setting) flag() string { return flagNames.Replace(s.key) }

var flagNames = strings.NewReplacer(".", "-", "_", "-") //nolint:gochecknoglobals // constant

// env is the name of the environment variable of s.
func (s Setting) env() string { return envPrefix + envSuffix(s.key) }

const envPrefix = "APPROVER_"

func envSuffix(key string) string {
	return strings.ToUpper(strings.ReplaceAll(key, ".", "_"))
}

// mostTried is the most that worker.max_age can be. It is well below the 30 days
// for which a request stays stored: one that were tried for as long as that would
// vanish without a result.
const mostTried = 20 * 24 * time.Hour

// leastRemembered is the least that ledger.max_age can be. It is longer than the 90 days
// for which results stay stored: a decision that the ledger had forgotten before would
// meet the result of the first one.
const leastRemembered = 100 * 24 * time.Hour

// settings returns the table, in the order of the documentation. It must not be changed.
var settings = sync.OnceValue(makeSettings) //nolint:gochecknoglobals // constant; each command adds its flags from it at every start

func makeSettings() []Setting {
	rows := []Setting{
		{
			key: "nats.url", form: "url", def: "nats://127.0.0.1:4222",
			doc: "NATS servers, separated by commas; `embedded` starts a JetStream server inside the process",
			set: setNATSURL,
		},
		filePath("nats.data_dir", "data", "folder of the embedded server's streams", func(c *Config) *string { return &c.NATS.DataDir }),
		{
			key: "nats.listen", form: "host:port", def: "127.0.0.1:4222",
			doc: "address on which the embedded server serves producers and commands",
			set: func(c *Config, text string) error { return setAddress(&c.NATS.Listen, text) },
		},
		filePath("nats.credentials_file", "", "NATS credentials (`.creds`), read again on each connect", func(c *Config) *string { return &c.NATS.CredentialsFile }),
		filePath("nats.nkey_seed_file", "", "NATS NKey seed, read again on each connect", func(c *Config) *string { return &c.NATS.NKeySeedFile }),
		secret("nats.user", "NATS user, read again on each connect"),
		secret("nats.password", "NATS password, likewise"),
		boolean("nats.create", "true", "make missing streams, consumers and buckets; else only check them", func(c *Config) *bool { return &c.NATS.Create }),
		integer("nats.replicas", "1", 1, 5, "copies of what is made in a NATS cluster; 3 in production", func(c *Config) *int { return &c.NATS.Replicas }),
		boolean("nats.allow_plaintext", "false", "let `nats.url` be without TLS on other hosts than this one; passwords and events then cross the network in clear", func(c *Config) *bool { return &c.NATS.AllowPlaintext }),
		duration("nats.wait", "0s", 0, 30*time.Minute, "how long to wait at start for a broker that cannot be reached or is not set up yet, as pods start in any order; 0s: end immediately", func(c *Config) *time.Duration { return &c.NATS.Wait }),
		{
			key: "nats.domain", form: "name",
			doc: "JetStream domain; default the server's own",
			set: func(c *Config, text string) error { return setToken(&c.NATS.Domain, text) },
		},
		{
			key: "nats.inbox_prefix", form: "subject",
			doc: "beginning of the subjects on which answers come, if the user's permissions want another than `_INBOX`",
			set: func(c *Config, text string) error { return setInboxPrefix(&c.NATS.InboxPrefix, text) },
		},
		integer("nats.max_bytes", "0", 0, 1<<50, "bytes of each stream and bucket that is made, for accounts that demand a limit; 0: no limit", func(c *Config) *int { return &c.NATS.MaxBytes }),
		boolean("nats.tls.first", "false", "do the TLS handshake before anything else, for servers with `handshake_first`", func(c *Config) *bool { return &c.NATS.TLS.First }),
		filePath("nats.tls.ca", "", "certificates (PEM) that the server's is checked against; default the system's", func(c *Config) *string { return &c.NATS.TLS.CA }),
		filePath("nats.tls.cert", "", "client certificate (PEM)", func(c *Config) *string { return &c.NATS.TLS.Cert }),
		filePath("nats.tls.key", "", "key of the client certificate (PEM)", func(c *Config) *string { return &c.NATS.TLS.Key }),

		{
			key: "cloud.region", form: "region", def: "cn-north-4",
			doc: "Huawei Cloud region of the targets", set: setRegion,
		},
		choice("cloud.auth.mode", cloud.ModeAKSK, []string{cloud.ModeAKSK, cloud.ModeToken, cloud.ModePassword}, "how calls are authenticated: access key signature, a given token, or user and password through IAM", func(c *Config) *string { return &c.Cloud.AuthMode }),
	}
	for _, api := range cloud.APIs() {
		rows = append(rows, Setting{
			key: "cloud.endpoints." + api, form: "url",
			doc: fmt.Sprintf("base URL of %s instead of `https://{host}.{region}.myhuaweicloud.com`", api),
			set: func(c *Config, text string) error { return setEndpoint(c, api, text) },
		})
	}
	for _, api := range cloud.APIs() {
		rows = append(rows, Setting{
			key: "cloud.rates." + api, form: "rate", def: defaultRates()[api],
			doc: rateDoc(api), set: func(c *Config, text string) error { return setAPIRate(c, api, text) },
		})
	}
	return append(rows,
		boolean("cloud.allow_http", "false", "let `cloud.endpoints` be plain HTTP on other hosts than this one; credentials then cross the network in clear", func(c *Config) *bool { return &c.Cloud.AllowHTTP }),
		Setting{
			key: "cloud.rate_per_second", form: "number", def: "10",
			doc: "calls a second to each API host, at most, unless `cloud.rates` says otherwise; throttling answers lower it for a while", set: setRate,
		},
		integer("cloud.concurrency", "64", 1, 4096, "concurrent calls to each API host, at most", func(c *Config) *int { return &c.Cloud.Concurrency }),
		secret("cloud.access_key", "mode aksk: access key", "HUAWEICLOUD_SDK_AK", "HW_ACCESS_KEY"),
		secret("cloud.secret_key", "mode aksk: secret key", "HUAWEICLOUD_SDK_SK", "HW_SECRET_KEY"),
		secret("cloud.security_token", "mode aksk: token of a temporary access key, if it is one", "HUAWEICLOUD_SDK_SECURITY_TOKEN", "HW_SECURITY_TOKEN"),
		secret("cloud.token", "mode token: the token", "HW_AUTH_TOKEN"),
		secret("cloud.user", "mode password: IAM user", "HW_USER_NAME"),
		secret("cloud.password", "mode password: its password", "HW_USER_PASSWORD"),
		secret("cloud.domain", "mode password: name of the account that the user belongs to", "HW_DOMAIN_NAME"),

		filePath("policies.dir", "policies", "folder of the policies", func(c *Config) *string { return &c.Policies.Dir }),
		filePath("policies.shadow_dir", "", "folder of candidate policies; what they would decide is counted and told, and nothing is done by it", func(c *Config) *string { return &c.Policies.ShadowDir }),
		duration("policies.stable_for", "5s", 100*time.Millisecond, 10*time.Minute, "how long the content of a folder of policies must have been the same before it is loaded", func(c *Config) *time.Duration { return &c.Policies.StableFor }),
		duration("sweep.interval", "5m", time.Second, 24*time.Hour, "interval between looks for pending connections that no event reported", func(c *Config) *time.Duration { return &c.Sweep.Interval }),
		duration("ledger.max_age", "9600h", leastRemembered, 10*365*24*time.Hour, "how long the ledger that is made keeps what was decided and done; what was submitted before that is not carried out; 9600h are 400 days", func(c *Config) *time.Duration { return &c.Ledger.MaxAge }),
		Setting{
			key: "http.listen", form: "host:port", def: "127.0.0.1:9090",
			doc: "address of `/metrics`",
			set: func(c *Config, text string) error { return setAddress(&c.HTTP.Listen, text) },
		},
		Setting{
			key: "http.probes", form: "host:port", def: "127.0.0.1:9091",
			doc: "address of `/livez` and `/readyz`, always in plain HTTP and without a login",
			set: func(c *Config, text string) error { return setAddress(&c.HTTP.Probes, text) },
		},
		filePath("http.web_config", "", "file with TLS and users of `http.listen`, in the format of Prometheus' exporter-toolkit; it needs both, and a change takes effect while the worker runs", func(c *Config) *string { return &c.HTTP.WebConfig }),
		boolean("http.pprof", "false", "serve Go profiles at `/debug/pprof/` on `http.listen`", func(c *Config) *bool { return &c.HTTP.Pprof }),
		integer("worker.slots", "256", 1, 4096, "concurrent requests", func(c *Config) *int { return &c.Worker.Slots }),
		duration("worker.max_age", "24h", time.Minute, mostTried, "how long a request that meets only errors is tried: it ends as held if nothing was known, as failed if the action was refused", func(c *Config) *time.Duration { return &c.Worker.MaxAge }),
		duration("worker.confirm_for", "1h", time.Second, mostTried, "how long the cloud is asked for the wanted state after an action, at most `worker.max_age`", func(c *Config) *time.Duration { return &c.Worker.ConfirmFor }),
		duration("worker.shutdown_grace", "10s", 0, 10*time.Minute, "time for requests in progress to finish after SIGTERM before they are given back", func(c *Config) *time.Duration { return &c.Worker.ShutdownGrace }),
		Setting{
			key: "console.listen", form: "host:port", def: "127.0.0.1:8090",
			doc: "address of the console; beyond this machine only with `console.oidc` or `console.proxy`",
			set: func(c *Config, text string) error { return setAddress(&c.Console.Listen, text) },
		},
		Setting{
			key: "console.url", form: "url",
			doc: "address at which browsers reach the console, such as `https://console.example.org`; no other name is answered; default that of `console.listen`",
			set: func(c *Config, text string) error { return setSite(&c.Console.URL, text) },
		},
		Setting{
			key: "console.trace_url", form: "url",
			doc: "address of a trace, such as `https://traces.example.org/trace/{trace_id}`, to which the page of a request leads; empty: it shows the id",
			set: func(c *Config, text string) error { return setTraceURL(&c.Console.TraceURL, text) },
		},
		filePath("console.key_file", "", "seed of the console's NKey, made by `worker reviews keygen`, which `reviewers.yaml` names", func(c *Config) *string { return &c.Console.KeyFile }),
		filePath("console.tls.cert", "", "certificate (PEM) of the console, read again when it changes; empty: it serves plain HTTP, to this machine or to a proxy", func(c *Config) *string { return &c.Console.TLS.Cert }),
		filePath("console.tls.key", "", "key of the certificate (PEM)", func(c *Config) *string { return &c.Console.TLS.Key }),
		Setting{
			key: "console.oidc.issuer", form: "url",
			doc: "provider of OpenID Connect at which people sign in, to the letter as in its tokens",
			set: func(c *Config, text string) error { return setIssuer(&c.Console.OIDC.Issuer, text) },
		},
		Setting{
			key: "console.oidc.client_id", form: "name",
			doc: "what the provider calls the console",
			set: func(c *Config, text string) error { c.Console.OIDC.ClientID = text; return nil },
		},
		secret("console.oidc.client_secret", "secret of the console at the provider; empty: it has none, and PKCE alone protects the sign-in"),
		Setting{
			key: "console.proxy.header", form: "name",
			doc: "header in which a proxy says who signed in there, by name or email of `reviewers.yaml`",
			set: func(c *Config, text string) error { return setHeader(&c.Console.Proxy.Header, text) },
		},
		Setting{
			key: "console.proxy.addresses", form: "cidr",
			doc: "addresses of the proxy, separated by commas; from others the header means nothing",
			set: func(c *Config, text string) error { return setPrefixes(&c.Console.Proxy.Addresses, text) },
		},
		choice("log.level", "info", []string{"trace", "debug", "info", "warn", "error"}, "least severe level that is logged", func(c *Config) *string { return &c.Log.Level }),
		choice("log.format", "auto", []string{"auto", "json", "console"}, "form of the log on stderr; auto: console on a terminal, else json", func(c *Config) *string { return &c.Log.Format }),
	)
}

func filePath(key, def, doc string, at func(*Config) *string) Setting {
	return Setting{key: key, form: "path", def: def, doc: doc, set: func(c *Config, text string) error {
		*at(c) = text
		return nil
	}}
}

func secret(key, doc string, conventional ...string) Setting {
	s := Setting{key: key, form: "secret", doc: doc, secret: true}
	s.vars = append([]string{s.env()}, conventional...)
	return s
}

func choice(key, def string, values []string, doc string, at func(*Config) *string) Setting {
	return Setting{key: key, form: strings.Join(values, "|"), def: def, doc: doc, set: func(c *Config, text string) error {
		if !slices.Contains(values, text) {
			return fmt.Errorf("%q is not one of %s%s", text, strings.Join(values, ", "), cli.DidYouMean(text, values))
		}
		*at(c) = text
		return nil
	}}
}

func boolean(key, def, doc string, at func(*Config) *bool) Setting {
	return Setting{key: key, form: "bool", def: def, doc: doc, set: func(c *Config, text string) error {
		if text != "true" && text != "false" {
			return fmt.Errorf("%q is neither true nor false", text)
		}
		*at(c) = text == "true"
		return nil
	}}
}

func integer(key, def string, least, most int, doc string, at func(*Config) *int) Setting {
	return Setting{key: key, form: "int", def: def, doc: fmt.Sprintf("%s; %d to %d", doc, least, most), set: func(c *Config, text string) error {
		n, err := strconv.Atoi(text)
		if err != nil || n < least || n > most {
			return fmt.Errorf("%q is not a whole number from %d to %d", text, least, most)
		}
		*at(c) = n
		return nil
	}}
}

func duration(key, def string, least, most time.Duration, doc string, at func(*Config) *time.Duration) Setting {
	span := fmt.Sprintf("%s to %s", cli.ShortDuration(least), cli.ShortDuration(most))
	return Setting{key: key, form: "duration", def: def, doc: doc + "; " + span, set: func(c *Config, text string) error {
		d, err := time.ParseDuration(text)
		if err != nil {
			return fmt.Errorf("%q is not a duration such as 90s, 5m or 1h30m", text)
		}
		if d < least || d > most {
			return fmt.Errorf("%q is not within %s", text, span)
		}
		*at(c) = d
		return nil
	}}
}
