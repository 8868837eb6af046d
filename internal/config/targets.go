package config

import (
	"fmt"
	"slices"
	"strings"

	"github.com/vpcep-approver/vpcep-approver/internal/approval"
	"github.com/vpcep-approver/vpcep-approver/internal/strictyaml"
)

// PlaceholderID stands in a new worker.yaml for an id that init was not given.
// A configuration that still holds it is refused.
const PlaceholderID = "00000000-0000-0000-0000-000000000000"

// IsPlaceholder reports whether id is made of zeros only.
func IsPlaceholder(id string) bool { return id != "" && strings.Trim(id, "0-") == "" }

const targetsKey = "targets"

// targetField is one key of a target.
type targetField struct {
	key string
	doc string
	at  func(*approval.Target) *string
	id  bool // checked as the id of a cloud resource
}

func targetFields() []targetField {
	return []targetField{
		{"name", "unique; 1 to 64 of a-z, 0-9 and -", func(t *approval.Target) *string { return &t.Name }, false},
		{"kind", "service, gateway, functiongraph, hss or dataarts-insight", func(t *approval.Target) *string { return (*string)(&t.Kind) }, false},
		{"id", "service and gateway: its id; the others have none", func(t *approval.Target) *string { return &t.ID }, true},
		{"project_id", "the project it belongs to", func(t *approval.Target) *string { return &t.ProjectID }, true},
		{"service_id", "gateway, optional: its endpoint service, if that is ours; connections are then accepted through VPCEP, else through APIG", func(t *approval.Target) *string { return &t.ServiceID }, true},
		{"workspace_id", "dataarts-insight: its workspace", func(t *approval.Target) *string { return &t.WorkspaceID }, true},
		{"enterprise_project_id", "hss, optional: the enterprise project that calls name; its id, 0 for the default one or all_granted_eps", func(t *approval.Target) *string { return &t.EnterpriseProjectID }, false},
	}
}

// targets reads the list of targets.
func (f *file) targets(list *strictyaml.Node) {
	if strictyaml.Missing(list) {
		return
	}
	names, things := map[string]int{}, map[string]string{}
	f.Items(list, "a list of targets, each after a dash", func(_ int, n *strictyaml.Node) {
		f.target(n, names, things)
	})
}

// target reads one target; names holds the line of each name so far and things
// which target stands for a thing of the cloud.
func (f *file) target(n *strictyaml.Node, names map[string]int, things map[string]string) {
	var t approval.Target
	nodes := map[string]*strictyaml.Node{}
	before, slips := f.Count(), false
	f.Pairs(n, "the keys of a target", func(key, val *strictyaml.Node) {
		if key.Value == targetPolicies {
			nodes[key.Value] = val
			t.Policies = f.patterns(val)
			return
		}
		fields := targetFields()
		i := slices.IndexFunc(fields, func(t targetField) bool { return t.key == key.Value })
		if i < 0 {
			keys := []string{targetPolicies}
			for _, field := range fields {
				keys = append(keys, field.key)
			}
			slips = true
			f.UnknownKey(key, strictyaml.Suggest(key.Value, keys))
			return
		}
		nodes[key.Value] = val
		text, ok := f.Text(val, "a value")
		if !ok {
			return
		}
		*fields[i].at(&t) = text
		if fields[i].id {
			if err := approval.ValidID(text); err != nil {
				f.Fail(val, "id", err.Error(), "write the id as the console shows it")
			} else if IsPlaceholder(text) {
				f.Fail(val, "id", "a placeholder of zeros is no id", "write the id of yours")
			}
		}
	})
	if len(nodes) == 0 && f.Count() > before {
		return // not a mapping at all, or nothing in it is right
	}
	what := "the target"
	if t.Name != "" {
		what = "target " + t.Name
	}
	at := func(key, problem, hint string) {
		if val, ok := nodes[key]; ok {
			f.Fail(val, "target", problem, hint)
		} else {
			f.Fail(n, "target", problem, hint)
		}
	}
	need := func(key, hint string) {
		if _, ok := nodes[key]; !ok && !slips { // a slip is told already
			at(key, what+" has no "+key, hint)
		}
	}
	refuse := func(key, why string) {
		if _, ok := nodes[key]; ok {
			at(key, what+": "+why, "delete it")
		}
	}
	need("name", "add it: requests and policies call it by its name")
	need("kind", "add one of "+KindList())
	need("project_id", "add it: calls go to a project")
	if t.Name != "" {
		if err := approval.ValidName(t.Name); err != nil {
			at("name", err.Error(), "")
		}
		if line, ok := names[t.Name]; ok {
			at("name", fmt.Sprintf("another target is called %s, at line %d", t.Name, line), "give each target its own name")
		}
		names[t.Name] = n.Line
	}
	if t.Kind != "" {
		f.kindRules(t, at, need, refuse)
	}
	oneTarget(t, what, things, at)
	if f.Count() == before {
		f.config.Targets = append(f.config.Targets, t)
	}
}

// targetPolicies is the key of a target that has a list.
const targetPolicies = "policies"

// targetPoliciesDoc is what the documentation says of it.
const targetPoliciesDoc = "optional: a list of the policies that may decide for it, by name or as patterns such as `platform-*`; without it any policy in the folder may"

// patterns reads a list of names of policies, and patterns of them.
func (f *file) patterns(list *strictyaml.Node) string {
	const want = "a list of names of policies, such as [payments, platform-*]"
	var out []string
	f.Items(list, want, func(_ int, n *strictyaml.Node) {
		text, ok := f.Text(n, "the name of a policy")
		if !ok {
			return
		}
		// A pattern is valid if a name that it matches is.
		if err := approval.ValidName(strings.NewReplacer("*", "a", "?", "a").Replace(text)); err != nil {
			f.Fail(n, "name", fmt.Sprintf("%q is neither the name of a policy nor a pattern such as platform-*", text), "")
			return
		}
		out = append(out, text)
	})
	if list.Kind == strictyaml.List && len(list.Content) == 0 {
		f.Fail(list, "empty-list", "the list is empty, so no policy could decide for the target", "write "+want+", or delete the key")
	}
	return strings.Join(out, ",")
}

// oneTarget checks that no target so far stands for the same thing of the cloud
// as t. Requests to the two would not know of one another: a connection would be
// decided twice, perhaps against each other, and an endpoint be made twice.
func oneTarget(t approval.Target, what string, things map[string]string, at func(key, text, hint string)) {
	check := func(key, same, problem string, thing ...string) {
		if slices.Contains(thing, "") {
			return // that it is missing is told already
		}
		parts := make([]string, 0, len(thing))
		for _, part := range thing {
			parts = append(parts, approval.CanonicalID(part))
		}
		id := strings.Join(parts, " ")
		if other, ok := things[id]; ok {
			at(key, fmt.Sprintf("%s has the same %s as %s: %s", what, same, other, problem), "keep one of them, and have events and policies name that one")
			return
		}
		things[id] = what
	}
	switch {
	case t.Kind == approval.DataArtsInsight:
		check("workspace_id", "project and workspace", "two targets would create the same endpoints twice", string(t.Kind), t.ProjectID, t.WorkspaceID)
	case t.Kind.Creates():
		check("project_id", "project", "two targets of this kind would create the same endpoints twice", string(t.Kind), t.ProjectID)
	case t.Kind == approval.Service:
		check("id", "endpoint service", "two targets would decide the same connections", string(t.Kind), t.ID)
	case t.Kind == approval.Gateway:
		check("id", "gateway", "two targets would decide the same connections", string(t.Kind), t.ID)
		check("service_id", "endpoint service", "two targets would decide the same connections", string(approval.Service), t.ServiceID)
	}
}

// kindRules checks which keys go with the kind of t.
func (f *file) kindRules(t approval.Target, at func(key, text, hint string), need, refuse func(key, text string)) {
	switch {
	case !slices.Contains(approval.TargetKinds(), t.Kind):
		var kinds []string
		for _, k := range approval.TargetKinds() {
			kinds = append(kinds, string(k))
		}
		at("kind", fmt.Sprintf("%q is not a kind of target", t.Kind), strictyaml.Suggest(string(t.Kind), kinds))
		return
	case t.Kind.Creates():
		refuse("id", fmt.Sprintf("a place to create endpoints (%s) has no id", t.Kind))
	default:
		need("id", fmt.Sprintf("add the id of the %s", t.Kind))
	}
	if t.Kind != approval.Gateway {
		refuse("service_id", "only a gateway has a service_id")
	}
	if t.Kind != approval.HSS {
		refuse("enterprise_project_id", "only an hss target has an enterprise_project_id")
	} else if err := approval.ValidEnterpriseProject(t.EnterpriseProjectID); err != nil {
		at("enterprise_project_id", err.Error(), "")
	}
	if t.Kind == approval.DataArtsInsight {
		need("workspace_id", "add it: calls carry it as X-Workspace-Id")
	} else {
		refuse("workspace_id", "only a dataarts-insight target has a workspace_id")
	}
}

// KindList names the kinds of target in a sentence.
func KindList() string {
	var kinds []string
	for _, k := range approval.TargetKinds() {
		kinds = append(kinds, string(k))
	}
	return strictyaml.OneOf(kinds)
}
