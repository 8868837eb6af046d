package config

import (
	"slices"
	"strings"

	"github.com/vpcep-approver/vpcep-approver/internal/strictyaml"
)

// file is a configuration file while it is read.
type file struct {
	*loader
	*strictyaml.Reader
	keys     map[string]Setting // by place in the file
	sections []string           // "nats", "nats.tls"
}

// parse reads the file. Excerpts show no more than is sure not to be a secret.
func (l *loader) parse(name string, data []byte) {
	f := &file{loader: l, Reader: strictyaml.NewReader(name, data), keys: map[string]Setting{}, sections: []string{targetsKey}}
	f.Show = strictyaml.ShowPairs
	for _, s := range l.rows {
		f.keys[s.key] = s
		for i, r := range s.key {
			if section := s.key[:i]; r == '.' && !slices.Contains(f.sections, section) {
				f.sections = append(f.sections, section)
			}
		}
	}
	if root, ok := f.Root(); ok && root != nil && !strictyaml.Missing(root) {
		f.section("", root)
	}
	l.findings = append(l.findings, f.All()...)
}

// section reads a mapping of settings; path is its key, empty at the top.
func (f *file) section(path string, n *strictyaml.Node) {
	f.Pairs(n, "settings with their values", func(key, val *strictyaml.Node) {
		full := strings.TrimPrefix(path+"."+key.Value, ".")
		s, known := f.keys[full]
		switch {
		case full == targetsKey:
			f.targets(val)
		case known && s.secret:
			f.Fail(key, "secret", "a secret does not belong in the file",
				"set "+s.vars[0]+" or "+s.vars[0]+"_FILE, and change the secret if the file was shared")
		case known:
			f.setting(s, key, val)
		case slices.Contains(f.sections, full):
			if !strictyaml.Missing(val) { // "nats:" with all lines below commented out
				f.section(full, val)
			}
		default:
			f.UnknownKey(key, f.near(path, key.Value))
		}
	})
}

// setting reads the value of s.
func (f *file) setting(s Setting, key, val *strictyaml.Node) {
	text, ok := f.Text(val, "a value")
	if !ok {
		return
	}
	if err := s.set(&f.config, text); err != nil {
		at := val
		if maskURL(text) != text {
			at = key // the excerpt does not show the value
		}
		what, hint := cutHint(err.Error())
		f.Fail(at, "value", what, hint)
		return
	}
	f.config.values[s.key] = value{text: text, source: "file", place: f.File, at: strictyaml.At(val)}
}

// near asks for the key that was likely meant: a slip among its neighbors, or a
// setting that stands in another section.
func (f *file) near(path, key string) string {
	var candidates []string
	var elsewhere string
	for _, s := range f.rows {
		if s.secret {
			continue
		}
		if rest, ok := strings.CutPrefix(s.key, path+"."); ok || path == "" {
			if !ok {
				rest = s.key
			}
			name, _, _ := strings.Cut(rest, ".")
			candidates = append(candidates, name)
		}
		if elsewhere == "" && strings.HasSuffix(s.key, "."+key) {
			elsewhere = s.key
		}
	}
	if path == "" {
		candidates = append(candidates, targetsKey)
	}
	meant := elsewhere
	if near := strictyaml.Nearest(key, candidates); near != "" {
		meant = strings.TrimPrefix(path+"."+near, ".")
	}
	if meant == "" {
		return "see: worker config docs"
	}
	return "did you mean " + meant + "?"
}
