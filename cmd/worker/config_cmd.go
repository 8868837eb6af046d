package main

import (
	"io"
	"strings"

	"github.com/spf13/cobra"

	"github.com/vpcep-approver/vpcep-approver/internal/cli"
	"github.com/vpcep-approver/vpcep-approver/internal/config"
)

func newConfigCommand(env cli.Environment) *cobra.Command {
	c := &cobra.Command{Use: "config", Short: "Show and document the settings"}
	c.AddCommand(newConfigShowCommand(env), newConfigDocsCommand())
	return c
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
		Short: "Show the settings in effect and their sources; secrets are masked",
	}
	output := cli.OutputFlag(c)
	config.AddFlags(c.Flags())
	c.RunE = func(c *cobra.Command, _ []string) error {
		cfg, err := config.Load(env, config.FlagsOf(c))
		if err != nil {
			return err
		}
		shown := struct {
			File     string         `json:"file"`
			Settings []config.Shown `json:"settings"`
			Targets  []shownTarget  `json:"targets"`
		}{File: cfg.File, Settings: cfg.Show(env), Targets: []shownTarget{}}
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
