package console_test

import (
	"bytes"
	"crypto/tls"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/rs/zerolog"

	"github.com/vpcep-approver/vpcep-approver/internal/console"
)

// TestCertificateIsReadAgain: a certificate that is replaced is served 10 s later, and one
// that is broken leaves the last good one in use and is logged once.
func TestCertificateIsReadAgain(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	cert, key := filepath.Join(dir, "cert.pem"), filepath.Join(dir, "key.pem")
	if _, err := console.OpenCertificate(cert, key, zerolog.Nop()); err == nil || !strings.HasPrefix(err.Error(), "console.tls: ") {
		t.Errorf("%v, want an error of console.tls", err)
	}
	synctest.Test(t, func(t *testing.T) {
		var log bytes.Buffer
		first := writePair(t, cert, key)
		c, err := console.OpenCertificate(cert, key, zerolog.New(&log))
		if err != nil {
			t.Fatal(err)
		}
		serves := func(what string, want tls.Certificate) {
			t.Helper()
			if pair, err := c.Served(); err != nil || !bytes.Equal(pair.Certificate[0], want.Certificate[0]) {
				t.Errorf("the %s certificate is not served (%v)", what, err)
			}
		}
		serves("first", first)
		second := writePair(t, cert, key)
		<-time.After(console.CertificateEvery - time.Millisecond)
		serves("first", first)
		<-time.After(time.Millisecond)
		serves("second", second)
		if err := os.WriteFile(key, []byte("no key"), 0o600); err != nil {
			t.Fatal(err)
		}
		for range 3 {
			<-time.After(console.CertificateEvery)
			serves("second", second)
		}
		if n := strings.Count(log.String(), "the last good one stays in use"); n != 1 {
			t.Errorf("logged %d times: %s", n, &log)
		}
		third := writePair(t, cert, key)
		<-time.After(console.CertificateEvery)
		serves("third", third)
	})
}
