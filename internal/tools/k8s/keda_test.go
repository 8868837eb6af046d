package k8s

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"sync"

	"github.com/santhosh-tekuri/jsonschema/v6"
	"sigs.k8s.io/yaml"
)

// kedaVersion is the release whose definition of a ScaledObject is used. KEDA is
// not required in go.mod: its module is the whole operator.
const kedaVersion = "v2.21.0"

// kedaSchema reads the definition from KEDA's module.
var kedaSchema = sync.OnceValues(func() (*jsonschema.Schema, error) {
	download := exec.Command("go", "mod", "download", "-json", "github.com/kedacore/keda/v2@"+kedaVersion)
	download.Dir = os.TempDir() // outside of this module, which does not require it
	out, err := download.Output()
	if err != nil {
		return nil, fmt.Errorf("download KEDA %s: %w", kedaVersion, err)
	}
	var module struct{ Dir string }
	if err := json.Unmarshal(out, &module); err != nil {
		return nil, err
	}
	file := filepath.Join(module.Dir, "config", "crd", "bases", "keda.sh_scaledobjects.yaml")
	text, err := os.ReadFile(file)
	if err != nil {
		return nil, err
	}
	var crd struct {
		Spec struct {
			Versions []struct {
				Name   string
				Schema struct{ OpenAPIV3Schema map[string]any }
			}
		}
	}
	if err := yaml.Unmarshal(text, &crd); err != nil {
		return nil, err
	}
	if len(crd.Spec.Versions) == 0 || crd.Spec.Versions[0].Name != "v1alpha1" {
		return nil, errors.New("KEDA's definition has no version v1alpha1")
	}
	schema := crd.Spec.Versions[0].Schema.OpenAPIV3Schema
	closeSchema(schema)
	schema["properties"].(map[string]any)["metadata"] = map[string]any{"type": "object"}
	compiler := jsonschema.NewCompiler()
	compiler.DefaultDraft(jsonschema.Draft7)
	if err := compiler.AddResource("scaledobject.json", schema); err != nil {
		return nil, err
	}
	return compiler.Compile("scaledobject.json")
})

// closeSchema makes of Kubernetes' kind of schema one that refuses unknown fields,
// as the API server's strict validation does.
func closeSchema(node any) {
	switch node := node.(type) {
	case map[string]any:
		if node["x-kubernetes-int-or-string"] == true {
			delete(node, "type")
			delete(node, "pattern")
		}
		if node["properties"] != nil && node["x-kubernetes-preserve-unknown-fields"] != true {
			node["additionalProperties"] = false
		}
		for _, inner := range node {
			closeSchema(inner)
		}
	case []any:
		for _, inner := range node {
			closeSchema(inner)
		}
	}
}

func validateScaledObject(raw []byte) error {
	schema, err := kedaSchema()
	if err != nil {
		return err
	}
	var doc any
	if err := json.Unmarshal(raw, &doc); err != nil {
		return err
	}
	return schema.Validate(doc)
}
