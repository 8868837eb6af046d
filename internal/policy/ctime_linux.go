package policy

import (
	"io/fs"
	"syscall"
	"time"
)

// changeTime returns when a file or its name, owner or mode changed last. Unlike
// the time of its last write nobody can set it.
func changeTime(info fs.FileInfo) (time.Time, bool) {
	if stat, ok := info.Sys().(*syscall.Stat_t); ok {
		return time.Unix(stat.Ctim.Unix()), true
	}
	return time.Time{}, false
}
