package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// build compiles a package of the module in dir.
func build(ctx context.Context, dir, to, pkg string) error {
	c := exec.CommandContext(ctx, "go", "build", "-o", to, pkg) //nolint:gosec // the packages are constants
	c.Dir = dir
	if text, err := c.CombinedOutput(); err != nil {
		return fmt.Errorf("build %s: %w\n%s", pkg, err, text)
	}
	return nil
}

// process is a child of this program. Its output is in a file, so that it never
// waits for a reader.
type process struct {
	cmd     *exec.Cmd
	log     string
	started time.Time
	ended   chan struct{} // closed when it has ended, and err is set
	err     error
}

// stopWithin is how long a child has to end after SIGTERM.
const stopWithin = 15 * time.Second

// start starts a program with more environment variables.
func (e *env) start(name string, env []string, program string, args ...string) (*process, error) {
	log, err := os.CreateTemp(e.dir, name+".*.log")
	if err != nil {
		return nil, err
	}
	defer log.Close()                   //nolint:errcheck // the child has its own descriptor
	c := exec.Command(program, args...) //nolint:gosec,noctx // our own programs; stop ends them with a signal
	c.Env = append(os.Environ(), env...)
	c.Stdout, c.Stderr = log, log
	c.Dir = e.dir
	c.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL} // no child survives a crash of this program
	p := &process{cmd: c, log: log.Name(), started: time.Now(), ended: make(chan struct{})}
	if err := c.Start(); err != nil {
		return nil, fmt.Errorf("start %s: %w", name, err)
	}
	go func() {
		p.err = c.Wait()
		close(p.ended)
	}()
	return p, nil
}

// stop ends the process.
func (p *process) stop() {
	_ = p.cmd.Process.Signal(syscall.SIGTERM) // it may have ended already
	kill := time.AfterFunc(stopWithin, func() { _ = p.cmd.Process.Kill() })
	defer kill.Stop()
	<-p.ended // with any code
}

// output returns what the process wrote.
func (p *process) output() string {
	text, err := os.ReadFile(p.log)
	if err != nil {
		return err.Error()
	}
	return string(text)
}

// failure adds the end of the process's output to err.
func (p *process) failure(err error) error {
	if err == nil {
		return nil
	}
	text := p.output()
	return fmt.Errorf("%w\nlast output of %s:\n%s", err, filepath.Base(p.cmd.Path), text[max(0, len(text)-800):])
}

// usage is what a process has used so far.
type usage struct {
	cpu  time.Duration
	rss  int // MiB now
	peak int // MiB
}

// ticks is the unit of CPU times in /proc, which is fixed on Linux.
const ticks = 100

// usage reads what the process has used from /proc.
func (p *process) usage() (usage, error) {
	base := fmt.Sprintf("/proc/%d/", p.cmd.Process.Pid)
	stat, err := os.ReadFile(base + "stat") //nolint:gosec // of our own child
	if err != nil {
		return usage{}, p.failure(errors.New("the process has ended"))
	}
	_, after, _ := strings.Cut(string(stat), ") ") // the name may have spaces
	fields := strings.Fields(after)
	if len(fields) < 13 {
		return usage{}, fmt.Errorf("unexpected %sstat: %s", base, stat)
	}
	user, err1 := strconv.Atoi(fields[11])
	system, err2 := strconv.Atoi(fields[12])
	status, err3 := os.ReadFile(base + "status") //nolint:gosec // likewise
	if err := errors.Join(err1, err2, err3); err != nil {
		return usage{}, err
	}
	u := usage{cpu: time.Duration(user+system) * time.Second / ticks}
	for line := range strings.Lines(string(status)) {
		name, value, _ := strings.Cut(line, ":")
		kib, err := strconv.Atoi(strings.TrimSuffix(strings.TrimSpace(value), " kB"))
		switch {
		case err != nil:
		case name == "VmHWM":
			u.peak = kib / 1024
		case name == "VmRSS":
			u.rss = kib / 1024
		}
	}
	return u, nil
}

// every calls done each d until it reports true, ctx ends, or within is over,
// which is errTooLong.
func every(ctx context.Context, d, within time.Duration, done func() (bool, error)) error {
	tick := time.NewTicker(d)
	defer tick.Stop()
	for end := time.Now().Add(within); ; {
		ok, err := done()
		switch {
		case ok || err != nil:
			return err
		case time.Now().After(end):
			return errTooLong
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

var (
	errTooLong  = errors.New("not done in time")
	errNoResult = errors.New("no result")
)

// wait returns after d, or when ctx ends.
func wait(ctx context.Context, d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// cpuTime returns what this program has used.
func cpuTime() time.Duration {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		panic(err) // it fails for bad arguments only
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}
