package console

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"math/big"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/rs/zerolog"
)

// TestCertificateIsReadAgain: a certificate that is replaced is served 10 s later, and one
// that is broken leaves the last good one in use and is logged once.
func TestCertificateIsReadAgain(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	cert, key := filepath.Join(dir, "cert.pem"), filepath.Join(dir, "key.pem")
	if _, err := openCertificate(cert, key, zerolog.Nop()); err == nil || !strings.HasPrefix(err.Error(), "console.tls: ") {
		t.Errorf("%v, want an error of console.tls", err)
	}
	synctest.Test(t, func(t *testing.T) {
		var log bytes.Buffer
		writePair(t, cert, key, 1)
		c, err := openCertificate(cert, key, zerolog.New(&log))
		if err != nil {
			t.Fatal(err)
		}
		serves := func(want int64) {
			t.Helper()
			pair, err := c.get(nil)
			if err != nil {
				t.Fatal(err)
			}
			if n := pair.Leaf.SerialNumber.Int64(); n != want {
				t.Errorf("certificate %d is served, want %d", n, want)
			}
		}
		serves(1)
		writePair(t, cert, key, 2)
		<-time.After(certificateEvery - time.Millisecond)
		serves(1)
		<-time.After(time.Millisecond)
		serves(2)
		if err := os.WriteFile(key, []byte("no key"), 0o600); err != nil {
			t.Fatal(err)
		}
		for range 3 {
			<-time.After(certificateEvery)
			serves(2)
		}
		if n := strings.Count(log.String(), "the last good one stays in use"); n != 1 {
			t.Errorf("logged %d times: %s", n, &log)
		}
		writePair(t, cert, key, 3)
		<-time.After(certificateEvery)
		serves(3)
	})
}

// writePair writes a certificate with this number, and its key.
func writePair(t *testing.T, cert, key string, number int64) {
	t.Helper()
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(number), NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour)}
	public, err := x509.CreateCertificate(rand.Reader, template, template, private.Public(), private)
	if err != nil {
		t.Fatal(err)
	}
	secret, err := x509.MarshalPKCS8PrivateKey(private)
	if err != nil {
		t.Fatal(err)
	}
	for file, block := range map[string]*pem.Block{cert: {Type: "CERTIFICATE", Bytes: public}, key: {Type: "PRIVATE KEY", Bytes: secret}} {
		if err := os.WriteFile(file, pem.EncodeToMemory(block), 0o600); err != nil {
			t.Fatal(err)
		}
	}
}
