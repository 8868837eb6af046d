package policy

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"cel.dev/cel-go/cel"
	"cel.dev/cel-go/common"

	"github.com/vpcep-approver/vpcep-approver/internal/approval"
	"github.com/vpcep-approver/vpcep-approver/internal/strictyaml"
)

// maxCost bounds the work of one expression, in the units of CEL: about one for
// each step, so well under a millisecond.
const maxCost = 20_000

// maxExpression is the longest expression, in bytes.
const maxExpression = 4096

// whenCondition holds where an expression is true.
type whenCondition struct {
	reasonNumber
	program cel.Program
	values  map[string]getter
	source  string
	claims  bool // it reads claims
	place   strictyaml.Position
}

// test is part of condition; a query has the answer without evaluating again.
func (c *whenCondition) test(in input, _ bool) truth { return c.evaluate(in.Input).truth }

// evaluate answers unknown if the evaluation fails: a fact that the cloud does not
// show, a claim that is missing or of another type, too much work.
func (c *whenCondition) evaluate(in *approval.Input) *celAnswer {
	out, details, err := c.program.Eval(&activation{in, c.values})
	a := &celAnswer{cost: maxCost}
	if cost := details.ActualCost(); cost != nil {
		a.cost = int(min(*cost, 2*maxCost))
	}
	if err != nil {
		a.seen = "an error: " + err.Error()
		return a
	}
	a.seen = fmt.Sprint(out.Value())
	if b, ok := out.Value().(bool); ok {
		a.truth = truthOf(b)
	}
	return a
}

func (c *whenCondition) name() string   { return "when" }
func (c *whenCondition) onClaims() bool { return c.claims }
func (c *whenCondition) wanted() string { return c.source + " to be true" }

func (c *whenCondition) seen(in *approval.Input, _ bool) string { return c.evaluate(in).seen }

func (c *whenCondition) reason() approval.Reason {
	return approval.Reason{Code: approval.ReasonConditionFalse, Text: "A rule matches, but its expression is false."}
}

// variable is one name of an expression. value returns false where the cloud or
// the request does not say it, which fails the evaluation: a time that could
// not be read must not look like one long ago.
type variable struct {
	name  string
	kind  *cel.Type
	kinds []approval.TargetKind
	doc   string
	value getter
}

type getter = func(in *approval.Input) (any, bool)

// variables is everything that an expression can name. How many connections are
// accepted is not among them: it is counted only where a limit asks for it.
func variables() []variable {
	all := approval.TargetKinds()
	connections := []approval.TargetKind{approval.Service, approval.Gateway}
	text := func(get func(in *approval.Input) string) getter {
		return func(in *approval.Input) (any, bool) { s := get(in); return s, s != "" }
	}
	instant := func(get func(in *approval.Input) time.Time) getter {
		return func(in *approval.Input) (any, bool) { t := get(in); return t, !t.IsZero() }
	}
	out := []variable{
		{"facts.domain_id", cel.StringType, connections, "the account that owns the endpoint, in lower case and without dashes", text(func(in *approval.Input) string { return fieldDomainID.canonical(in.Facts.DomainID) })},
		{"facts.endpoint_id", cel.StringType, connections, "the endpoint, in lower case and with dashes", text(func(in *approval.Input) string { return fieldEndpointID.canonical(in.Facts.EndpointID) })},
		{"facts.marker_id", cel.IntType, connections, "the cloud's number of the endpoint", func(in *approval.Input) (any, bool) { return in.Facts.MarkerID, in.Facts.MarkerID != 0 }},
		{"facts.state", cel.StringType, connections, "the state of the connection", text(func(in *approval.Input) string { return string(in.Facts.State) })},
		{"facts.created_at", cel.TimestampType, connections, "when the connection was made", instant(func(in *approval.Input) time.Time { return in.Facts.CreatedAt })},
		{"facts.updated_at", cel.TimestampType, connections, "when the connection changed last", instant(func(in *approval.Input) time.Time { return in.Facts.UpdatedAt })},
		{"facts.region", cel.StringType, all, "the region of the target", text(func(in *approval.Input) string { return in.Request.Target.Region })},
		{"request.target", cel.StringType, all, "the name of the target", text(func(in *approval.Input) string { return in.Request.Target.Name })},
		{"request.kind", cel.StringType, all, "the kind of the target", text(func(in *approval.Input) string { return string(in.Request.Target.Kind) })},
		{"now", cel.TimestampType, all, "the time of the decision", instant(func(in *approval.Input) time.Time { return in.Now })},
		{"claims", cel.MapType(cel.StringType, cel.DynType), all, "what the event says about the requester", func(in *approval.Input) (any, bool) {
			if in.Request.Claims == nil {
				return map[string]any{}, true
			}
			return map[string]any(in.Request.Claims), true
		}},
	}
	specs := specs()
	for _, f := range fieldsByDoc() {
		spec := specs[f]
		if f == fieldDomainID || f == fieldEndpointID || f == fieldRegion {
			continue
		}
		out = append(out, variable{
			"request." + f.name(), cel.ListType(cel.StringType), spec.kinds, "the values of " + f.name() + " that will be sent; none if it is left out",
			func(in *approval.Input) (any, bool) {
				vs := []string{}
				each(in, f, false, func(v string) bool {
					vs = append(vs, f.canonical(v))
					return true
				})
				return vs, true
			},
		})
	}
	return out
}

// isOf reports whether requests to targets of all these kinds have v.
func (v *variable) isOf(kinds []approval.TargetKind) bool {
	return !slices.ContainsFunc(kinds, func(k approval.TargetKind) bool { return !slices.Contains(v.kinds, k) })
}

// namesFor returns the names of the variables of all these kinds.
func namesFor(kinds []approval.TargetKind) []string {
	var out []string
	for _, v := range variables() {
		if v.isOf(kinds) {
			out = append(out, v.name)
		}
	}
	return out
}

// activation gives an expression the values of an input.
type activation struct {
	in     *approval.Input
	values map[string]getter
}

// Parent implements cel.Activation.
func (a *activation) Parent() cel.Activation { return nil }

// ResolveName implements cel.Activation.
func (a *activation) ResolveName(name string) (any, bool) {
	if value, ok := a.values[name]; ok {
		return value(a.in)
	}
	return nil, false
}

// compiler compiles expressions; it keeps what is the same for policies with the
// same kinds of targets.
type compiler struct {
	envs      map[string]*cel.Env
	values    map[string]getter
	constants map[string]string // why expressions without variables fail
}

// ready fills c before its first use: most sets hold no expression.
func (c *compiler) ready() {
	if c.envs != nil {
		return
	}
	c.envs = make(map[string]*cel.Env)
	c.values = make(map[string]getter)
	for _, v := range variables() {
		c.values[v.name] = v.value
	}
}

// env returns the names that requests to all these kinds have.
func (c *compiler) env(kinds []approval.TargetKind) (*cel.Env, error) {
	c.ready()
	id := fmt.Sprint(kinds)
	if env, ok := c.envs[id]; ok {
		return env, nil
	}
	opts := []cel.EnvOption{cel.DefaultUTCTimeZone(true), cel.CustomTypeAdapter(orderedAdapter{}), cel.ParserExpressionSizeLimit(maxExpression), cel.ParserRecursionLimit(64)}
	for _, v := range variables() {
		if v.isOf(kinds) {
			opts = append(opts, cel.Variable(v.name, v.kind))
		}
	}
	env, err := cel.NewEnv(opts...)
	if err != nil {
		return nil, fmt.Errorf("set up CEL: %w", err)
	}
	c.envs[id] = env
	return env, nil
}

// compileWhen compiles the expression that e holds as text, once the targets of
// its policy are known.
func (d *decoder) compileWhen(e *entry, targets []approval.Target) {
	n := e.when
	if n == nil || len(targets) == 0 {
		return
	}
	d.SetPath(append(e.path(), strictyaml.Step{Key: "when"})...)
	defer func() { d.SetPath(e.path()...) }()
	kinds := make([]approval.TargetKind, 0, len(targets))
	for _, t := range targets {
		kinds = append(kinds, t.Kind)
	}
	slices.Sort(kinds)
	kinds = slices.Compact(kinds)
	env, err := d.compiler.env(kinds)
	if err != nil {
		d.Fail(n, "expression", err.Error(), "")
		return
	}
	ast, issues := env.Compile(n.Value)
	if issues.Err() != nil {
		for _, i := range issues.Errors() {
			d.expressionError(n, i, kinds)
		}
		return
	}
	if ast.OutputType() != cel.BoolType {
		d.Fail(n, "expression", "the expression gives "+ast.OutputType().String()+", not true or false", "compare it with something, such as claims.level == 3")
		return
	}
	program, err := env.Program(ast, cel.EvalOptions(cel.OptOptimize), cel.CostLimit(maxCost))
	if err != nil {
		d.Fail(n, "expression", "the expression cannot be run: "+err.Error(), "fix it")
		return
	}
	w := &whenCondition{program: program, values: d.compiler.values, source: n.Value, place: strictyaml.At(n)}
	for _, ref := range ast.NativeRep().ReferenceMap() {
		w.claims = w.claims || ref.Name == "claims"
	}
	e.conds = append(e.conds, w)
	d.lintWhen(n, env, ast)
}

// expressionError reports an error inside the expression n, under the very
// character where the text of the file allows that.
func (d *decoder) expressionError(n *strictyaml.Node, err *common.Error, kinds []approval.TargetKind) {
	at, place := expressionPlace(n, err.Location)
	hint := "write it in CEL, the Common Expression Language"
	if strings.Contains(err.Message, "undeclared reference") {
		hint = "an expression of this policy can name " + strings.Join(namesFor(kinds), ", ")
	}
	d.Report(strictyaml.SeverityError, at, "expression", strings.ReplaceAll(place+err.Message, " (in container '')", ""), hint)
}

// expressionPlace is where in the file a place inside the expression n is, and what
// to say of it where the file cannot show it.
func expressionPlace(n *strictyaml.Node, loc common.Location) (at strictyaml.Position, place string) {
	at = strictyaml.At(n)
	line, column := loc.Line(), max(loc.Column(), 0)
	quoted := strictyaml.Quoted(n)
	switch {
	case strictyaml.Block(n) || line != 1 || strings.Contains(n.Value, "\n"):
		place = "line " + strconv.Itoa(line) + ", character " + strconv.Itoa(column+1) + " of the expression: "
	case quoted: // near it, if quotes inside are doubled or escaped
		at.Column += column + 1
	default:
		at.Column += column
	}
	return at, place
}
