package policy

import (
	"io/fs"
	"math/rand/v2"
	"testing/fstest"
	"time"

	"github.com/vpcep-approver/vpcep-approver/internal/approval"
	"github.com/vpcep-approver/vpcep-approver/internal/strictyaml"
)

// RandomPolicies, RandomInput and the others lend what tests of this package use to
// those that stand outside it.
func RandomPolicies(r *rand.Rand) []string                       { return randomPolicies(r) }
func RandomInput(r *rand.Rand) approval.Input                    { return randomInput(r) }
func Noon() time.Time                                            { return noon() }
func DemoTargets() approval.Targets                              { return demoTargets() }
func Folder(texts ...string) fstest.MapFS                        { return folder(texts...) }
func Placed(text string, f strictyaml.Finding) error             { return placed(text, f) }
func AllowingPolicy(keys string) string                          { return allowing(keys) }
func LoadSuiteFS(fsys fs.FS, t approval.Targets) (*Suite, error) { return loadSuite(fsys, "", t) }

// SourceOf returns a source with set in use.
func SourceOf(set *Set) *Source {
	src := NewSource("unused", demoTargets(), nil)
	src.current.Store(set)
	return src
}
