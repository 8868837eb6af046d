package events

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/jwt/v2"
	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nkeys"

	"github.com/vpcep-approver/vpcep-approver/internal/natstest"
)

// nkeyServer is a server that lets in the holder of one key.
func nkeyServer(t *testing.T, public string) *server.Server {
	t.Helper()
	srv, err := server.NewServer(&server.Options{
		Host: "127.0.0.1", Port: server.RANDOM_PORT, NoSigs: true, NoLog: true,
		Nkeys: []*server.NkeyUser{{Nkey: public}},
	})
	if err != nil {
		t.Fatal(err)
	}
	srv.Start()
	t.Cleanup(func() { srv.Shutdown(); srv.WaitForShutdown() })
	if !srv.ReadyForConnections(natstest.Hang) {
		t.Fatal("the server is not ready")
	}
	return srv
}

func seed(t *testing.T, file string) (public string) {
	t.Helper()
	kp, err := nkeys.CreateUser()
	if err != nil {
		t.Fatal(err)
	}
	text, err := kp.Seed()
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(file, append(text, '\n'), 0o600); err != nil {
		t.Fatal(err)
	}
	if public, err = kp.PublicKey(); err != nil {
		t.Fatal(err)
	}
	return public
}

func TestNKeySeedFile(t *testing.T) {
	t.Parallel()
	file := filepath.Join(t.TempDir(), "user.seed")
	public := seed(t, file)
	srv, seen := nkeyServer(t, public), newWatcher()
	b, err := Connect(t.Context(), Config{URL: srv.ClientURL(), NKeySeedFile: file, Observer: seen, ReconnectWait: 10 * time.Millisecond})
	if err != nil {
		t.Fatal(err)
	}
	if err := b.nc.ForceReconnect(); err != nil {
		t.Fatal(err)
	}
	seen.atLeast(t, "reconnected", 1)
	if err := b.Close(); err != nil {
		t.Error(err)
	}

	other := seed(t, file)
	if _, err := Connect(t.Context(), Config{URL: srv.ClientURL(), NKeySeedFile: file}); err == nil || strings.Contains(err.Error(), other) {
		t.Errorf("connected with another key, or told it: %v", err)
	}
	if err := os.WriteFile(file, []byte("SUnothing"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := Connect(t.Context(), Config{URL: srv.ClientURL(), NKeySeedFile: file}); err == nil || strings.Contains(err.Error(), "SUnothing") {
		t.Errorf("connected with no key, or told the file's text: %v", err)
	}
}

// issuer makes short-lived credentials, as an operator's tools do.
type issuer struct {
	t       *testing.T
	account nkeys.KeyPair
	user    nkeys.KeyPair
	file    string
}

// write writes credentials that are good for life.
func (i *issuer) write(life time.Duration) {
	i.t.Helper()
	public, err := i.user.PublicKey()
	if err != nil {
		i.t.Fatal(err)
	}
	claims := jwt.NewUserClaims(public)
	claims.Expires = time.Now().Add(life).Unix()
	token, err := claims.Encode(i.account)
	if err != nil {
		i.t.Fatal(err)
	}
	seed, err := i.user.Seed()
	if err != nil {
		i.t.Fatal(err)
	}
	text, err := jwt.FormatUserConfig(token, seed)
	if err != nil {
		i.t.Fatal(err)
	}
	// Replaced as a whole, as a mounted secret is.
	if err := os.WriteFile(i.file+".new", text, 0o600); err != nil {
		i.t.Fatal(err)
	}
	if err := os.Rename(i.file+".new", i.file); err != nil {
		i.t.Fatal(err)
	}
}

func newIssuer(t *testing.T) (*issuer, *server.Server) {
	t.Helper()
	pair := func(kp nkeys.KeyPair, err error) (nkeys.KeyPair, string) {
		if err != nil {
			t.Fatal(err)
		}
		public, err := kp.PublicKey()
		if err != nil {
			t.Fatal(err)
		}
		return kp, public
	}
	operator, operatorKey := pair(nkeys.CreateOperator())
	account, accountKey := pair(nkeys.CreateAccount())
	user, _ := pair(nkeys.CreateUser())
	token, err := jwt.NewAccountClaims(accountKey).Encode(operator)
	if err != nil {
		t.Fatal(err)
	}
	resolver := &server.MemAccResolver{}
	if err := resolver.Store(accountKey, token); err != nil {
		t.Fatal(err)
	}
	oc := jwt.NewOperatorClaims(operatorKey)
	signed, err := oc.Encode(operator)
	if err != nil {
		t.Fatal(err)
	}
	if oc, err = jwt.DecodeOperatorClaims(signed); err != nil {
		t.Fatal(err)
	}
	srv, err := server.NewServer(&server.Options{
		Host: "127.0.0.1", Port: server.RANDOM_PORT, NoSigs: true, NoLog: true,
		TrustedOperators: []*jwt.OperatorClaims{oc}, AccountResolver: resolver,
	})
	if err != nil {
		t.Fatal(err)
	}
	srv.Start()
	t.Cleanup(func() { srv.Shutdown(); srv.WaitForShutdown() })
	if !srv.ReadyForConnections(natstest.Hang) {
		t.Fatal("the server is not ready")
	}
	return &issuer{t: t, account: account, user: user, file: filepath.Join(t.TempDir(), "user.creds")}, srv
}

// TestCredentialsThatExpire lets credentials run out, renewed in time and late.
func TestCredentialsThatExpire(t *testing.T) {
	t.Parallel()
	keys, srv := newIssuer(t)
	seen := newWatcher()
	keys.write(2 * time.Second)
	b, err := Connect(t.Context(), Config{URL: srv.ClientURL(), CredentialsFile: keys.file, Observer: seen, ReconnectWait: 10 * time.Millisecond})
	if err != nil {
		t.Fatal(err)
	}
	keys.write(5 * time.Second) // in time: the next connect reads them
	seen.atLeast(t, "reconnected", 1)
	// Late: it is refused again and again, and does not give up.
	seen.exactly(t, "connected", 0)
	before := clients(t, srv)
	eventually(t, "it came often and was refused", func() bool { return clients(t, srv) >= before+5 && !b.nc.IsConnected() })
	keys.write(time.Hour)
	seen.exactly(t, "connected", 1)
	if err := b.Close(); err != nil {
		t.Error(err)
	}
}

// clients is how many clients the server has seen come.
func clients(t *testing.T, srv *server.Server) uint64 {
	t.Helper()
	v, err := srv.Varz(nil)
	if err != nil {
		t.Fatal(err)
	}
	return v.TotalConnections
}
