package strictyaml

import (
	"fmt"
	"strconv"
	"time"
)

// Key is one key of a mapping that is read into a T: how it is read, and its
// description for docs and editors. D is what reads it: a *Reader, or what embeds one
// to know more.
type Key[D Decoder, T any] struct {
	Name string
	Doc  string
	Form Form
	Must bool
	Only string // the list whose entries have it; empty: all
	Read func(d D, n *Node, into *T)
}

// Field is a key that needs nothing but a Reader.
type Field[T any] = Key[*Reader, T]

// Decoder is a *Reader or embeds one.
type Decoder interface{ reader() *Reader }

func (r *Reader) reader() *Reader { return r }

// Form is how a value looks: in words, and as a JSON Schema.
type Form struct {
	Words  string
	Schema map[string]any
}

// ReadMapping reads n into into by table and reports keys that are unknown or
// missing. want says what was expected, such as "an entry".
func ReadMapping[D Decoder, T any](d D, n *Node, want string, table []Key[D, T], into *T) {
	r := d.reader()
	var seen uint64
	ok := r.Pairs(n, want, func(k, v *Node) {
		for i := range table {
			if table[i].Name == k.Value {
				seen |= 1 << i
				table[i].Read(d, v, into)
				return
			}
		}
		names := make([]string, 0, len(table))
		for i := range table {
			names = append(names, table[i].Name)
		}
		r.UnknownKey(k, Suggest(k.Value, names))
	})
	if !ok {
		return
	}
	for i := range table {
		if table[i].Must && seen&(1<<i) == 0 {
			r.Fail(n, "missing-key", fmt.Sprintf("missing key %q", table[i].Name), "add "+table[i].Name+": "+table[i].Form.Words)
		}
	}
}

// UnknownKey reports the key that Pairs is at. The finding is about the mapping, not
// about what is below the key.
func (r *Reader) UnknownKey(k *Node, hint string) {
	r.pop()
	defer r.push(k.Value, 0)
	if k.Value == "<<" {
		hint = "YAML merge keys are not supported: write the values out"
	}
	r.Fail(k, "unknown-key", fmt.Sprintf("unknown key %q", Cut(k.Value)), hint)
}

// TextForm is the form of a text that is not empty.
func TextForm(words string) Form {
	return Form{words, map[string]any{"type": "string", "minLength": 1}}
}

// TextField is a key of a text.
func TextField[T any](name, doc string, must bool, set func(*T, string)) Field[T] {
	return Field[T]{
		Name: name, Doc: doc, Must: must, Form: TextForm("a text"),
		Read: func(r *Reader, n *Node, into *T) {
			if s, ok := r.Text(n, "a text"); ok {
				set(into, s)
			}
		},
	}
}

// OptionalTextField is a key of a text, where "" means none.
func OptionalTextField[T any](name, doc string, set func(*T, string)) Field[T] {
	return Field[T]{
		Name: name, Doc: doc + ` "" for none.`, Form: Form{`a text, or "" for none`, map[string]any{"type": "string"}},
		Read: func(r *Reader, n *Node, into *T) {
			if n.Kind == Scalar && n.Value == "" && Quoted(n) && r.Plain(n) {
				set(into, "")
			} else if s, ok := r.Text(n, `a text, or "" for none`); ok {
				set(into, s)
			}
		},
	}
}

// TextsField is a key of a list of texts.
func TextsField[T any](name, doc string, set func(*T, []string)) Field[T] {
	return Field[T]{
		Name: name, Doc: doc, Form: Form{"a list of texts", map[string]any{"type": "array", "items": map[string]any{"type": "string"}}},
		Read: func(r *Reader, n *Node, into *T) {
			var out []string
			r.Items(n, "a list", func(_ int, item *Node) {
				if s, ok := r.Text(item, "a text"); ok {
					out = append(out, s)
				}
			})
			set(into, out)
		},
	}
}

// NumberField is a key of a whole number from 0.
func NumberField[T any](name, doc string, set func(*T, int64)) Field[T] {
	return Field[T]{
		Name: name, Doc: doc, Form: Form{"a whole number", map[string]any{"type": "integer", "minimum": 0}},
		Read: func(r *Reader, n *Node, into *T) {
			s, ok := r.Text(n, "a whole number")
			if !ok {
				return
			}
			v, err := strconv.ParseInt(s, 10, 64)
			if err != nil || v < 0 {
				r.wrongType(n, "a whole number", "write a number from 0")
				return
			}
			set(into, v)
		},
	}
}

// FlagField is a key of true or false.
func FlagField[T any](name, doc string, set func(*T, bool)) Field[T] {
	return Field[T]{
		Name: name, Doc: doc, Form: Form{"true or false", map[string]any{"type": "boolean"}},
		Read: func(r *Reader, n *Node, into *T) {
			if v, ok := r.Flag(n); ok {
				set(into, v)
			}
		},
	}
}

// DurationField is a key of a duration that is not negative.
func DurationField[T any](name, doc string, get func(*T) *time.Duration) Field[T] {
	const want = "a duration such as 500ms, 90s or 5m"
	return Field[T]{
		Name: name, Doc: doc, Form: Form{want, map[string]any{"type": "string"}},
		Read: func(r *Reader, n *Node, into *T) {
			s, ok := r.Text(n, want)
			if !ok {
				return
			}
			d, err := time.ParseDuration(s)
			if err != nil || d < 0 {
				r.wrongType(n, want, "write it in that form")
				return
			}
			*get(into) = d
		},
	}
}

// TimeField is a key of an instant.
func TimeField[T any](name, doc string, get func(*T) *time.Time) Field[T] {
	const want = "a time such as 2026-11-18T12:00:00Z"
	return Field[T]{
		Name: name, Doc: doc, Form: Form{want, map[string]any{"type": "string", "format": "date-time"}},
		Read: func(r *Reader, n *Node, into *T) {
			s, ok := r.Text(n, want)
			if !ok {
				return
			}
			at, err := time.Parse(time.RFC3339, s)
			if err != nil {
				r.Fail(n, "time", "got "+KindOf(n)+", want "+want, "write it in that form")
				return
			}
			*get(into) = at.UTC()
		},
	}
}

// MappingField is a key whose value is a mapping of table; ref is its name in the
// schema.
func MappingField[T, V any](name, doc, ref string, must bool, table []Field[V], get func(*T) *V) Field[T] {
	return Field[T]{
		Name: name, Doc: doc, Must: must, Form: Form{"a mapping, see below", map[string]any{"$ref": "#/$defs/" + ref}},
		Read: func(r *Reader, n *Node, into *T) { ReadMapping(r, n, "a mapping", table, get(into)) },
	}
}

// ListField is a key whose value is a list of mappings of table.
func ListField[T, V any](name, doc, ref string, must bool, table []Field[V], add func(*T, *V, *Node)) Field[T] {
	return Field[T]{
		Name: name, Doc: doc, Must: must,
		Form: Form{"a list of mappings, see below", map[string]any{"type": "array", "items": map[string]any{"$ref": "#/$defs/" + ref}}},
		Read: func(r *Reader, n *Node, into *T) {
			r.Items(n, "a list", func(_ int, item *Node) {
				v := new(V)
				ReadMapping(r, item, "a mapping", table, v)
				add(into, v, item)
			})
		},
	}
}
