package config

import (
	"errors"
	"fmt"
	"math"
	"net"
	"net/url"
	"slices"
	"strconv"
	"strings"

	"github.com/vpcep-approver/vpcep-approver/internal/cloud"
)

// embedded is the nats.url of a server inside the process.
const embedded = "embedded"

// setNATSURL never repeats the text in an error: it may hold a password.
func setNATSURL(c *Config, text string) error {
	if text != embedded {
		for server := range strings.SplitSeq(text, ",") {
			u, err := url.Parse(strings.TrimSpace(server))
			switch {
			case err != nil:
				return errors.New("not a URL — write nats://host:4222, or embedded")
			case u.User != nil:
				return errors.New("credentials do not belong into the URL — use APPROVER_NATS_USER and APPROVER_NATS_PASSWORD, nats.credentials_file or nats.nkey_seed_file")
			case !slices.Contains([]string{"nats", "tls", "ws", "wss"}, u.Scheme):
				return errors.New("the scheme is not one of nats, tls, ws, wss — write nats://host:4222, or embedded")
			case u.Hostname() == "":
				return errors.New("no host — write nats://host:4222, or embedded")
			}
		}
	}
	c.NATS.URL = text
	return nil
}

// setToken takes one token of a subject.
func setToken(at *string, text string) error {
	if strings.ContainsAny(text, ".*>$ \t\r\n") {
		return fmt.Errorf("%.60q is not a name without dots, blanks and wildcards", text)
	}
	*at = text
	return nil
}

func setInboxPrefix(at *string, text string) error {
	for token := range strings.SplitSeq(text, ".") {
		if token == "" || strings.ContainsAny(token, "*> \t\r\n") {
			return fmt.Errorf("%.60q is not a subject without blanks and wildcards, such as _INBOX_vpcep_worker", text)
		}
	}
	*at = text
	return nil
}

func setRegion(c *Config, text string) error {
	c.Cloud.Region = text
	return ValidRegion(text)
}

// ValidRegion checks the form of the name of a region.
func ValidRegion(text string) error {
	if strings.Trim(text, "abcdefghijklmnopqrstuvwxyz0123456789-") != "" || len(text) > 40 {
		return fmt.Errorf("%.60q is not a region such as cn-north-4", text)
	}
	return nil
}

// setEndpoint checks what it can without cloud.allow_http; see checkEndpoints.
func setEndpoint(c *Config, api, text string) error {
	u, err := url.Parse(text)
	switch {
	case err != nil || u.Opaque != "" || u.Host == "" || u.Scheme != "https" && u.Scheme != "http":
		return errors.New("not a base URL such as https://vpcep.cn-north-4.myhuaweicloud.com")
	case u.User != nil:
		return errors.New("credentials do not belong into the URL")
	case strings.Trim(u.Path, "/") != "" || u.RawQuery != "" || u.Fragment != "":
		return errors.New("a base URL ends after the host and port; the path of each call is added to it")
	}
	if c.Cloud.Endpoints == nil {
		c.Cloud.Endpoints = map[string]string{}
	}
	c.Cloud.Endpoints[api] = u.Scheme + "://" + u.Host
	return nil
}

func setRate(c *Config, text string) error {
	f, err := strconv.ParseFloat(text, 64)
	if err != nil || math.IsNaN(f) || f < 0.01 || f > 10_000 {
		return fmt.Errorf("%q is not a number from 0.01 to 10000", text)
	}
	c.Cloud.RatePerSecond = f
	return nil
}

// defaultRates are the documented limits of the APIs that have one below
// cloud.rate_per_second. HSS admits 5 calls a minute for a user and for an address.
func defaultRates() map[string]string { return map[string]string{cloud.APIHSS: "5/m"} }

func rateDoc(api string) string {
	doc := fmt.Sprintf("calls to %s, at most, such as `5/m`, `10/s` or a number a second; `4/m` to `10000/s`; default `cloud.rate_per_second`", api)
	if defaultRates()[api] != "" {
		doc = strings.Replace(doc, "default `cloud.rate_per_second`", "HSS admits 5 a minute for a user and for an address", 1)
	}
	return doc
}

// slowestRate lets a creation be looked for and sent within the time that a send
// has, 20 s.
const slowestRate = 4.0 / 60

func setAPIRate(c *Config, api, text string) error {
	number, unit, _ := strings.Cut(strings.ReplaceAll(text, " ", ""), "/")
	f, err := strconv.ParseFloat(number, 64)
	switch {
	case unit == "m" || unit == "min":
		f /= 60
	case unit != "s" && strings.Contains(text, "/"):
		err = strconv.ErrSyntax
	}
	if err != nil || math.IsNaN(f) || f < slowestRate || f > 10_000 {
		return fmt.Errorf("%.40q is not a rate from 4/m to 10000/s — write 5/m, 10/s or a number of calls a second", text)
	}
	if c.Cloud.Rates == nil {
		c.Cloud.Rates = map[string]float64{}
	}
	c.Cloud.Rates[api] = f
	return nil
}

func setAddress(at *string, text string) error {
	_, port, err := net.SplitHostPort(text)
	if err == nil {
		_, err = strconv.ParseUint(port, 10, 16)
	}
	if err != nil {
		return fmt.Errorf("%q is not host:port, such as 127.0.0.1:9090 or :9090", text)
	}
	*at = text
	return nil
}

// loopback reports whether host, of a URL, is this machine.
func loopback(host string) bool {
	ip := net.ParseIP(host)
	return host == "localhost" || ip != nil && ip.IsLoopback()
}

// maskURL hides what may be a password in a URL.
func maskURL(text string) string {
	if i := strings.LastIndexByte(text, '@'); i >= 0 {
		if scheme, _, ok := strings.Cut(text[:i], "://"); ok {
			return scheme + "://…" + text[i:]
		}
		return "…" + text[i:]
	}
	return text
}
