package openapi

import (
	"io/fs"
	"slices"
	"testing"
)

func TestDocuments(t *testing.T) {
	t.Parallel()
	names, err := fs.Glob(Documents(), "*")
	if err != nil {
		t.Fatal(err)
	}
	want := []string{"apig.yaml", "dataartsinsight.yaml", "functiongraph.yaml", "hss.yaml", "iam.yaml", "vpcep.yaml"}
	if !slices.Equal(names, want) {
		t.Errorf("documents %q, want %q", names, want)
	}
}
