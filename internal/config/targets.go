package config

import (
	"fmt"
	"slices"
	"strings"

	"go.yaml.in/yaml/v4"

	"github.com/vpcep-approver/vpcep-approver/internal/approval"
	"github.com/vpcep-approver/vpcep-approver/internal/cli"
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
func (f *file) targets(key, list *yaml.Node) {
	if list.ShortTag() == "!!null" {
		return
	}
	if list.Kind != yaml.SequenceNode {
		f.wrong(key, nil, key, "targets is a list, not "+kindName(list)+" — begin each target with a dash")
		return
	}
	names, things := map[string]int{}, map[string]string{}
	for i, n := range list.Content {
		f.target(resolved(n), fmt.Sprintf("targets[%d]", i), names, things)
	}
}

// target reads one target; names holds the line of each name so far and things
// which target stands for a thing of the cloud.
func (f *file) target(n *yaml.Node, what string, names map[string]int, things map[string]string) {
	var t approval.Target
	nodes := map[string][2]*yaml.Node{}
	before, slips := len(f.problems), false
	f.pairs(n, what, func(key, val *yaml.Node) {
		if key.Value == targetPolicies {
			nodes[key.Value] = [2]*yaml.Node{key, val}
			t.Policies = f.patterns(key, val)
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
			f.wrong(key, nil, key, key.Value+" is not a key of a target"+cli.DidYouMean(cli.Suggest(key.Value, keys)))
			return
		}
		nodes[key.Value] = [2]*yaml.Node{key, val}
		text, ok := f.plain(key, val, key.Value)
		if !ok {
			return
		}
		*fields[i].at(&t) = text
		if fields[i].id {
			if err := approval.ValidID(text); err != nil {
				f.wrong(key, val, val, key.Value+": "+err.Error())
			} else if IsPlaceholder(text) {
				f.wrong(key, val, val, key.Value+": here stands a placeholder of zeros — write the id of yours")
			}
		}
	})
	if len(nodes) == 0 && len(f.problems) > before {
		return // not a mapping at all, or nothing in it is right
	}
	if t.Name != "" {
		what = "target " + t.Name
	}
	at := func(key, problem string) {
		if pair, ok := nodes[key]; ok {
			f.wrong(pair[0], pair[1], pair[1], problem)
		} else {
			f.problem(f.at(n.Line, n.Column), problem, "")
		}
	}
	need := func(key, why string) {
		if _, ok := nodes[key]; !ok && !slips { // a slip is told already
			at(key, fmt.Sprintf("%s has no %s — %s", what, key, why))
		}
	}
	refuse := func(key, why string) {
		if _, ok := nodes[key]; ok {
			at(key, fmt.Sprintf("%s: %s — delete it", what, why))
		}
	}
	need("name", "requests and policies call it by its name")
	need("kind", "say "+KindList())
	need("project_id", "calls go to a project")
	if t.Name != "" {
		if err := approval.ValidName(t.Name); err != nil {
			at("name", err.Error())
		}
		if line, ok := names[t.Name]; ok {
			at("name", fmt.Sprintf("another target is called %s, at line %d — names are unique", t.Name, line))
		}
		names[t.Name] = n.Line
	}
	if t.Kind != "" {
		f.kindRules(t, at, need, refuse)
	}
	oneTarget(t, what, things, at)
	if len(f.problems) == before {
		f.config.Targets = append(f.config.Targets, t)
	}
}

// targetPolicies is the key of a target that has a list.
const targetPolicies = "policies"

// targetPoliciesDoc is what the documentation says of it.
const targetPoliciesDoc = "optional: a list of the policies that may decide for it, by name or as patterns such as `platform-*`; without it any policy in the folder may"

// patterns reads a list of names of policies, and patterns of them.
func (f *file) patterns(key, list *yaml.Node) string {
	if list.Kind != yaml.SequenceNode || len(list.Content) == 0 {
		f.wrong(key, nil, key, "policies is a list of names of policies, such as [payments, platform-*]")
		return ""
	}
	var out []string
	for _, n := range list.Content {
		n = resolved(n)
		text, ok := f.plain(key, n, targetPolicies)
		if !ok {
			continue
		}
		// A pattern is valid if a name that it matches is.
		if err := approval.ValidName(strings.NewReplacer("*", "a", "?", "a").Replace(text)); err != nil {
			f.wrong(key, nil, n, fmt.Sprintf("policies: %q is neither the name of a policy nor a pattern such as platform-*", text))
			continue
		}
		out = append(out, text)
	}
	return strings.Join(out, ",")
}

// oneTarget checks that no target so far stands for the same thing of the cloud
// as t. Requests to the two would not know of one another: a connection would be
// decided twice, perhaps against each other, and an endpoint be made twice.
func oneTarget(t approval.Target, what string, things map[string]string, at func(key, text string)) {
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
			at(key, fmt.Sprintf("%s has the same %s as %s — %s: keep one of them, and have events and policies name that one", what, same, other, problem))
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
func (f *file) kindRules(t approval.Target, at, need, refuse func(key, text string)) {
	switch {
	case !slices.Contains(approval.TargetKinds(), t.Kind):
		var kinds []string
		for _, k := range approval.TargetKinds() {
			kinds = append(kinds, string(k))
		}
		at("kind", fmt.Sprintf("%q is not a kind of target — say %s%s", t.Kind, KindList(), cli.DidYouMean(cli.Suggest(string(t.Kind), kinds))))
		return
	case t.Kind.Creates():
		refuse("id", fmt.Sprintf("a place to create endpoints (%s) has no id", t.Kind))
	default:
		need("id", fmt.Sprintf("the id of the %s", t.Kind))
	}
	if t.Kind != approval.Gateway {
		refuse("service_id", "only a gateway has a service_id")
	}
	if t.Kind != approval.HSS {
		refuse("enterprise_project_id", "only an hss target has an enterprise_project_id")
	} else if err := approval.ValidEnterpriseProject(t.EnterpriseProjectID); err != nil {
		at("enterprise_project_id", "enterprise_project_id: "+err.Error())
	}
	if t.Kind == approval.DataArtsInsight {
		need("workspace_id", "calls carry it as X-Workspace-Id")
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
	return strings.Join(kinds[:len(kinds)-1], ", ") + " or " + kinds[len(kinds)-1]
}
