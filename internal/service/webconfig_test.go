package service

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"math/big"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/rs/zerolog"

	"github.com/vpcep-approver/vpcep-approver/internal/cli"
	"github.com/vpcep-approver/vpcep-approver/internal/config"
)

// Hashes with the lowest cost, so that tests are quick.
const (
	firstUser  = "basic_auth_users: {prometheus: $2a$04$9.c0a1fnQ4gyIgVpE7DYFOKRPRDW5wOjiVdcCoiPkvaX7L0LEPiM2}\n"
	secondUser = "basic_auth_users: {prometheus: $2a$04$BeOP6GdkMRMTn5jJ0cHTS.4IDWyXFr73i4Lv7TTsi70HAC/hUAG.K}\n"
	withTLS    = "tls_server_config: {cert_file: cert.pem, key_file: key.pem}\n"
)

// protected is a metrics listener with a web configuration.
type protected struct {
	t    *testing.T
	dir  string
	log  *lockedLog
	l    *listeners
	pool *x509.CertPool
}

func (p *protected) write(name, content string) {
	p.t.Helper()
	if err := os.WriteFile(filepath.Join(p.dir, name), []byte(content), 0o600); err != nil {
		p.t.Fatal(err)
	}
}

// certify writes a new certificate and trusts it.
func (p *protected) certify() {
	p.t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		p.t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour), IsCA: true, BasicConstraintsValid: true,
	}
	cert, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		p.t.Fatal(err)
	}
	private, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		p.t.Fatal(err)
	}
	text := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: cert})
	p.write("cert.pem", string(text))
	p.write("key.pem", string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: private})))
	p.pool = x509.NewCertPool()
	p.pool.AppendCertsFromPEM(text)
}

// get asks for /metrics on a connection of its own and returns the status; a
// failed handshake is an error.
func (p *protected) get(password string) (int, error) {
	p.t.Helper()
	ctx, cancel := context.WithTimeout(p.t.Context(), time.Minute)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, p.l.urls().Metrics+"/metrics", nil)
	if err != nil {
		p.t.Fatal(err)
	}
	if password != "" {
		req.SetBasicAuth("prometheus", password)
	}
	client := http.Client{Transport: &http.Transport{DisableKeepAlives: true, TLSClientConfig: &tls.Config{RootCAs: p.pool, MinVersion: tls.VersionTLS12}}}
	res, err := client.Do(req)
	if err != nil {
		return 0, err
	}
	return res.StatusCode, res.Body.Close()
}

// wants checks the status for both passwords and for none.
func (p *protected) wants(when string, first, second int) {
	p.t.Helper()
	for _, tt := range []struct {
		password string
		status   int
	}{{"", http.StatusUnauthorized}, {"guessed", http.StatusUnauthorized}, {"first-password", first}, {"second-password", second}} {
		if got, err := p.get(tt.password); got != tt.status || err != nil {
			p.t.Errorf("%s: password %q: status %d, %v; want %d", when, tt.password, got, err, tt.status)
		}
	}
}

// prepare writes a configuration with the first password.
func prepare(t *testing.T) *protected {
	t.Helper()
	p := &protected{t: t, dir: t.TempDir(), log: &lockedLog{}}
	p.certify()
	p.write("web.yml", withTLS+firstUser)
	return p
}

func (p *protected) settings() config.HTTP {
	return config.HTTP{Listen: "127.0.0.1:0", Probes: "127.0.0.1:0", WebConfig: filepath.Join(p.dir, "web.yml")}
}

// serve serves metrics until the test ends.
func (p *protected) serve() {
	p.t.Helper()
	log := zerolog.New(zerolog.SyncWriter(p.log))
	var err error
	if p.l, err = listen(p.t.Context(), p.settings(), log); err != nil {
		p.t.Fatal(err)
	}
	ctx, stop := context.WithCancel(context.Background())
	served := make(chan error, 1)
	go func() { served <- p.l.serveMetrics(ctx, metricsHandler(prometheus.NewRegistry(), false), log) }()
	p.t.Cleanup(func() {
		stop()
		if err := errors.Join(<-served, p.l.close()); err != nil {
			p.t.Error(err)
		}
		if _, err := os.Stat(p.l.web.dir); !errors.Is(err, os.ErrNotExist) {
			p.t.Errorf("the private copy is left behind: %v", err)
		}
	})
}

// TestMetricsStayProtected: the metrics need TLS and a password, whatever the
// file of the web configuration becomes while the worker runs.
func TestMetricsStayProtected(t *testing.T) {
	t.Parallel()
	p := prepare(t)
	p.serve()
	p.wants("at the start", http.StatusOK, http.StatusUnauthorized)
	plain := "http://" + p.l.metrics.Addr().String() + "/metrics"
	if res, err := http.Get(plain); err != nil || res.StatusCode != http.StatusBadRequest { //nolint:bodyclose // a refusal
		t.Errorf("plain HTTP: %v, %v", res, err)
	}

	for _, broken := range []string{
		"", "basic_auth_users: {}\n", withTLS, withTLS + "basic_auth_users: {}\n", firstUser,
		withTLS + "basic_auth_user: {a: b}\n", withTLS + "basic_auth_users: {a: no-hash}\n", "tls_server_config: {\n",
		"tls_server_config: {cert: '', key: ''}\n" + firstUser,
		"tls_server_config: {cert_file: gone.pem, key_file: key.pem}\n" + firstUser,
	} {
		p.write("web.yml", withTLS+firstUser)
		p.l.web.reload()
		p.log.Reset()
		p.write("web.yml", broken)
		p.l.web.reload()
		p.l.web.reload()
		p.wants(fmt.Sprintf("with the file %q", broken), http.StatusOK, http.StatusUnauthorized)
		if got := strings.Count(p.log.String(), "the last good one stays"); got != 1 {
			t.Errorf("with the file %q: logged %d times, want once:\n%s", broken, got, p.log)
		}
	}
	p.write("web.yml", withTLS+firstUser)
	p.write("cert.pem", "")
	p.l.web.reload()
	p.wants("with an empty certificate", http.StatusOK, http.StatusUnauthorized)
	if err := os.Remove(filepath.Join(p.dir, "web.yml")); err != nil {
		t.Fatal(err)
	}
	p.l.web.reload()
	p.wants("without the file", http.StatusOK, http.StatusUnauthorized)

	p.certify()
	p.write("web.yml", withTLS+secondUser)
	p.l.web.reload()
	p.wants("after a change", http.StatusUnauthorized, http.StatusOK)
}

// TestNoStartWithoutProtection: a web configuration that would let everybody in,
// or send passwords in clear, stops the start and says why.
func TestNoStartWithoutProtection(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct{ content, want string }{
		{"", "no TLS: set cert_file and key_file"},
		{firstUser, "no TLS: set cert_file and key_file"},
		{withTLS, "no user: name at least one in basic_auth_users"},
		{withTLS + "basic_auth_user: {a: b}\n", "line 2: field basic_auth_user not found"},
		{withTLS + "basic_auth_users: {a: b}\n", "hashedSecret too short"},
		{"tls_server_config: {cert_file: gone.pem, key_file: key.pem}\n" + firstUser, "gone.pem"},
	} {
		p := prepare(t)
		p.write("web.yml", tt.content)
		l, err := listen(t.Context(), p.settings(), zerolog.Nop())
		if err == nil {
			t.Errorf("%q: the worker starts", tt.content)
			_ = l.close()
			continue
		}
		if !strings.Contains(err.Error(), "http.web_config: "+p.settings().WebConfig) || !strings.Contains(err.Error(), tt.want) || exitCode(err) != cli.ExitInvalid {
			t.Errorf("%q: %v (exit %d), want %q", tt.content, err, exitCode(err), tt.want)
		}
	}
}

// TestProtectedConnectionsAreCounted: connections with TLS are within the limit,
// and closed ones are not counted.
func TestProtectedConnectionsAreCounted(t *testing.T) {
	t.Parallel()
	p := prepare(t)
	p.serve()
	for range maxHTTPConnections + 3 {
		if status, err := p.get("first-password"); status != http.StatusOK || err != nil {
			t.Fatalf("status %d, %v", status, err)
		}
	}
}

// TestProfilesOnlyWhenAsked looks at the paths of both listeners.
func TestProfilesOnlyWhenAsked(t *testing.T) {
	t.Parallel()
	for _, asked := range []bool{false, true} {
		handler := metricsHandler(prometheus.NewRegistry(), asked)
		want := map[bool]string{false: "", true: "GET /debug/pprof/"}[asked]
		req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "/debug/pprof/", nil)
		if err != nil {
			t.Fatal(err)
		}
		if _, pattern := handler.(*http.ServeMux).Handler(req); pattern != want {
			t.Errorf("asked %v: /debug/pprof/ is served by %q, want %q", asked, pattern, want)
		}
	}
}
