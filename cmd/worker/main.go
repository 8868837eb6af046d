// Command worker approves VPC endpoint connections on Huawei Cloud.
package main

import (
	"context"
	"os"
	"os/signal"
	"syscall"
	_ "time/tzdata" // hours of policies name time zones, and the image has no files of them

	"github.com/vpcep-approver/vpcep-approver/internal/cli"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
	context.AfterFunc(ctx, stop) // a second signal ends the process immediately
	os.Exit(execute(ctx, cli.ProcessEnvironment()))
}
