package broker_test

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/rs/zerolog"

	"github.com/vpcep-approver/vpcep-approver/internal/events/broker"
)

func TestKeepsItsStreams(t *testing.T) {
	t.Parallel()
	opts := broker.Options{Dir: t.TempDir(), Listen: "127.0.0.1:0", SyncAlways: true, MaxStore: 64 << 20}
	for _, want := range []uint64{1, 2} {
		s, err := broker.Start(opts)
		if err != nil {
			t.Fatal(err)
		}
		nc, err := nats.Connect(s.URL())
		if err != nil {
			t.Fatal(err)
		}
		js, err := jetstream.New(nc)
		if err != nil {
			t.Fatal(err)
		}
		kv, err := js.CreateOrUpdateKeyValue(t.Context(), jetstream.KeyValueConfig{Bucket: "b"})
		if err != nil {
			t.Fatal(err)
		}
		rev, err := kv.Put(t.Context(), "k", []byte("v"))
		if err != nil || rev != want {
			t.Errorf("stored as revision %d, %v, want %d", rev, err, want)
		}
		nc.Close()
		s.Shutdown()
		s.Shutdown() // again is nothing
	}
}

func TestStartSaysWhatIsWrong(t *testing.T) {
	t.Parallel()
	file := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	taken, err := broker.Start(broker.Options{Dir: t.TempDir(), Listen: "127.0.0.1:0"})
	if err != nil {
		t.Fatal(err)
	}
	defer taken.Shutdown()
	tests := []struct {
		name string
		opts broker.Options
		want string
	}{
		{"no folder", broker.Options{}, "directory"},
		{"a file for a folder", broker.Options{Dir: file}, file},
		{"no address", broker.Options{Dir: t.TempDir(), Listen: "nowhere"}, `"nowhere"`},
		{"no port", broker.Options{Dir: t.TempDir(), Listen: "127.0.0.1:http"}, "the port is no number"},
		{"an address that is taken", broker.Options{Dir: t.TempDir(), Listen: strings.TrimPrefix(taken.URL(), "nats://")}, "address already in use"},
	}
	for _, tt := range tests {
		s, err := broker.Start(tt.opts)
		if err == nil {
			s.Shutdown()
		}
		if err == nil || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%s: %v, want %q in it", tt.name, err, tt.want)
		}
	}
}

func TestPassword(t *testing.T) {
	t.Parallel()
	var log bytes.Buffer
	s, err := broker.Start(broker.Options{Dir: t.TempDir(), Listen: "127.0.0.1:0", Users: []broker.User{{Name: "u", Password: "secret"}}, Log: zerolog.New(&log)})
	if err != nil {
		t.Fatal(err)
	}
	if nc, err := nats.Connect(s.URL()); err == nil {
		nc.Close()
		t.Error("connected without a password")
	}
	nc, err := nats.Connect(s.URL(), nats.UserInfo("u", "secret"))
	if err != nil {
		t.Fatal(err)
	}
	nc.Close()
	s.Shutdown()
	if !strings.Contains(log.String(), "authentication error") || strings.Contains(log.String(), "secret") {
		t.Errorf("logged:\n%s", log.String())
	}
}

func TestAFolderHasOneServer(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	if locked, err := broker.Locked(dir); locked || err != nil {
		t.Errorf("before the start: %t, %v", locked, err)
	}
	first, err := broker.Start(broker.Options{Dir: dir})
	if err != nil {
		t.Fatal(err)
	}
	if locked, err := broker.Locked(dir); !locked || err != nil {
		t.Errorf("while it runs: %t, %v", locked, err)
	}
	link := filepath.Join(t.TempDir(), "link")
	if err := os.Symlink(dir, link); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{dir, link} {
		second, err := broker.Start(broker.Options{Dir: name})
		if err == nil {
			second.Shutdown()
		}
		if pid := strconv.Itoa(os.Getpid()); !errors.Is(err, broker.ErrLocked) || !strings.Contains(err.Error(), name) || !strings.Contains(err.Error(), pid) {
			t.Errorf("the second in %s: %v", name, err)
		}
	}
	first.Shutdown()
	if locked, err := broker.Locked(dir); locked || err != nil {
		t.Errorf("after the end: %t, %v", locked, err)
	}
	again, err := broker.Start(broker.Options{Dir: dir})
	if err != nil {
		t.Fatal(err)
	}
	again.Shutdown()
}

func TestOwnPasswords(t *testing.T) {
	t.Parallel()
	var log bytes.Buffer
	dir := filepath.Join(t.TempDir(), "new")
	opts := broker.Options{Dir: dir, Listen: "127.0.0.1:0", Log: zerolog.New(&log), Users: []broker.User{
		{Name: broker.WorkerUser},
		{Name: broker.ProducerUser, Publish: []string{"in.>"}, DenyPublish: []string{"in.not"}, Subscribe: []string{"_INBOX.>"}},
	}}
	seen := map[string]string{}
	start := func(made bool) {
		t.Helper()
		log.Reset()
		s, err := broker.Start(opts)
		if err != nil {
			t.Fatal(err)
		}
		defer s.Shutdown()
		if nc, err := nats.Connect(s.URL()); err == nil {
			nc.Close()
			t.Error("connected without a password")
		}
		for _, user := range opts.Users {
			password, err := broker.ReadPassword(dir, user.Name)
			if err != nil {
				t.Fatal(err)
			}
			info, err := os.Stat(broker.PasswordFile(dir, user.Name))
			if err != nil || info.Mode().Perm() != 0o600 {
				t.Errorf("the file of %s: %v, %v", user.Name, info, err)
			}
			if len(password) < 20 || (seen[user.Name] != password) != made {
				t.Errorf("the password of %s has %d characters; created again: %t, want %t", user.Name, len(password), seen[user.Name] != password, made)
			}
			seen[user.Name] = password
			nc, err := nats.Connect(s.URL(), nats.UserInfo(user.Name, password))
			if err != nil {
				t.Fatal(err)
			}
			nc.Close()
			if strings.Contains(log.String(), password) {
				t.Error("a password is in the log")
			}
		}
		if seen[broker.WorkerUser] == seen[broker.ProducerUser] {
			t.Error("both have one password")
		}
	}
	start(true)
	start(false)
	for _, user := range opts.Users { // others may have read them
		if err := os.Chmod(broker.PasswordFile(dir, user.Name), 0o640); err != nil {
			t.Fatal(err)
		}
	}
	start(true)
	name := broker.PasswordFile(dir, broker.WorkerUser)
	for what, prepare := range map[string]func() error{
		"empty":  func() error { return os.WriteFile(name, nil, 0o600) },
		"a link": func() error { return errors.Join(os.Remove(name), os.Symlink("/etc/hostname", name)) },
	} {
		if err := prepare(); err != nil {
			t.Fatal(err)
		}
		s, err := broker.Start(opts)
		if err == nil {
			s.Shutdown()
		}
		if err == nil || !strings.Contains(err.Error(), name) {
			t.Errorf("%s: %v", what, err)
		}
		if err := os.Remove(name); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(name, nil, 0o600); err != nil {
			t.Fatal(err)
		}
	}
}
