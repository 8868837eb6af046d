// Package scaffold writes the folder that worker init makes: a configuration, a
// starter policy and its tests.
package scaffold

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"text/template"

	"github.com/vpcep-approver/vpcep-approver/internal/approval"
	"github.com/vpcep-approver/vpcep-approver/internal/cli"
	"github.com/vpcep-approver/vpcep-approver/internal/config"
	"github.com/vpcep-approver/vpcep-approver/internal/policy/workbench"
)

// CompleteTarget checks what was said of the target and puts placeholders where
// nothing was.
func CompleteTarget(t *approval.Target) error {
	if err := approval.ValidName(t.Name); err != nil {
		return fmt.Errorf("--target: %w", err)
	}
	if err := config.ValidRegion(t.Region); err != nil {
		return fmt.Errorf("--region: %w", err)
	}
	ids := []struct {
		flag string
		id   *string
		used bool
	}{
		{"--id", &t.ID, !t.Kind.Creates()},
		{"--project-id", &t.ProjectID, true},
		{"--workspace-id", &t.WorkspaceID, t.Kind == approval.DataArtsInsight},
	}
	for _, x := range ids {
		switch {
		case !x.used && *x.id != "":
			return fmt.Errorf("%s: a target of kind %s has none; leave it out", x.flag, t.Kind)
		case !x.used:
		case *x.id == "":
			*x.id = config.PlaceholderID
		default:
			if err := approval.ValidID(*x.id); err != nil {
				return fmt.Errorf("%s: %w", x.flag, err)
			}
		}
	}
	return nil
}

func hasPlaceholder(t approval.Target) bool {
	return config.IsPlaceholder(t.ID) || config.IsPlaceholder(t.ProjectID) || config.IsPlaceholder(t.WorkspaceID)
}

// Write writes everything and returns the names of what it wrote.
func Write(dir string, t approval.Target) ([]string, error) {
	file := filepath.Join(dir, config.DefaultFile)
	if _, err := os.Lstat(file); err == nil {
		return nil, cli.WithCode(cli.ExitInvalid, fmt.Errorf("%s is there already, and nothing was written: choose another folder", file))
	}
	var text strings.Builder
	config := template.Must(template.New(config.DefaultFile).Funcs(template.FuncMap{"placeholder": config.IsPlaceholder}).Parse(initConfig))
	if err := config.Execute(&text, t); err != nil {
		return nil, fmt.Errorf("write %s: %w", file, err)
	}
	written, err := workbench.WriteStarter(filepath.Join(dir, "policies"), t.Name, t)
	if err != nil {
		return nil, err
	}
	if err := workbench.WriteNew(file, []byte(text.String())); err != nil {
		return nil, errors.Join(fmt.Errorf("write %s: %w", file, err), fmt.Errorf("%d files were written: %s", len(written), strings.Join(written, ", ")))
	}
	return append([]string{file}, written...), nil
}

// PrintNext says what was written and what to do next with program.
func PrintNext(w io.Writer, dir, program string, t approval.Target, written []string) error {
	return template.Must(template.New("next").Parse(initNext)).Execute(w, map[string]any{
		"Written": written, "Dir": dir, "Target": t, "Placeholders": hasPlaceholder(t),
		"Connections": !t.Kind.Creates(), "Program": program,
	})
}

// initConfig is a new worker.yaml.
const initConfig = `# Settings of the worker. All others have defaults: worker config docs
nats:
  # A NATS server inside the worker, to begin with. In production name your own,
  # such as tls://nats.example.org:4222, and set nats.credentials_file.
  url: embedded
  data_dir: data
cloud:
  region: {{.Region}}
  # aksk: HUAWEICLOUD_SDK_AK and HUAWEICLOUD_SDK_SK; others: token, password
  auth: {mode: aksk}
targets:
  - name: {{.Name}}
    kind: {{.Kind}}
{{- with .ID}}
    id: {{.}}{{if placeholder .}} # replace: the id of the {{$.Kind}}{{end}}
{{- end}}
    project_id: {{.ProjectID}}{{if placeholder .ProjectID}} # replace: the id of the project{{end}}
{{- with .WorkspaceID}}
    workspace_id: {{.}}{{if placeholder .}} # replace: the id of the workspace{{end}}
{{- end}}
policies:
  dir: policies
`

// initNext says what was written and what to do next.
const initNext = `{{range .Written}}wrote {{.}}
{{end}}
next:
  cd {{.Dir}}
{{- if .Placeholders}}
  # replace the ids in worker.yaml that consist of zeros
{{- end}}
  {{.Program}} policy test policies
  export HUAWEICLOUD_SDK_AK=… HUAWEICLOUD_SDK_SK=…
  {{.Program}} doctor
  {{.Program}} run

Everything is held until you allow it: put {{if .Connections}}the account ids of your consumers{{else}}your own ids{{end}}
into policies/{{.Target.Name}}.yaml, and what you expect into its tests.
`
