package main

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/vpcep-approver/vpcep-approver/internal/cli"
	"github.com/vpcep-approver/vpcep-approver/internal/demo"
)

// startSimulate runs `worker simulate` with these arguments and returns its URL
// and a function that ends it.
func startSimulate(t *testing.T, args ...string) (url string, stop func() error) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	reader, writer := io.Pipe()
	c := newSimulateCommand()
	c.SetArgs(args)
	c.SetOut(writer)
	ended := make(chan error, 1)
	go func() {
		err := c.ExecuteContext(ctx)
		writer.CloseWithError(io.EOF)
		ended <- err
	}()
	lines := bufio.NewReader(reader)
	first, err := lines.ReadString('\n')
	if err != nil {
		cancel()
		t.Fatalf("no line was printed: %v (%v)", err, <-ended)
	}
	go func() { _, _ = io.Copy(io.Discard, lines) }() // it ends with the command
	return strings.TrimSpace(strings.TrimPrefix(first, "simulated cloud: ")), func() error {
		cancel()
		return <-ended
	}
}

func TestSimulateServesAndStops(t *testing.T) {
	t.Parallel()
	url, stop := startSimulate(t, "--faults", "none", "--admin")
	path := "/v1/" + demo.Project + "/vpc-endpoint-services/" + demo.Service + "/connections"
	for _, tt := range []struct {
		path string
		want int
	}{{path, http.StatusUnauthorized}, {"/_sim/state", http.StatusOK}, {"/nowhere", http.StatusNotFound}} {
		r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, url+tt.path, nil)
		if err != nil {
			t.Fatal(err)
		}
		resp, err := http.DefaultClient.Do(r)
		if err != nil {
			t.Fatal(err)
		}
		if err := resp.Body.Close(); err != nil {
			t.Error(err)
		}
		if resp.StatusCode != tt.want {
			t.Errorf("GET %s: %d, want %d", tt.path, resp.StatusCode, tt.want)
		}
	}
	if err := stop(); err != nil {
		t.Errorf("after the end was asked for: %v, want nil", err)
	}
}

func TestSimulateScript(t *testing.T) {
	t.Parallel()
	name := filepath.Join(t.TempDir(), "cloud.yaml")
	text := `
region: cn-east-3
delays: {create: 1ms, accept: 1.5s}
services: [{id: ` + demo.Service + `, name: ledger, project_id: ` + demo.Project + `, approval: true}]
connections: [{target: ` + demo.Service + `, id: 705290f3-0d00-41f2-aedc-71f09844e879, after: 1h}]
faults: ["vpcep:throttle-400:count=3,after=10s"]
`
	if err := os.WriteFile(name, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	url, stop := startSimulate(t, "--script", name, "--admin", "--faults", "none")
	for path, want := range map[string]string{"/_sim/state": `"name":"ledger"`, "/_sim/faults": `"kind":"throttle-400","count":3,"after":"10s"`} {
		r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, url+path, nil)
		if err != nil {
			t.Fatal(err)
		}
		resp, err := http.DefaultClient.Do(r)
		if err != nil {
			t.Fatal(err)
		}
		body, err := io.ReadAll(resp.Body)
		if err := errors.Join(err, resp.Body.Close()); err != nil {
			t.Error(err)
		}
		if !bytes.Contains(body, []byte(want)) {
			t.Errorf("GET %s: %s, want it to hold %s", path, body, want)
		}
	}
	if err := stop(); err != nil {
		t.Error(err)
	}
}

func TestSimulateExplains(t *testing.T) {
	t.Parallel()
	var out bytes.Buffer
	s := &simulation{listen: "127.0.0.1:0", preset: "none"}
	s.auth.AccessKey, s.auth.SecretKey = "AK1", "SK1"
	s.cfg.Admin = true
	if err := errors.Join(s.check(), s.explain(&out, &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1), Port: 8440}, demo.Script())); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{
		"simulated cloud: http://127.0.0.1:8440\n",
		"HUAWEICLOUD_SDK_AK=AK1 HUAWEICLOUD_SDK_SK=SK1",
		"    dataartsinsight: http://127.0.0.1:8440\n",
		"{name: payments, kind: service, id: " + demo.Service,
		"curl -d '{\"target\": \"" + demo.Service,
	} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("it does not print %q:\n%s", want, out.String())
		}
	}
}

func TestSimulateRefuses(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	file := func(name, text string) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	tests := []struct {
		name string
		args []string
		code int
		want string
	}{
		{"fault without a kind", []string{"--fault", "vpcep"}, cli.ExitUsage, `--fault "vpcep" has no kind; the format is`},
		{"fault of no API", []string{"--fault", "vpc:slow"}, cli.ExitUsage, `unknown API "vpc"; use one of vpcep, apig`},
		{"fault of no kind", []string{"--fault", "*:sloww"}, cli.ExitUsage, `unknown kind "sloww"; use one of throttle-429`},
		{"latency below zero", []string{"--latency", "-1s"}, cli.ExitUsage, "--latency -1s"},
		{"address without a port", []string{"--listen", "localhost"}, cli.ExitUsage, `--listen "localhost": not an address with a port`},
		{"address of nobody", []string{"--listen", "192.0.2.1:1"}, cli.ExitFailed, "choose another port"},
		{"no secret key", []string{"--secret-key", ""}, cli.ExitUsage, "--access-key and --secret-key: must not be empty"},
		{"script that is not there", []string{"--script", filepath.Join(dir, "none.yaml")}, cli.ExitInvalid, "none.yaml"},
		{"script with an unknown key", []string{"--script", file("a.yaml", "service: []\n")}, cli.ExitInvalid, "service"},
		{"script with a target of nobody", []string{"--script", file("b.yaml", "connections: [{target: x}]\n")}, cli.ExitInvalid, `connections[0]: target "x"`},
		{"script with a bad fault", []string{"--script", file("c.yaml", "faults: ['*:x']\n")}, cli.ExitInvalid, `faults[0]: "*:x": unknown kind "x"`},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			c := newSimulateCommand()
			c.SilenceErrors, c.SilenceUsage = true, true
			c.SetArgs(tt.args)
			c.SetOut(io.Discard)
			err := c.ExecuteContext(t.Context())
			e, ok := errors.AsType[*cli.ExitError](err)
			if !ok || e.Code != tt.code || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("error %v, want code %d and %q in it", err, tt.code, tt.want)
			}
		})
	}
}
