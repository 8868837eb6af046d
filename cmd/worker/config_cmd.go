package main

import (
	"io"

	"github.com/spf13/cobra"

	"github.com/vpcep-approver/vpcep-approver/internal/cli"
	"github.com/vpcep-approver/vpcep-approver/internal/config"
)

func newConfigCommand(env cli.Environment) *cobra.Command {
	c := &cobra.Command{Use: "config", Short: "Show and document the settings"}
	c.AddCommand(newConfigShowCommand(env), newConfigDocsCommand())
	return c
}

func newConfigShowCommand(env cli.Environment) *cobra.Command {
	c := &cobra.Command{
		Use:   "show",
		Short: "Show the settings in effect and their sources; secrets are masked",
	}
	output := cli.OutputFlag(c)
	config.AddFlags(c.Flags())
	c.RunE = func(c *cobra.Command, _ []string) error {
		cfg, err := config.Load(env, config.FlagsOf(c))
		if err != nil {
			return err
		}
		shown := cfg.Show(env)
		return cli.Print(c, output, shown, shown.Table)
	}
	return c
}

func newConfigDocsCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "docs",
		Short: "Print the settings as a Markdown table",
		RunE: func(c *cobra.Command, _ []string) error {
			_, err := io.WriteString(c.OutOrStdout(), config.Docs())
			return err
		},
	}
}
