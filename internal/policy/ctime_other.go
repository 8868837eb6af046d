//go:build !linux

package policy

import (
	"io/fs"
	"time"
)

// changeTime is not known here, so that nobody takes a file for an old one.
func changeTime(fs.FileInfo) (time.Time, bool) { return time.Time{}, false }
