package main

import (
	"fmt"
	"slices"

	"github.com/spf13/cobra"

	"github.com/vpcep-approver/vpcep-approver/docs"
	"github.com/vpcep-approver/vpcep-approver/internal/cli"
)

func newEventsCommand() *cobra.Command {
	c := &cobra.Command{Use: "events", Short: "Show the contract for producers and consumers of events"}
	c.AddCommand(newEventsSchemaCommand())
	return c
}

func newEventsSchemaCommand() *cobra.Command {
	c := &cobra.Command{
		Use:   "schema [name]",
		Short: "Print a JSON Schema or the AsyncAPI document, or list them",
		Long: `schema prints the JSON Schema (draft 2020-12) of an event or of what a command prints
with -o json, or the AsyncAPI document, which is called asyncapi. Without a name it
lists them. Schemas refer to one another by file name; --dir writes all of them to
a folder, from which code can be generated.`,
		Example: "  worker events schema result\n  worker events schema --dir contract",
		Args: func(c *cobra.Command, args []string) error {
			if names := docs.Names(); len(args) > 0 && !slices.Contains(names, args[0]) {
				return fmt.Errorf("there is no schema %q%s; list them with: worker events schema", args[0], cli.DidYouMean(args[0], names))
			}
			return cli.AtMost(1, "the name of a schema")(c, args)
		},
		ValidArgs: docs.Names(),
	}
	dir := c.Flags().String("dir", "", "`folder` to which all documents are written")
	c.RunE = func(c *cobra.Command, args []string) error {
		switch {
		case *dir != "":
			return docs.Write(*dir)
		case len(args) > 0:
			text, err := docs.Read(args[0])
			if err == nil {
				_, err = c.OutOrStdout().Write(text)
			}
			return err
		}
		for _, name := range docs.Names() {
			summary, err := docs.Summary(name)
			if err == nil {
				_, err = fmt.Fprintf(c.OutOrStdout(), "%-22s %s\n", name, summary)
			}
			if err != nil {
				return err
			}
		}
		return nil
	}
	return c
}
