// Package approval defines the terms of the domain: what is requested (Request) of
// what (Target), what the cloud shows (Facts), what the policies decide (Decision) and
// how it ended (Result). It is data only: standard library, no I/O, no clock and
// no wire format; every adapter has its own shapes and translates.
package approval

import (
	"fmt"
	"slices"
)

// TargetKind is what a target is, in the spelling of the configuration.
type TargetKind string

// The kinds of target.
const (
	Service         TargetKind = "service"          // a VPC endpoint service of ours
	Gateway         TargetKind = "gateway"          // a dedicated API gateway of ours
	FunctionGraph   TargetKind = "functiongraph"    // a place to create endpoints for functions
	HSS             TargetKind = "hss"              // a place to create endpoints for servers
	DataArtsInsight TargetKind = "dataarts-insight" // a place to create endpoints for data sources
)

// TargetKinds returns every kind, in the order of the documentation.
func TargetKinds() []TargetKind {
	return []TargetKind{Service, Gateway, FunctionGraph, HSS, DataArtsInsight}
}

// Creates reports whether requests to targets of this kind create endpoints;
// requests to the others decide connections.
func (k TargetKind) Creates() bool {
	return k == FunctionGraph || k == HSS || k == DataArtsInsight
}

// Target is a thing of ours that requests are about. All of it comes from the
// configuration and none of it from an event.
type Target struct {
	Name        string // unique; also a token of NATS subjects, see ValidName
	Kind        TargetKind
	ID          string // service id or gateway (instance) id; empty for creation places
	ServiceID   string // gateways only: the endpoint service to accept through; empty: through APIG
	ProjectID   string
	WorkspaceID string // DataArts Insight only
	// EnterpriseProjectID is sent to HSS with each call; empty: nothing is sent.
	EnterpriseProjectID string
	Region              string
	// Policies are patterns of the policies that may decide for it, separated by commas; empty: any may.
	Policies string
}

// Targets is the configured set. The zero value serves nothing.
type Targets []Target

// ByName returns the target called name.
func (t Targets) ByName(name string) (Target, bool) {
	return t.find(func(x Target) bool { return x.Name == name })
}

// ByID returns the connection target with this service id or gateway id.
func (t Targets) ByID(kind TargetKind, id string) (Target, bool) {
	return t.find(func(x Target) bool { return x.Kind == kind && id != "" && x.ID == id })
}

// Connections returns the targets whose connections are decided.
func (t Targets) Connections() Targets {
	return slices.DeleteFunc(slices.Clone(t), func(x Target) bool { return x.Kind.Creates() })
}

func (t Targets) find(is func(Target) bool) (Target, bool) {
	if i := slices.IndexFunc(t, is); i >= 0 {
		return t[i], true
	}
	return Target{}, false
}

// maxName is the longest name of a target, in bytes.
const maxName = 64

// ValidName reports why name cannot name a target, a policy or a rule: it is a
// token of a NATS subject and a metric label, so 1 to 64 of a-z, 0-9 and "-",
// beginning with a letter or digit.
func ValidName(name string) error {
	if name == "" || len(name) > maxName {
		return fmt.Errorf("a name has 1 to %d characters, this has %d", maxName, len(name))
	}
	for i, r := range name {
		if ok := r >= 'a' && r <= 'z' || r >= '0' && r <= '9' || r == '-' && i > 0; !ok {
			return fmt.Errorf("a name is made of a-z, 0-9 and - and begins with a letter or digit; %q has %q at %d", name, r, i+1)
		}
	}
	return nil
}

// ValidEnterpriseProject reports why id cannot name an enterprise project: it is
// an id, 0 for the default project or all_granted_eps for all of them. Empty names
// none.
func ValidEnterpriseProject(id string) error {
	if id == "" || id == "0" || id == "all_granted_eps" || ValidID(id) == nil {
		return nil
	}
	return fmt.Errorf("%.80q is no enterprise project: give its id, 0 or all_granted_eps", id)
}
