package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
)

// The exit codes of the command line.
const (
	ExitDone        = 0
	ExitFailed      = 1   // a failure at run time
	ExitUsage       = 2   // wrong flags or arguments
	ExitInvalid     = 3   // invalid input (configuration, policies) or findings
	ExitDiffers     = 4   // tests failed or changes found
	ExitUnreachable = 5   // a dependency cannot be reached
	ExitInterrupted = 130 // ended by a signal before it was done
)

// ExitError is an error that ends the process with a code of its own.
type ExitError struct {
	Code int
	Err  error
}

func (e *ExitError) Error() string { return e.Err.Error() }
func (e *ExitError) Unwrap() error { return e.Err }

// WithCode makes err end the process with code; nil stays nil.
func WithCode(code int, err error) error {
	if err == nil {
		return nil
	}
	return &ExitError{Code: code, Err: err}
}

// UsageError is wrong use of a command: what is wrong, and where to read on.
func UsageError(command string, err error) error {
	return WithCode(ExitUsage, fmt.Errorf("%w — see: %s --help", err, command))
}

// ErrReported ends the process with a failure that is on stdout already, as the
// result of the command.
var ErrReported = errors.New("reported on stdout")

// Finish prints err, once, and returns the exit code for it. Where stderr cannot
// be written to, the code is all that is left to say.
func Finish(ctx context.Context, stderr io.Writer, err error) int {
	if err == nil {
		return ExitDone
	}
	if ctx.Err() != nil && errors.Is(err, context.Canceled) {
		_, _ = fmt.Fprintln(stderr, "worker: interrupted")
		return ExitInterrupted
	}
	code := ExitFailed
	if e, ok := errors.AsType[*ExitError](err); ok {
		code = e.Code
	}
	if !errors.Is(err, ErrReported) {
		_, _ = fmt.Fprintln(stderr, "worker:", err)
	}
	return code
}
