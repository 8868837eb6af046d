package main

import (
	"cmp"
	"runtime/debug"
	"strings"

	"github.com/spf13/cobra"
)

// releaseVersion is stamped by the linker where there is no module version, as in an
// image: -ldflags=-X=main.releaseVersion=v1.2.3.
var releaseVersion string //nolint:gochecknoglobals // the linker can set nothing else

// buildInfo says what this binary is.
type buildInfo struct {
	Version string `json:"version"` // of the module, "(devel)" if it was not stamped
	Commit  string `json:"commit,omitempty"`
	Dirty   bool   `json:"dirty,omitempty"` // built from files that were not committed
	Go      string `json:"go"`
}

// readBuild reads what the Go toolchain stamped into the binary.
func readBuild() buildInfo {
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return buildInfo{Version: "unknown", Go: "unknown"}
	}
	b := buildInfo{Version: cmp.Or(releaseVersion, info.Main.Version), Go: info.GoVersion}
	if b.Version == "" {
		b.Version = "(devel)"
	}
	for _, s := range info.Settings {
		switch s.Key {
		case "vcs.revision":
			b.Commit = s.Value
		case "vcs.modified":
			b.Dirty = s.Value == "true"
		}
	}
	return b
}

func newVersionCommand() *cobra.Command {
	c := &cobra.Command{Use: "version", Short: "Says which build this is"}
	output := outputFlag(c)
	c.RunE = func(c *cobra.Command, _ []string) error {
		b := readBuild()
		return printAs(c, output, b, func(row row) {
			parts := []string{"worker " + b.Version}
			if b.Commit != "" {
				parts = append(parts, "commit "+b.Commit)
			}
			row(strings.Join(append(parts, b.Go), ", "))
		})
	}
	return c
}
