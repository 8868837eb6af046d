// Package policies holds the example policies, which the demo uses, too.
package policies

import "embed"

// Files are the example policies with their value files and tests.
//
//go:embed *.yaml *.txt
var Files embed.FS
