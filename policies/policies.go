// Package policies holds the shipped examples: a gallery to start from, and what
// the demo runs with.
package policies

import "embed"

// Files are the example policies with their side files and tests.
//
//go:embed *.yaml *.txt
var Files embed.FS
