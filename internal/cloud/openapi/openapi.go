// Package openapi holds OpenAPI 3.1 documents of the cloud APIs that this
// program calls, written from the API reference. They say what may be sent and
// what may come back, so that tests can hold the client and the simulated cloud
// to something that neither of them is made from.
package openapi

import (
	"embed"
	"io/fs"
)

//go:embed *.yaml
var documents embed.FS

// Documents returns the documents, one file an API: "vpcep.yaml" and so on.
func Documents() fs.FS { return documents }
