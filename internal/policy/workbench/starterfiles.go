package workbench

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/vpcep-approver/vpcep-approver/internal/approval"
	"github.com/vpcep-approver/vpcep-approver/internal/cli"
	"github.com/vpcep-approver/vpcep-approver/internal/policy"
)

// WriteStarter writes the policy called name, its tests, and the schemas that are
// missing, and returns what it wrote.
func WriteStarter(dir, name string, t approval.Target) ([]string, error) {
	text, tests, err := Starter(name, t)
	if err != nil {
		return nil, err
	}
	schema, err := policy.Schema()
	if err != nil {
		return nil, err
	}
	testSchema, err := policy.TestSchema()
	if err != nil {
		return nil, err
	}
	files := []struct {
		name string
		text []byte
		must bool // it must not be there yet
	}{
		{filepath.Join(dir, name+".yaml"), []byte(text), true},
		{filepath.Join(dir, name+"_test.yaml"), []byte(tests), true},
		{filepath.Join(dir, "schema", "policy.v1.json"), schema, false},
		{filepath.Join(dir, "schema", "policy-test.v1.json"), testSchema, false},
	}
	for _, f := range files {
		if _, err := os.Lstat(f.name); err == nil && f.must {
			return nil, cli.WithCode(cli.ExitInvalid, fmt.Errorf("%s is there already, and nothing was written — choose another name", f.name))
		}
	}
	if err := os.MkdirAll(filepath.Join(dir, "schema"), 0o755); err != nil { //nolint:gosec // likewise as for files: policies are no secret
		return nil, fmt.Errorf("make the folder: %w", err)
	}
	var written []string
	for _, f := range files {
		err := WriteNew(f.name, f.text)
		if errors.Is(err, fs.ErrExist) && !f.must {
			continue
		}
		if err != nil {
			return nil, fmt.Errorf("write the policy: %w", err)
		}
		written = append(written, f.name)
	}
	return written, nil
}

// WriteNew writes a file that must not be there.
func WriteNew(name string, text []byte) error {
	f, err := os.OpenFile(name, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o644) //nolint:gosec // policies are no secret, and the worker may run as another user
	if err != nil {
		return err
	}
	_, err = f.Write(text)
	return errors.Join(err, f.Close())
}
