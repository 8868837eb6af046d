package natstest

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/vpcep-approver/vpcep-approver/internal/events/broker"
)

// externalVariable names a nats-server program, such as that of an older version,
// which Start and StartWith run instead of the server inside the process.
const externalVariable = "APPROVER_TEST_NATS_SERVER"

// External returns the program that is run instead of the server inside the
// process; empty: none.
func External() string { return os.Getenv(externalVariable) }

// NeedsCurrentServer skips a test of what an older server does not have.
func NeedsCurrentServer(t testing.TB) {
	t.Helper()
	if External() != "" {
		t.Skip("the server of " + externalVariable + " may not have it")
	}
}

// runner is a server that runs.
type runner interface {
	URL() string
	InProcessConn() (net.Conn, error)
	Shutdown()
}

// external is a server in a process of its own.
type external struct {
	cmd   *exec.Cmd
	url   string
	ended chan struct{}
}

func startExternal(program string, o broker.Options) (*external, error) {
	ports, err := os.MkdirTemp("", "natstest-")
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(ports) //nolint:errcheck // it is in the folder for temporary files
	host, port, err := net.SplitHostPort(o.Listen)
	if err != nil {
		return nil, err
	}
	if port == "0" {
		port = "-1"
	}
	js := map[string]any{"store_dir": o.Dir}
	if o.SyncAlways {
		js["sync_interval"] = "always"
	}
	if o.MaxStore > 0 {
		js["max_file_store"] = o.MaxStore
	}
	config := map[string]any{"host": host, "port": json.Number(port), "jetstream": js, "ports_file_dir": ports, "server_name": "vpcep-approver"}
	if o.MaxPayload > 0 {
		config["max_payload"] = o.MaxPayload
	}
	var users []any
	for _, u := range o.Users {
		user := map[string]any{"user": u.Name, "password": u.Password}
		if len(u.Publish) > 0 {
			user["permissions"] = map[string]any{"publish": map[string]any{"allow": u.Publish, "deny": u.DenyPublish}, "subscribe": u.Subscribe}
		}
		users = append(users, user)
	}
	if users != nil {
		config["authorization"] = map[string]any{"users": users}
	}
	text, err := json.Marshal(config) // which the server reads, too
	if err != nil {
		return nil, err
	}
	file := filepath.Join(ports, "nats.conf")
	if err := os.WriteFile(file, text, 0o600); err != nil {
		return nil, err
	}
	cmd := exec.CommandContext(context.Background(), program, "-c", file) //nolint:gosec // the person who runs the tests names the program
	stderr, err := cmd.StderrPipe()
	if err != nil {
		return nil, err
	}
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	e := &external{cmd: cmd, ended: make(chan struct{})}
	go func() {
		defer close(e.ended)
		for lines := bufio.NewScanner(stderr); lines.Scan(); {
			if line := lines.Text(); strings.Contains(line, "[ERR]") || strings.Contains(line, "[WRN]") || strings.Contains(line, "[FTL]") {
				o.Log.Warn().Msg(line)
			}
		}
		_ = cmd.Wait() // how it ended is in its log
	}()
	if e.url, err = readPorts(filepath.Join(ports, filepath.Base(program)+"_"+strconv.Itoa(cmd.Process.Pid)+".ports"), e.ended); err != nil {
		e.Shutdown()
		return nil, fmt.Errorf("start %s: %w", program, err)
	}
	return e, nil
}

// readPorts waits for the file in which a server says where it listens.
func readPorts(name string, ended <-chan struct{}) (string, error) {
	again := time.NewTicker(10 * time.Millisecond)
	defer again.Stop()
	for end := time.Now().Add(time.Minute); time.Now().Before(end); {
		var ports struct {
			NATS []string `json:"nats"`
		}
		data, err := os.ReadFile(name) //nolint:gosec // in a temporary folder of this process
		if err == nil && json.Unmarshal(data, &ports) == nil && len(ports.NATS) > 0 {
			return ports.NATS[0], nil
		}
		select {
		case <-ended:
			return "", errors.New("it ended")
		case <-again.C:
		}
	}
	return "", errors.New("it does not say where it listens")
}

func (e *external) URL() string { return e.url }

func (e *external) InProcessConn() (net.Conn, error) {
	return (&net.Dialer{}).DialContext(context.Background(), "tcp", strings.TrimPrefix(e.url, "nats://"))
}

func (e *external) Shutdown() {
	_ = e.cmd.Process.Signal(syscall.SIGTERM) // it may have ended
	select {
	case <-e.ended:
	case <-time.After(time.Minute):
		_ = e.cmd.Process.Kill()
		<-e.ended
	}
}
