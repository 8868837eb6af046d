package config

import (
	"fmt"
	"strings"
)

// Docs is docs/settings.md.
func Docs() string {
	var b strings.Builder
	b.WriteString(`# Settings

Made by ` + "`worker config docs`" + ` from the table in ` + "`internal/config/settings.go`" + `; do not edit.

A setting comes from its flag, else its variable, else the file (` + "`--config`" + ` or
` + "`APPROVER_CONFIG`" + `; ` + "`worker.yaml`" + ` if it is there), else its default. Each has one name in
three spellings: ` + "`nats.url`" + ` in the file, ` + "`APPROVER_NATS_URL`, `--nats-url`" + `. A variable that is
empty counts as not set. A key of the file or a variable beginning with ` + "`APPROVER_`" + ` that is
not a setting is an error (but for ` + "`APPROVER_TEST_…`" + `, which tests use). Paths are taken from the
working directory. ` + "`worker config show`" + ` prints what is in effect and why.

| Setting | Value | Default | What it does |
| --- | --- | --- | --- |
`)
	cell := strings.NewReplacer("|", `\|`)
	code := func(s string) string {
		if s == "" {
			return ""
		}
		return "`" + s + "`"
	}
	rows := settings()
	for _, s := range rows {
		if !s.secret {
			fmt.Fprintf(&b, "| `%s` | %s | %s | %s |\n", s.key, cell.Replace(s.form), code(s.def), cell.Replace(s.doc))
		}
	}
	b.WriteString(`
## Targets

Only in the file: a list under ` + "`targets`" + `, each with these keys.

| Key | What it is |
| --- | --- |
`)
	for _, f := range targetFields() {
		fmt.Fprintf(&b, "| `%s` | %s |\n", f.key, f.doc)
	}
	fmt.Fprintf(&b, "| `%s` | %s |\n", targetPolicies, targetPoliciesDoc)
	b.WriteString(`
## Secrets

Never in the file, never a flag, never printed. Each variable may have ` + "`_FILE`" + ` after its
name and then names a file that holds the secret. They are read again whenever they are
needed, so a changed file needs no restart. A cloud credential in a file is looked at every
5 s while calls are made, so write the next one some seconds before the last one ends. The
variables are tried from left to right; the parts of one cloud credential come from one column.

| Secret | Variables |
| --- | --- |
`)
	for _, s := range rows {
		if s.secret {
			var names []string
			for _, v := range s.vars {
				names = append(names, code(v))
			}
			fmt.Fprintf(&b, "| %s | %s |\n", cell.Replace(s.doc), strings.Join(names, ", "))
		}
	}
	b.WriteString(`
## Color

` + "`--color` or `APPROVER_COLOR`" + `: ` + "`auto`, `always` or `never`" + `. Auto is color on a terminal, unless
` + "`NO_COLOR`" + ` is set.
`)
	return b.String()
}
