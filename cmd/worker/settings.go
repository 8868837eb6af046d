package main

import (
	"errors"
	"fmt"
	"math"
	"net"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/vpcep-approver/vpcep-approver/internal/cloud"

	"github.com/vpcep-approver/vpcep-approver/internal/cli"
)

// setting is one row of the table that everything about settings is made from:
// flags, environment variables, keys of the file, defaults, the documentation
// and what `worker config show` prints.
type setting struct {
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

// flag is the name of the flag of s, without dashes.
func (s setting) flag() string {
	return strings.NewReplacer(".", "-", "_", "-").Replace(s.key)
}

// env is the name of the environment variable of s.
func (s setting) env() string { return envPrefix + envSuffix(s.key) }

const envPrefix = "APPROVER_"

func envSuffix(key string) string {
	return strings.ToUpper(strings.ReplaceAll(key, ".", "_"))
}

// mostTried is the most that worker.max_age can be. It is well below the 30 days
// for which a request stays stored: one that were tried for as long as that would
// vanish without a result.
const mostTried = 20 * 24 * time.Hour

// settings returns the table, in the order of the documentation.
func settings() []setting {
	rows := []setting{
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
		filePath("nats.credentials_file", "", "NATS credentials (`.creds`), read anew on each connect", func(c *Config) *string { return &c.NATS.CredentialsFile }),
		filePath("nats.nkey_seed_file", "", "NATS NKey seed, read anew on each connect", func(c *Config) *string { return &c.NATS.NKeySeedFile }),
		secret("nats.user", "NATS user, read anew on each connect"),
		secret("nats.password", "NATS password, likewise"),
		boolean("nats.create", "true", "make missing streams, consumer and bucket; else only check them", func(c *Config) *bool { return &c.NATS.Create }),
		integer("nats.replicas", "1", 1, 5, "copies of what is made in a NATS cluster; 3 in production", func(c *Config) *int { return &c.NATS.Replicas }),
		boolean("nats.allow_plaintext", "false", "let `nats.url` be without TLS on other hosts than this one; passwords and events then cross the network in clear", func(c *Config) *bool { return &c.NATS.AllowPlaintext }),
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
		rows = append(rows, setting{
			key: "cloud.endpoints." + api, form: "url",
			doc: fmt.Sprintf("base URL of %s instead of `https://{host}.{region}.myhuaweicloud.com`", api),
			set: func(c *Config, text string) error { return setEndpoint(c, api, text) },
		})
	}
	for _, api := range cloud.APIs() {
		rows = append(rows, setting{
			key: "cloud.rates." + api, form: "rate", def: defaultRates()[api],
			doc: rateDoc(api), set: func(c *Config, text string) error { return setAPIRate(c, api, text) },
		})
	}
	return append(rows,
		boolean("cloud.allow_http", "false", "let `cloud.endpoints` be plain HTTP on other hosts than this one; credentials then cross the network in clear", func(c *Config) *bool { return &c.Cloud.AllowHTTP }),
		setting{
			key: "cloud.rate_per_second", form: "number", def: "10",
			doc: "calls a second to each API host, at most, unless `cloud.rates` says otherwise; throttling answers lower it for a while", set: setRate,
		},
		integer("cloud.concurrency", "64", 1, 4096, "calls at once to each API host, at most", func(c *Config) *int { return &c.Cloud.Concurrency }),
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
		duration("sweep.interval", "5m", time.Second, 24*time.Hour, "how often pending connections are looked for that no event told of", func(c *Config) *time.Duration { return &c.Sweep.Interval }),
		setting{
			key: "http.listen", form: "host:port", def: "127.0.0.1:9090",
			doc: "address of `/metrics`, `/livez` and `/readyz`",
			set: func(c *Config, text string) error { return setAddress(&c.HTTP.Listen, text) },
		},
		integer("worker.slots", "256", 1, 4096, "requests in hand at once", func(c *Config) *int { return &c.Worker.Slots }),
		duration("worker.max_age", "24h", time.Minute, mostTried, "how long a request that meets only errors is tried: it ends as held if nothing was known, as failed if the action was refused", func(c *Config) *time.Duration { return &c.Worker.MaxAge }),
		duration("worker.confirm_for", "1h", time.Second, mostTried, "how long the cloud is asked for the wanted state after an action, at most `worker.max_age`", func(c *Config) *time.Duration { return &c.Worker.ConfirmFor }),
		duration("worker.shutdown_grace", "10s", 0, 10*time.Minute, "how long requests in hand may finish after SIGTERM before they are given back", func(c *Config) *time.Duration { return &c.Worker.ShutdownGrace }),
		choice("log.level", "info", []string{"trace", "debug", "info", "warn", "error"}, "least severe level that is logged", func(c *Config) *string { return &c.Log.Level }),
		choice("log.format", "auto", []string{"auto", "json", "console"}, "form of the log on stderr; auto: console on a terminal, else json", func(c *Config) *string { return &c.Log.Format }),
	)
}

func filePath(key, def, doc string, at func(*Config) *string) setting {
	return setting{key: key, form: "path", def: def, doc: doc, set: func(c *Config, text string) error {
		*at(c) = text
		return nil
	}}
}

func secret(key, doc string, conventional ...string) setting {
	s := setting{key: key, form: "secret", doc: doc, secret: true}
	s.vars = append([]string{s.env()}, conventional...)
	return s
}

func choice(key, def string, values []string, doc string, at func(*Config) *string) setting {
	return setting{key: key, form: strings.Join(values, "|"), def: def, doc: doc, set: func(c *Config, text string) error {
		if !slices.Contains(values, text) {
			return fmt.Errorf("%q is not one of %s%s", text, strings.Join(values, ", "), cli.DidYouMean(cli.Suggest(text, values)))
		}
		*at(c) = text
		return nil
	}}
}

func boolean(key, def, doc string, at func(*Config) *bool) setting {
	return setting{key: key, form: "bool", def: def, doc: doc, set: func(c *Config, text string) error {
		if text != "true" && text != "false" {
			return fmt.Errorf("%q is neither true nor false", text)
		}
		*at(c) = text == "true"
		return nil
	}}
}

func integer(key, def string, least, most int, doc string, at func(*Config) *int) setting {
	return setting{key: key, form: "int", def: def, doc: fmt.Sprintf("%s; %d to %d", doc, least, most), set: func(c *Config, text string) error {
		n, err := strconv.Atoi(text)
		if err != nil || n < least || n > most {
			return fmt.Errorf("%q is not a whole number from %d to %d", text, least, most)
		}
		*at(c) = n
		return nil
	}}
}

func duration(key, def string, least, most time.Duration, doc string, at func(*Config) *time.Duration) setting {
	span := fmt.Sprintf("%s to %s", cli.ShortDuration(least), cli.ShortDuration(most))
	return setting{key: key, form: "duration", def: def, doc: doc + "; " + span, set: func(c *Config, text string) error {
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

// embedded is the nats.url of a server inside the process.
const embedded = "embedded"

// setNATSURL never repeats the text in an error: it may hold a password.
func setNATSURL(c *Config, text string) error {
	if text != embedded {
		for server := range strings.SplitSeq(text, ",") {
			u, err := url.Parse(strings.TrimSpace(server))
			switch {
			case err != nil:
				return errors.New("not a URL — write nats://host:4222, or embedded")
			case u.User != nil:
				return errors.New("credentials do not belong into the URL — use APPROVER_NATS_USER and APPROVER_NATS_PASSWORD, nats.credentials_file or nats.nkey_seed_file")
			case !slices.Contains([]string{"nats", "tls", "ws", "wss"}, u.Scheme):
				return errors.New("the scheme is not one of nats, tls, ws, wss — write nats://host:4222, or embedded")
			case u.Hostname() == "":
				return errors.New("no host — write nats://host:4222, or embedded")
			}
		}
	}
	c.NATS.URL = text
	return nil
}

// setToken takes one token of a subject.
func setToken(at *string, text string) error {
	if strings.ContainsAny(text, ".*>$ \t\r\n") {
		return fmt.Errorf("%.60q is not a name without dots, blanks and wildcards", text)
	}
	*at = text
	return nil
}

func setInboxPrefix(at *string, text string) error {
	for token := range strings.SplitSeq(text, ".") {
		if token == "" || strings.ContainsAny(token, "*> \t\r\n") {
			return fmt.Errorf("%.60q is not a subject without blanks and wildcards, such as _INBOX_vpcep_worker", text)
		}
	}
	*at = text
	return nil
}

func setRegion(c *Config, text string) error {
	if strings.Trim(text, "abcdefghijklmnopqrstuvwxyz0123456789-") != "" || len(text) > 40 {
		return fmt.Errorf("%.60q is not a region such as cn-north-4", text)
	}
	c.Cloud.Region = text
	return nil
}

// setEndpoint checks what it can without cloud.allow_http; see checkEndpoints.
func setEndpoint(c *Config, api, text string) error {
	u, err := url.Parse(text)
	switch {
	case err != nil || u.Opaque != "" || u.Host == "" || u.Scheme != "https" && u.Scheme != "http":
		return errors.New("not a base URL such as https://vpcep.cn-north-4.myhuaweicloud.com")
	case u.User != nil:
		return errors.New("credentials do not belong into the URL")
	case strings.Trim(u.Path, "/") != "" || u.RawQuery != "" || u.Fragment != "":
		return errors.New("a base URL ends after the host and port; the path of each call is added to it")
	}
	if c.Cloud.Endpoints == nil {
		c.Cloud.Endpoints = map[string]string{}
	}
	c.Cloud.Endpoints[api] = u.Scheme + "://" + u.Host
	return nil
}

func setRate(c *Config, text string) error {
	f, err := strconv.ParseFloat(text, 64)
	if err != nil || math.IsNaN(f) || f < 0.01 || f > 10_000 {
		return fmt.Errorf("%q is not a number from 0.01 to 10000", text)
	}
	c.Cloud.RatePerSecond = f
	return nil
}

// defaultRates are the documented limits of the APIs that have one below
// cloud.rate_per_second. HSS admits 5 calls a minute for a user and for an address.
func defaultRates() map[string]string { return map[string]string{cloud.APIHSS: "5/m"} }

func rateDoc(api string) string {
	doc := fmt.Sprintf("calls to %s, at most, such as `5/m`, `10/s` or a number a second; `4/m` to `10000/s`; default `cloud.rate_per_second`", api)
	if defaultRates()[api] != "" {
		doc = strings.Replace(doc, "default `cloud.rate_per_second`", "HSS admits 5 a minute for a user and for an address", 1)
	}
	return doc
}

// slowestRate lets a creation be looked for and sent within the time that a send
// has, 20 s.
const slowestRate = 4.0 / 60

func setAPIRate(c *Config, api, text string) error {
	number, unit, _ := strings.Cut(strings.ReplaceAll(text, " ", ""), "/")
	f, err := strconv.ParseFloat(number, 64)
	switch {
	case unit == "m" || unit == "min":
		f /= 60
	case unit != "s" && strings.Contains(text, "/"):
		err = strconv.ErrSyntax
	}
	if err != nil || math.IsNaN(f) || f < slowestRate || f > 10_000 {
		return fmt.Errorf("%.40q is not a rate from 4/m to 10000/s — write 5/m, 10/s or a number of calls a second", text)
	}
	if c.Cloud.Rates == nil {
		c.Cloud.Rates = map[string]float64{}
	}
	c.Cloud.Rates[api] = f
	return nil
}

func setAddress(at *string, text string) error {
	_, port, err := net.SplitHostPort(text)
	if err == nil {
		_, err = strconv.ParseUint(port, 10, 16)
	}
	if err != nil {
		return fmt.Errorf("%q is not host:port, such as 127.0.0.1:9090 or :9090", text)
	}
	*at = text
	return nil
}

// loopback reports whether host, of a URL, is this machine.
func loopback(host string) bool {
	ip := net.ParseIP(host)
	return host == "localhost" || ip != nil && ip.IsLoopback()
}

// maskURL hides what may be a password in a URL.
func maskURL(text string) string {
	if i := strings.LastIndexByte(text, '@'); i >= 0 {
		if scheme, _, ok := strings.Cut(text[:i], "://"); ok {
			return scheme + "://…" + text[i:]
		}
		return "…" + text[i:]
	}
	return text
}
