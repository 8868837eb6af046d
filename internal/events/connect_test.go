package events

import (
	"bufio"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"

	"github.com/vpcep-approver/vpcep-approver/internal/approval"
	"github.com/vpcep-approver/vpcep-approver/internal/natstest"
)

func TestServerVersions(t *testing.T) {
	t.Parallel()
	for version, ok := range map[string]bool{
		"2.11.0": true, "2.11.0-RC.1": true, "2.15.2": true, "3.0.0": true, "v2.12.1": true,
		"2.10.29": false, "2.9.1": false, "1.4.0": false, "": false, "2": false, "dev": false, "2.x.1": false, "-2.11.0": false,
	} {
		if supportedVersion(version) != ok {
			t.Errorf("%q is recent: %t", version, !ok)
		}
	}
}

// TestAnOlderServerIsRefused is about the first connection and about later ones.
func TestAnOlderServerIsRefused(t *testing.T) {
	t.Parallel()
	var old atomic.Bool
	url := claimingVersion(t, natstest.Start(t).URL, "2.10.29", &old)
	seen := newWatcher()
	b, err := Connect(t.Context(), testConfig(&natstest.Server{URL: url}, func(c *Config) { c.Observer = seen }))
	if err != nil {
		t.Fatal(err)
	}
	defer b.Close() //nolint:errcheck // it is closed already
	if err := b.Setup(t.Context()); err != nil {
		t.Fatal(err)
	}
	ended := make(chan error, 1)
	go func() { ended <- b.Consume(t.Context(), done) }()
	seen.exactly(t, "bound", 1)
	old.Store(true)
	if err := b.nc.ForceReconnect(); err != nil {
		t.Fatal(err)
	}
	err = <-ended
	if _, ok := errors.AsType[*VersionError](err); !ok || !errors.Is(err, ErrClosed) || !strings.Contains(b.Ready().Error(), "2.10.29") {
		t.Errorf("consumeLoop ended with %v, ready says %v", err, b.Ready())
	}
	_, err = Connect(t.Context(), testConfig(&natstest.Server{URL: url}, nil))
	if _, ok := errors.AsType[*VersionError](err); !ok || !strings.Contains(err.Error(), MinServer) {
		t.Errorf("Connect: %v", err)
	}
}

// claimingVersion is a proxy to a server that has another version as long as old
// is set.
func claimingVersion(t *testing.T, to, version string, old *atomic.Bool) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close() })
	pass := func(client net.Conn) {
		defer client.Close() //nolint:errcheck // nothing depends on it
		server, err := net.Dial("tcp", strings.TrimPrefix(to, "nats://"))
		if err != nil {
			return
		}
		defer server.Close() //nolint:errcheck // nothing depends on it
		go func() {
			defer server.Close() //nolint:errcheck // nothing depends on it
			_, _ = bufio.NewReader(client).WriteTo(server)
		}()
		r := bufio.NewReader(server)
		for { // a server says INFO more than once
			line, err := r.ReadString('\n')
			if old.Load() && strings.HasPrefix(line, "INFO {") {
				line = regexp.MustCompile(`"version":"[^"]*"`).ReplaceAllString(line, `"version":"`+version+`"`)
			}
			if _, sent := client.Write([]byte(line)); sent != nil || err != nil {
				return
			}
		}
	}
	go func() {
		for {
			client, err := l.Accept()
			if err != nil {
				return
			}
			go pass(client)
		}
	}()
	return "nats://" + l.Addr().String()
}

// TestUnusualServers sets up and serves a request on servers that want something
// of their clients, each with the settings for it, and without them says what to do.
func TestUnusualServers(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name   string
		server func(*server.Options)
		client func(*Config)
		hint   string // without client; empty: it works all the same
	}{
		{"a domain", func(o *server.Options) { o.JetStreamDomain = "hub" }, func(c *Config) { c.Domain = "hub" }, ""},
		{"a short duplicate window", func(o *server.Options) { o.JetStreamLimits.Duplicates = 30 * time.Second }, func(*Config) {}, ""},
		{"inboxes of their own", func(o *server.Options) {
			o.Users = []*server.User{{Username: "u", Password: "p", Permissions: &server.Permissions{Subscribe: &server.SubjectPermission{Allow: []string{"_INBOX_mine.>"}}}}}
		}, func(c *Config) { c.InboxPrefix = "_INBOX_mine" }, "lacks the permission to subscribe to _INBOX."},
		{"limits for each stream", func(o *server.Options) {
			o.Accounts = []*server.Account{server.NewAccount("limited")}
			o.Users = []*server.User{{Username: "u", Password: "p", Account: o.Accounts[0]}}
		}, func(c *Config) { c.MaxBytes = 1 << 20 }, "set nats.max_bytes"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			opts := &server.Options{Host: "127.0.0.1", Port: server.RANDOM_PORT, JetStream: true, StoreDir: t.TempDir(), NoSigs: true}
			tt.server(opts)
			srv, _ := natstest.StartOptions(t, opts)
			if len(opts.Accounts) > 0 {
				limits := server.JetStreamAccountLimits{MaxMemory: -1, MaxStore: 1 << 30, MaxStreams: -1, MaxConsumers: -1, MaxBytesRequired: true}
				account, err := srv.LookupAccount("limited")
				if err != nil {
					t.Fatal(err)
				}
				if err := account.EnableJetStream(map[string]server.JetStreamAccountLimits{"": limits}, nil); err != nil {
					t.Fatal(err)
				}
			}
			s := &natstest.Server{URL: srv.ClientURL()}
			config := func(edit func(*Config)) Config {
				return testConfig(s, func(c *Config) {
					if opts.Users != nil {
						c.Login = login("u", "p")
					}
					edit(c)
				})
			}
			if tt.hint != "" {
				plain, err := Connect(t.Context(), config(func(*Config) {}))
				if err != nil {
					t.Fatal(err)
				}
				if err := plain.Setup(t.Context()); err == nil || !strings.Contains(err.Error(), tt.hint) {
					t.Errorf("without the setting: %v, want %q", err, tt.hint)
				}
				if err := plain.Close(); err != nil {
					t.Error(err)
				}
			}
			seen := newWatcher()
			b, err := Connect(t.Context(), config(func(c *Config) { c.Observer = seen; tt.client(c) }))
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { _ = b.Close() })
			if err := b.Setup(t.Context()); err != nil {
				t.Fatal(err)
			}
			for _, c := range b.Rights(t.Context()) {
				if c.Err != nil || c.Skipped != "" {
					t.Errorf("%s: %v %s", c.Right, c.Err, c.Skipped)
				}
			}
			consume(t, b, done)
			if err := b.Submit(t.Context(), connection("e")); err != nil {
				t.Fatal(err)
			}
			eventually(t, "it is done", func() bool { return consumerInfo(t, b).AckFloor.Stream == 1 })
			kv, err := b.Bucket(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			if _, err := kv.Create(t.Context(), "a", []byte("b")); err != nil {
				t.Error(err)
			}
			if found, err := kv.Get(t.Context(), "a"); err != nil || string(found.Value()) != "b" {
				t.Errorf("the bucket: %v, %v", found, err)
			}
			if err := b.Publish(t.Context(), result("r", approval.OutcomeAccepted)); err != nil {
				t.Error(err)
			}
			for _, err := range b.Results(t.Context(), ResultFilter{}) {
				if err != nil {
					t.Error(err)
				}
			}
		})
	}
}

// TestPlaintextStaysOnThisMachine wants no connection without TLS to lead elsewhere.
func TestPlaintextStaysOnThisMachine(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		cfg  Config
		want int // addresses in clear
	}{
		{Config{URL: "nats://10.0.0.1:4222"}, 1},
		{Config{URL: "nats://127.0.0.1:4222, ws://broker:80"}, 1},
		{Config{URL: "nats://broker.example.org"}, 1},
		{Config{URL: "nats://localhost.example.org:4222"}, 1},
		{Config{URL: "nats://user:hunter2@10.0.0.1:4222"}, 1},
		{Config{URL: "nats://127.0.0.1:4222,nats://[::1]:4222,nats://localhost:4222"}, 0},
		{Config{URL: "tls://broker:4222"}, 0},
		{Config{URL: "wss://broker:443"}, 0},
		{Config{URL: "nats://broker:4222", TLSCA: "ca.pem"}, 0},
		{Config{URL: "nats://broker:4222", TLSFirst: true}, 0},
	} {
		if got := tt.cfg.Plaintext(); len(got) != tt.want || strings.Contains(strings.Join(got, ""), "hunter2") {
			t.Errorf("%s: %q", tt.cfg.URL, got)
		}
	}
	_, err := Connect(t.Context(), Config{URL: "nats://192.0.2.1:4222"})
	if err == nil || !strings.Contains(err.Error(), "nats.allow_plaintext") {
		t.Errorf("Connect: %v", err)
	}
	// A server may name others, and a name may lead anywhere.
	for address, ok := range map[string]bool{"127.0.0.1:4222": true, "[::1]:4222": true, "[::ffff:127.0.0.1]:4222": true, "192.0.2.1:4222": false, "[2001:db8::1]:4222": false} {
		if err := onlyLoopback("tcp", address, nil); (err == nil) != ok {
			t.Errorf("%s: %v", address, err)
		}
	}
}

// TestDomainsDiffer says which of two things is wrong.
func TestDomainsDiffer(t *testing.T) {
	t.Parallel()
	b, err := Connect(t.Context(), testConfig(natstest.Start(t), func(c *Config) { c.Domain = "elsewhere" }))
	if err != nil {
		t.Fatal(err)
	}
	defer b.Close() //nolint:errcheck // not what is tested
	if err := b.Setup(t.Context()); err == nil || !strings.Contains(err.Error(), "nats.domain") {
		t.Errorf("Setup: %v", err)
	}
}

// TestTLSFirst connects to a server that speaks TLS from the first byte on, and to
// one that asks for it after it has said who it is.
func TestTLSFirst(t *testing.T) {
	t.Parallel()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), NotAfter: time.Now().Add(time.Hour), IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageDigitalSignature | x509.KeyUsageCertSign,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	ca := filepath.Join(t.TempDir(), "ca.pem")
	if err := os.WriteFile(ca, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, first := range []bool{true, false} {
		srv, _ := natstest.StartOptions(t, &server.Options{
			Host: "127.0.0.1", Port: server.RANDOM_PORT, NoSigs: true, TLSHandshakeFirst: first, TLSTimeout: 5,
			TLSConfig: &tls.Config{MinVersion: tls.VersionTLS12, Certificates: []tls.Certificate{{Certificate: [][]byte{der}, PrivateKey: key}}},
		})
		url := "tls://" + srv.Addr().String()
		b, err := Connect(t.Context(), Config{URL: url, TLSCA: ca, TLSFirst: first})
		if err != nil {
			t.Errorf("first %t: %v", first, err)
			continue
		}
		if err := b.Close(); err != nil {
			t.Error(err)
		}
		if _, err := Connect(t.Context(), Config{URL: url, TLSFirst: first}); err == nil {
			t.Errorf("first %t: trusted an unknown authority", first)
		}
	}
	plain := natstest.Start(t)
	for _, cfg := range []Config{{TLSCA: ca}, {TLSFirst: true}} { // nobody may take the TLS away
		cfg.URL = plain.URL
		if _, err := Connect(t.Context(), cfg); err == nil {
			t.Errorf("%+v: connected without TLS", cfg)
		}
	}
}
