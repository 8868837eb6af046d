package policy

import (
	"github.com/vpcep-approver/vpcep-approver/internal/approval"
	"github.com/vpcep-approver/vpcep-approver/internal/strictyaml"
)

// decoder reads one policy.
type decoder struct {
	*strictyaml.Reader
	keys     *keys
	compiler *compiler
	side     func(name string) ([]byte, error) // reads a value file
	show     func(name string) string          // how findings name a file
	targets  approval.Targets
	paths    map[string]claimPath // of claims that were read, by the text; entries share them
}

// claimPath is the path of a claim.
type claimPath struct {
	text  string   // as approval.ClaimPath writes it
	steps []string // the names in it
}

// claimPath reads the path of a claim.
func (d *decoder) claimPath(text string) (claimPath, error) {
	if p, ok := d.paths[text]; ok {
		return p, nil
	}
	steps, err := approval.ParseClaimPath(text)
	if err != nil {
		return claimPath{}, err
	}
	if d.paths == nil {
		d.paths = make(map[string]claimPath)
	}
	p := claimPath{approval.ClaimPath(steps), steps}
	d.paths[text] = p
	return p, nil
}

// key is one key of a mapping in a policy.
type key[T any] = strictyaml.Key[*decoder, T]

// rootOf returns the only document of the file, or nil after an error.
func rootOf(r *strictyaml.Reader) *strictyaml.Node {
	root, ok := r.Root()
	if ok && root == nil {
		r.Report(strictyaml.SeverityError, strictyaml.Position{}, "empty-file", "the file is empty", "write a policy into it or delete it")
	}
	return root
}

// name reads a valid name.
func (d *decoder) name(n *strictyaml.Node) (string, bool) {
	s, ok := d.Text(n, "a name")
	if !ok {
		return "", false
	}
	if err := approval.ValidName(s); err != nil {
		d.Fail(n, "name", err.Error(), "it becomes a metric label, so write it in that form")
		return "", false
	}
	return s, true
}
