package main

import (
	"fmt"
	"io"
	"strings"

	"github.com/spf13/cobra"

	"github.com/vpcep-approver/vpcep-approver/internal/cli"
)

func newConfigCommand(env cli.Environment) *cobra.Command {
	c := &cobra.Command{Use: "config", Short: "Shows and documents the settings"}
	c.AddCommand(newConfigShowCommand(env), newConfigDocsCommand())
	return c
}

// shownSetting is a setting as config show prints it.
type shownSetting struct {
	Key    string `json:"key"`
	Value  string `json:"value"`
	Source string `json:"source"`
}

type shownTarget struct {
	Name        string   `json:"name"`
	Kind        string   `json:"kind"`
	ID          string   `json:"id,omitempty"`
	ProjectID   string   `json:"project_id"`
	ServiceID   string   `json:"service_id,omitempty"`
	WorkspaceID string   `json:"workspace_id,omitempty"`
	Enterprise  string   `json:"enterprise_project_id,omitempty"`
	Policies    []string `json:"policies,omitempty"`
}

func newConfigShowCommand(env cli.Environment) *cobra.Command {
	c := &cobra.Command{
		Use:   "show",
		Short: "Shows the settings in effect and where each comes from; secrets are masked",
	}
	output := cli.OutputFlag(c)
	addSettings(c.Flags())
	c.RunE = func(c *cobra.Command, _ []string) error {
		cfg, err := loadConfig(env, flagsOf(c))
		if err != nil {
			return err
		}
		shown := struct {
			File     string         `json:"file"`
			Settings []shownSetting `json:"settings"`
			Targets  []shownTarget  `json:"targets"`
		}{File: cfg.File, Settings: cfg.show(env), Targets: []shownTarget{}}
		for _, t := range cfg.Targets {
			var admitted []string
			if t.Policies != "" {
				admitted = strings.Split(t.Policies, ",")
			}
			shown.Targets = append(shown.Targets, shownTarget{t.Name, string(t.Kind), t.ID, t.ProjectID, t.ServiceID, t.WorkspaceID, t.EnterpriseProjectID, admitted})
		}
		return cli.Print(c, output, shown, func(row cli.Row) {
			row("SETTING", "VALUE", "SOURCE")
			for _, s := range shown.Settings {
				row(s.Key, cli.OrDash(s.Value), cli.OrDash(s.Source))
			}
			row()
			row("TARGET", "KIND", "ID", "PROJECT")
			for _, t := range shown.Targets {
				row(t.Name, t.Kind, cli.OrDash(t.ID), t.ProjectID)
			}
		})
	}
	return c
}

// show lists every setting; secrets say only that they are set.
func (c *Config) show(env cli.Environment) []shownSetting {
	l := loader{env: env, rows: settings(), variables: env.Variables()}
	secrets := l.secrets()
	var out []shownSetting
	for _, s := range l.rows {
		row := shownSetting{Key: s.key}
		if v, ok := c.values[s.key]; ok {
			row.Value, row.Source = maskURL(v.text), v.place
			if v.source == "default" {
				row.Source = "default"
			}
		}
		for _, name := range s.vars {
			if f, err := secrets.lookup(name); err != nil {
				row.Value, row.Source = "(unreadable)", name
				break
			} else if f.name != "" {
				row.Value, row.Source = "(set)", f.name
				break
			}
		}
		out = append(out, row)
	}
	return out
}

func newConfigDocsCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "docs",
		Short: "Prints the settings as a Markdown table",
		RunE: func(c *cobra.Command, _ []string) error {
			_, err := io.WriteString(c.OutOrStdout(), settingsDocs())
			return err
		},
	}
}

// settingsDocs is docs/settings.md.
func settingsDocs() string {
	var b strings.Builder
	b.WriteString(`# Settings

Made by ` + "`worker config docs`" + ` from the table in ` + "`cmd/worker/settings.go`" + `; do not edit.

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
name and then names a file that holds the secret. They are read anew whenever they are
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
## Colour

` + "`--color` or `APPROVER_COLOR`" + `: ` + "`auto`, `always` or `never`" + `. Auto is colour on a terminal, unless
` + "`NO_COLOR`" + ` is set.
`)
	return b.String()
}
