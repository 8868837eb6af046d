package config

import (
	"errors"
	"slices"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

// settingFlag is a flag of a setting; the text is checked by Load, where
// all problems are reported together.
type settingFlag struct{ text, form string }

func (f *settingFlag) String() string { return f.text }

func (f *settingFlag) Type() string { return f.form }

func (f *settingFlag) Set(text string) error {
	if text == "" {
		return errors.New("no value")
	}
	f.text = text
	return nil
}

// AddFlags adds the flags of these settings, or sections of settings; of all that a
// worker needs but log, which every command has, if none is named.
func AddFlags(flags *pflag.FlagSet, chosen ...string) {
	for _, s := range settings() {
		wanted := slices.ContainsFunc(chosen, s.within)
		if len(chosen) == 0 {
			wanted = !strings.HasPrefix(s.key, "log.") && !strings.HasPrefix(s.key, "console.")
		}
		if s.secret || !wanted {
			continue
		}
		doc := s.doc
		if s.def != "" {
			doc += " (default " + s.def + ")"
		}
		f := flags.VarPF(&settingFlag{form: s.form}, s.flag(), "", strings.ReplaceAll(doc, "`", ""))
		if s.form == "bool" {
			f.NoOptDefVal = "true"
		}
	}
}

// ClientSettings are what a command needs that only speaks with the bus.
func ClientSettings() []string {
	return []string{"nats.url", "nats.data_dir", "nats.credentials_file", "nats.nkey_seed_file", "nats.allow_plaintext", "nats.domain", "nats.inbox_prefix", "nats.tls"}
}

// FlagsOf returns the settings that were given to c as flags.
func FlagsOf(c *cobra.Command) Flags {
	out := Flags{Values: map[string]string{}}
	if f := c.Flags().Lookup("config"); f != nil {
		out.File = f.Value.String()
	}
	for _, s := range settings() {
		if f := c.Flags().Lookup(s.flag()); f != nil && f.Changed && !s.secret {
			out.Values[s.key] = f.Value.String()
		}
	}
	return out
}

// Flags is what was said on the command line.
type Flags struct {
	File   string            // --config; empty: not given
	Values map[string]string // by the key of the setting; only flags that were given
}
