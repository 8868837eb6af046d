package config

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"go.yaml.in/yaml/v4"
)

// WebConfig returns the content of a web configuration, as of Prometheus'
// exporter-toolkit, with the certificates that it names in place of their paths.
// It is an error if it has no TLS or no user. Other settings are not checked.
func WebConfig(file string) ([]byte, error) {
	text, err := os.ReadFile(file) //nolint:gosec // the operator names the file
	if err != nil {
		return nil, err
	}
	var doc struct {
		TLS   map[string]any    `yaml:"tls_server_config"`
		Users map[string]string `yaml:"basic_auth_users"`
		Other map[string]any    `yaml:",inline"`
	}
	if err := yaml.Unmarshal(text, &doc); err != nil {
		return nil, err
	}
	for _, part := range []string{"cert", "key", "client_ca"} {
		name, ok := doc.TLS[part+"_file"].(string)
		if !ok || name == "" {
			continue
		}
		if !filepath.IsAbs(name) {
			name = filepath.Join(filepath.Dir(file), name)
		}
		pem, err := os.ReadFile(name) //nolint:gosec // the operator names the file
		if err != nil {
			return nil, fmt.Errorf("tls_server_config.%s_file: %w", part, err)
		}
		delete(doc.TLS, part+"_file")
		doc.TLS[part] = string(pem)
	}
	cert, _ := doc.TLS["cert"].(string)
	key, _ := doc.TLS["key"].(string)
	switch {
	case cert == "" || key == "":
		return nil, errors.New("no TLS: set cert_file and key_file in tls_server_config, or passwords would cross the network in clear")
	case len(doc.Users) == 0:
		return nil, errors.New("no user: name at least one in basic_auth_users, or everybody is let in")
	}
	return yaml.Marshal(doc)
}
