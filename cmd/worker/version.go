package main

import (
	"strings"

	"github.com/spf13/cobra"

	"github.com/vpcep-approver/vpcep-approver/internal/cli"
)

func newVersionCommand() *cobra.Command {
	c := &cobra.Command{Use: "version", Short: "Show the version of this build"}
	output := cli.OutputFlag(c)
	c.RunE = func(c *cobra.Command, _ []string) error {
		b := cli.ReadBuild()
		return cli.Print(c, output, b, func(row cli.Row) {
			parts := []string{"worker " + b.Version}
			if b.Commit != "" {
				parts = append(parts, "commit "+b.Commit)
			}
			row(strings.Join(append(parts, b.Go), ", "))
		})
	}
	return c
}
