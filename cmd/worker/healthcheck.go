package main

import (
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/vpcep-approver/vpcep-approver/internal/cli"
	"github.com/vpcep-approver/vpcep-approver/internal/config"
)

func newHealthcheckCommand(env cli.Environment) *cobra.Command {
	c := &cobra.Command{
		Use:   "healthcheck",
		Short: "Ask the worker on this machine whether it is ready",
		Long: `healthcheck asks /readyz of the worker that listens on http.probes. Exit code 0:
ready; 1: it answers that it is not; 5: it does not answer.`,
	}
	live := c.Flags().Bool("live", false, "ask /livez instead: whether the process works at all")
	timeout := c.Flags().Duration("timeout", 3*time.Second, "how long to wait for the answer")
	config.AddFlags(c.Flags(), "http")
	c.RunE = func(c *cobra.Command, _ []string) error {
		cfg, err := config.Load(env, config.FlagsOf(c))
		if err != nil {
			return err
		}
		path := "/readyz"
		if *live {
			path = "/livez"
		}
		target := "http://" + localAddress(cfg.HTTP.Probes) + path
		req, err := http.NewRequestWithContext(c.Context(), http.MethodGet, target, nil)
		if err != nil {
			return err
		}
		// No proxy: the worker is on this machine.
		client := &http.Client{Timeout: *timeout, Transport: &http.Transport{DisableKeepAlives: true}}
		res, err := client.Do(req)
		if err != nil {
			if e := errors.Unwrap(err); e != nil { // without the method and the URL
				err = e
			}
			return cli.WithCode(cli.ExitUnreachable, fmt.Errorf("%s: no answer: %w — is the worker running, with this http.probes?", target, err))
		}
		defer res.Body.Close() //nolint:errcheck // nothing was written
		body, err := io.ReadAll(io.LimitReader(res.Body, 4096))
		if err != nil {
			return cli.WithCode(cli.ExitUnreachable, fmt.Errorf("%s: the answer broke off: %w", target, err))
		}
		text := strings.TrimSpace(string(body))
		if res.StatusCode != http.StatusOK {
			return fmt.Errorf("%s: %s: %s", target, res.Status, text)
		}
		_, err = fmt.Fprintln(c.OutOrStdout(), text)
		return err
	}
	return c
}

// localAddress is where this machine reaches a listener.
func localAddress(listen string) string {
	host, port, err := net.SplitHostPort(listen)
	if err != nil {
		return listen
	}
	if ip := net.ParseIP(host); host == "" || ip != nil && ip.IsUnspecified() {
		host = "127.0.0.1"
		if ip != nil && ip.To4() == nil {
			host = "::1"
		}
	}
	return net.JoinHostPort(host, port)
}
