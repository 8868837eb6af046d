package main

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"text/template"

	"github.com/spf13/cobra"

	"github.com/vpcep-approver/vpcep-approver/internal/approval"
	"github.com/vpcep-approver/vpcep-approver/internal/cli"
	"github.com/vpcep-approver/vpcep-approver/internal/config"
	"github.com/vpcep-approver/vpcep-approver/internal/policy/workbench"
)

func newInitCommand(env cli.Environment) *cobra.Command {
	c := &cobra.Command{
		Use:   "init [folder]",
		Short: "Write a configuration and a first policy to a folder of their own",
		Long: `init writes a commented worker.yaml, a starter policy and its tests to a folder,
which is made if it is not there, and prints the next steps. The policy is right as
it is, and allows only an account that belongs to nobody. Nothing is overwritten.`,
		Example: "  worker init approver --id 4189d3c2-8882-4871-a3c2-d380272eed88 --project-id 0123456789abcdef0123456789abcdef\n  worker init approver --target orders --kind gateway",
		Args:    cli.AtMost(1, "one folder"),
	}
	f := c.Flags()
	target := approval.Target{}
	f.StringVar(&target.Name, "target", "payments", "`name` of the first target")
	kind := &cli.ChoiceFlag{Text: string(approval.Service), Choices: kindNames()}
	f.Var(kind, "kind", "kind of the target")
	f.StringVar(&target.ID, "id", "", "`id` of the endpoint service or gateway")
	f.StringVar(&target.ProjectID, "project-id", "", "`id` of the project that the target belongs to")
	f.StringVar(&target.WorkspaceID, "workspace-id", "", "`id` of the DataArts Insight workspace")
	f.StringVar(&target.Region, "region", "cn-north-4", "`region` of the target")
	cli.CompleteFlag(c, "kind", kindNames())
	c.RunE = func(c *cobra.Command, args []string) error {
		dir := "approver"
		if len(args) > 0 {
			dir = args[0]
		}
		target.Kind = approval.TargetKind(kind.Text)
		if err := completeTarget(&target); err != nil {
			return cli.UsageError(c.CommandPath(), err)
		}
		written, err := writeInit(dir, target)
		if err != nil {
			return err
		}
		return template.Must(template.New("next").Parse(initNext)).Execute(c.OutOrStdout(), map[string]any{
			"Written": written, "Dir": dir, "Target": target, "Placeholders": hasPlaceholder(target),
			"Connections": !target.Kind.Creates(), "Program": programName(env),
		})
	}
	return c
}

// kindNames lists the kinds of target.
func kindNames() []string {
	var out []string
	for _, k := range approval.TargetKinds() {
		out = append(out, string(k))
	}
	return out
}

// programName is how the next steps call this program: by the path it was started
// with, unless `go run` made it.
func programName(env cli.Environment) string {
	if env.Program == "" || strings.Contains(env.Program, "go-build") {
		return "worker"
	}
	if path, err := filepath.Abs(env.Program); err == nil && strings.ContainsRune(env.Program, filepath.Separator) {
		return path // the next steps change the folder
	}
	return env.Program
}

// completeTarget checks what was said of the target and puts placeholders where
// nothing was.
func completeTarget(t *approval.Target) error {
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

// writeInit writes everything and returns the names of what it wrote.
func writeInit(dir string, t approval.Target) ([]string, error) {
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
