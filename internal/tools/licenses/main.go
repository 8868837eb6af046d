// Command licenses writes the license texts of everything that the worker links, for the
// archives and the image of a release. Equal texts are written once.
//
// It reads the modules' files where the Go toolchain keeps them, for all platforms that are
// released. A linked module without a license file is an error.
package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"log"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
)

// platforms are those of a release: what is linked differs.
func platforms() []string { return []string{"linux/amd64", "linux/arm64", "darwin/arm64"} }

func main() {
	log.SetFlags(0)
	root := flag.String("root", filepath.Join("..", "..", ".."), "folder of the worker's module")
	out := flag.String("o", "", "file to write; without it standard output")
	flag.Parse()
	if err := run(context.Background(), *root, *out); err != nil {
		log.Fatalln("licenses:", err)
	}
}

func run(ctx context.Context, root, out string) error {
	modules, err := linked(ctx, root)
	if err != nil {
		return err
	}
	var b bytes.Buffer
	if err := write(&b, modules); err != nil {
		return err
	}
	if out == "" {
		_, err := b.WriteTo(os.Stdout)
		return err
	}
	return os.WriteFile(out, b.Bytes(), 0o644) //nolint:gosec // G306: a text for everyone
}

// module is a linked module and the folders of its packages, from its own folder down.
type module struct {
	Name, Dir string // name with version
	packages  map[string]bool
}

// linked lists the modules that the worker links on any of the platforms, and the Go
// standard library, sorted by name.
func linked(ctx context.Context, root string) ([]*module, error) {
	all := map[string]*module{}
	for _, platform := range platforms() {
		goos, goarch, _ := strings.Cut(platform, "/")
		c := exec.CommandContext(ctx, "go", "list", "-deps", "-tags=timetzdata", "-json=Dir,Standard,Module", "./cmd/worker")
		c.Dir = root
		c.Env = append(os.Environ(), "GOOS="+goos, "GOARCH="+goarch, "CGO_ENABLED=0", "GOFLAGS=")
		c.Stderr = os.Stderr
		text, err := c.Output()
		if err != nil {
			return nil, fmt.Errorf("list what the worker links on %s: %w", platform, err)
		}
		for d := json.NewDecoder(bytes.NewReader(text)); ; {
			var p struct {
				Dir      string
				Standard bool
				Module   *struct {
					Path, Version, Dir string
					Main               bool
				}
			}
			if err := d.Decode(&p); errors.Is(err, io.EOF) {
				break
			} else if err != nil {
				return nil, fmt.Errorf("read what go list says of %s: %w", platform, err)
			}
			if p.Standard || p.Module == nil || p.Module.Main {
				continue
			}
			m := all[p.Module.Path]
			if m == nil {
				m = &module{Name: p.Module.Path + " " + p.Module.Version, Dir: p.Module.Dir, packages: map[string]bool{}}
				all[p.Module.Path] = m
			}
			m.packages[p.Dir] = true
		}
	}
	goroot := exec.CommandContext(ctx, "go", "env", "GOROOT", "GOVERSION")
	goroot.Dir = root
	text, err := goroot.Output()
	if err != nil {
		return nil, fmt.Errorf("find the Go toolchain: %w", err)
	}
	dir, version, _ := strings.Cut(strings.TrimSpace(string(text)), "\n")
	all["std"] = &module{Name: "the Go standard library " + version, Dir: dir, packages: map[string]bool{dir: true}}
	return slices.SortedFunc(maps.Values(all), func(a, b *module) int { return strings.Compare(a.Name, b.Name) }), nil
}

// write writes each text once, with the modules that it is for.
func write(w io.Writer, modules []*module) error {
	users := map[string][]string{} // by text
	for _, m := range modules {
		texts, err := m.texts()
		if err != nil {
			return err
		}
		for _, text := range texts {
			users[text] = append(users[text], m.Name)
		}
	}
	if _, err := fmt.Fprintf(w, "vpcep-approver contains software of others, under the licenses below.\n"); err != nil {
		return err
	}
	order := slices.SortedFunc(maps.Keys(users), func(a, b string) int {
		return slices.Compare(append(users[a], a), append(users[b], b))
	})
	for _, text := range order {
		rule := strings.Repeat("=", 80)
		if _, err := fmt.Fprintf(w, "\n%s\n%s\n%s\n\n%s", rule, strings.Join(users[text], "\n"), rule, text); err != nil {
			return err
		}
	}
	return nil
}

var (
	license = regexp.MustCompile(`(?i)^(li[cs]en[cs]e|copying|unlicense)([-._].*)?$`)
	notice  = regexp.MustCompile(`(?i)^(notice|copyright|patents)([-._].*)?$`)
	code    = regexp.MustCompile(`(?i)\.(go|s|c|h|py|sh)$`)
)

// texts returns the license and notice texts of m: those in its folder, and those in the
// folders of linked packages, which may be of others.
func (m *module) texts() ([]string, error) {
	dirs := map[string]bool{m.Dir: true}
	for dir := range m.packages {
		for ; len(dir) > len(m.Dir) && strings.HasPrefix(dir, m.Dir); dir = filepath.Dir(dir) {
			dirs[dir] = true
		}
	}
	var out []string
	found := false
	for _, dir := range slices.Sorted(maps.Keys(dirs)) {
		files, err := os.ReadDir(dir)
		if err != nil {
			return nil, fmt.Errorf("look for the license of %s: %w", m.Name, err)
		}
		for _, f := range files {
			is := license.MatchString(f.Name())
			if f.IsDir() || code.MatchString(f.Name()) || !is && !notice.MatchString(f.Name()) {
				continue
			}
			text, err := os.ReadFile(filepath.Join(dir, f.Name())) //nolint:gosec // G304: go list names the folder
			if err != nil {
				return nil, fmt.Errorf("read the license of %s: %w", m.Name, err)
			}
			found = found || is && dir == m.Dir
			plain := strings.TrimSpace(strings.ReplaceAll(string(text), "\r\n", "\n")) + "\n"
			if !slices.Contains(out, plain) {
				out = append(out, plain)
			}
		}
	}
	if !found {
		return nil, fmt.Errorf("%s has no license file in %s: it cannot be shipped", m.Name, m.Dir)
	}
	return out, nil
}
