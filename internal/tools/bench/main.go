// Command bench measures the worker against other ways to do its job, and how its
// cost grows. Each row starts a NATS server, a cloud API and the contenders as
// processes of their own, so that CPU and memory are those of one contender alone.
//
//	go run . -row held          one row
//	go run . -row all           all of them
//	go run . -list              the rows, with what each measures
//
// Everything listens on 127.0.0.1 and writes below one temporary folder, which is
// removed at the end.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"slices"
	"strings"
	"syscall"
	"time"
)

// child selects what a process of this program is: the bench itself, the cloud
// API or a contender.
const (
	childAPI       = "api"
	childContender = "contender"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := run(ctx, os.Args[1:], os.Stdout); err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1) //nolint:forbidigo // this is main
	}
}

func run(ctx context.Context, args []string, out io.Writer) error {
	if len(args) > 0 {
		switch args[0] {
		case childAPI:
			return serveAPI(ctx, args[1:], out)
		case childContender:
			return runContender(ctx, args[1:])
		}
	}
	e := env{out: out}
	flags := flag.NewFlagSet("bench", flag.ContinueOnError)
	row := flags.String("row", "", "rows to measure, separated by commas, or all")
	list := flags.Bool("list", false, "list the rows")
	flags.IntVar(&e.n, "n", 0, "requests of a row, or entries of the ledger; 0: the row's own number")
	flags.IntVar(&e.rounds, "rounds", 3, "rounds of a comparison; the median counts")
	flags.DurationVar(&e.limit, "limit", time.Minute, "longest time of one measurement")
	flags.StringVar(&e.worker, "worker", "", "worker binary to measure; default: built from this tree")
	flags.StringVar(&e.only, "only", "", "contenders to run, separated by commas; default: all of them")
	if err := flags.Parse(args); err != nil {
		return err
	}
	if *list || *row == "" {
		for _, r := range rows() {
			e.printf("%-14s %s\n", r.name, r.about)
		}
		return nil
	}
	chosen, err := chooseRows(*row)
	if err != nil {
		return err
	}
	cleanup, err := e.prepare(ctx)
	defer cleanup()
	if err != nil {
		return err
	}
	for _, r := range chosen {
		e.printf("\n## %s: %s\n\n", r.name, r.about)
		if err := r.run(ctx, &e); err != nil {
			return fmt.Errorf("row %s: %w", r.name, err)
		}
	}
	return nil
}

// row is one measurement that can be repeated by its name.
type row struct {
	name, about string
	run         func(context.Context, *env) error
}

func rows() []row {
	return slices.Concat(throughputRows(), growthRows(), readRows())
}

func chooseRows(names string) ([]row, error) {
	if names == "all" {
		return rows(), nil
	}
	var out []row
	for name := range strings.SplitSeq(names, ",") {
		i := slices.IndexFunc(rows(), func(r row) bool { return r.name == name })
		if i < 0 {
			return nil, fmt.Errorf("unknown row %q; -list shows the rows", name)
		}
		out = append(out, rows()[i])
	}
	return out, nil
}

// env is what the rows share.
type env struct {
	out    io.Writer
	dir    string // temporary
	n      int    // 0: the row's own number
	rounds int
	limit  time.Duration
	only   string

	self, worker, server string // programs
}

// printf writes to the output. What cannot be written is lost, like the reader.
func (e *env) printf(format string, args ...any) { _, _ = fmt.Fprintf(e.out, format, args...) }

// count returns the number of requests of a row that has n by default.
func (e *env) count(n int) int {
	if e.n > 0 {
		return e.n
	}
	return n
}

// prepare makes the temporary folder and builds the programs. The function that it
// returns removes the folder; it is never nil.
func (e *env) prepare(ctx context.Context) (func(), error) {
	var err error
	if e.dir, err = os.MkdirTemp("", "vpcep-bench."); err != nil {
		return func() {}, err
	}
	cleanup := func() { _ = os.RemoveAll(e.dir) } // nothing of value is in it
	if e.self == "" {
		if e.self, err = os.Executable(); err != nil {
			return cleanup, err
		}
	}
	e.server = e.dir + "/nats-server"
	err = build(ctx, ".", e.server, "github.com/nats-io/nats-server/v2")
	if e.worker == "" {
		e.worker = e.dir + "/worker"
		err = errors.Join(err, build(ctx, "../../..", e.worker, "./cmd/worker"))
	}
	return cleanup, err
}

// policies writes the policies for n services into a new folder; refuse is the number
// of an account that no rule allows, 0 for none, and limit that of each rule.
func (e *env) policies(n, refuse, limit int) (string, error) {
	dir, err := os.MkdirTemp(e.dir, "policies.")
	if err != nil {
		return "", err
	}
	return dir, writePolicies(dir, n, refuse, limit)
}
