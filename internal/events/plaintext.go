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

// Plaintext returns the addresses of other hosts to which a connection would not
// be encrypted: whoever stands in between reads the password, and can write into
// the ledger as the worker, also if it logs in by a key that is never sent.
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

// demandsTLS reports whether the client library goes on with no server that does
// not speak TLS, also with those that it learns of later.
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

// loopback reports whether host, of a URL, is this machine.
func loopback(host string) bool {
	ip, err := netip.ParseAddr(host)
	return host == "localhost" || err == nil && ip.Unmap().IsLoopback()
}

// encrypted is the option that keeps a connection without TLS on this machine,
// also when a server names others of its cluster.
func (c Config) encrypted() ([]nats.Option, error) {
	if c.AllowPlaintext || c.InProcess != nil || c.demandsTLS() {
		return nil, nil
	}
	if hosts := c.Plaintext(); len(hosts) > 0 {
		return nil, fmt.Errorf("%s is not encrypted and not on this machine; write tls://, or set nats.allow_plaintext: true", strings.Join(hosts, ","))
	}
	return []nats.Option{nats.SetCustomDialer(&net.Dialer{Timeout: connectWithin, Control: onlyLoopback})}, nil
}

func onlyLoopback(_, address string, _ syscall.RawConn) error {
	host, err := netip.ParseAddrPort(address)
	if err != nil || !host.Addr().Unmap().IsLoopback() {
		return errors.New("the connection would not be encrypted, and leave this machine; write tls://, or set nats.allow_plaintext: true")
	}
	return nil
}
