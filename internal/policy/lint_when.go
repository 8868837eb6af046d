package policy

import (
	"fmt"
	"slices"
	"strconv"

	"cel.dev/cel-go/cel"
	"cel.dev/cel-go/common/ast"
	"cel.dev/cel-go/common/operators"
	"cel.dev/cel-go/common/overloads"
	"cel.dev/cel-go/common/types"

	"github.com/vpcep-approver/vpcep-approver/internal/strictyaml"
)

// lintWhen warns of what can never be evaluated in the expression n, whatever the
// request, of what is the same for every request, and of texts that look like others.
func (d *decoder) lintWhen(n *strictyaml.Node, env *cel.Env, compiled *cel.Ast) {
	rep := compiled.NativeRep()
	warn := func(e ast.Expr, code, text, hint string) {
		at, place := expressionPlace(n, rep.SourceInfo().GetStartLocation(e.ID()))
		d.Report(strictyaml.SeverityWarning, at, code, place+text, hint)
	}
	fails := false
	check := func(e ast.Expr, text string) {
		if why := d.compiler.constantError(env, text); why != "" {
			fails = true
			warn(e, "constant-error", fmt.Sprintf("%.80s always fails: %s", text, why), "fix it, or the expression is never evaluated")
		}
	}
	var walk func(e ast.Expr, inside bool) // inside: a constant that was evaluated as a whole
	walk = func(e ast.Expr, inside bool) {
		switch e.Kind() {
		case ast.LiteralKind:
			if s, ok := e.AsLiteral().(types.String); ok {
				if odd := oddText(string(s), false); odd.code != "" {
					warn(e, odd.code, strconv.Quote(strictyaml.Cut(string(s)))+" "+odd.text, odd.hint)
				}
			}
		case ast.CallKind:
			if !inside && isConstant(e) {
				inside = true
				if text, err := cel.ExprToString(e, rep.SourceInfo()); err == nil {
					check(e, text)
				}
			}
			if !inside {
				if text := withConstants(e); text != "" {
					check(e, text)
				}
			}
			if zone, ok := zoneOf(e.AsCall()); ok {
				if text := reversedZone(zone); text != "" {
					warn(e, "time-zone", text, "write a name such as Asia/Shanghai, or an offset such as +08:00")
				}
			}
		default:
		}
		for _, child := range children(e) {
			walk(child, inside)
		}
	}
	walk(rep.Expr(), false)
	for _, ref := range rep.ReferenceMap() {
		if _, variable := d.compiler.values[ref.Name]; variable {
			return
		}
	}
	if fails {
		return
	}
	if out, err := program(env, compiled); err == nil {
		text := "the expression is never true, so the entry matches nothing"
		if out {
			text = "the expression is always true, so it has no effect"
		}
		d.Report(strictyaml.SeverityWarning, strictyaml.At(n), "no-effect", text, "delete it, or compare something of the request")
	}
}

// program evaluates an expression without variables.
func program(env *cel.Env, compiled *cel.Ast) (bool, error) {
	p, err := env.Program(compiled, cel.CostLimit(maxCost))
	if err != nil {
		return false, err
	}
	v, _, err := p.Eval(cel.NoVars())
	if err != nil {
		return false, err
	}
	out, _ := v.Value().(bool)
	return out, nil
}

// constantError returns why the expression text, which has no variables, fails;
// empty if it does not.
func (c *compiler) constantError(env *cel.Env, text string) string {
	if why, ok := c.constants[text]; ok {
		return why
	}
	why := ""
	if compiled, issues := env.Compile(text); issues.Err() == nil {
		if _, err := program(env, compiled); err != nil {
			why = err.Error()
		}
	}
	if c.constants == nil {
		c.constants = make(map[string]string)
	}
	c.constants[text] = why
	return why
}

// withConstants returns an expression without variables that fails if the call e
// does whatever its variables are; empty if none is known.
func withConstants(e ast.Expr) string {
	call := e.AsCall()
	args := call.Args()
	if zone, ok := zoneOf(call); ok {
		return `timestamp("2026-01-01T00:00:00Z").` + call.FunctionName() + "(" + strconv.Quote(zone) + ")"
	}
	switch name := call.FunctionName(); {
	case name == overloads.Matches:
		if pattern, ok := literal(args, len(args)-1); ok {
			return `"".matches(` + strconv.Quote(pattern) + ")"
		}
	case (name == operators.Divide || name == operators.Modulo) && len(args) == 2 && args[1].Kind() == ast.LiteralKind:
		switch v := args[1].AsLiteral().(type) {
		case types.Int:
			if v == 0 {
				return map[string]string{operators.Divide: "1 / 0", operators.Modulo: "1 % 0"}[name]
			}
		case types.Uint:
			if v == 0 {
				return map[string]string{operators.Divide: "1u / 0u", operators.Modulo: "1u % 0u"}[name]
			}
		}
	}
	return ""
}

// zoneOf returns the time zone that a call names.
func zoneOf(call ast.CallExpr) (string, bool) {
	if !call.IsMemberFunction() || !slices.Contains(instantFunctions(), call.FunctionName()) {
		return "", false
	}
	return literal(call.Args(), 0)
}

// literal returns the i-th of args if it is a text.
func literal(args []ast.Expr, i int) (string, bool) {
	if i >= len(args) || args[i].Kind() != ast.LiteralKind {
		return "", false
	}
	s, ok := args[i].AsLiteral().(types.String)
	return string(s), ok
}

// instantFunctions are those of a timestamp that take a time zone.
func instantFunctions() []string {
	return []string{
		overloads.TimeGetFullYear, overloads.TimeGetMonth, overloads.TimeGetDayOfYear, overloads.TimeGetDayOfMonth, overloads.TimeGetDate,
		overloads.TimeGetDayOfWeek, overloads.TimeGetHours, overloads.TimeGetMinutes, overloads.TimeGetSeconds, overloads.TimeGetMilliseconds,
	}
}

// isConstant reports whether e is made of literals and calls alone.
func isConstant(e ast.Expr) bool {
	switch e.Kind() {
	case ast.LiteralKind:
		return true
	case ast.CallKind, ast.ListKind, ast.MapKind:
		return !slices.ContainsFunc(children(e), func(c ast.Expr) bool { return !isConstant(c) })
	default:
		return false
	}
}

// children returns the expressions that e is made of.
func children(e ast.Expr) []ast.Expr {
	switch e.Kind() {
	case ast.CallKind:
		call := e.AsCall()
		if call.IsMemberFunction() {
			return append([]ast.Expr{call.Target()}, call.Args()...)
		}
		return call.Args()
	case ast.ListKind:
		return e.AsList().Elements()
	case ast.MapKind:
		var out []ast.Expr
		for _, entry := range e.AsMap().Entries() {
			out = append(out, entry.AsMapEntry().Key(), entry.AsMapEntry().Value())
		}
		return out
	case ast.SelectKind:
		return []ast.Expr{e.AsSelect().Operand()}
	case ast.ComprehensionKind:
		c := e.AsComprehension()
		return []ast.Expr{c.IterRange(), c.AccuInit(), c.LoopCondition(), c.LoopStep(), c.Result()}
	default:
		return nil
	}
}
