package config

import (
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"slices"
	"strings"

	"github.com/vpcep-approver/vpcep-approver/internal/cli"
	"github.com/vpcep-approver/vpcep-approver/internal/strictyaml"
)

// DefaultFile is read if it is there and no other is named.
const DefaultFile = "worker.yaml"

// fileVariable names the configuration file, as --config does.
const fileVariable = envPrefix + "CONFIG"

// Load puts flags over environment over file over defaults and checks all
// of it. The error holds everything that is wrong, and ends the process
// with exitInvalid.
func Load(env cli.Environment, flags Flags) (Config, error) {
	l := loader{
		env: env, rows: settings(), variables: env.Variables(),
		config: Config{values: map[string]value{}},
	}
	for _, s := range l.rows {
		if s.def != "" {
			l.apply(s, value{text: s.def, source: "default", place: "default of " + s.key})
		}
	}
	l.readFile(flags.File)
	l.readEnvironment()
	for _, s := range l.rows {
		if text, ok := flags.Values[s.key]; ok {
			l.apply(s, value{text: text, source: "flag", place: "--" + s.flag()})
		}
	}
	l.check()
	if len(l.findings) > 0 {
		return Config{}, cli.WithCode(cli.ExitInvalid, fmt.Errorf("configuration: %w", &strictyaml.Error{Findings: l.findings}))
	}
	return l.config, nil
}

// loader collects a configuration and everything that is wrong with it.
type loader struct {
	env       cli.Environment
	rows      []Setting
	variables map[string]string
	config    Config
	findings  []strictyaml.Finding
}

// problem reports what is wrong with what stands at where, and what to do.
func (l *loader) problem(where, what, hint string) { l.problemAt(value{place: where}, what, hint) }

// problemAt is problem of a value.
func (l *loader) problemAt(v value, what, hint string) {
	l.findings = append(l.findings, strictyaml.Finding{
		Severity: strictyaml.SeverityError, Code: "setting", File: v.place, Line: v.at.Line, Column: v.at.Column, Text: what, Hint: hint,
	})
}

// cutHint splits an error into what is wrong and, after a dash, what to do.
func cutHint(text string) (what, hint string) {
	what, hint, _ = strings.Cut(text, " — ")
	return what, hint
}

// apply takes a value that is not from the file.
func (l *loader) apply(s Setting, v value) {
	if err := s.set(&l.config, v.text); err != nil {
		what, hint := cutHint(err.Error())
		l.problemAt(v, what, hint)
		return
	}
	l.config.values[s.key] = v
}

// fileToRead returns the file named by the flag, by the environment or by
// default, and what named it; empty if nothing did.
func fileToRead(flag string, variables map[string]string) (name, from string) {
	switch {
	case flag != "":
		return flag, "--config"
	case variables[fileVariable] != "":
		return variables[fileVariable], fileVariable
	}
	return DefaultFile, ""
}

// Source says which file the configuration comes from, for people. It is
// told before anything is done by it.
func Source(env cli.Environment, flags Flags) string {
	name, from := fileToRead(flags.File, env.Variables())
	if from != "" {
		return name + ", named by " + from
	}
	if _, err := env.ReadFile(name); errors.Is(err, fs.ErrNotExist) {
		return "no file; flags, environment and defaults"
	}
	if path, err := filepath.Abs(name); err == nil {
		name = path
	}
	return name + ", found in the current folder"
}

// readFile reads the file named by the flag, by the environment or by default.
func (l *loader) readFile(flag string) {
	name, from := fileToRead(flag, l.variables)
	data, err := l.env.ReadFile(name)
	switch {
	case errors.Is(err, fs.ErrNotExist) && from == "":
		return
	case errors.Is(err, fs.ErrNotExist):
		l.problem(from, fmt.Sprintf("there is no file %s", name), "")
		return
	case err != nil:
		l.problem(name, "cannot be read: "+errors.Unwrap(err).Error(), "")
		return
	}
	l.config.File, l.config.Found = name, from == ""
	l.parse(name, data)
}

// readEnvironment takes the variables of the table and refuses every other one
// that begins like ours: it would be a setting that is silently ignored.
func (l *loader) readEnvironment() {
	known := []string{fileVariable, cli.ColorVariable}
	for _, s := range l.rows {
		if s.secret {
			for _, name := range s.vars {
				known = append(known, name, name+"_FILE")
			}
			continue
		}
		known = append(known, s.env())
		if text := l.variables[s.env()]; text != "" {
			l.apply(s, value{text: text, source: "environment", place: s.env()})
		}
	}
	if text := l.variables[cli.ColorVariable]; text != "" && !slices.Contains(cli.ColorChoices(), text) {
		l.problem(cli.ColorVariable, fmt.Sprintf("%q is not one of %s", text, strings.Join(cli.ColorChoices(), ", ")), "")
	}
	var unknown []string
	for name := range l.variables {
		if strings.HasPrefix(name, envPrefix) && !strings.HasPrefix(name, envPrefix+"TEST_") && !slices.Contains(known, name) {
			unknown = append(unknown, name)
		}
	}
	slices.Sort(unknown)
	for _, name := range unknown {
		hint := strictyaml.DidYouMean(name, known)
		switch {
		case hint != "":
		case strings.Contains(name, "_PORT") || strings.HasSuffix(name, "_SERVICE_HOST"):
			hint = "Kubernetes sets it for a Service of that name: set enableServiceLinks: false in the pod"
		default:
			hint = "unset it; see: worker config docs"
		}
		l.problem(name, "there is no such setting", hint)
	}
}
