package config

import (
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"strings"

	"github.com/vpcep-approver/vpcep-approver/internal/cli"
	"github.com/vpcep-approver/vpcep-approver/internal/cloud"
)

// secrets reads secrets from variables, or from the files that variables name.
type secrets struct {
	rows      map[string]Setting
	variables map[string]string
	readFile  func(string) ([]byte, error)
}

func (l *loader) secrets() secrets {
	s := secrets{rows: map[string]Setting{}, variables: l.variables, readFile: l.env.ReadFile}
	for _, row := range l.rows {
		if row.secret {
			s.rows[row.key] = row
		}
	}
	return s
}

// found is a secret and the variable that it came by; name is empty if there is
// no secret.
type found struct{ text, name string }

// lookup reads the secret of a variable, or of the file that the variable with
// "_FILE" after it names. Errors hold no secret and do not repeat the name.
func (s secrets) lookup(name string) (found, error) {
	direct, path := s.variables[name], s.variables[name+"_FILE"]
	switch {
	case direct != "" && path != "":
		return found{}, fmt.Errorf("%s_FILE is set too — keep one of them", name)
	case path == "":
		if direct == "" {
			return found{}, nil
		}
		return found{direct, name}, nil
	}
	data, err := s.readFile(path)
	if err != nil {
		if e, ok := errors.AsType[*fs.PathError](err); ok {
			err = e.Err
		}
		return found{}, fmt.Errorf("%s_FILE: %s cannot be read: %w", name, path, err)
	}
	text := strings.TrimRight(string(data), "\r\n")
	if text == "" || strings.ContainsAny(text, "\r\n\x00") {
		return found{}, fmt.Errorf("%s_FILE: %s holds no single line of text", name, path)
	}
	return found{text, name + "_FILE"}, nil
}

// family is one way to name the variables of a credential. The parts of a
// credential come from one family, so that a stale variable of another cannot
// get between them.
type family struct {
	parts []found
	names []string // of the variables that were tried
}

// pick reads the secrets with these keys from the first family that has any.
func (s secrets) pick(keys []string) (family, error) {
	var none family
	for i := range len(s.rows[keys[0]].vars) {
		f := family{}
		some := false
		for _, key := range keys {
			name := s.rows[key].vars[i]
			part, err := s.lookup(name)
			if err != nil {
				return family{}, fmt.Errorf("%s: %w", name, err)
			}
			some = some || part.name != ""
			f.parts, f.names = append(f.parts, part), append(f.names, name)
		}
		if some {
			return f, nil
		}
		none.names = append(none.names, f.names...)
	}
	none.parts = make([]found, len(keys))
	return none, nil
}

// authMode tells which secrets a mode of authentication takes.
type authMode struct{ needed, optional []string }

func authModes() map[string]authMode {
	return map[string]authMode{
		cloud.ModeAKSK:     {needed: []string{"cloud.access_key", "cloud.secret_key"}, optional: []string{"cloud.security_token"}},
		cloud.ModeToken:    {needed: []string{"cloud.token"}},
		cloud.ModePassword: {needed: []string{"cloud.user", "cloud.password", "cloud.domain"}},
	}
}

// readCredentials reads what mode needs. A missing part ends the process with
// exitInvalid and says which variables to set.
func readCredentials(s secrets, mode string) (cloud.Credentials, error) {
	m := authModes()[mode]
	fail := func(err error) (cloud.Credentials, error) {
		return cloud.Credentials{}, cli.WithCode(cli.ExitInvalid, fmt.Errorf("cloud credentials (cloud.auth.mode: %s): %w", mode, err))
	}
	keys := slices.Concat(m.needed, m.optional)
	got, err := s.pick(keys)
	if err != nil {
		return fail(err)
	}
	var missing []string
	for i := range m.needed {
		if got.parts[i].name == "" {
			missing = append(missing, got.names[i])
		}
	}
	switch {
	case len(missing) == len(m.needed):
		var ways []string
		for i := range s.rows[keys[0]].vars {
			var names []string
			for _, key := range m.needed {
				names = append(names, s.rows[key].vars[i])
			}
			ways = append(ways, strings.Join(names, ", "))
		}
		return fail(fmt.Errorf("not set — set %s (or each with _FILE, naming a file), or another cloud.auth.mode", strings.Join(ways, "; or ")))
	case len(missing) > 0:
		return fail(fmt.Errorf("%s not set — a credential comes from variables of one family", strings.Join(missing, ", ")))
	}
	part := func(key string) string {
		if i := slices.Index(keys, key); i >= 0 {
			return got.parts[i].text
		}
		return ""
	}
	return cloud.Credentials{
		AccessKey: part("cloud.access_key"), SecretKey: part("cloud.secret_key"), SecurityToken: part("cloud.security_token"),
		Token: part("cloud.token"),
		User:  part("cloud.user"), Password: part("cloud.password"), Domain: part("cloud.domain"),
	}, nil
}

// natsUser returns how user and password are read; nil if neither is set.
func (l *loader) natsUser() func() (user, password string, err error) {
	s := l.secrets()
	keys := []string{"nats.user", "nats.password"}
	got, err := s.pick(keys)
	if err == nil && got.parts[0].name == "" && got.parts[1].name == "" {
		return nil
	}
	read := func() (user, password string, err error) {
		got, err := s.pick(keys)
		switch {
		case err != nil:
			return "", "", cli.WithCode(cli.ExitInvalid, fmt.Errorf("NATS credentials: %w", err))
		case got.parts[0].text == "" || got.parts[1].text == "":
			return "", "", cli.WithCode(cli.ExitInvalid, fmt.Errorf("NATS credentials: set both %s and %s", got.names[0], got.names[1]))
		}
		return got.parts[0].text, got.parts[1].text, nil
	}
	if _, _, readErr := read(); err == nil && readErr != nil {
		l.problem("nats", readErr.Error(), "")
	}
	return read
}
