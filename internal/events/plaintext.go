package events

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"net/url"
	"strings"
	"syscall"

	"github.com/nats-io/nats.go"
)

// Plaintext returns the addresses of other hosts to which a connection would not be
// encrypted. On such a connection an attacker can read the password, and can write to
// the ledger as the worker even if it logs in with a key that is never sent.
func (c Config) Plaintext() []string {
	var out []string
	if c.InProcess != nil || c.demandsTLS() {
		return nil
	}
	for server := range strings.SplitSeq(c.URL, ",") {
		u, err := url.Parse(strings.TrimSpace(server))
		if err == nil && (u.Scheme == "nats" || u.Scheme == "ws" || u.Scheme == "") && !loopback(u.Hostname()) {
			out = append(out, redacted(server))
		}
	}
	return out
}

// demandsTLS reports whether the client library refuses servers without TLS, including
// those that it learns of later.
func (c Config) demandsTLS() bool {
	if c.TLSCA != "" || c.TLSCert != "" || c.TLSFirst {
		return true
	}
	for server := range strings.SplitSeq(c.URL, ",") {
		u, err := url.Parse(strings.TrimSpace(server))
		if err == nil && (u.Scheme == "tls" || u.Scheme == "wss") {
			return true
		}
	}
	return false
}

// loopback reports whether the host of a URL is this machine.
func loopback(host string) bool {
	ip, err := netip.ParseAddr(host)
	return host == "localhost" || err == nil && ip.Unmap().IsLoopback()
}

// encrypted returns the option that restricts connections without TLS to this machine,
// even when a server announces others of its cluster.
func (c Config) encrypted() ([]nats.Option, error) {
	if c.AllowPlaintext || c.InProcess != nil || c.demandsTLS() {
		return nil, nil
	}
	if hosts := c.Plaintext(); len(hosts) > 0 {
		return nil, fmt.Errorf("the connection to %s would not be encrypted; use tls://, or set nats.allow_plaintext: true", strings.Join(hosts, ","))
	}
	return []nats.Option{nats.SetCustomDialer(&net.Dialer{Timeout: connectWithin, Control: onlyLoopback})}, nil
}

func onlyLoopback(_, address string, _ syscall.RawConn) error {
	host, err := netip.ParseAddrPort(address)
	if err != nil || !host.Addr().Unmap().IsLoopback() {
		return errors.New("the connection would leave this machine unencrypted; use tls://, or set nats.allow_plaintext: true")
	}
	return nil
}
