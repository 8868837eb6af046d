package service

import (
	"bytes"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"time"

	"github.com/prometheus/exporter-toolkit/web"
	"github.com/rs/zerolog"

	"github.com/vpcep-approver/vpcep-approver/internal/cli"
	"github.com/vpcep-approver/vpcep-approver/internal/config"
)

// webConfigEvery is the time between looks at the web configuration.
const webConfigEvery = 10 * time.Second

// webConfig is the TLS and the users of the metrics listener. The library reads
// its file on each request and lets everybody in once the file names no user. So
// it gets a private copy, which holds the certificates as well and is replaced
// only by a configuration that protects the listener.
type webConfig struct {
	file string // of the operator
	dir  string // private
	log  zerolog.Logger

	good []byte // content of the copy
	bad  string // the problem that was logged last; empty: none
}

// openWebConfig makes the copy of file. Close removes it.
func openWebConfig(file string, log zerolog.Logger) (*webConfig, error) {
	dir, err := os.MkdirTemp("", "vpcep-approver-web-")
	if err != nil {
		return nil, fmt.Errorf("http.web_config needs a folder for temporary files, such as a mount on %s: %w", os.TempDir(), err)
	}
	w := &webConfig{file: file, dir: dir, log: log}
	if err := w.load(); err != nil {
		return nil, cli.WithCode(cli.ExitInvalid, errors.Join(err, w.close()))
	}
	return w, nil
}

func (w *webConfig) close() error { return os.RemoveAll(w.dir) }

// lastGood is the path of the copy.
func (w *webConfig) lastGood() string { return filepath.Join(w.dir, "web.yml") }

// load replaces the copy by what file holds now, if that protects the listener.
func (w *webConfig) load() error {
	invalid := func(err error) error { return fmt.Errorf("http.web_config: %s: %w", w.file, err) }
	if err := web.Validate(w.file); err != nil { // its errors have the lines of the file
		return invalid(err)
	}
	content, err := config.WebConfig(w.file)
	if err != nil {
		return invalid(err)
	}
	if bytes.Equal(content, w.good) {
		return nil
	}
	next := filepath.Join(w.dir, "next.yml")
	if err := os.WriteFile(next, content, 0o600); err != nil {
		return fmt.Errorf("copy the web configuration: %w", err)
	}
	// The files may have changed since they were validated: what counts is the copy.
	if err := web.Validate(next); err != nil {
		return invalid(err)
	}
	if err := os.Rename(next, w.lastGood()); err != nil {
		return fmt.Errorf("copy the web configuration: %w", err)
	}
	w.good = content
	return nil
}

// reload is load for a change while the worker runs: what is wrong is logged
// once, and the last good configuration stays. It does nothing if w is nil.
func (w *webConfig) reload() {
	if w == nil {
		return
	}
	before := w.good
	switch err := w.load(); {
	case err == nil && !bytes.Equal(before, w.good):
		w.log.Info().Str("file", w.file).Msg("the web configuration was loaded")
		w.bad = ""
	case err == nil:
		w.bad = ""
	case err.Error() != w.bad:
		w.bad = err.Error()
		w.log.Error().Err(err).Msg("the web configuration was not loaded; the last good one stays")
	}
}

// slogger passes on what the library reports as errors. Its other lines repeat
// what the start of the worker logs.
func slogger(log zerolog.Logger) *slog.Logger {
	return slog.New(zerolog.NewSlogHandler(log.Level(max(log.GetLevel(), zerolog.WarnLevel))))
}
