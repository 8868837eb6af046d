// Dashboard writes the Grafana dashboards of deploy/grafana/dashboards. It is a
// module of its own, so that the worker does not depend on its library.
//
//	go -C internal/tools/dashboard run .
package main

import (
	"encoding/json"
	"fmt"
	"log"
	"os"
	"path/filepath"
)

// dir is where the dashboards are, seen from this folder.
const dir = "../../../deploy/grafana/dashboards"

func main() {
	if err := write(); err != nil {
		log.Fatalf("dashboard: %v", err)
	}
}

func write() error {
	files, err := generate()
	if err != nil {
		return err
	}
	for name, data := range files {
		if err := os.WriteFile(filepath.Join(dir, name), data, 0o644); err != nil { //nolint:gosec // everybody may read them
			return err
		}
	}
	return nil
}

// generate returns the dashboards by the names of their files.
func generate() (map[string][]byte, error) {
	out := map[string][]byte{}
	for _, b := range []board{overview(), operations(), policies()} {
		built, err := b.build()
		if err != nil {
			return nil, fmt.Errorf("%s: %w", b.uid, err)
		}
		data, err := json.MarshalIndent(built, "", "  ")
		if err != nil {
			return nil, fmt.Errorf("%s: %w", b.uid, err)
		}
		out[b.uid+".json"] = append(data, '\n')
	}
	return out, nil
}
