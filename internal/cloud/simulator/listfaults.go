package simulator

import (
	"cmp"
	"encoding/json"
	"math"
	"net/http"
	"slices"
	"strings"
	"time"
)

// The kinds of fault that falsify the rows of a list. They go together with others.
const (
	MissingRows     FaultKind = "missing-rows"     // Rows rows of each page are left out, and still counted; 0: all
	ShiftedRows     FaultKind = "shifted-rows"     // each page after the first begins Rows rows later; 0: one
	SmallPages      FaultKind = "small-pages"      // a page holds at most Rows rows; 0: two
	LargePages      FaultKind = "large-pages"      // a page holds all rows, whatever the limit
	DuplicateRows   FaultKind = "duplicate-rows"   // the first row of a page is there again, with another Field
	DuplicateMember FaultKind = "duplicate-member" // each row holds the member Field twice
	DelayedRows     FaultKind = "delayed-rows"     // what is younger than Delay does not show; 0: 30 s
	WrongIdentity   FaultKind = "wrong-identity"   // rows show another Field than they have
	Partial206      FaultKind = "partial-206"      // 206 instead of 200
)

// The kinds of fault that only the operator of a client can fix. They answer, with
// the status and the code that the API has for it.
const (
	Permission     FaultKind = "permission"      // the credential lacks a right
	Quota          FaultKind = "quota"           // a quota is used up
	UnknownService FaultKind = "unknown-service" // no such service, gateway, network or workspace
	WrongProject   FaultKind = "wrong-project"   // the credential is not one of the project
)

// lieKinds are those of the first group that change rows or pages.
func listFaultKinds() []FaultKind {
	return []FaultKind{MissingRows, ShiftedRows, SmallPages, LargePages, DuplicateRows, DuplicateMember, DelayedRows, WrongIdentity}
}

// exactTwin is the Field of TwinRows that changes nothing.
const exactDuplicate = "none"

// lieFields returns what Field may be for a kind; none if it has no Field.
func listFaultFields(k FaultKind) []string {
	identity := []string{"domain_id", "marker_id", "created_at"}
	switch k {
	case WrongIdentity:
		return identity
	case DuplicateMember:
		return append(identity, "status")
	case DuplicateRows:
		return append(identity, "status", exactDuplicate)
	default:
		return nil
	}
}

// listOperations are the calls whose rows can be falsified.
func listOperations() []string {
	return []string{"ListServiceConnections", "ListEndpointConnections", "ListEndpoints", "ShowEndpointStatus"}
}

// window is the part of a list that c asks for, as far as faults let it.
func (c *call) window(offset, limit int64) (int64, int64) {
	for _, f := range c.listFaults {
		switch f.Kind {
		case SmallPages:
			limit = min(limit, int64(cmp.Or(f.Rows, 2)))
		case LargePages:
			limit = math.MaxInt64
		case ShiftedRows:
			if offset > 0 {
				offset += int64(cmp.Or(f.Rows, 1))
			}
		default:
		}
	}
	return offset, limit
}

// hidden reports whether the lists that c sees do not show e because it is young.
func (c *call) tooYoung(e *endpoint) bool {
	return slices.ContainsFunc(c.listFaults, func(f *Fault) bool {
		return f.Kind == DelayedRows && c.now.Sub(e.CreatedAt) < cmp.Or(f.Delay, 30*time.Second)
	})
}

// falsified returns a page of rows, and how many rows there are, as faults have it.
func applyListFaults[T any](c *call, rows []T, total int) ([]any, int) {
	out := make([]any, len(rows))
	for i, r := range rows {
		out[i] = r
	}
	for _, f := range c.listFaults {
		if len(out) == 0 {
			break
		}
		switch f.Kind {
		case MissingRows:
			out = out[:len(out)-min(cmp.Or(f.Rows, len(out)), len(out))]
		case DuplicateRows:
			out, total = append(out, alterField(out[0], f.Field, false)), total+1
		case WrongIdentity:
			for i := range out {
				out[i] = alterField(out[i], f.Field, false)
			}
		case DuplicateMember:
			for i := range out {
				out[i] = alterField(out[i], f.Field, true)
			}
		default:
		}
	}
	return out, total
}

// altered returns a row with another value of the member called field, in place of
// the right one or after it. Rows without that member have another status.
func alterField(row any, field string, after bool) any {
	text, err := json.Marshal(row)
	if err != nil || field == exactDuplicate {
		return row
	}
	members := map[string]json.RawMessage{}
	if json.Unmarshal(text, &members) != nil {
		return row
	}
	if field == "" {
		field = "domain_id"
	}
	if _, ok := members[field]; !ok {
		field = "status"
	}
	other := otherValue(field, string(members[field]))
	if after {
		return json.RawMessage(strings.TrimSuffix(string(text), "}") + `,"` + field + `":` + other + "}")
	}
	members[field] = json.RawMessage(other)
	return members
}

// otherValue is another value of the same form.
func otherValue(field, value string) string {
	switch field {
	case "marker_id":
		return value + "0"
	case "status":
		if value == `"`+Accepted+`"` {
			return `"` + PendingAcceptance + `"`
		}
		return `"` + Accepted + `"`
	case "created_at":
		return `"2018-01-30T07:42:01Z"`
	}
	if strings.HasPrefix(value, `"0`) {
		return `"1` + value[2:]
	}
	return `"0` + value[2:]
}

// operatorFault is how the API of c says what its operator must fix.
func operatorFault(kind FaultKind, c *call) answer {
	type said struct {
		status        int
		code, message string
	}
	var a said
	switch kind {
	case Permission:
		a = map[string]said{
			VPCEP:           {http.StatusForbidden, "EndPoint.0004", "Insufficient permissions."},
			APIG:            {http.StatusForbidden, "APIC.7106", "No permissions"},
			FunctionGraph:   {http.StatusForbidden, "FSS.0403", "Forbidden"},
			HSS:             {http.StatusBadRequest, "HSS.0013", "No permission."},
			DataArtsInsight: {http.StatusForbidden, "DataArtsInsight.20010003", "No permission."},
			IAM:             {http.StatusForbidden, "IAM.0003", "You are not authorized to perform the requested action."},
		}[c.api]
	case Quota:
		a = map[string]said{
			VPCEP:         {http.StatusBadRequest, "EndPoint.1018", "The quota is used up."},
			FunctionGraph: {http.StatusBadRequest, "FSS.1047", "The number of VPCs exceeds the limit."},
			HSS:           {http.StatusBadRequest, "HSS.0014", "The quota is insufficient."},
		}[c.api]
		if a.code == "" {
			return gateway(http.StatusForbidden, "APIGW.0501", "The app quota has been used up", c.id)
		}
	case UnknownService:
		a = map[string]said{
			VPCEP:           {http.StatusNotFound, "EndPoint.0005", "The resource does not exist."},
			APIG:            {http.StatusNotFound, "APIC.7302", "The gateway does not exist"},
			FunctionGraph:   {http.StatusNotFound, "FSS.0404", "Not found"},
			HSS:             {http.StatusBadRequest, "HSS.0011", "The resource does not exist."},
			DataArtsInsight: {http.StatusBadRequest, "DataArtsInsight.24150005", "The workspace does not exist."},
			IAM:             {http.StatusNotFound, "IAM.0004", "Could not find the requested resource."},
		}[c.api]
	default:
		return gateway(http.StatusForbidden, "APIGW.0302", "The IAM user is not authorized to access the API", c.id)
	}
	if c.api == IAM {
		return iamRefuse(a.status, a.code, a.message)
	}
	return refuse(a.status, a.code, a.message)
}
