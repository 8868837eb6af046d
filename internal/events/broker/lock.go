package broker

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"
)

// ErrLocked says that another server keeps its streams in the folder.
var ErrLocked = errors.New("another process uses the folder")

const (
	lockFile = "lock"
	// lockWithin is how long Start waits for a server that is about to end, and
	// for those who only look.
	lockWithin = time.Second
)

// lock keeps other servers out of dir until the file that it returns is closed,
// also by a crash: two of them would write into each other's streams.
func lock(dir string) (*os.File, error) {
	f, err := os.OpenFile(filepath.Join(dir, lockFile), os.O_RDWR|os.O_CREATE, 0o600) //nolint:gosec // the operator names the folder
	if err != nil {
		return nil, err
	}
	for end := time.Now().Add(lockWithin); ; {
		err = tryLock(f, true)
		if err == nil || !errors.Is(err, ErrLocked) || time.Now().After(end) {
			break
		}
		wait := time.NewTimer(20 * time.Millisecond)
		<-wait.C
	}
	if err == nil {
		// For people only; the lock is what counts.
		if err = f.Truncate(0); err == nil {
			_, err = f.WriteAt([]byte(strconv.Itoa(os.Getpid())+"\n"), 0)
		}
	}
	if err != nil {
		return nil, errors.Join(lockedError(f, err), f.Close())
	}
	return f, nil
}

// lockedError names the process that holds the lock, as far as it is known.
func lockedError(f *os.File, err error) error {
	if !errors.Is(err, ErrLocked) {
		return fmt.Errorf("lock %s: %w", f.Name(), err)
	}
	pid, _ := io.ReadAll(io.NewSectionReader(f, 0, 20))
	return fmt.Errorf("%w (process %s): end it, or set another nats.data_dir", ErrLocked, strings.TrimSpace(string(pid)))
}

// Locked reports whether a server runs with its streams in dir.
func Locked(dir string) (bool, error) {
	f, err := os.Open(filepath.Join(dir, lockFile)) //nolint:gosec // the operator names the folder
	if errors.Is(err, os.ErrNotExist) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	defer f.Close() //nolint:errcheck // nothing was written
	err = tryLock(f, false)
	if errors.Is(err, ErrLocked) {
		return true, nil
	}
	return false, err
}
