// Package openapi has OpenAPI 3.1 documents of the called cloud APIs, written from the
// API reference. Tests check the requests of the client and the responses of the
// simulator against them.
package openapi

import (
	"embed"
	"io/fs"
)

//go:embed *.yaml
var documents embed.FS

// Documents returns the documents, one file for each API, such as "vpcep.yaml".
func Documents() fs.FS { return documents }
