package main

import (
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"unicode/utf8"

	"go.yaml.in/yaml/v4"

	"github.com/vpcep-approver/vpcep-approver/internal/approval"

	"github.com/vpcep-approver/vpcep-approver/internal/cli"
)

// file is a configuration file while it is read.
type file struct {
	*loader
	name     string
	lines    []string
	keys     map[string]setting // by place in the file
	sections []string           // "nats", "nats.tls"
}

// parse reads the file. Keys that are not settings, doubled keys, wrong types
// and further documents are problems, each with its place.
func (l *loader) parse(name string, data []byte) {
	f := &file{loader: l, name: name, lines: strings.Split(string(data), "\n"), keys: map[string]setting{}, sections: []string{targetsKey}}
	for _, s := range l.rows {
		f.keys[s.key] = s
		for i, r := range s.key {
			if section := s.key[:i]; r == '.' && !slices.Contains(f.sections, section) {
				f.sections = append(f.sections, section)
			}
		}
	}
	if !utf8.Valid(data) {
		l.problem(name, "is not UTF-8 text", "")
		return
	}
	root, err := document(data)
	if e, ok := errors.AsType[*yaml.LoadError](err); ok {
		l.problem(f.at(e.Mark.Line, e.Mark.Column), "not YAML: "+e.Message, "")
		return
	}
	if err != nil {
		l.problem(name, err.Error(), "")
		return
	}
	if root != nil {
		f.section("", root)
	}
}

// document returns the root of the one document in data; nil if it is empty.
func document(data []byte) (*yaml.Node, error) {
	r, err := yaml.NewLoader(strings.NewReader(string(data)))
	if err != nil {
		return nil, err
	}
	var doc, more yaml.Node
	if err := r.Load(&doc); errors.Is(err, io.EOF) {
		return nil, nil
	} else if err != nil {
		return nil, err
	}
	if err := r.Load(&more); err == nil {
		return nil, fmt.Errorf("holds a second document at line %d — keep one", more.Line)
	} else if !errors.Is(err, io.EOF) {
		return nil, err
	}
	if len(doc.Content) == 0 || doc.Content[0].ShortTag() == "!!null" {
		return nil, nil
	}
	return doc.Content[0], nil
}

func (f *file) at(line, column int) string {
	if line == 0 {
		return f.name
	}
	return fmt.Sprintf("%s:%d:%d", f.name, line, column)
}

// wrong notes a problem at key, whose value is shown too if that is safe.
func (f *file) wrong(key, val *yaml.Node, at *yaml.Node, what string) {
	f.problem(f.at(at.Line, at.Column), what, f.excerpt(key, val, at))
}

// excerpt shows the line of at with a mark under it: only key and, unless nil,
// its value, so that nothing beside them is shown that may be a secret.
func (f *file) excerpt(key, val, at *yaml.Node) string {
	shown := key.Value + ": …"
	if val != nil && val.Kind == yaml.ScalarNode && val.Line == key.Line && !strings.Contains(val.Value, "\n") {
		line := []rune(f.lines[key.Line-1])
		if end := val.Column - 1 + utf8.RuneCountInString(val.Value); key.Column >= 1 && end <= len(line) {
			if val.Style&(yaml.DoubleQuotedStyle|yaml.SingleQuotedStyle) != 0 {
				end = min(end+2, len(line))
			}
			shown = string(line[key.Column-1 : end])
		}
	}
	before := "… "
	if f.indented(key) {
		before = strings.Repeat(" ", key.Column-1)
	}
	col := len([]rune(before)) + 1
	if at == val && val != nil && val.Line == key.Line {
		col += val.Column - key.Column
	}
	number := fmt.Sprintf("%4d | ", key.Line)
	return number + before + shown + "\n" + strings.Repeat(" ", len(number)-2) + "| " + strings.Repeat(" ", col-1) + "^"
}

// indented reports whether nothing but space stands before n on its line.
func (f *file) indented(n *yaml.Node) bool {
	if n.Line < 1 || n.Line > len(f.lines) {
		return false
	}
	line := []rune(f.lines[n.Line-1])
	return n.Column-1 <= len(line) && strings.TrimSpace(string(line[:n.Column-1])) == ""
}

// section reads a mapping of settings; path is its key, empty at the top.
func (f *file) section(path string, n *yaml.Node) {
	f.pairs(n, orFile(path), func(key, val *yaml.Node) {
		full := strings.TrimPrefix(path+"."+key.Value, ".")
		s, known := f.keys[full]
		switch {
		case full == targetsKey:
			f.targets(key, val)
		case known && s.secret:
			f.wrong(key, nil, key, fmt.Sprintf("%s is a secret and does not belong into the file — set %s or %s_FILE, and change the secret if the file was shared", full, s.vars[0], s.vars[0]))
		case known:
			f.scalar(s, key, val)
		case slices.Contains(f.sections, full):
			if val.ShortTag() != "!!null" { // "nats:" with all lines below commented out
				f.section(full, val)
			}
		default:
			f.wrong(key, nil, key, full+" is not a setting"+cli.DidYouMean(f.near(path, key.Value)))
		}
	})
}

func orFile(path string) string {
	if path == "" {
		return "the file"
	}
	return path
}

// near returns the key that was likely meant: a slip beside its neighbours, or a
// setting that stands in another section.
func (f *file) near(path, key string) string {
	var beside []string
	var elsewhere string
	for _, s := range f.rows {
		if s.secret {
			continue
		}
		if rest, ok := strings.CutPrefix(s.key, path+"."); ok || path == "" {
			if !ok {
				rest = s.key
			}
			name, _, _ := strings.Cut(rest, ".")
			beside = append(beside, name)
		}
		if elsewhere == "" && strings.HasSuffix(s.key, "."+key) {
			elsewhere = s.key
		}
	}
	if path == "" {
		beside = append(beside, targetsKey)
	}
	if near := cli.Suggest(key, beside); near != "" {
		return strings.TrimPrefix(path+"."+near, ".")
	}
	return elsewhere
}

// pairs calls each for the pairs of the mapping n, called what.
func (f *file) pairs(n *yaml.Node, what string, each func(key, val *yaml.Node)) {
	n = resolved(n)
	if n.Kind != yaml.MappingNode {
		f.problem(f.at(n.Line, n.Column), fmt.Sprintf("%s holds keys with values, not %s", what, kindName(n)), "")
		return
	}
	seen := map[string]int{}
	for i := 0; i+1 < len(n.Content); i += 2 {
		key, val := resolved(n.Content[i]), resolved(n.Content[i+1])
		if key.Kind != yaml.ScalarNode || key.ShortTag() == "!!merge" {
			f.problem(f.at(key.Line, key.Column), "a key is plain text here; merges (<<) are not read", "")
			continue
		}
		if line := seen[key.Value]; line > 0 {
			f.wrong(key, nil, key, fmt.Sprintf("%s is there twice, first at line %d — keep one", key.Value, line))
			continue
		}
		seen[key.Value] = key.Line
		each(key, val)
	}
}

// resolved follows an alias to what it stands for.
func resolved(n *yaml.Node) *yaml.Node {
	if n.Kind == yaml.AliasNode && n.Alias != nil {
		return n.Alias
	}
	return n
}

func (f *file) scalar(s setting, key, val *yaml.Node) {
	text, ok := f.plain(key, val, s.key)
	if !ok {
		return
	}
	excerpt := f.excerpt(key, val, val)
	if maskURL(text) != text {
		excerpt = f.excerpt(key, nil, key)
	}
	f.apply(s, value{text: text, source: "file", place: f.at(val.Line, val.Column)}, excerpt)
}

// plain returns the text of a scalar; what names it in a problem.
func (f *file) plain(key, val *yaml.Node, what string) (string, bool) {
	switch {
	case val.Kind != yaml.ScalarNode:
		f.wrong(key, nil, key, fmt.Sprintf("%s takes one value, not %s", what, kindName(val)))
	case val.ShortTag() == "!!null" || val.Value == "":
		f.wrong(key, nil, key, what+" has no value — give one, or delete the line")
	default:
		return val.Value, true
	}
	return "", false
}

func kindName(n *yaml.Node) string {
	switch n.Kind {
	case yaml.MappingNode:
		return "keys with values"
	case yaml.SequenceNode:
		return "a list"
	default:
		return "a single value"
	}
}

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
			} else if isPlaceholder(text) {
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
	need("kind", "say "+kindList())
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
		at("kind", fmt.Sprintf("%q is not a kind of target — say %s%s", t.Kind, kindList(), cli.DidYouMean(cli.Suggest(string(t.Kind), kinds))))
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

func kindList() string {
	var kinds []string
	for _, k := range approval.TargetKinds() {
		kinds = append(kinds, string(k))
	}
	return strings.Join(kinds[:len(kinds)-1], ", ") + " or " + kinds[len(kinds)-1]
}
