package broker

import (
	"crypto/rand"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
)

// The users of a server that makes its own passwords. Each password is in a file
// in the server's folder that only the owner can read.
const (
	WorkerUser   = "worker"   // may do everything: the worker and its commands
	ProducerUser = "producer" // may publish requests, and nothing else
)

// PasswordFile is where the password of a user is.
func PasswordFile(dir, user string) string { return filepath.Join(dir, user+".password") }

// makePassword returns the password of a user, and makes it if there is none, or
// if others could have read it. made says that it did.
func makePassword(dir, user string) (password string, made bool, err error) {
	name := PasswordFile(dir, user)
	info, err := os.Lstat(name)
	switch {
	case errors.Is(err, fs.ErrNotExist):
	case err != nil:
		return "", false, err
	case !info.Mode().IsRegular():
		return "", false, fmt.Errorf("%s is not a regular file: remove it", name)
	case info.Mode().Perm()&0o077 == 0:
		password, err = ReadPassword(dir, user)
		return password, false, err
	}
	password = rand.Text()
	f, err := os.CreateTemp(dir, user+".password-") // with mode 0600
	if err != nil {
		return "", false, err
	}
	_, err = f.WriteString(password + "\n")
	err = errors.Join(err, f.Sync(), f.Close())
	if err == nil {
		err = os.Rename(f.Name(), name)
	}
	if err != nil {
		return "", false, errors.Join(err, os.Remove(f.Name()))
	}
	return password, true, nil
}

// ReadPassword returns the password of a user. Its errors do not repeat it.
func ReadPassword(dir, user string) (string, error) {
	name := PasswordFile(dir, user)
	data, err := os.ReadFile(name) //nolint:gosec // the operator names the folder
	if err != nil {
		return "", err
	}
	password := strings.TrimRight(string(data), "\r\n")
	if password == "" || strings.ContainsAny(password, "\r\n\x00") {
		return "", fmt.Errorf("%s holds no single line of text: remove it while no worker runs", name)
	}
	return password, nil
}
