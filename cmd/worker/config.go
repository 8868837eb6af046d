package main

import (
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/url"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/vpcep-approver/vpcep-approver/internal/approval"
	"github.com/vpcep-approver/vpcep-approver/internal/cloud"
	"github.com/vpcep-approver/vpcep-approver/internal/events/broker"

	"github.com/vpcep-approver/vpcep-approver/internal/cli"
)

// Config is what the worker runs with, checked.
type Config struct {
	File     string // the file that was read; empty: none
	Found    bool   // nobody named the file: it was there
	NATS     NATSConfig
	Cloud    CloudConfig
	Targets  approval.Targets
	Policies PoliciesConfig
	Sweep    SweepConfig
	HTTP     HTTPConfig
	Worker   WorkerConfig
	Log      LogConfig

	values map[string]value // of each setting that has one, by key
}

// NATSConfig says where the broker is and how to get in.
type NATSConfig struct {
	URL             string // or "embedded"
	DataDir         string // of the embedded server
	Listen          string // of the embedded server
	CredentialsFile string
	NKeySeedFile    string
	Create          bool
	Replicas        int
	MaxBytes        int // of each stream and bucket that is made; 0: no limit
	AllowPlaintext  bool
	Domain          string
	InboxPrefix     string
	TLS             TLSConfig
	// User reads user and password anew; nil if none are configured.
	User func() (user, password string, err error)
}

// Embedded reports whether the server runs inside the process.
func (c NATSConfig) Embedded() bool { return c.URL == embedded }

// TLSConfig holds paths of PEM files; empty: none.
type TLSConfig struct {
	CA, Cert, Key string
	First         bool // the handshake comes before anything else
}

// CloudConfig says how the cloud is called.
type CloudConfig struct {
	Region        string
	AuthMode      string            // "aksk", "token" or "password"
	Endpoints     map[string]string // API name to base URL; only what is overridden
	AllowHTTP     bool
	RatePerSecond float64
	Rates         map[string]float64 // API name to calls a second; only what differs from RatePerSecond
	Concurrency   int
	// Credentials reads the credentials for AuthMode anew. A missing one is an
	// error that names the variables.
	Credentials func() (cloud.Credentials, error)
}

// PoliciesConfig says where the policies are and when they count.
type PoliciesConfig struct {
	Dir, ShadowDir string
	StableFor      time.Duration
}

// SweepConfig says when unannounced connections are looked for.
type SweepConfig struct{ Interval time.Duration }

// HTTPConfig is the listener of metrics and health.
type HTTPConfig struct{ Listen string }

// WorkerConfig bounds the work.
type WorkerConfig struct {
	Slots         int
	MaxAge        time.Duration
	ConfirmFor    time.Duration
	ShutdownGrace time.Duration
}

// LogConfig says what is logged and how.
type LogConfig struct{ Level, Format string }

// value is the effective text of a setting and where it comes from.
type value struct {
	text   string
	source string // "flag", "environment", "file" or "default"
	place  string // "--nats-url", "APPROVER_NATS_URL", "worker.yaml:3:8"
}

// settingFlags is what was said on the command line.
type settingFlags struct {
	file   string            // --config; empty: not given
	values map[string]string // by the key of the setting; only flags that were given
}

// defaultFile is read if it is there and no other is named.
const defaultFile = "worker.yaml"

// fileVariable names the configuration file, as --config does.
const fileVariable = envPrefix + "CONFIG"

// loadConfig puts flags over environment over file over defaults and checks all
// of it. The error tells everything that is wrong at once and ends the process
// with exitInvalid.
func loadConfig(env cli.Environment, flags settingFlags) (Config, error) {
	l := loader{
		env: env, rows: settings(), variables: env.Variables(),
		config: Config{values: map[string]value{}},
	}
	for _, s := range l.rows {
		if s.def != "" {
			l.apply(s, value{text: s.def, source: "default", place: "default of " + s.key}, "")
		}
	}
	l.readFile(flags.file)
	l.readEnvironment()
	for _, s := range l.rows {
		if text, ok := flags.values[s.key]; ok {
			l.apply(s, value{text: text, source: "flag", place: "--" + s.flag()}, "")
		}
	}
	l.check()
	if len(l.problems) > 0 {
		return Config{}, cli.WithCode(cli.ExitInvalid, fmt.Errorf("configuration: %w", l.problems))
	}
	return l.config, nil
}

// loader collects a configuration and everything that is wrong with it.
type loader struct {
	env       cli.Environment
	rows      []setting
	variables map[string]string
	config    Config
	problems  problems
}

func (l *loader) problem(where, what, excerpt string) {
	l.problems = append(l.problems, problem{where: where, what: what, excerpt: excerpt})
}

func (l *loader) apply(s setting, v value, excerpt string) {
	if err := s.set(&l.config, v.text); err != nil {
		what := err.Error()
		if v.source == "file" {
			what = s.key + ": " + what
		}
		l.problem(v.place, what, excerpt)
		return
	}
	l.config.values[s.key] = v
}

// fileToRead returns the file named by the flag, by the environment or by
// default, and what named it; empty if nothing did.
func fileToRead(flag string, variables map[string]string) (name, from string) {
	switch {
	case flag != "":
		return flag, "--config"
	case variables[fileVariable] != "":
		return variables[fileVariable], fileVariable
	}
	return defaultFile, ""
}

// configSource says which file the configuration comes from, for people. It is
// told before anything is done by it.
func configSource(env cli.Environment, flags settingFlags) string {
	name, from := fileToRead(flags.file, env.Variables())
	if from != "" {
		return name + ", named by " + from
	}
	if _, err := env.ReadFile(name); errors.Is(err, fs.ErrNotExist) {
		return "no file; flags, environment and defaults"
	}
	if path, err := filepath.Abs(name); err == nil {
		name = path
	}
	return name + ", found in the current folder"
}

// readFile reads the file named by the flag, by the environment or by default.
func (l *loader) readFile(flag string) {
	name, from := fileToRead(flag, l.variables)
	data, err := l.env.ReadFile(name)
	switch {
	case errors.Is(err, fs.ErrNotExist) && from == "":
		return
	case errors.Is(err, fs.ErrNotExist):
		l.problem(from, fmt.Sprintf("there is no file %s", name), "")
		return
	case err != nil:
		l.problem(name, "cannot be read: "+errors.Unwrap(err).Error(), "")
		return
	}
	l.config.File, l.config.Found = name, from == ""
	l.parse(name, data)
}

// readEnvironment takes the variables of the table and refuses every other one
// that begins like ours: it would be a setting that is silently ignored.
func (l *loader) readEnvironment() {
	known := []string{fileVariable, cli.ColorVariable}
	for _, s := range l.rows {
		if s.secret {
			for _, name := range s.vars {
				known = append(known, name, name+"_FILE")
			}
			continue
		}
		known = append(known, s.env())
		if text := l.variables[s.env()]; text != "" {
			l.apply(s, value{text: text, source: "environment", place: s.env()}, "")
		}
	}
	if text := l.variables[cli.ColorVariable]; text != "" && !slices.Contains(cli.ColorChoices(), text) {
		l.problem(cli.ColorVariable, fmt.Sprintf("%q is not one of %s", text, strings.Join(cli.ColorChoices(), ", ")), "")
	}
	var unknown []string
	for name := range l.variables {
		if strings.HasPrefix(name, envPrefix) && !strings.HasPrefix(name, envPrefix+"TEST_") && !slices.Contains(known, name) {
			unknown = append(unknown, name)
		}
	}
	slices.Sort(unknown)
	for _, name := range unknown {
		what := "there is no such setting"
		switch near := cli.Suggest(name, known); {
		case near != "":
			what += cli.DidYouMean(near)
		case strings.Contains(name, "_PORT") || strings.HasSuffix(name, "_SERVICE_HOST"):
			what += " — Kubernetes sets it for a Service of that name: set enableServiceLinks: false in the pod"
		default:
			what += " — unset it; see: worker config docs"
		}
		l.problem(name, what, "")
	}
}

// check looks at what depends on one another.
func (l *loader) check() {
	c := &l.config
	place := func(key string) string { return c.values[key].place }
	set := func(key string) bool { return c.values[key].text != "" }

	c.NATS.User = l.natsUser()
	ways := 0
	for _, on := range []bool{set("nats.credentials_file"), set("nats.nkey_seed_file"), c.NATS.User != nil} {
		if on {
			ways++
		}
	}
	if ways > 1 {
		l.problem("nats", "more than one way to authenticate — keep one of nats.credentials_file, nats.nkey_seed_file, and user with password", "")
	}
	if set("nats.tls.cert") != set("nats.tls.key") {
		l.problem("nats.tls", "cert and key go together — set both or neither", "")
	}
	if c.NATS.Embedded() {
		if ways > 0 && c.NATS.User == nil {
			l.problem(place("nats.url"), "the embedded server knows a user with password only — remove the credentials, or name a server", "")
		}
		if c.NATS.User != nil {
			if user, _, err := c.NATS.User(); err == nil && user == broker.ProducerUser {
				l.problem("nats", fmt.Sprintf("the embedded server has a user %s of its own, who may only publish requests — give the worker another name", user), "")
			}
		}
		if host, _, err := net.SplitHostPort(c.NATS.Listen); err == nil && !loopback(host) && !c.NATS.AllowPlaintext {
			l.problem(place("nats.listen"), "passwords would cross the network in clear — listen on 127.0.0.1, run a server of its own with TLS, or set nats.allow_plaintext: true", "")
		}
		if c.NATS.Replicas > 1 {
			l.problem(place("nats.replicas"), "the embedded server is alone — set nats.replicas to 1, or name a cluster", "")
		}
	}
	if hosts := busConfig(*c).Plaintext(); len(hosts) > 0 && !c.NATS.Embedded() && !c.NATS.AllowPlaintext {
		l.problem(place("nats.url"), strings.Join(hosts, ", ")+" would be without TLS: passwords and events would cross the network in clear — write tls://, or set nats.allow_plaintext: true", "")
	}
	l.checkFound()
	for _, api := range cloud.APIs() {
		u, err := url.Parse(c.Cloud.Endpoints[api])
		if err == nil && u.Scheme == "http" && !c.Cloud.AllowHTTP && !loopback(u.Hostname()) {
			l.problem(place("cloud.endpoints."+api), "plain HTTP would send credentials in clear — use https, or set cloud.allow_http: true for a simulated cloud", "")
		}
	}
	if c.Worker.ConfirmFor > c.Worker.MaxAge {
		if v := c.values["worker.confirm_for"]; v.source == "default" {
			c.Worker.ConfirmFor = c.Worker.MaxAge
			v.text = cli.ShortDuration(c.Worker.MaxAge)
			c.values["worker.confirm_for"] = v
		} else {
			l.problem(v.place, fmt.Sprintf("worker.confirm_for (%s) is longer than worker.max_age (%s): a request would end before it is confirmed — lower the one or raise the other",
				cli.ShortDuration(c.Worker.ConfirmFor), cli.ShortDuration(c.Worker.MaxAge)), "")
		}
	}
	for i := range c.Targets {
		c.Targets[i].Region = c.Cloud.Region
	}
	secrets := l.secrets()
	for _, s := range l.rows {
		for _, name := range s.vars {
			if _, err := secrets.lookup(name); err != nil && strings.HasPrefix(name, envPrefix) {
				l.problem(name, err.Error(), "")
			}
		}
	}
	mode := c.Cloud.AuthMode
	c.Cloud.Credentials = func() (cloud.Credentials, error) { return readCredentials(secrets, mode) }
}

// checkFound refuses what a file says that nobody named, if a secret would go
// where it says: it may lie in the folder by accident, or for a reason.
func (l *loader) checkFound() {
	c := &l.config
	if !c.Found {
		return
	}
	ask := fmt.Sprintf(" — if that is meant, name the file: --config %s", c.File)
	for _, api := range cloud.APIs() {
		v := c.values["cloud.endpoints."+api]
		if v.source == "file" && !ofProvider(c.Cloud.Endpoints[api]) {
			l.problem(v.place, fmt.Sprintf("cloud.endpoints.%s: credentials would go to another domain than the provider's, by a file that was only found in the current folder%s", api, ask), "")
		}
	}
	if v := c.values["nats.url"]; v.source == "file" && c.NATS.User != nil && !c.NATS.Embedded() {
		l.problem(v.place, "nats.url: the password in the environment would go where a file says that was only found in the current folder"+ask, "")
	}
}

// ofProvider reports whether base is of a domain of the provider's, with TLS.
func ofProvider(base string) bool {
	u, err := url.Parse(base)
	if err != nil || u.Scheme != "https" {
		return false
	}
	host := "." + strings.ToLower(u.Hostname())
	return strings.HasSuffix(host, ".myhuaweicloud.com") || strings.HasSuffix(host, ".myhuaweicloud.eu")
}
