package policy

import (
	"math/rand/v2"

	"github.com/vpcep-approver/vpcep-approver/internal/approval"
)

// RandomPolicies, RandomInput and DemoTargets lend the generator to the tests
// that stand outside the package.
func RandomPolicies(r *rand.Rand) []string    { return randomPolicies(r) }
func RandomInput(r *rand.Rand) approval.Input { return randomInput(r) }
func DemoTargets() approval.Targets           { return demoTargets() }
