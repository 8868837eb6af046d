package console_test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"encoding/base64"
	"encoding/pem"
	"math/big"
	"net"
	"os"
	"testing"
	"time"

	"github.com/chromedp/cdproto/network"
	"github.com/chromedp/chromedp"

	"github.com/vpcep-approver/vpcep-approver/internal/console"
)

// selfSigned is a certificate for this machine, and the hash of its key by which a browser
// is told to trust it, and it alone.
func selfSigned(t *testing.T) (cert tls.Certificate, spki string) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(24 * time.Hour),
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}, KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	public, err := x509.MarshalPKIXPublicKey(key.Public())
	if err != nil {
		t.Fatal(err)
	}
	sum := sha256.Sum256(public)
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}, base64.StdEncoding.EncodeToString(sum[:])
}

// writePair makes a certificate for this machine and writes it to two files.
func writePair(t *testing.T, cert, key string) tls.Certificate {
	t.Helper()
	pair, _ := selfSigned(t)
	secret, err := x509.MarshalPKCS8PrivateKey(pair.PrivateKey)
	if err != nil {
		t.Fatal(err)
	}
	for file, block := range map[string]*pem.Block{cert: {Type: "CERTIFICATE", Bytes: pair.Certificate[0]}, key: {Type: "PRIVATE KEY", Bytes: secret}} {
		if err := os.WriteFile(file, pem.EncodeToMemory(block), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return pair
}

// TestBrowserTLS: by TLS the whole way works, with cookies that a browser sends only by TLS
// and only to this very host, and that end with the session.
func TestBrowserTLS(t *testing.T) {
	t.Parallel()
	o := newOffice(t, one, func(cfg *console.Config) { cfg.Site.TLS = true })
	browser := chromium(t, chromedp.Flag("ignore-certificate-errors-spki-list", o.spki))
	held := o.hold("1")
	ann, thief := o.tab(browser), o.tab(browser)
	ann.enter("ann")
	ann.sees("it is a secure page", `isSecureContext && location.protocol === "https:"`)
	ann.sees("no cookie for scripts", `document.cookie === ""`)

	ann.do(chromedp.Click("button[name=language]"), chromedp.WaitVisible("html[lang=zh-CN]"), chromedp.Click("button[name=language]"), chromedp.WaitVisible("html[lang=en]"))
	got, err := chromedp.Call(ann.ctx, network.GetCookies, network.GetCookiesParams{URLs: []string{o.server.URL}})
	if err != nil || len(got.Cookies) != 2 {
		t.Fatalf("cookies %+v, %v; want that of the session and that of the language", got.Cookies, err)
	}
	var session *network.Cookie
	for _, c := range got.Cookies {
		if !c.Secure || !c.HTTPOnly || c.SameSite != network.CookieSameSiteLax || c.Path != "/" || c.Domain != "127.0.0.1" {
			t.Errorf("the cookie %+v", c)
		}
		if c.Name == "__Host-vpcep_console" {
			session = c
		}
	}
	if session == nil {
		t.Fatalf("no cookie of the session: %+v", got.Cookies)
	}

	ann.open("/requests/" + held.Request.ID)
	ann.do(chromedp.SendKeys("#reason", "known partner"), chromedp.Click("button.yes"))
	ann.says("Your review decided the request")
	ann.open("/live")
	ann.says("Connected")

	stolen := network.SetCookieParams{Name: session.Name, Value: session.Value, URL: o.server.URL, Path: "/", Secure: new(true)}
	refusesCopies(t, ann, thief, stolen)
}
