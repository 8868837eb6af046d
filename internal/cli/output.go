package cli

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"
	"text/tabwriter"

	"github.com/spf13/cobra"
	"go.yaml.in/yaml/v4"
)

// Row writes one row of a table.
type Row func(cells ...string)

// Print writes v to the command's stdout: as JSON, as YAML with the same
// names, or as the rows that table writes.
func Print(c *cobra.Command, format *ChoiceFlag, v any, table func(Row)) error {
	out := c.OutOrStdout()
	if format.Text == "table" {
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
	if err == nil && format.Text == "yaml" {
		data, err = yamlOf(data)
	}
	if err != nil {
		return fmt.Errorf("write as %s: %w", format.Text, err)
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

// WriteJSON writes v as JSON for people and machines.
func WriteJSON(w io.Writer, v any) error {
	enc := json.NewEncoder(w)
	enc.SetIndent("", "  ")
	enc.SetEscapeHTML(false)
	if err := enc.Encode(v); err != nil {
		return fmt.Errorf("write as json: %w", err)
	}
	return nil
}
