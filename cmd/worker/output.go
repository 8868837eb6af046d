package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"text/tabwriter"

	"github.com/spf13/cobra"
	"go.yaml.in/yaml/v4"
)

// choiceFlag is a flag that takes one of a few words.
type choiceFlag struct {
	text    string
	choices []string
	form    string // what --help calls a value; empty: all the words
}

func (f *choiceFlag) String() string { return f.text }

// Type is what --help shows for a value.
func (f *choiceFlag) Type() string {
	if f.form != "" {
		return f.form
	}
	return strings.Join(f.choices, "|")
}

func (f *choiceFlag) Set(text string) error {
	if !slices.Contains(f.choices, text) {
		return fmt.Errorf("not one of %s%s", strings.Join(f.choices, ", "), didYouMean(suggest(text, f.choices)))
	}
	f.text = text
	return nil
}

// outputFlag adds -o to a command: a table for people unless asked otherwise.
func outputFlag(c *cobra.Command) *choiceFlag {
	f := &choiceFlag{text: "table", choices: []string{"table", "json", "yaml"}}
	c.Flags().VarP(f, "output", "o", "how to print")
	completeFlag(c, "output", f.choices)
	return f
}

// completeFlag lets the shell complete the values of a flag of c.
func completeFlag(c *cobra.Command, name string, values []string) {
	// It fails for a flag that c does not have, and then there is nothing to complete.
	_ = c.RegisterFlagCompletionFunc(name, cobra.FixedCompletions(values, cobra.ShellCompDirectiveNoFileComp))
}

// row writes one row of a table.
type row func(cells ...string)

// printAs writes v to the command's stdout: as JSON, as YAML with the same
// names, or as the rows that table writes.
func printAs(c *cobra.Command, format *choiceFlag, v any, table func(row)) error {
	out := c.OutOrStdout()
	if format.text == "table" {
		w := tabwriter.NewWriter(out, 0, 4, 2, ' ', 0)
		var failed error
		table(func(cells ...string) {
			if _, err := fmt.Fprintln(w, strings.Join(cells, "\t")); err != nil && failed == nil {
				failed = err
			}
		})
		return errors.Join(failed, w.Flush())
	}
	data, err := json.MarshalIndent(v, "", "  ")
	if err == nil && format.text == "yaml" {
		data, err = yamlOf(data)
	}
	if err != nil {
		return fmt.Errorf("write as %s: %w", format.text, err)
	}
	_, err = fmt.Fprintln(out, strings.TrimRight(string(data), "\n"))
	return err
}

// yamlOf turns JSON into block-style YAML and keeps the order of keys.
func yamlOf(data []byte) ([]byte, error) {
	var n yaml.Node
	if err := yaml.Load(data, &n); err != nil {
		return nil, err
	}
	var plain func(n *yaml.Node)
	plain = func(n *yaml.Node) {
		n.Style = 0
		for _, c := range n.Content {
			plain(c)
		}
	}
	plain(&n)
	return yaml.Dump(&n)
}

// colorVariable chooses colour as --color does.
const colorVariable = envPrefix + "COLOR"

// palette colours words, or leaves them alone.
type palette struct{ on bool }

func (p palette) paint(code, s string) string {
	if !p.on {
		return s
	}
	return "\x1b[" + code + "m" + s + "\x1b[0m"
}

func (p palette) red(s string) string    { return p.paint("31", s) }
func (p palette) green(s string) string  { return p.paint("32", s) }
func (p palette) yellow(s string) string { return p.paint("33", s) }
func (p palette) dim(s string) string    { return p.paint("2", s) }
func (p palette) bold(s string) string   { return p.paint("1", s) }

// colorChoices are the values of --color.
func colorChoices() []string { return []string{"auto", "always", "never"} }

// colors decides whether w, stdout or stderr, gets colour: --color, else the
// variable, else only a terminal whose user did not set NO_COLOR.
func colors(c *cobra.Command, env environment, w io.Writer) palette {
	vars := env.variables()
	choice := vars[colorVariable]
	if f := c.Flags().Lookup("color"); f != nil && f.Changed {
		choice = f.Value.String()
	}
	switch choice {
	case "always":
		return palette{on: true}
	case "never":
		return palette{}
	}
	return palette{on: env.IsTerminal(w) && vars["NO_COLOR"] == "" && vars["TERM"] != "dumb"}
}
