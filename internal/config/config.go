// Package config loads the settings of the worker: flags over environment over
// file over defaults, with the place of each value and of each mistake.
package config

import (
	"fmt"
	"net/netip"
	"time"

	"github.com/vpcep-approver/vpcep-approver/internal/approval"
	"github.com/vpcep-approver/vpcep-approver/internal/cloud"
	"github.com/vpcep-approver/vpcep-approver/internal/strictyaml"
)

// Config is what the worker runs with, checked.
type Config struct {
	File     string // the file that was read; empty: none
	Found    bool   // nobody named the file: it was there
	NATS     NATS
	Cloud    Cloud
	Targets  approval.Targets
	Policies Policies
	Sweep    Sweep
	Ledger   Ledger
	HTTP     HTTP
	Worker   Worker
	Console  Console
	Log      Log

	values map[string]value // of each setting that has one, by key
}

// NATS says where the broker is and how to get in.
type NATS struct {
	URL             string // or "embedded"
	DataDir         string // of the embedded server
	Listen          string // of the embedded server
	CredentialsFile string
	NKeySeedFile    string
	Create          bool
	Replicas        int
	Wait            time.Duration // for the broker at start
	MaxBytes        int           // of each stream and bucket that is made; 0: no limit
	AllowPlaintext  bool
	Domain          string
	InboxPrefix     string
	TLS             TLS
	// User reads user and password again; nil if none are configured.
	User func() (user, password string, err error)
}

// Embedded reports whether the server runs inside the process.
func (c NATS) Embedded() bool { return c.URL == embedded }

// TLS holds paths of PEM files; empty: none.
type TLS struct {
	CA, Cert, Key string
	First         bool // the handshake comes before anything else
}

// Cloud says how the cloud is called.
type Cloud struct {
	Region        string
	AuthMode      string            // "aksk", "token" or "password"
	Endpoints     map[string]string // API name to base URL; only what is overridden
	AllowHTTP     bool
	RatePerSecond float64
	Rates         map[string]float64 // API name to calls a second; only what differs from RatePerSecond
	Concurrency   int
	// Credentials reads the credentials for AuthMode again. A missing one is an
	// error that names the variables.
	Credentials func() (cloud.Credentials, error)
}

// Policies says where the policies are and when they count.
type Policies struct {
	Dir, ShadowDir string
	StableFor      time.Duration
}

// Sweep says when unannounced connections are looked for.
type Sweep struct{ Interval time.Duration }

// Ledger says what is kept of requests.
type Ledger struct{ MaxAge time.Duration }

// HTTP is the listener of metrics, and the one of probes.
type HTTP struct {
	Listen    string
	Probes    string
	WebConfig string // TLS and users of Listen; empty: neither
	Pprof     bool
}

// Worker bounds the work.
type Worker struct {
	Slots         int
	MaxAge        time.Duration
	ConfirmFor    time.Duration
	ShutdownGrace time.Duration
}

// Console says how the console is served, and how people sign in.
type Console struct {
	Listen   string
	URL      string // public; empty: that of Listen
	TraceURL string // with TraceID; empty: there is none
	KeyFile  string // with the NKey that reviewers.yaml names
	TLS      struct{ Cert, Key string }
	Proxy    struct {
		Header    string
		Addresses []netip.Prefix
	}
	OIDC struct {
		Issuer, ClientID string
		// ClientSecret reads the secret again; empty: there is none.
		ClientSecret func() (string, error)
	}
}

// Log says what is logged and how.
type Log struct{ Level, Format string }

// value is the effective text of a setting and where it comes from.
type value struct {
	text   string
	source string              // "flag", "environment", "file" or "default"
	place  string              // "--nats-url", "APPROVER_NATS_URL", "worker.yaml"
	at     strictyaml.Position // in the file
}

// where is the place of v for people.
func (v value) where() string {
	if v.at.Line == 0 {
		return v.place
	}
	return fmt.Sprintf("%s:%d:%d", v.place, v.at.Line, v.at.Column)
}
