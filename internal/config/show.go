package config

import (
	"github.com/vpcep-approver/vpcep-approver/internal/cli"
)

// Shown is a setting as config show prints it.
type Shown struct {
	Key    string `json:"key"`
	Value  string `json:"value"`
	Source string `json:"source"`
}

// Show lists every setting; secrets say only that they are set.
func (c *Config) Show(env cli.Environment) []Shown {
	l := loader{env: env, rows: Settings(), variables: env.Variables()}
	secrets := l.secrets()
	var out []Shown
	for _, s := range l.rows {
		row := Shown{Key: s.key}
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
