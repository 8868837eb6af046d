package config

import (
	"fmt"
	"net"
	"net/url"
	"strings"

	"github.com/vpcep-approver/vpcep-approver/internal/cli"
	"github.com/vpcep-approver/vpcep-approver/internal/cloud"
	"github.com/vpcep-approver/vpcep-approver/internal/events"
	"github.com/vpcep-approver/vpcep-approver/internal/events/broker"
)

// check looks at what depends on one another.
func (l *loader) check() {
	c := &l.config
	set := func(key string) bool { return c.values[key].text != "" }

	c.NATS.User = l.natsUser()
	ways := 0
	for _, on := range []bool{set("nats.credentials_file"), set("nats.nkey_seed_file"), c.NATS.User != nil} {
		if on {
			ways++
		}
	}
	if ways > 1 {
		l.problem("nats", "more than one way to authenticate", "keep one of nats.credentials_file, nats.nkey_seed_file, and user with password")
	}
	if set("nats.tls.cert") != set("nats.tls.key") {
		l.problem("nats.tls", "cert and key go together", "set both or neither")
	}
	if c.NATS.Embedded() {
		if ways > 0 && c.NATS.User == nil {
			l.problemAt(c.values["nats.url"], "the embedded server knows a user with password only", "remove the credentials, or name a server")
		}
		if c.NATS.User != nil {
			if user, _, err := c.NATS.User(); err == nil && user == broker.ProducerUser {
				l.problem("nats", fmt.Sprintf("the embedded server has a user %s of its own, who may only publish requests", user), "give the worker another name")
			}
		}
		if host, _, err := net.SplitHostPort(c.NATS.Listen); err == nil && !loopback(host) && !c.NATS.AllowPlaintext {
			l.problemAt(c.values["nats.listen"], "passwords would cross the network in clear", "listen on 127.0.0.1, run a server of its own with TLS, or set nats.allow_plaintext: true")
		}
		if c.NATS.Replicas > 1 {
			l.problemAt(c.values["nats.replicas"], "the embedded server is alone", "set nats.replicas to 1, or name a cluster")
		}
	}
	bus := events.Config{URL: c.NATS.URL, TLSCA: c.NATS.TLS.CA, TLSCert: c.NATS.TLS.Cert, TLSFirst: c.NATS.TLS.First}
	if hosts := bus.Plaintext(); len(hosts) > 0 && !c.NATS.Embedded() && !c.NATS.AllowPlaintext {
		l.problemAt(c.values["nats.url"], strings.Join(hosts, ", ")+" would be without TLS: passwords and events would cross the network in clear", "write tls://, or set nats.allow_plaintext: true")
	}
	if _, port, err := net.SplitHostPort(c.HTTP.Probes); err == nil && port != "0" && c.HTTP.Probes == c.HTTP.Listen {
		l.problemAt(c.values["http.probes"], "http.listen has the same address", "give each a port of its own")
	}
	l.checkConsole()
	l.checkFound()
	for _, api := range cloud.APIs() {
		u, err := url.Parse(c.Cloud.Endpoints[api])
		if err == nil && u.Scheme == "http" && !c.Cloud.AllowHTTP && !loopback(u.Hostname()) {
			l.problemAt(c.values["cloud.endpoints."+api], "plain HTTP would send credentials in clear", "use https, or set cloud.allow_http: true for a simulated cloud")
		}
	}
	if c.Worker.ConfirmFor > c.Worker.MaxAge {
		if v := c.values["worker.confirm_for"]; v.source == "default" {
			c.Worker.ConfirmFor = c.Worker.MaxAge
			v.text = cli.ShortDuration(c.Worker.MaxAge)
			c.values["worker.confirm_for"] = v
		} else {
			l.problemAt(v, fmt.Sprintf("worker.confirm_for (%s) is longer than worker.max_age (%s): a request would end before it is confirmed",
				cli.ShortDuration(c.Worker.ConfirmFor), cli.ShortDuration(c.Worker.MaxAge)), "lower the one or raise the other")
		}
	}
	for i := range c.Targets {
		c.Targets[i].Region = c.Cloud.Region
	}
	secrets := l.secrets()
	for _, s := range l.rows {
		for _, name := range s.vars {
			if _, err := secrets.lookup(name); err != nil && strings.HasPrefix(name, envPrefix) {
				l.problem(name, err.Error(), "")
			}
		}
	}
	mode := c.Cloud.AuthMode
	c.Cloud.Credentials = func() (cloud.Credentials, error) { return readCredentials(secrets, mode) }
}

// checkFound refuses what a file says that nobody named, if a secret would go
// where it says: it may lie in the folder by accident, or for a reason.
func (l *loader) checkFound() {
	c := &l.config
	if !c.Found {
		return
	}
	ask := "if that is meant, name the file: --config " + c.File
	for _, api := range cloud.APIs() {
		v := c.values["cloud.endpoints."+api]
		if v.source == "file" && !ofProvider(c.Cloud.Endpoints[api]) {
			l.problemAt(v, fmt.Sprintf("cloud.endpoints.%s: credentials would go to another domain than the provider's, by a file that was only found in the current folder", api), ask)
		}
	}
	if v := c.values["nats.url"]; v.source == "file" && c.NATS.User != nil && !c.NATS.Embedded() {
		l.problemAt(v, "nats.url: the password in the environment would go where a file says that was only found in the current folder", ask)
	}
}

// ofProvider reports whether base is of a domain of the provider's, with TLS.
func ofProvider(base string) bool {
	u, err := url.Parse(base)
	if err != nil || u.Scheme != "https" {
		return false
	}
	host := "." + strings.ToLower(u.Hostname())
	return strings.HasSuffix(host, ".myhuaweicloud.com") || strings.HasSuffix(host, ".myhuaweicloud.eu")
}
