package main

import (
	"github.com/spf13/cobra"

	"github.com/vpcep-approver/vpcep-approver/internal/approval"
	"github.com/vpcep-approver/vpcep-approver/internal/cli"
	"github.com/vpcep-approver/vpcep-approver/internal/scaffold"
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
		if err := scaffold.CompleteTarget(&target); err != nil {
			return cli.UsageError(c.CommandPath(), err)
		}
		written, err := scaffold.Write(dir, target)
		if err != nil {
			return err
		}
		return scaffold.PrintNext(c.OutOrStdout(), dir, env.ProgramName(), target, written)
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
