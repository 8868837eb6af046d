package schematest

import (
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path/filepath"
	"reflect"
	"strings"
)

const module = "github.com/vpcep-approver/vpcep-approver/"

// comment is what the source says of a field behind it or above it.
func (r *Reflector) comment(typ reflect.Type, field string) string {
	pkg, ours := strings.CutPrefix(typ.PkgPath(), module)
	if !ours {
		return ""
	}
	if r.comments[pkg] == nil {
		r.comments[pkg] = r.read(pkg)
	}
	return r.comments[pkg][typ.Name()+"."+field]
}

// read returns the comments of all fields of a package.
func (r *Reflector) read(pkg string) map[string]string {
	dir, out := filepath.Join(Root(r.t), pkg), map[string]string{}
	entries, err := os.ReadDir(dir)
	if err != nil {
		r.t.Fatal(err)
	}
	for _, entry := range entries {
		if name := entry.Name(); !isSource(entry) {
			continue
		} else if file, err := parser.ParseFile(token.NewFileSet(), filepath.Join(dir, name), nil, parser.ParseComments|parser.SkipObjectResolution); err != nil {
			r.t.Fatal(err)
		} else {
			ast.Inspect(file, func(n ast.Node) bool {
				if spec, ok := n.(*ast.TypeSpec); ok {
					commentsOf(spec, out)
				}
				return true
			})
		}
	}
	return out
}

func isSource(entry fs.DirEntry) bool {
	return strings.HasSuffix(entry.Name(), ".go") && !strings.HasSuffix(entry.Name(), "_test.go")
}

func commentsOf(spec *ast.TypeSpec, out map[string]string) {
	of, ok := spec.Type.(*ast.StructType)
	if !ok {
		return
	}
	for _, field := range of.Fields.List {
		text := field.Comment.Text()
		if text == "" {
			text = field.Doc.Text()
		}
		for _, name := range field.Names {
			out[spec.Name.Name+"."+name.Name] = strings.Join(strings.Fields(text), " ")
		}
	}
}
