package service

import (
	"net"
	"path/filepath"
	"testing"

	"github.com/coreos/go-systemd/v22/daemon"
	"github.com/rs/zerolog"
)

// TestSystemdIsNotified listens where systemd does.
func TestSystemdIsNotified(t *testing.T) {
	socket, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: filepath.Join(t.TempDir(), "notify"), Net: "unixgram"})
	if err != nil {
		t.Fatal(err)
	}
	defer socket.Close() //nolint:errcheck // a test's socket
	t.Setenv("NOTIFY_SOCKET", socket.LocalAddr().String())
	for _, state := range []string{daemon.SdNotifyReady, daemon.SdNotifyStopping} {
		notify(zerolog.Nop(), state)
		got := make([]byte, 100)
		n, err := socket.Read(got)
		if err != nil || string(got[:n]) != state {
			t.Errorf("systemd gets %q, %v; want %q", got[:n], err, state)
		}
	}
}
