package config

import (
	"errors"
	"fmt"
	"net/netip"
	"net/url"
	"strings"

	"github.com/vpcep-approver/vpcep-approver/internal/cli"
)

// setSite takes the address of a site, without a path.
func setSite(at *string, text string) error {
	u, err := url.Parse(text)
	if err != nil || u.Host == "" || u.Scheme != "https" && u.Scheme != "http" || u.User != nil || strings.Trim(u.Path, "/") != "" || u.RawQuery != "" || u.Fragment != "" {
		return errors.New("not the address of a site such as https://console.example.org, without a path")
	}
	*at = strings.TrimSuffix(text, "/")
	return nil
}

// TraceID is what stands for the id of a trace in console.trace_url.
const TraceID = "{trace_id}"

// setTraceURL takes the address of a trace with TraceID in it, behind the host.
func setTraceURL(at *string, text string) error {
	u, err := url.Parse(text)
	if err != nil || u.Host == "" || strings.ContainsAny(u.Host, "{}") || u.Scheme != "https" && u.Scheme != "http" || u.User != nil || !strings.Contains(text, TraceID) {
		return errors.New("not an http or https address with {trace_id} in it, such as https://traces.example.org/trace/{trace_id}")
	}
	*at = text
	return nil
}

// setIssuer takes the address of a provider, which is compared to the letter.
func setIssuer(at *string, text string) error {
	u, err := url.Parse(text)
	if err != nil || u.Host == "" || u.User != nil || u.RawQuery != "" || u.Fragment != "" || u.Scheme != "https" && (u.Scheme != "http" || !loopback(u.Hostname())) {
		return errors.New("not the https address of a provider such as https://id.example.org")
	}
	*at = text
	return nil
}

// setHeader takes the name of a header that only a proxy has a reason to set.
func setHeader(at *string, text string) error {
	const letters = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-"
	if strings.Trim(text, letters) != "" {
		return fmt.Errorf("%.60q is not the name of a header such as X-Forwarded-Email", text)
	}
	*at = text
	return nil
}

// setPrefixes takes addresses and networks, separated by commas.
func setPrefixes(at *[]netip.Prefix, text string) error {
	var out []netip.Prefix
	for part := range strings.SplitSeq(text, ",") {
		part = strings.TrimSpace(part)
		network, err := netip.ParsePrefix(part)
		if ip, alone := netip.ParseAddr(part); alone == nil {
			network, err = netip.PrefixFrom(ip, ip.BitLen()), nil
		}
		if err != nil {
			return fmt.Errorf("%.60q is neither an address nor a network such as 10.0.0.0/8", part)
		}
		if network.Bits() == 0 {
			return fmt.Errorf("%.60q is everybody, who could then say to be anybody; name the addresses of the proxy", part)
		}
		out = append(out, network.Masked())
	}
	*at = out
	return nil
}

// checkConsole looks at what goes together.
func (l *loader) checkConsole() {
	set := func(key string) bool { return l.config.values[key].text != "" }
	if set("console.tls.cert") != set("console.tls.key") {
		l.problem("console.tls", "cert and key go together", "set both or neither")
	}
	if set("console.oidc.issuer") != set("console.oidc.client_id") {
		l.problem("console.oidc", "issuer and client_id go together", "set both or neither")
	}
	secrets := l.secrets()
	l.config.Console.OIDC.ClientSecret = func() (string, error) {
		got, err := secrets.pick([]string{"console.oidc.client_secret"})
		if err != nil {
			return "", cli.WithCode(cli.ExitInvalid, fmt.Errorf("console.oidc.client_secret: %w", err))
		}
		return got.parts[0].text, nil
	}
	if set("console.proxy.header") != set("console.proxy.addresses") {
		l.problem("console.proxy", "header and addresses go together: from anybody else the header means nothing", "set both or neither")
	}
}
