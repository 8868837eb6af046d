package cli

import (
	"cmp"
	"runtime/debug"
)

// releaseVersion is stamped by the linker where there is no module version, as in an
// image: -ldflags=-X=github.com/vpcep-approver/vpcep-approver/internal/cli.releaseVersion=v1.2.3.
var releaseVersion string //nolint:gochecknoglobals // the linker can set nothing else

// BuildInfo says what this binary is.
type BuildInfo struct {
	Version string `json:"version"` // of the module, "(devel)" if it was not stamped
	Commit  string `json:"commit,omitempty"`
	Dirty   bool   `json:"dirty,omitempty"` // built from files that were not committed
	Go      string `json:"go"`
}

// ReadBuild reads what the Go toolchain stamped into the binary.
func ReadBuild() BuildInfo {
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return BuildInfo{Version: "unknown", Go: "unknown"}
	}
	b := BuildInfo{Version: cmp.Or(releaseVersion, info.Main.Version), Go: info.GoVersion}
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
