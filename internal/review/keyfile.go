package review

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"strings"

	"github.com/nats-io/nkeys"
)

// nameLine begins the line of a key file that says whose key it is.
const nameLine = "# reviewer: "

// NewKey writes a new seed for the reviewer called name to a file that only its owner
// can read, and returns the public key. It overwrites nothing.
func NewKey(path, name string) (publicKey string, err error) {
	pair, err := nkeys.CreateUser()
	if err != nil {
		return "", fmt.Errorf("make a key: %w", err)
	}
	defer pair.Wipe()
	seed, err := pair.Seed()
	if err != nil {
		return "", fmt.Errorf("make a key: %w", err)
	}
	if publicKey, err = pair.PublicKey(); err != nil {
		return "", fmt.Errorf("make a key: %w", err)
	}
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600) //nolint:gosec // the reviewer names the file
	if err != nil {
		return "", fmt.Errorf("write the key: %w", err)
	}
	_, err = fmt.Fprintf(f, "%s%s\n# Keep this file secret: who has it can review as %s.\n%s\n", nameLine, name, name, seed)
	if err = errors.Join(err, f.Close()); err != nil {
		return "", fmt.Errorf("write the key: %w", err)
	}
	return publicKey, nil
}

// ReadKey returns the seed in a key file, and whose it is as far as the file says.
// Errors never show the content.
func ReadKey(path string) (seed []byte, name string, err error) {
	info, err := os.Stat(path)
	if err != nil {
		return nil, "", fmt.Errorf("read the key: %w", err)
	}
	if !info.Mode().IsRegular() {
		return nil, "", fmt.Errorf("read the key: %s is not a file", path)
	}
	if info.Mode().Perm()&0o077 != 0 {
		return nil, "", fmt.Errorf("read the key: others may read %s; run: chmod 600 %s", path, path)
	}
	text, err := os.ReadFile(path) //nolint:gosec // the reviewer names the file
	if err != nil {
		return nil, "", fmt.Errorf("read the key: %w", err)
	}
	for line := range bytes.Lines(text) {
		line = bytes.TrimSpace(line)
		if n, ok := strings.CutPrefix(string(line), nameLine); ok {
			name = strings.TrimSpace(n)
		}
		if pair, err := nkeys.FromSeed(line); err == nil && bytes.HasPrefix(line, []byte("SU")) {
			pair.Wipe()
			seed = bytes.Clone(line)
		}
	}
	if seed == nil {
		return nil, "", fmt.Errorf("%s holds no seed of a user NKey; make one with: worker reviews keygen", path)
	}
	return seed, name, nil
}

// ReadPublicKey returns the public key of the seed in a key file.
func ReadPublicKey(path string) (string, error) {
	seed, _, err := ReadKey(path)
	if err != nil {
		return "", err
	}
	pair, err := nkeys.FromSeed(seed)
	if err != nil {
		return "", fmt.Errorf("read the key: %s holds no seed of an NKey", path)
	}
	defer pair.Wipe()
	return pair.PublicKey()
}
