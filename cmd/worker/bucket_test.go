package main

import (
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"maps"
	"path"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
)

// bucketWrites are the methods of a jetstream.KeyValue that change it. Streams and
// connections have no methods of these names, and jetstream.JetStream's differ.
var bucketWrites = []string{"Put", "PutString", "Create", "Update", "Delete", "Purge", "PurgeDeletes"}

// eachFile parses the shipped files of the tree.
func eachFile(t *testing.T, each func(file string, f *ast.File)) {
	t.Helper()
	root := filepath.Join("..", "..")
	err := filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		file := filepath.ToSlash(strings.TrimPrefix(path, root+string(filepath.Separator)))
		switch {
		case err != nil:
			return err
		case d.IsDir() && (strings.HasPrefix(d.Name(), ".") && path != root || d.Name() == "testdata" || file == "internal/tools"):
			return fs.SkipDir
		case d.IsDir() || !strings.HasSuffix(file, ".go") || strings.HasSuffix(file, "_test.go"):
			return nil
		}
		f, err := parser.ParseFile(token.NewFileSet(), path, nil, parser.ParseComments)
		if err != nil {
			return err
		}
		each(file, f)
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}

// TestOnlyTheLedgerWritesItsBucket: each key of the bucket has one owner. Only
// internal/ledger holds a bucket; internal/events opens it, and removes single keys for
// the ledger because the library has no removal that leaves no marker.
func TestOnlyTheLedgerWritesItsBucket(t *testing.T) {
	t.Parallel()
	mayName := map[string]bool{"internal/events/setup.go": true, "internal/natstest/natstest.go": true}                                    // jetstream.KeyValue
	mayAddress := map[string]bool{"internal/events/setup.go": true, "internal/events/rights.go": true, "internal/events/compare.go": true} // $KV.
	eachFile(t, func(file string, f *ast.File) {
		ledger := strings.HasPrefix(file, "internal/ledger/")
		ast.Inspect(f, func(n ast.Node) bool {
			switch n := n.(type) {
			case *ast.SelectorExpr:
				if x, ok := n.X.(*ast.Ident); ok && x.Name == "jetstream" && strings.HasPrefix(n.Sel.Name, "KeyValue") && !ledger && !mayName[file] {
					t.Errorf("%s uses jetstream.%s; only internal/ledger holds a bucket", file, n.Sel.Name)
				}
			case *ast.CallExpr:
				if s, ok := n.Fun.(*ast.SelectorExpr); ok && slices.Contains(bucketWrites, s.Sel.Name) && isBucket(s.X) && !ledger && file != "internal/natstest/natstest.go" {
					t.Errorf("%s calls %s of a bucket; only internal/ledger writes one", file, s.Sel.Name)
				}
			case *ast.BasicLit:
				if text, err := strconv.Unquote(n.Value); err == nil && n.Kind == token.STRING && strings.HasPrefix(text, "$KV") && !mayAddress[file] {
					t.Errorf("%s addresses a bucket by the subject %q", file, text)
				}
			}
			return true
		})
	})
}

// isBucket reports whether an expression is called as buckets are.
func isBucket(x ast.Expr) bool {
	switch x := x.(type) {
	case *ast.Ident:
		return x.Name == "kv" || x.Name == "bucket"
	case *ast.SelectorExpr:
		return x.Sel.Name == "kv" || x.Sel.Name == "bucket"
	}
	return false
}

// TestBucketKeysAreListed: the beginnings of keys that internal/ledger makes are those
// of its package comment, and each is made in one file.
func TestBucketKeysAreListed(t *testing.T) {
	t.Parallel()
	begins, listed := regexp.MustCompile(`^[a-z]+\.$`), regexp.MustCompile(`(?m)^\t([a-z]+\.)<`)
	madeIn, documented := map[string]string{}, []string{}
	eachFile(t, func(file string, f *ast.File) {
		if path.Dir(file) != "internal/ledger" {
			return
		}
		for _, m := range listed.FindAllStringSubmatch(f.Doc.Text(), -1) {
			documented = append(documented, m[1])
		}
		ast.Inspect(f, func(n ast.Node) bool {
			e, ok := n.(*ast.BinaryExpr)
			if !ok || e.Op != token.ADD {
				return true
			}
			lit, ok := e.X.(*ast.BasicLit)
			if !ok || lit.Kind != token.STRING {
				return true
			}
			if text, err := strconv.Unquote(lit.Value); err == nil && begins.MatchString(text) {
				if other := madeIn[text]; other != "" && other != file {
					t.Errorf("keys that begin with %q are made in %s and in %s", text, other, file)
				}
				madeIn[text] = file
			}
			return true
		})
	})
	slices.Sort(documented)
	if made := slices.Sorted(maps.Keys(madeIn)); !slices.Equal(made, documented) {
		t.Errorf("the ledger makes keys that begin with %q, its package comment lists %q", made, documented)
	}
}
