package cli

import (
	"fmt"
	"io"
	"time"

	"github.com/rs/zerolog"
)

// NewLogger logs to w in the form and from the level that the settings say; it
// was checked when they were loaded.
func NewLogger(level, format string, w io.Writer, terminal bool, p Palette) (zerolog.Logger, error) {
	minimum, err := zerolog.ParseLevel(level)
	if err != nil {
		return zerolog.Nop(), fmt.Errorf("log.level: %w", err)
	}
	if format == "console" || format == "auto" && terminal {
		w = zerolog.ConsoleWriter{Out: w, NoColor: !p.on, TimeFormat: time.TimeOnly}
	}
	return zerolog.New(w).Level(minimum).With().Timestamp().Logger(), nil
}
