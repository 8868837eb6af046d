package main

import (
	"encoding/json"
	"fmt"
	"io"
	"slices"
	"strings"
	"text/tabwriter"

	"github.com/spf13/cobra"
	"go.yaml.in/yaml/v4"
)

// outputFlag adds -o to a command that lists things.
func outputFlag(c *cobra.Command) *string {
	return c.Flags().StringP("output", "o", "table", "`table|json|yaml`")
}

// printAs writes v to the command's stdout: as JSON, as YAML with the same
// names, or by table, whose cells are separated by tabs.
func printAs(c *cobra.Command, format string, v any, table func(w io.Writer)) error {
	out := c.OutOrStdout()
	switch format {
	case "table":
		w := tabwriter.NewWriter(out, 0, 4, 2, ' ', 0)
		table(w)
		return w.Flush()
	case "json", "yaml":
		data, err := json.MarshalIndent(v, "", "  ")
		if err != nil {
			return fmt.Errorf("write as %s: %w", format, err)
		}
		if format == "yaml" {
			if data, err = yamlOf(data); err != nil {
				return fmt.Errorf("write as yaml: %w", err)
			}
		}
		_, err = fmt.Fprintln(out, strings.TrimRight(string(data), "\n"))
		return err
	}
	formats := []string{"table", "json", "yaml"}
	return usageError(c.CommandPath(), fmt.Errorf("-o %s: not one of %s%s", format, strings.Join(formats, ", "), didYouMean(suggest(format, formats))))
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

// colors decides whether w, stdout or stderr, gets colour: --color, else the
// variable, else only a terminal whose user did not set NO_COLOR.
func colors(c *cobra.Command, env environment, w io.Writer) (palette, error) {
	vars := env.variables()
	choice, from := "auto", ""
	if text := vars[colorVariable]; text != "" {
		choice, from = text, colorVariable
	}
	if f := c.Flags().Lookup("color"); f != nil && f.Changed {
		choice, from = f.Value.String(), "--color"
	}
	switch choice {
	case "always":
		return palette{on: true}, nil
	case "never":
		return palette{}, nil
	case "auto":
		return palette{on: env.IsTerminal(w) && vars["NO_COLOR"] == "" && vars["TERM"] != "dumb"}, nil
	}
	choices := []string{"auto", "always", "never"}
	slices.Sort(choices)
	return palette{}, usageError(c.CommandPath(), fmt.Errorf("%s %s: not one of %s", from, choice, strings.Join(choices, ", ")))
}
