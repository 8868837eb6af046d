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

// The list faults, which change the rows of a list. They combine with other faults.
const (
	MissingRows     FaultKind = "missing-rows"     // each page omits Rows rows, the total counts them; 0: all
	ShiftedRows     FaultKind = "shifted-rows"     // each page after the first starts Rows rows later; 0: one
	SmallPages      FaultKind = "small-pages"      // a page has at most Rows rows; 0: two
	LargePages      FaultKind = "large-pages"      // a page has all rows, regardless of the limit
	DuplicateRows   FaultKind = "duplicate-rows"   // the first row of a page is repeated with a different Field
	DuplicateMember FaultKind = "duplicate-member" // each row has the member Field twice
	DelayedRows     FaultKind = "delayed-rows"     // lists omit connections younger than Delay; 0: 30 s
	WrongIdentity   FaultKind = "wrong-identity"   // rows show a wrong Field
	Partial206      FaultKind = "partial-206"      // 206 instead of 200
)

// The faults that only the operator of a client can fix. The response has the status
// and the code of the API.
const (
	Permission     FaultKind = "permission"      // the credential lacks a permission
	Quota          FaultKind = "quota"           // a quota is exhausted
	UnknownService FaultKind = "unknown-service" // no such service, gateway, network or workspace
	WrongProject   FaultKind = "wrong-project"   // the credential is not valid for the project
)

// listFaultKinds returns the list faults.
func listFaultKinds() []FaultKind {
	return []FaultKind{MissingRows, ShiftedRows, SmallPages, LargePages, DuplicateRows, DuplicateMember, DelayedRows, WrongIdentity}
}

// exactDuplicate is the Field of DuplicateRows for an identical row.
const exactDuplicate = "none"

// listFaultFields returns the valid values of Field for a kind.
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

// listOperations returns the operations that list faults affect.
func listOperations() []string {
	return []string{"ListServiceConnections", "ListEndpointConnections", "ListEndpoints", "ShowEndpointStatus"}
}

// window applies the list faults to the offset and the limit of a page.
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

// tooYoung reports whether a fault hides e from lists.
func (c *call) tooYoung(e *endpoint) bool {
	return slices.ContainsFunc(c.listFaults, func(f *Fault) bool {
		return f.Kind == DelayedRows && c.now.Sub(e.CreatedAt) < cmp.Or(f.Delay, 30*time.Second)
	})
}

// applyListFaults returns a page and the total number of rows with the list faults.
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

// alterField returns a row with a different value of field, in place of the right one or
// after it. In rows without that field it changes the status.
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

// otherValue returns a different value of the same form.
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

// operatorFault returns the response of the API of c to a fault of its operator.
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
