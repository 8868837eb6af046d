package config

import (
	"strings"

	"github.com/vpcep-approver/vpcep-approver/internal/cli"
)

// Shown is what config show prints: the settings in effect.
type Shown struct {
	File     string         `json:"file"`
	Settings []ShownSetting `json:"settings"`
	Targets  []ShownTarget  `json:"targets"`
}

// ShownSetting is a setting with its source.
type ShownSetting struct {
	Key    string `json:"key"`
	Value  string `json:"value"`
	Source string `json:"source"`
}

// ShownTarget is a target of the configuration.
type ShownTarget struct {
	Name        string   `json:"name"`
	Kind        string   `json:"kind"`
	ID          string   `json:"id,omitempty"`
	ProjectID   string   `json:"project_id"`
	ServiceID   string   `json:"service_id,omitempty"`
	WorkspaceID string   `json:"workspace_id,omitempty"`
	Enterprise  string   `json:"enterprise_project_id,omitempty"`
	Policies    []string `json:"policies,omitempty"`
}

// Show lists every setting and target; secrets say only that they are set.
func (c *Config) Show(env cli.Environment) Shown {
	out := Shown{File: c.File, Settings: c.showSettings(env), Targets: []ShownTarget{}}
	for _, t := range c.Targets {
		var admitted []string
		if t.Policies != "" {
			admitted = strings.Split(t.Policies, ",")
		}
		out.Targets = append(out.Targets, ShownTarget{t.Name, string(t.Kind), t.ID, t.ProjectID, t.ServiceID, t.WorkspaceID, t.EnterpriseProjectID, admitted})
	}
	return out
}

// Table writes the settings and the targets as the rows of a table.
func (s Shown) Table(row cli.Row) {
	row("SETTING", "VALUE", "SOURCE")
	for _, s := range s.Settings {
		row(s.Key, cli.OrDash(s.Value), cli.OrDash(s.Source))
	}
	row()
	row("TARGET", "KIND", "ID", "PROJECT")
	for _, t := range s.Targets {
		row(t.Name, t.Kind, cli.OrDash(t.ID), t.ProjectID)
	}
}

func (c *Config) showSettings(env cli.Environment) []ShownSetting {
	l := loader{env: env, rows: settings(), variables: env.Variables()}
	secrets := l.secrets()
	var out []ShownSetting
	for _, s := range l.rows {
		row := ShownSetting{Key: s.key}
		if v, ok := c.values[s.key]; ok {
			row.Value, row.Source = maskURL(v.text), v.where()
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
