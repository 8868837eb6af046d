package console

import (
	"bytes"
	"crypto/sha256"
	"embed"
	"encoding/hex"
	"fmt"
	"html/template"
	"io/fs"
	"net/http"
	"path"
	"strings"
	"time"

	"github.com/vpcep-approver/vpcep-approver/internal/cli"
)

//go:embed templates/*.html
var templateFiles embed.FS

//go:embed assets/*
var assetFiles embed.FS

// language is the pages in one language.
type language struct {
	Code  string // as in HTML
	Name  string
	pages map[string]*template.Template
}

// newLanguages parses the pages once for each language, so that html/template still
// escapes what is put into a text.
func newLanguages() (map[string]*language, error) {
	out := map[string]*language{}
	for i, code := range languageCodes() {
		l := &language{Code: code, Name: languageNames()[i], pages: map[string]*template.Template{}}
		base, err := template.New("").Funcs(functions(code)).ParseFS(templateFiles, "templates/layout.html", "templates/parts.html")
		if err != nil {
			return nil, fmt.Errorf("parse the layout: %w", err)
		}
		files, err := fs.Glob(templateFiles, "templates/*.html")
		if err != nil {
			return nil, err
		}
		for _, file := range files {
			page, err := template.Must(base.Clone()).ParseFS(templateFiles, file)
			if err != nil {
				return nil, fmt.Errorf("parse %s: %w", file, err)
			}
			l.pages[strings.TrimSuffix(path.Base(file), ".html")] = page
		}
		out[code] = l
	}
	return out, nil
}

// functions are what templates call.
func functions(code string) template.FuncMap {
	all := texts() // once: a row of the live page has a dozen of them
	return template.FuncMap{
		"T":   func(key string, args ...any) string { return say(all, code, key, args...) },
		"age": func(now, t time.Time) string { return cli.Age(now, t) },
		"left": func(now, t time.Time) string {
			if !t.After(now) {
				return "0s"
			}
			return cli.Age(t, now)
		},
		"time": func(t time.Time) string {
			if t.IsZero() {
				return "–"
			}
			return t.UTC().Format("2006-01-02 15:04:05 UTC")
		},
		"clock":   func(t time.Time) string { return t.UTC().Format(time.TimeOnly) },
		"machine": func(t time.Time) string { return t.UTC().Format(time.RFC3339) },
		"digest": func(s string) string {
			s = strings.TrimPrefix(s, "sha256:")
			return cli.OrDash(s[:min(len(s), 12)])
		},
		"dash":  func(s string) string { return cli.OrDash(s) },
		"join":  func(list []string) string { return strings.Join(list, ", ") },
		"asset": assetURL,
	}
}

// view is what every page gets.
type view struct {
	Lang      string
	Languages []*language
	Title     string // key
	Path      string // of this page, with its query
	Section   string // first part of the path
	Sections  []string
	Visitor   *visitor
	Now       time.Time
	Note      *note
	Problem   string // key of a text; empty: all is current
	Data      any
}

// render writes a page. What others wrote cannot turn the direction of the text.
func (c *Console) render(w http.ResponseWriter, r *http.Request, v *visitor, out response) {
	l := c.language(r)
	page := view{
		Lang: l.Code, Title: out.title, Path: r.URL.RequestURI(), Section: section(r.URL.Path), Sections: sections(), Visitor: v, Now: c.cfg.Now(), Data: out.data,
	}
	for _, code := range languageCodes() {
		page.Languages = append(page.Languages, c.pages[code])
	}
	if v != nil {
		page.Note = c.notes.find(r.URL.Query().Get("note"), v.Name)
		page.Problem = c.problem()
	}
	var b bytes.Buffer
	if err := l.pages[out.name].ExecuteTemplate(&b, "layout", page); err != nil {
		c.cfg.Log.Error().Err(err).Str("page", out.name).Msg("a page cannot be rendered")
		http.Error(w, "the page cannot be rendered; see the log of the console", http.StatusInternalServerError)
		return
	}
	h := w.Header()
	h.Set("Content-Type", "text/html; charset=utf-8")
	h.Add("Vary", "Accept-Language, Cookie")
	if out.status != 0 {
		w.WriteHeader(out.status)
	}
	_, _ = w.Write(visible(b.Bytes())) // a browser that hung up needs no page
}

// problem is what the person must know before anything else.
func (c *Console) problem() string {
	set := c.cfg.Policies.Current()
	switch {
	case !c.connected():
		return "problem.disconnected"
	case set.Digest() == "":
		return "problem.no_policies"
	case c.name(set) == "":
		return "problem.unknown_console"
	}
	return ""
}

// sections are the parts of the console, as in the navigation.
func sections() []string { return []string{"reviews", "live", "policies", "targets", "system"} }

func section(path string) string {
	first, _, _ := strings.Cut(strings.TrimPrefix(path, "/"), "/")
	if first == "requests" {
		return "reviews"
	}
	return first
}

// visible replaces the characters that are not seen, or turn the direction of text,
// by their code. Our own pages have none of them.
func visible(page []byte) []byte {
	if !bytes.ContainsFunc(page, hidden) {
		return page
	}
	var b bytes.Buffer
	for _, r := range string(page) {
		if hidden(r) {
			fmt.Fprintf(&b, "[U+%04X]", r)
		} else {
			b.WriteRune(r)
		}
	}
	return b.Bytes()
}

// hidden is cli.Hidden but for the white space of our own pages.
func hidden(r rune) bool { return r != '\n' && r != '\t' && cli.Hidden(r) }

// assetURL is where an asset is served. It changes with the content, so that browsers
// may keep it.
func assetURL(name string) (string, error) {
	data, err := assetFiles.ReadFile("assets/" + name)
	if err != nil {
		return "", err
	}
	sum := sha256.Sum256(data)
	return "/assets/" + name + "?v=" + hex.EncodeToString(sum[:6]), nil
}

func serveAsset(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("Cache-Control", "public, max-age=31536000, immutable")
	http.ServeFileFS(w, r, assetFiles, "assets/"+r.PathValue("name")) //nolint:gosec // G703: of files that are part of the program
}
