package events

import (
	"fmt"
	"strconv"
	"strings"
)

// MinServer is the oldest supported version of the NATS server. Older ones store a
// second result of a decision.
const MinServer = "2.11"

// VersionError means that a server is too old.
type VersionError struct{ Server, Version string }

func (e *VersionError) Error() string {
	return fmt.Sprintf("the NATS server %s has version %q, but %s or later is required: older ones store a second result of a decision; upgrade it", e.Server, e.Version, MinServer)
}

// supportedVersion reports whether version, such as "2.11.4" or "2.12.0-RC.1", is new
// enough. One that cannot be read is not.
func supportedVersion(version string) bool {
	have, ok := majorMinor(strings.TrimPrefix(version, "v"))
	least, _ := majorMinor(MinServer)
	return ok && (have[0] > least[0] || have[0] == least[0] && have[1] >= least[1])
}

func majorMinor(version string) (out [2]int, ok bool) {
	parts := strings.SplitN(version, ".", 3)
	if len(parts) < 2 {
		return out, false
	}
	for i := range out {
		n, err := strconv.Atoi(parts[i])
		if err != nil || n < 0 {
			return out, false
		}
		out[i] = n
	}
	return out, true
}

// tooOld returns a *VersionError if the connected server is too old; nil if it is not,
// or if there is no connection.
func (b *Bus) tooOld() error {
	if version := b.nc.ConnectedServerVersion(); b.nc.IsConnected() && !supportedVersion(version) {
		return &VersionError{Server: redacted(b.nc.ConnectedUrl()), Version: version}
	}
	return nil
}

// ServerVersion returns the version of the connected server.
func (b *Bus) ServerVersion() string { return b.nc.ConnectedServerVersion() }
