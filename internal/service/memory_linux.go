package service

import (
	"bufio"
	"fmt"
	"os"
	"strconv"
	"strings"
	"syscall"
)

// releaseExecutable gives back what the start needed of the executable's own file: most
// of its code and tables are used once. The kernel takes pages that are needed again from
// its cache of the file. It returns the size of what was given back.
//
// Only what was not written is given back, which is not anonymous: a page that differs from the file
// would be lost.
func releaseExecutable() (released uint64, err error) {
	self, err := os.Readlink("/proc/self/exe")
	if err != nil {
		return 0, err
	}
	maps, err := os.Open("/proc/self/smaps")
	if err != nil {
		return 0, err
	}
	defer func() { _ = maps.Close() }() // it was only read
	var begin, end uintptr              // of a mapping that may be given back; zero: of none
	lines := bufio.NewScanner(maps)
	for lines.Scan() {
		fields := strings.Fields(lines.Text())
		switch {
		case len(fields) >= 6 && strings.Contains(fields[0], "-"):
			begin, end = 0, 0
			if fields[5] == self && strings.HasPrefix(fields[1], "r") && !strings.Contains(fields[1], "w") {
				begin, end, err = span(fields[0])
			}
		case len(fields) >= 2 && fields[0] == "Anonymous:" && begin != 0:
			if fields[1] != "0" {
				begin = 0
				continue
			}
			if err = giveBack(begin, end); err == nil {
				released += uint64(end - begin)
			}
		}
		if err != nil {
			return released, fmt.Errorf("give back pages of the executable: %w", err)
		}
	}
	return released, lines.Err()
}

// span reads the addresses of a mapping.
func span(text string) (begin, end uintptr, err error) {
	from, to, _ := strings.Cut(text, "-")
	b, err := strconv.ParseUint(from, 16, 64)
	if err != nil {
		return 0, 0, err
	}
	e, err := strconv.ParseUint(to, 16, 64)
	return uintptr(b), uintptr(e), err
}

func giveBack(begin, end uintptr) error {
	if _, _, errno := syscall.Syscall(syscall.SYS_MADVISE, begin, end-begin, syscall.MADV_DONTNEED); errno != 0 {
		return errno
	}
	return nil
}
