package policy

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode"

	"github.com/vpcep-approver/vpcep-approver/internal/strictyaml"
)

// snapshot is the content of a folder of policies at one moment.
type snapshot struct {
	files   map[string][]byte    // policies and value files, by name
	tests   map[string][]byte    // test files, by name
	skipped []strictyaml.Finding // what is left out; File is the name within the folder
	version string               // what the link ..data points to; empty: there is no such link
	// changed is the newest change time (ctime) of the folder and of all that is in
	// it, read after the content; dated tells whether the system says all of them.
	changed time.Time
	dated   bool

	names  []string // of everything in the folder, in order
	stamps []byte   // sizes and times of everything, in order
}

// errChanging means that the folder changed while it was read.
var errChanging = errors.New("it changed while it was read; try again")

// maxFolder is the most bytes that the files may have together.
const maxFolder = 256 << 20

// versionLink is the link that Kubernetes swaps when it changes a mounted folder.
const versionLink = "..data"

// readDir reads the folder dir of the disk. It is how the worker and every tool
// read policies. Links are followed only within the folder. Where a link ..data
// exists, the folder that it points to is read, so that no read mixes two
// versions; a folder of that name is an ordinary folder.
func readDir(dir string) (*snapshot, error) {
	snap, err := openAndRead(dir)
	if err != nil {
		return nil, fmt.Errorf("policies in %s: read the folder: %w", dir, err)
	}
	return snap, nil
}

func openAndRead(dir string) (*snapshot, error) {
	root, err := os.OpenRoot(dir)
	if err != nil {
		return nil, err
	}
	defer root.Close() //nolint:errcheck // nothing was written
	info, err := root.Lstat(versionLink)
	if errors.Is(err, fs.ErrNotExist) || err == nil && info.Mode()&fs.ModeSymlink == 0 {
		return readFolder(root.FS())
	}
	if err != nil {
		return nil, err
	}
	version, err := root.OpenRoot(versionLink)
	if err != nil {
		return nil, errors.New(badLink(versionLink, err))
	}
	defer version.Close() //nolint:errcheck // nothing was written
	snap, err := readFolder(version.FS())
	if err != nil {
		return nil, err
	}
	if snap.version, err = root.Readlink(versionLink); err != nil {
		return nil, err
	}
	return snap, snap.checkMount(root)
}

// checkMount reports what is in the folder root next to the link ..data. Links to
// files through it are part of the mount; anything else is not read.
func (snap *snapshot) checkMount(root *os.Root) error {
	fsys := root.FS()
	list, err := fs.ReadDir(fsys, ".")
	if err != nil {
		return err
	}
	for _, f := range list {
		name := f.Name()
		snap.names = append(snap.names, name)
		if strings.HasPrefix(name, "..") {
			continue // the versions
		}
		if f.Type()&fs.ModeSymlink != 0 {
			to, err := root.Readlink(name)
			if err == nil && to == versionLink+"/"+name {
				continue
			}
		}
		text := "the file is not read: only what the link " + versionLink + " points to is read"
		if f.IsDir() {
			inside, err := firstPolicy(fsys, name)
			if inside == "" && err == nil {
				continue
			}
			text = "the folder is not read: only what the link " + versionLink + " points to is read"
		}
		snap.skip(name, f.IsDir() || policyLike(name), text, "put it where "+versionLink+" points to, or move it elsewhere")
	}
	snap.date(fsys, ".")
	info, err := root.Lstat(versionLink)
	if err != nil {
		return errChanging
	}
	snap.stamp(info)
	return nil
}

// readFolder reads all files of fsys that can be part of a set or of its tests,
// and notes what is left out.
func readFolder(fsys fs.FS) (*snapshot, error) {
	snap := &snapshot{files: make(map[string][]byte), tests: make(map[string][]byte), dated: true}
	list, err := fs.ReadDir(fsys, ".")
	if err != nil {
		return nil, err
	}
	total := int64(0)
	for _, f := range list {
		snap.names = append(snap.names, f.Name())
		into := snap.place(fsys, f)
		if into == nil {
			continue
		}
		content, err := readFile(fsys, f.Name(), maxFolder-total)
		switch {
		case errors.Is(err, fs.ErrNotExist):
			return nil, fmt.Errorf("%s: %w", f.Name(), errChanging)
		case err != nil:
			return nil, err
		}
		if total += int64(len(content)); total > maxFolder {
			return nil, fmt.Errorf("the files are larger than %d MiB in total; move other files out of the folder", maxFolder>>20)
		}
		into[f.Name()] = content
	}
	// The change times are looked at after the content, so that an old one proves
	// that the content was complete when it was read.
	again, err := fs.ReadDir(fsys, ".")
	if err != nil {
		return nil, err
	}
	if !slices.EqualFunc(list, again, func(a, b fs.DirEntry) bool { return a.Name() == b.Name() }) {
		return nil, errChanging
	}
	snap.date(fsys, ".")
	for _, name := range snap.names {
		snap.date(fsys, name)
	}
	return snap, nil
}

// readFile reads a file of at most a little more than most bytes.
func readFile(fsys fs.FS, name string, most int64) ([]byte, error) {
	f, err := fsys.Open(name)
	if err != nil {
		return nil, err
	}
	defer f.Close() //nolint:errcheck // nothing was written
	return io.ReadAll(io.LimitReader(f, most+1))
}

// place returns where the content of f belongs; nil if it is not read, which is
// noted where it may matter.
func (snap *snapshot) place(fsys fs.FS, f fs.DirEntry) map[string][]byte {
	name := f.Name()
	if !fs.ValidPath(name) {
		snap.skip(strings.ToValidUTF8(name, "?"), policyLike(name), "the file is not read: its name is not UTF-8", "rename it")
		return nil
	}
	if f.IsDir() {
		snap.folder(fsys, name)
		return nil
	}
	if text, hint := notRead(name); text != "" {
		snap.skip(name, policyLike(name), text, hint)
		return nil
	}
	into := snap.files
	switch ext := path.Ext(name); {
	case isTest(name):
		into = snap.tests
	case ext != ".yaml" && ext != ".txt":
		return nil
	}
	info, err := fs.Stat(fsys, name) // follows links, as those of a mounted folder
	switch {
	case err != nil && f.Type()&fs.ModeSymlink != 0:
		snap.skip(name, true, badLink(name, err), "link to a file in the folder, or put the file there")
		return nil
	case err != nil: // readFile reports it
	case info.IsDir():
		snap.folder(fsys, name)
		return nil
	case !info.Mode().IsRegular():
		snap.skip(name, true, "it is not read: it is not a regular file", "put a file there, or move it elsewhere")
		return nil
	}
	return into
}

// badLink says why a link cannot be followed. It does not name what the link
// points to.
func badLink(name string, err error) string {
	if errors.Is(err, fs.ErrNotExist) {
		return "the link " + name + " points to nothing"
	}
	if strings.Contains(err.Error(), "escapes") { // os.Root has no error value for it
		return "the link " + name + " leaves the folder, and links are followed only within it"
	}
	reason := err
	if e, ok := errors.AsType[*fs.PathError](err); ok {
		reason = e.Err
	}
	return "the link " + name + " cannot be followed: " + reason.Error()
}

// folder notes a folder in the folder: what is in it is not read.
func (snap *snapshot) folder(fsys fs.FS, name string) {
	inside, err := firstPolicy(fsys, name)
	switch {
	case name == ".git":
	case strings.HasPrefix(name, ".."):
		// A copy of a folder that Kubernetes mounted; its files lie in the folder itself, too.
		snap.skip(name, false, "the folder is not read: Kubernetes would make it a link", "delete it")
	case policyLike(name):
		snap.skip(name, true, "it is not read: it is a folder, and a policy is a file", "move its files up, or the folder elsewhere")
	case inside != "":
		snap.skip(name, true, "the folder is not read, and it contains "+path.Base(inside), "move its policies up, or the folder elsewhere")
	case err != nil:
		snap.skip(name, false, "the folder is not read, and it may contain policies", "move it elsewhere")
	}
}

// maxVisited is how many files of folders in the folder are looked at, to name
// policies that are not read.
const maxVisited = 10_000

// firstPolicy returns a file in the folder name that looks like a policy.
func firstPolicy(fsys fs.FS, name string) (found string, err error) {
	visited := 0
	err = fs.WalkDir(fsys, name, func(p string, f fs.DirEntry, err error) error {
		switch visited++; {
		case err != nil:
			return err
		case visited > maxVisited:
			return fs.SkipAll
		case p != name && policyLike(f.Name()):
			found = p
			return fs.SkipAll
		}
		return nil
	})
	return found, err
}

// skip notes that name is left out; fails makes it an error.
func (snap *snapshot) skip(name string, fails bool, text, hint string) {
	if strings.ContainsFunc(name, func(r rune) bool { return !unicode.IsPrint(r) }) {
		name = strconv.Quote(name)
	}
	f := strictyaml.Finding{Severity: strictyaml.SeverityWarning, Code: "left-out", File: name, Text: text, Hint: hint}
	if fails {
		f.Severity, f.Code = strictyaml.SeverityError, "file-name"
	}
	snap.skipped = append(snap.skipped, f)
}

// date takes the change time of name into account.
func (snap *snapshot) date(fsys fs.FS, name string) {
	info, err := fs.Stat(fsys, name)
	if err != nil {
		if info, err = fs.Lstat(fsys, name); err != nil {
			snap.dated = false
			return
		}
	}
	snap.stamp(info)
}

func (snap *snapshot) stamp(info fs.FileInfo) {
	at, ok := changeTime(info)
	snap.stamps = fmt.Appendf(snap.stamps, "%d %d %d,", info.Size(), info.ModTime().UnixNano(), at.UnixNano())
	snap.dated = snap.dated && ok
	if at.After(snap.changed) {
		snap.changed = at
	}
}

// stableAt reports whether nothing in the folder has changed for as long as
// span before now, by the change times. A time in the future proves nothing.
func (snap *snapshot) stableAt(now time.Time, span time.Duration) bool {
	return snap.dated && now.Sub(snap.changed) > span
}

// plain is name as it was perhaps meant: in lower case and without what is easily
// overlooked at its end.
func plain(name string) string {
	return strings.ToLower(strings.TrimRightFunc(name, func(r rune) bool { return r == '.' || unicode.IsSpace(r) }))
}

// policyLike reports whether people take a file called name for a policy, or for
// the test of one.
func policyLike(name string) bool {
	if strings.HasPrefix(name, ".#") { // an editor's lock
		return false
	}
	base := strings.TrimSuffix(plain(name), ".txt")
	return strings.HasSuffix(base, ".yaml") || strings.HasSuffix(base, ".yml")
}

// notRead says why a file of this name is not read and what to do; empty if it
// is read, or is nothing that anybody takes for a policy or a list of values.
func notRead(name string) (text, hint string) {
	const elsewhere, unread, ends = "or move it elsewhere", "the file is not read: its name ", "ends neither in .yaml nor in .txt"
	lower := plain(name)
	meant := strings.TrimLeft(strings.TrimSuffix(lower, ".txt"), ".")
	meant = strings.TrimSuffix(strings.TrimSuffix(meant, ".yaml"), ".yml") + ".yaml"
	dot, ext := strings.HasPrefix(name, "."), path.Ext(name)
	switch {
	case policyLike(name) && dot:
		return unread + "begins with a dot", "rename it to " + meant + ", " + elsewhere
	case !dot && (isTest(name) || ext == ".yaml" || ext == ".txt" && !policyLike(name)):
		return "", ""
	case policyLike(name):
		return unread + "does not end in .yaml", "rename it to " + meant + ", " + elsewhere
	case strings.Contains(lower, ".yaml"), strings.Contains(lower, ".yml"), strings.Contains(lower, ".txt"):
		return unread + "is not that of a policy or a value file", "delete it, " + elsewhere
	case !dot && slices.Contains([]string{".json", ".csv", ".lst", ".list"}, path.Ext(lower)),
		path.Ext(lower) == "" && !slices.Contains([]string{"license", "notice", "readme", "changelog", "makefile", "owners", "codeowners"}, lower):
		return unread + ends, "give it one of these endings, " + elsewhere
	}
	return "", ""
}

// isTest reports whether name is that of a test file.
func isTest(name string) bool {
	return strings.HasSuffix(name, "_test.yaml") || strings.HasSuffix(name, "_test.yml")
}

// digest identifies the files of snap with these names.
func (snap *snapshot) digest(names []string) string {
	h := sha256.New()
	for _, name := range slices.Sorted(slices.Values(names)) {
		h.Write(fmt.Appendf(nil, "%d:%s%d:", len(name), name, len(snap.files[name])))
		h.Write(snap.files[name])
	}
	return "sha256:" + hex.EncodeToString(h.Sum(nil))
}

// fingerprint identifies everything that the folder showed, whether or not it is
// part of a set.
func (snap *snapshot) fingerprint() string {
	h := sha256.New()
	add := func(text string, content []byte) {
		h.Write(fmt.Appendf(nil, "%d:%s%d:", len(text), text, len(content)))
		h.Write(content)
	}
	for _, m := range []map[string][]byte{snap.files, snap.tests} {
		for _, name := range slices.Sorted(maps.Keys(m)) {
			add(name, m[name])
		}
		add("/", nil)
	}
	for _, name := range snap.names {
		add(name, nil)
	}
	for _, f := range snap.skipped {
		add(f.File, []byte(f.Text))
	}
	return hex.EncodeToString(h.Sum(nil))
}

// left returns the findings about what is left out, for a folder that findings
// call dir.
func (snap *snapshot) left(dir string) []strictyaml.Finding {
	out := slices.Clone(snap.skipped)
	for i := range out {
		out[i].File = filepath.Join(dir, out[i].File)
	}
	return out
}
