// Package schematest makes the JSON Schemas in docs/schema from the Go types that are
// read and written as JSON, and validates documents by them. Only tests import it.
package schematest

import (
	"encoding"
	"encoding/json"
	"maps"
	"reflect"
	"strings"
	"testing"
	"time"
	"unicode"
)

// Draft is the dialect of the schemas.
const Draft = "https://json-schema.org/draft/2020-12/schema"

// Reflector makes JSON Schemas of Go types. A member without omitzero or omitempty is
// required. The comment of a field becomes the description of its member.
type Reflector struct {
	// Strict refuses members that a type does not have: of what is read. What is
	// published must allow them, so that a newer version may say more.
	Strict bool
	// Extra adds what a Go type cannot say, by "Type" and by "Type.member", with the
	// names of the Go types.
	Extra map[string]map[string]any
	// Refs names types that another document defines.
	Refs map[reflect.Type]string

	t    *testing.T
	root reflect.Type // that the document is of, if that is a struct
	// recursive says that root holds itself.
	recursive bool
	defs      map[string]any
	used      map[string]bool
	comments  map[string]map[string]string // by package: "Type.Field" to text
}

// Document returns a schema as text. shape is a Type, or a schema as a map in which a
// Type stands for its schema.
func (r *Reflector) Document(t *testing.T, title, description string, shape any) string {
	t.Helper()
	r.t, r.defs, r.used, r.comments = t, map[string]any{}, map[string]bool{}, map[string]map[string]string{}
	r.root, r.recursive = nil, false
	var root map[string]any
	if typ, ok := shape.(Type); ok && typ.Kind() == reflect.Struct {
		r.root = typ.Type
		if root = r.object(typ.Type); r.recursive { // code generators do not know references to the whole
			r.defs[Name(typ.Type)] = root
			root = map[string]any{"$ref": "#/$defs/" + Name(typ.Type)}
		}
	} else {
		root, _ = r.resolve(shape).(map[string]any)
	}
	root["$schema"], root["title"], root["description"] = Draft, title, description
	if len(r.defs) > 0 {
		root["$defs"] = r.defs
	}
	for key := range r.Extra {
		if !r.used[key] {
			t.Errorf("schema %s: nothing is called %s", title, key)
		}
	}
	return Text(t, root)
}

// Text returns v as the JSON of a file.
func Text(t *testing.T, v any) string {
	t.Helper()
	var b strings.Builder
	enc := json.NewEncoder(&b)
	enc.SetIndent("", "  ")
	enc.SetEscapeHTML(false)
	if err := enc.Encode(v); err != nil {
		t.Fatal(err)
	}
	return b.String()
}

// Type stands for the schema of a type in the shape of a document.
type Type struct{ reflect.Type }

// Of returns the schema of T in the shape of a document.
func Of[T any]() Type { return Type{reflect.TypeFor[T]()} }

// resolve replaces each Type in v by its schema.
func (r *Reflector) resolve(v any) any {
	switch v := v.(type) {
	case Type:
		return r.schema(v.Type)
	case map[string]any:
		out := map[string]any{}
		for key, value := range v {
			out[key] = r.resolve(value)
		}
		return out
	}
	return v
}

func (r *Reflector) schema(typ reflect.Type) map[string]any {
	if ref, ok := r.Refs[typ]; ok {
		return map[string]any{"$ref": ref}
	}
	switch {
	case typ == r.root:
		r.recursive = true
		return map[string]any{"$ref": "#/$defs/" + Name(typ)}
	case typ == reflect.TypeFor[time.Time]():
		return map[string]any{"type": "string", "format": "date-time"}
	case typ == reflect.TypeFor[json.RawMessage]():
		return map[string]any{}
	case typ.Kind() != reflect.Pointer && typ.Implements(reflect.TypeFor[encoding.TextMarshaler]()):
		return r.extended(typ.Name(), map[string]any{"type": "string"})
	}
	switch typ.Kind() {
	case reflect.Pointer:
		return r.schema(typ.Elem())
	case reflect.String:
		return r.extended(named(typ), map[string]any{"type": "string"})
	case reflect.Bool:
		return map[string]any{"type": "boolean"}
	case reflect.Int, reflect.Int64:
		return map[string]any{"type": "integer"}
	case reflect.Uint64:
		return map[string]any{"type": "integer", "minimum": 0}
	case reflect.Float64:
		return map[string]any{"type": "number"}
	case reflect.Slice:
		return map[string]any{"type": "array", "items": r.schema(typ.Elem())}
	case reflect.Map:
		if typ.Elem().Kind() == reflect.Interface {
			return map[string]any{"type": "object"}
		}
		return map[string]any{"type": "object", "additionalProperties": r.schema(typ.Elem())}
	case reflect.Struct:
		name := Name(typ)
		if _, ok := r.defs[name]; !ok {
			r.defs[name] = nil // a type may hold itself
			r.defs[name] = r.object(typ)
		}
		return map[string]any{"$ref": "#/$defs/" + name}
	default:
		r.t.Fatalf("%s: a type that schemas do not have", typ)
		return nil
	}
}

// named is the name of a type that is ours, else empty.
func named(typ reflect.Type) string {
	if typ.PkgPath() == "" {
		return ""
	}
	return typ.Name()
}

// extended adds what Extra says of key.
func (r *Reflector) extended(key string, schema map[string]any) map[string]any {
	if extra, ok := r.Extra[key]; ok && key != "" {
		r.used[key] = true
		maps.Copy(schema, extra)
	}
	return schema
}

func (r *Reflector) object(typ reflect.Type) map[string]any {
	properties, required := map[string]any{}, []string{}
	r.members(typ, properties, &required)
	out := map[string]any{"type": "object", "properties": properties}
	if len(required) > 0 {
		out["required"] = required
	}
	if r.Strict {
		out["additionalProperties"] = false
	}
	return r.extended(typ.Name(), out)
}

func (r *Reflector) members(typ reflect.Type, properties map[string]any, required *[]string) {
	last := ""
	for field := range typ.Fields() {
		name, options, _ := strings.Cut(field.Tag.Get("json"), ",")
		switch {
		case field.Anonymous && name == "":
			r.members(field.Type, properties, required)
			continue
		case name == "-" || !field.IsExported():
			continue
		case name == "":
			r.t.Fatalf("%s.%s has no JSON name", typ, field.Name)
		}
		schema := r.schema(field.Type)
		if strings.Contains(options, "string") {
			schema = map[string]any{"type": "string", "pattern": "^-?[0-9]+$"}
		}
		text := r.comment(typ, field.Name)
		if text == "likewise" {
			text = last
		}
		if last = text; text != "" {
			schema["description"] = text
		}
		properties[name] = r.extended(typ.Name()+"."+name, schema)
		if !strings.Contains(options, "omitzero") && !strings.Contains(options, "omitempty") {
			*required = append(*required, name)
		}
	}
}

// Name is what the definition of a type is called: without what tells wire types from
// others in the code.
func Name(typ reflect.Type) string {
	name := typ.Name()
	for _, prefix := range []string{"wire", "shown", "stored"} {
		name = strings.TrimPrefix(name, prefix)
	}
	for _, suffix := range []string{"Record", "Result", "JSON", "Data"} {
		if short := strings.TrimSuffix(name, suffix); short != "" {
			name = short
		}
	}
	letters := []rune(name)
	letters[0] = unicode.ToUpper(letters[0])
	return string(letters)
}
