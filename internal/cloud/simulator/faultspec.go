package simulator

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"
)

// APIs returns the names of all APIs.
func APIs() []string {
	return []string{VPCEP, APIG, FunctionGraph, HSS, DataArtsInsight, IAM}
}

// Operations returns the names of the operations of an API.
func Operations(api string) []string {
	var out []string
	for _, r := range routes() {
		if r.api == api {
			out = append(out, r.operation)
		}
	}
	return out
}

// Check returns an error if f is invalid.
func (f Fault) Check() error {
	var operations []string
	for _, api := range APIs() {
		if f.API == "" || f.API == api {
			operations = append(operations, Operations(api)...)
		}
	}
	known := func(x string) bool { return strings.EqualFold(x, f.Operation) }
	switch {
	case f.API != "" && !slices.Contains(APIs(), f.API):
		return fmt.Errorf("unknown API %q; use one of %s, or * for all", f.API, strings.Join(APIs(), ", "))
	case f.Operation != "" && !slices.ContainsFunc(operations, known):
		return fmt.Errorf("unknown operation %q; use one of %s", f.Operation, strings.Join(operations, ", "))
	case !slices.Contains(FaultKinds(), f.Kind):
		return fmt.Errorf("unknown kind %q; use one of %s", f.Kind, join(FaultKinds()))
	case f.Kind == Throttle400 && f.API != "" && f.API != VPCEP:
		return fmt.Errorf("%s exists only for vpcep, not for %s; use %s instead", f.Kind, f.API, Throttle429)
	case f.Kind == Throttle500 && f.API != "" && f.API != APIG:
		return fmt.Errorf("%s exists only for apig, not for %s; use %s instead", f.Kind, f.API, Throttle429)
	case f.Kind == Refuse && f.Code == "":
		return fmt.Errorf("%s needs a code, as in refuse:status=409,code=APIC.7701", f.Kind)
	case f.Count < 0, f.Probability < 0, f.Probability > 1, f.After < 0, f.For < 0, f.RetryAfter < 0, f.Delay < 0:
		return fmt.Errorf("numbers and durations must not be negative, and probability must be at most 1")
	case f.Rows < 0:
		return fmt.Errorf("rows must not be negative, got %d", f.Rows)
	case f.Rows > 0 && !slices.Contains([]FaultKind{MissingRows, ShiftedRows, SmallPages}, f.Kind):
		return fmt.Errorf("%s has no key rows; %s, %s and %s have it", f.Kind, MissingRows, ShiftedRows, SmallPages)
	case f.Field != "" && !slices.Contains(listFaultFields(f.Kind), f.Field):
		return fmt.Errorf("%s: unknown field %q; %s", f.Kind, f.Field, fieldsInWords(f.Kind))
	case slices.Contains(listFaultKinds(), f.Kind) && f.Operation != "" && !slices.ContainsFunc(listOperations(), known):
		return fmt.Errorf("%s affects only lists; use one of the operations %s", f.Kind, strings.Join(listOperations(), ", "))
	case f.Status != 0 && (f.Status < 200 || f.Status > 599):
		return fmt.Errorf("status must be from 200 to 599, got %d", f.Status)
	}
	return nil
}

func fieldsInWords(k FaultKind) string {
	if fields := listFaultFields(k); len(fields) > 0 {
		return "use one of " + strings.Join(fields, ", ")
	}
	return "it has none"
}

func join(kinds []FaultKind) string {
	var out []string
	for _, k := range kinds {
		out = append(out, string(k))
	}
	return strings.Join(out, ", ")
}

// ParseFault parses a fault of the form
//
//	API[/OPERATION]:KIND[:KEY=VALUE[,KEY=VALUE…]]
//
// such as vpcep:throttle-400:count=3 or */ListEndpoints:slow:delay=5s,for=1m. The
// keys are count, probability, after, for, status, code, retry-after, delay, rows,
// field, and done, which has no value.
func ParseFault(text string) (Fault, error) {
	where, rest, found := strings.Cut(text, ":")
	if !found {
		return Fault{}, fmt.Errorf("%q has no kind; the format is API[/OPERATION]:KIND[:KEY=VALUE,…], such as vpcep:throttle-400:count=3", text)
	}
	kind, options, _ := strings.Cut(rest, ":")
	f := Fault{Kind: FaultKind(kind)}
	f.API, f.Operation, _ = strings.Cut(where, "/")
	if f.API == "*" {
		f.API = ""
	}
	if options != "" {
		for option := range strings.SplitSeq(options, ",") {
			if err := f.set(option); err != nil {
				return Fault{}, fmt.Errorf("%q: %w", text, err)
			}
		}
	}
	if err := f.Check(); err != nil {
		return Fault{}, fmt.Errorf("%q: %w", text, err)
	}
	return f, nil
}

// set sets one KEY=VALUE.
func (f *Fault) set(option string) (err error) {
	key, value, _ := strings.Cut(option, "=")
	switch key {
	case "count":
		f.Count, err = strconv.Atoi(value)
	case "probability":
		f.Probability, err = strconv.ParseFloat(value, 64)
	case "status":
		f.Status, err = strconv.Atoi(value)
	case "code":
		f.Code = value
	case "after":
		f.After, err = time.ParseDuration(value)
	case "for":
		f.For, err = time.ParseDuration(value)
	case "retry-after":
		f.RetryAfter, err = time.ParseDuration(value)
	case "delay":
		f.Delay, err = time.ParseDuration(value)
	case "rows":
		f.Rows, err = strconv.Atoi(value)
	case "field":
		f.Field = value
	case "done":
		f.Done = true
	default:
		return fmt.Errorf("unknown key %q; use one of count, probability, after, for, status, code, retry-after, delay, rows, field, done", key)
	}
	if err != nil {
		return fmt.Errorf("%s: invalid value %q; want a number, or a duration such as 1.5s", key, value)
	}
	return nil
}

// FaultProfiles returns the names of the fault profiles.
func FaultProfiles() []string { return []string{"none", "mild", "storm", "bad-lists"} }

// FaultProfile returns the faults of a profile: none; mild, the faults of a normal day;
// storm, all faults that a client must survive; bad-lists, lists with wrong content.
func FaultProfile(name string) ([]Fault, error) {
	switch name {
	case "none":
		return nil, nil
	case "mild":
		return []Fault{
			{Kind: Throttle429, Probability: 0.02, RetryAfter: time.Second},
			{Kind: Throttle400, Probability: 0.02},
			{Kind: ServerError, Status: 503, Probability: 0.01},
			{API: VPCEP, Operation: "AcceptOrRejectEndpoint", Kind: CutAfter, Probability: 0.02},
			{Kind: Slow, Delay: 500 * time.Millisecond, Probability: 0.02},
		}, nil
	case "storm":
		return []Fault{
			{Kind: Throttle429, Probability: 0.05},
			{Kind: Throttle400, Probability: 0.08},
			{Kind: Throttle500, Probability: 0.08},
			{Kind: ServerError, Probability: 0.03},
			{Kind: ServerError, Status: 502, Probability: 0.02, Done: true},
			{Kind: ServerError, Status: 503, Probability: 0.03},
			{Kind: ServerError, Status: 504, Probability: 0.02, Done: true},
			{Kind: HTML, Status: 403, Probability: 0.01},
			{Kind: HTML, Probability: 0.01},
			{Kind: CutBefore, Probability: 0.02},
			{Kind: CutAfter, Probability: 0.03},
			{Kind: TruncatedJSON, Probability: 0.01},
			{Kind: Slow, Delay: time.Second, Probability: 0.05},
			{Kind: StaleList, Delay: 3 * time.Second, Probability: 0.10},
			{Kind: UnknownState, Probability: 0.03},
		}, nil
	case "bad-lists":
		return []Fault{
			{Kind: SmallPages, Probability: 0.5},
			{Kind: ShiftedRows, Probability: 0.10},
			{Kind: MissingRows, Probability: 0.10},
			{Kind: MissingRows, Rows: 1, Probability: 0.10},
			{Kind: DuplicateRows, Probability: 0.05},
			{Kind: DuplicateRows, Field: "status", Probability: 0.05},
			{Kind: DuplicateRows, Field: exactDuplicate, Probability: 0.05},
			{Kind: DuplicateMember, Probability: 0.05},
			{Kind: DelayedRows, Probability: 0.10},
			{Kind: StaleList, Delay: 3 * time.Second, Probability: 0.10},
			{Kind: WrongIdentity, Probability: 0.03},
			{Kind: WrongIdentity, Field: "marker_id", Probability: 0.03},
			{Kind: Partial206, API: VPCEP, Operation: "ListServiceConnections", Probability: 0.05},
		}, nil
	default:
		return nil, fmt.Errorf("unknown fault profile %q; use one of %s", name, strings.Join(FaultProfiles(), ", "))
	}
}
