package main

import (
	"context"
	"errors"
	"fmt"
	"io"
)

// The exit codes of the command line.
const (
	exitDone        = 0
	exitFailed      = 1   // a failure at run time
	exitUsage       = 2   // wrong flags or arguments
	exitInvalid     = 3   // invalid input (configuration, policies) or findings
	exitDiffers     = 4   // tests failed or changes found
	exitUnreachable = 5   // a dependency cannot be reached
	exitInterrupted = 130 // ended by a signal before it was done
)

// exitError is an error that ends the process with a code of its own.
type exitError struct {
	code int
	err  error
}

func (e *exitError) Error() string { return e.err.Error() }
func (e *exitError) Unwrap() error { return e.err }

// withCode makes err end the process with code; nil stays nil.
func withCode(code int, err error) error {
	if err == nil {
		return nil
	}
	return &exitError{code: code, err: err}
}

// usageError is wrong use of a command: what is wrong, and where to read on.
func usageError(command string, err error) error {
	return withCode(exitUsage, fmt.Errorf("%w — see: %s --help", err, command))
}

// errReported ends the process with a failure that is on stdout already, as the
// result of the command.
var errReported = errors.New("reported on stdout")

// finish prints err, once, and returns the exit code for it. Where stderr cannot
// be written to, the code is all that is left to say.
func finish(ctx context.Context, stderr io.Writer, err error) int {
	if err == nil {
		return exitDone
	}
	if ctx.Err() != nil && errors.Is(err, context.Canceled) {
		_, _ = fmt.Fprintln(stderr, "worker: interrupted")
		return exitInterrupted
	}
	code := exitFailed
	if e, ok := errors.AsType[*exitError](err); ok {
		code = e.code
	}
	if !errors.Is(err, errReported) {
		_, _ = fmt.Fprintln(stderr, "worker:", err)
	}
	return code
}
