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

// Operations returns the names of the calls of an API.
func Operations(api string) []string {
	var out []string
	for _, r := range routes() {
		if r.api == api {
			out = append(out, r.operation)
		}
	}
	return out
}

// Check says what is wrong with f.
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
		return fmt.Errorf("there is no API %q; there are %s, and * for all", f.API, strings.Join(APIs(), ", "))
	case f.Operation != "" && !slices.ContainsFunc(operations, known):
		return fmt.Errorf("there is no operation %q; there are %s", f.Operation, strings.Join(operations, ", "))
	case !slices.Contains(FaultKinds(), f.Kind):
		return fmt.Errorf("there is no kind %q; there are %s", f.Kind, join(FaultKinds()))
	case f.Kind == Throttle400 && f.API != "" && f.API != VPCEP:
		return fmt.Errorf("%s is VPCEP's way to throttle, not that of %s; %s fits every API", f.Kind, f.API, Throttle429)
	case f.Kind == Throttle500 && f.API != "" && f.API != APIG:
		return fmt.Errorf("%s is APIG's way to throttle, not that of %s; %s fits every API", f.Kind, f.API, Throttle429)
	case f.Kind == Refuse && f.Code == "":
		return fmt.Errorf("%s needs a code, as in refuse:status=409,code=APIC.7701", f.Kind)
	case f.Count < 0, f.Probability < 0, f.Probability > 1, f.After < 0, f.For < 0, f.RetryAfter < 0, f.Delay < 0:
		return fmt.Errorf("numbers and times are not negative, and a probability is at most 1")
	case f.Rows < 0:
		return fmt.Errorf("rows is %d; give 0 or more", f.Rows)
	case f.Rows > 0 && !slices.Contains([]FaultKind{MissingRows, ShiftedRows, SmallPages}, f.Kind):
		return fmt.Errorf("%s has no rows; %s, %s and %s have", f.Kind, MissingRows, ShiftedRows, SmallPages)
	case f.Field != "" && !slices.Contains(listFaultFields(f.Kind), f.Field):
		return fmt.Errorf("%s knows no field %q; %s", f.Kind, f.Field, fieldsInWords(f.Kind))
	case slices.Contains(listFaultKinds(), f.Kind) && f.Operation != "" && !slices.ContainsFunc(listOperations(), known):
		return fmt.Errorf("%s is of lists only: %s", f.Kind, strings.Join(listOperations(), ", "))
	case f.Status != 0 && (f.Status < 200 || f.Status > 599):
		return fmt.Errorf("status %d is not from 200 to 599", f.Status)
	}
	return nil
}

func fieldsInWords(k FaultKind) string {
	if fields := listFaultFields(k); len(fields) > 0 {
		return "there are " + strings.Join(fields, ", ")
	}
	return "there is none"
}

func join(kinds []FaultKind) string {
	var out []string
	for _, k := range kinds {
		out = append(out, string(k))
	}
	return strings.Join(out, ", ")
}

// ParseFault reads a fault in the form
//
//	API[/OPERATION]:KIND[:KEY=VALUE[,KEY=VALUE…]]
//
// such as vpcep:throttle-400:count=3 or */ListEndpoints:slow:delay=5s,for=1m. The
// keys are count, probability, after, for, status, code, retry-after, delay, rows,
// field, and done, which has no value.
func ParseFault(text string) (Fault, error) {
	where, rest, found := strings.Cut(text, ":")
	if !found {
		return Fault{}, fmt.Errorf("%q has no kind; the form is API[/OPERATION]:KIND[:KEY=VALUE,…], such as vpcep:throttle-400:count=3", text)
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

// set sets what one KEY=VALUE says.
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
		return fmt.Errorf("there is no key %q; there are count, probability, after, for, status, code, retry-after, delay, rows, field, done", key)
	}
	if err != nil {
		return fmt.Errorf("%s is not a number, or a time such as 1.5s: %q", key, value)
	}
	return nil
}

// Presets returns the names of the sets of faults that FaultPreset knows.
func FaultProfiles() []string { return []string{"none", "mild", "severe", "bad-lists"} }

// FaultPreset returns a set of faults by name: none; mild, as a good day in a
// real cloud has them; storm, everything at once that a client must survive; lies,
// lists that do not show what there is.
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
	case "severe":
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
		return nil, fmt.Errorf("there is no set of faults %q; there are %s", name, strings.Join(FaultProfiles(), ", "))
	}
}
