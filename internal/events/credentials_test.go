package events

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nkeys"
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
	if !srv.ReadyForConnections(10 * time.Second) {
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
