// Package cli holds what the commands share: the environment of the process,
// flags, tables, colors, exit codes and errors that carry them.
package cli

import (
	"context"
	"io"
	"os"
	"path/filepath"
	"strings"

	"github.com/mattn/go-isatty"
)

// Environment is all that the program gets from the process around it.
type Environment struct {
	Program        string   // the path it was started by
	Args           []string // without the program's name
	Environ        []string // as os.Environ has it
	Stdin          io.Reader
	Stdout, Stderr io.Writer
	ReadFile       func(name string) ([]byte, error)
	IsTerminal     func(w io.Writer) bool
}

// ProcessEnvironment returns the environment of this process.
func ProcessEnvironment() Environment {
	return Environment{
		Program: os.Args[0], Args: os.Args[1:], Environ: os.Environ(),
		Stdin: os.Stdin, Stdout: os.Stdout, Stderr: os.Stderr,
		ReadFile: os.ReadFile,
		IsTerminal: func(w io.Writer) bool {
			f, ok := w.(*os.File)
			return ok && isatty.IsTerminal(f.Fd())
		},
	}
}

// Interruptible returns a reader of in whose reads end when ctx does. A read of a terminal
// or a pipe that waits then goes on until the process ends.
func Interruptible(ctx context.Context, in io.Reader) io.Reader { return interruptible{ctx, in} }

type interruptible struct {
	ctx context.Context //nolint:containedctx // io.Reader has none
	in  io.Reader
}

func (r interruptible) Read(p []byte) (int, error) {
	type read struct {
		data []byte
		err  error
	}
	done := make(chan read, 1)
	go func() {
		buffer := make([]byte, len(p)) // p is the caller's again if ctx ends first
		n, err := r.in.Read(buffer)
		done <- read{buffer[:n], err}
	}()
	select {
	case got := <-done:
		return copy(p, got.data), got.err
	case <-r.ctx.Done():
		return 0, r.ctx.Err()
	}
}

// Variables returns the environment variables by name.
func (e Environment) Variables() map[string]string {
	out := map[string]string{}
	for _, pair := range e.Environ {
		if name, text, ok := strings.Cut(pair, "="); ok {
			out[name] = text
		}
	}
	return out
}

// ProgramName is how hints call this program: by the path it was started with,
// unless `go run` made it.
func (e Environment) ProgramName() string {
	if e.Program == "" || strings.Contains(e.Program, "go-build") {
		return "worker"
	}
	if path, err := filepath.Abs(e.Program); err == nil && strings.ContainsRune(e.Program, filepath.Separator) {
		return path // the next steps change the folder
	}
	return e.Program
}
