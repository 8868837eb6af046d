package main

import (
	"fmt"
	"io"
	"time"

	"github.com/rs/zerolog"
)

// newLogger logs to w in the form and from the level that cfg says; the level
// was checked when cfg was loaded.
func newLogger(cfg LogConfig, w io.Writer, terminal bool, p palette) (zerolog.Logger, error) {
	level, err := zerolog.ParseLevel(cfg.Level)
	if err != nil {
		return zerolog.Nop(), fmt.Errorf("log.level: %w", err)
	}
	if cfg.Format == "console" || cfg.Format == "auto" && terminal {
		w = zerolog.ConsoleWriter{Out: w, NoColor: !p.on, TimeFormat: time.TimeOnly}
	}
	return zerolog.New(w).Level(level).With().Timestamp().Logger(), nil
}
