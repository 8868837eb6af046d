package service

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"time"

	"github.com/vpcep-approver/vpcep-approver/internal/cli"
)

// AskProbe returns what the probe of a worker on this machine answers.
func AskProbe(ctx context.Context, url string, timeout time.Duration) (string, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return "", err
	}
	// No proxy: the worker is on this machine.
	client := &http.Client{Timeout: timeout, Transport: &http.Transport{DisableKeepAlives: true}}
	res, err := client.Do(req)
	if err != nil {
		if e := errors.Unwrap(err); e != nil { // without the method and the URL
			err = e
		}
		return "", cli.WithCode(cli.ExitUnreachable, fmt.Errorf("%s: no answer: %w — is the worker running, with this http.probes?", url, err))
	}
	defer res.Body.Close() //nolint:errcheck // nothing was written
	body, err := io.ReadAll(io.LimitReader(res.Body, 4096))
	if err != nil {
		return "", cli.WithCode(cli.ExitUnreachable, fmt.Errorf("%s: the answer broke off: %w", url, err))
	}
	text := strings.TrimSpace(string(body))
	if res.StatusCode != http.StatusOK {
		return "", fmt.Errorf("%s: %s: %s", url, res.Status, text)
	}
	return text, nil
}
