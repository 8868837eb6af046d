package cloud

import (
	"fmt"
	"net/http"
	"slices"
	"strconv"
	"strings"
)

// row is a row of the table of error codes. codes are separated by spaces; after the
// first, ".0006" repeats the prefix, "-.0021" makes a range, and "40xx" stands for a
// hundred codes. status limits a row to a class of HTTP statuses (5 is 5xx); 0 is any.
type row struct {
	codes  string
	status int
	class  Class
	text   string
}

// errorCodes maps each error code to a class, and so to whose problem it is: the
// requester's (final, gone, already_done), the operator's (operator, credentials) or
// the cloud's (all others). Other codes are classified by status, see byStatus.
//
// Source: the error tables of VPCEP, APIG, FunctionGraph, HSS, DataArts Insight,
// IAM and the API gateway in front of them, as of 2026-04.
func errorCodes() []row {
	return []row{
		// VPCEP. Almost everything comes as 400.
		{"EndPoint.0001", 0, ClassRetry, "VPCEP has an internal error"},
		{"EndPoint.0013", 0, ClassUnknown, "VPCEP timed out"},
		{"EndPoint.0022", 0, ClassThrottle, "too many calls"},                          // 400
		{"EndPoint.0011 .0012", 0, ClassFinal, "the request lacks a body or a header"}, // 504, but a bug of the client
		{"EndPoint.0003", 0, ClassCredentials, "the credential is refused"},
		{"EndPoint.0004", 0, ClassOperator, "the credential lacks permission; grant it vpcep:connections:list and :update"},
		{"EndPoint.2006 .2007 .2008 .0005", 0, ClassGone, "the endpoint does not exist"},
		{"EndPoint.2018", 0, ClassGone, "the endpoint is being deleted"},
		{"EndPoint.2014", 0, ClassAlreadyDone, "the endpoint is already connected"},
		{"EndPoint.2019 .2051", 0, ClassRetry, "the endpoint is being changed"},
		{"EndPoint.2004", 0, ClassSlow, "the endpoint service is not available"},
		{"EndPoint.3006 .3045", 0, ClassSlow, "the endpoint service is in use or in a state that does not allow it"},
		{"EndPoint.1008", 0, ClassRetry, "VPCEP could not get a token of its own"},
		{"EndPoint.2021-.2026 .2038 .40xx", 0, ClassRetry, "the network of the endpoint could not be set up; if this persists, contact the support of the cloud"},
		{"EndPoint.2003", 0, ClassOperator, "the endpoint service does not exist; check the target's id and project"},
		{"EndPoint.2012", 0, ClassOperator, "the account is not on the whitelist of the endpoint service; add it"},
		{"EndPoint.2013", 0, ClassOperator, "the endpoint does not belong to the service; check the target's id or service_id"}, // although the target's list shows it
		{"EndPoint.2015 .2050", 0, ClassFinal, "the endpoint is frozen or disabled; its owner must resolve this"},
		{"EndPoint.2047", 0, ClassFinal, "the endpoint has failed and cannot be changed; its owner must delete it"},
		{"EndPoint.2027 .0007 .3035", 0, ClassFinal, "the action is not valid"},
		{"EndPoint.2031", 0, ClassFinal, "only one endpoint is allowed in a call"},
		{"EndPoint.1018", 0, ClassOperator, "a quota is exhausted; request an increase"},
		{"EndPoint.3049 .2045", 0, ClassOperator, "the whitelist of the endpoint service is full; remove unused entries"},
		{"EndPoint.0002 .0006 .0010 .0014 .0017-.0021 .1003 .1004 .2017 .2029", 0, ClassFinal, "a parameter is not valid"},

		// APIG, management.
		{"APIC.7100 .7101 .7102 .7103 .7105 .7107", 0, ClassCredentials, "the credential is refused"},
		{"APIC.7106 .7109 .7110 .7111 .7118 .7130 .7134 .7300", 0, ClassOperator, "not permitted, or the gateway belongs to another account or project; grant apig:instance:get and acceptOrRejectVpcEndpointConnection"},
		{"APIC.7302 APIG.3030", 0, ClassOperator, "the gateway does not exist; check the target's id and project"},
		{"APIC.7314", 0, ClassOperator, "the gateway has no endpoint service; enable it or check the target's id"},
		{"APIC.7211", 0, ClassFinal, "a parameter is not valid"},
		{"APIC.7701 APIG.3718", 0, ClassSlow, "the gateway is busy or being upgraded"},
		{"APIC.9000 .9007 .9100 .9999 APIG.9999", 0, ClassUnknown, "the gateway's management has an internal error"},
		{"APIG.9008", 0, ClassThrottle, "too many calls"}, // 500

		// FunctionGraph.
		{"FSS.0400 .0406 .0413 .0424", 0, ClassFinal, "the request is not valid"},
		{"FSS.0401", 0, ClassCredentials, "the credential is refused"},
		{"FSS.0403", 0, ClassOperator, "the credential lacks permission; grant it the permissions for FunctionGraph and vpcep:endpoints:create"},
		{"FSS.1121 .1122 .1125 .1126", 0, ClassOperator, "the agency is missing or lacks permissions; create it or grant them"},
		{"FSS.0404 .0410 .1036 .1037", 0, ClassFinal, "the VPC or the subnet does not exist"},
		{"FSS.0409", 0, ClassAlreadyDone, "the endpoint already exists"},
		{"FSS.1047 .1048", 0, ClassOperator, "too many VPCs are bound; request a higher quota"},
		{"FSS.1090", 0, ClassSlow, "the subnet is not active"},
		{"FSS.0429", 0, ClassThrottle, "too many calls"},
		{"FSS.0408 .0500 .0502 .0503 .0504 .1115 .1169", 0, ClassUnknown, "FunctionGraph has an internal error or timed out"},

		// HSS. All come as 400.
		{"HSS.0001 .0002", 0, ClassFinal, "a parameter is not valid"},
		{"HSS.0010 .0013", 0, ClassOperator, "the credential lacks permission; grant it the permissions for HSS"},
		{"HSS.0011", 0, ClassFinal, "a server or a VPC does not exist"},
		{"HSS.0014", 0, ClassOperator, "a quota is exhausted; request an increase"},

		// DataArts Insight.
		{"DataArtsInsight.20010003", 0, ClassOperator, "the credential lacks permission; grant it the permissions for DataArts Insight"},
		{"DataArtsInsight.24010003", 0, ClassFinal, "a resource named in the request does not exist"},
		{"DataArtsInsight.24010043", 0, ClassOperator, "the user has no permission for the workspace; add the user to it"},
		{"DataArtsInsight.24150004", 0, ClassSlow, "the workspace is in a state that does not allow it"},
		{"DataArtsInsight.24150005", 0, ClassOperator, "the workspace does not exist; check the target's workspace_id"},

		// IAM. Every API returns the codes about keys.
		{"IAM.0001 .0062", 0, ClassCredentials, "user or password is wrong"},
		{"IAM.0061", 0, ClassCredentials, "the account is locked; wait until the lock ends"},
		{"IAM.0063 .0064 .0067", 0, ClassCredentials, "the token is refused"},
		{"IAM.0066", 0, ClassCredentials, "the token has expired"},
		{"IAM.0080 .0082", 0, ClassCredentials, "the user of the key is disabled; enable it"},             // 403
		{"IAM.0081", 0, ClassCredentials, "the user may only use the console; allow programmatic access"}, // 403
		{"IAM.1104", 0, ClassCredentials, "the access key is blacklisted"},                                // 400, as those below
		{"IAM.1105 .1106 .1107", 0, ClassCredentials, "the access key has expired, is not active or its user does not exist"},
		{"IAM.1108", 0, ClassCredentials, "the security token of the key has expired"},
		{"IAM.1109", 0, ClassOperator, "the project of the key does not exist; check the target's project_id and the region"},
		{"IAM.0002 .0003", 0, ClassOperator, "the user is not authorized; check its permissions and the target's project_id"},
		{"IAM.0083", 0, ClassOperator, "the user may not use this region; check the region"},
		{"IAM.0004", 0, ClassOperator, "IAM does not know the project; check the target's project_id and the region"},
		{"IAM.0007 .0011 .0072 .0073 .1101 .1102 .1103", 0, ClassFinal, "the request is not valid"},
		{"IAM.0012", 0, ClassThrottle, "too many calls"},
		{"IAM.0006", 0, ClassUnknown, "IAM has an internal error"},
		{"IAM.0020", 0, ClassRetry, "the region's IAM has failed over; if this persists, set cloud.endpoints.iam to another IAM host"}, // 410

		// The gateway in front of all of them, also spelled "APIG.0...".
		{"APIGW.0101 .0103", 0, ClassOperator, "no such API at this address; check region, endpoint and project"},
		{"APIGW.0201", 4, ClassFinal, "the gateway refuses the request as malformed or too large"},
		{"APIGW.0201", 5, ClassUnknown, "the API behind the gateway does not respond"},
		{"APIGW.0202 .0203 .0610", 0, ClassUnknown, "the API behind the gateway does not respond"},
		{"APIGW.0301 .0303 .0305 .0307", 0, ClassCredentials, "signature or token is refused; check the key, the clock, the target's project_id and the region"},
		{"APIGW.0302 .0304 .0306 .0310 .0402 .0405 .0802", 0, ClassOperator, "the user, its address or its project is not allowed; check its permissions"},
		{"APIGW.0308", 0, ClassThrottle, "too many calls"},
		{"APIGW.0501 .0502", 0, ClassOperator, "the quota of the application is exhausted or frozen; request an increase"},
		{"APIGW.0601 .0605 .0606 .0608 .0705", 0, ClassRetry, "the gateway has an internal error"},
		{"APIGW.0613", 0, ClassRetry, "the gateway cannot reach IAM"},
	}
}

// keyCodes are the refusals that concern the key or the user itself, so that no API
// accepts it. In mode aksk "APIGW.0301" means a wrong signature or a locked key; for a
// token it can also mean a token of another project.
func keyCodes() string {
	return "IAM.0061 IAM.0062 IAM.0080 IAM.0081 IAM.0082 IAM.1104 IAM.1105 IAM.1106 IAM.1107"
}

// refusesKey reports whether a refusal with code concerns the key itself.
func refusesKey(mode, code string) bool {
	code = normal(code)
	return slices.Contains(strings.Fields(keyCodes()), code) || mode == ModeAKSK && code == "APIGW.0301"
}

// nameSource says where the ids in a call come from, and so whose problem it is if the
// API refuses them.
type nameSource int

const (
	byRequest nameSource = iota // the request has some of the ids
	byConfig                    // the configuration has all ids
	byFilter                    // the configuration has all ids but that of the filter
)

// classify returns the class of a refusal, considering who can change the refused ids.
// A request cannot cause the refusal of a list whose ids all come from the configuration.
func (t codeTable) classify(n nameSource, status int, said errorBody) (Class, string) {
	class, text := t.class(status, said)
	_, known := t.row(status, said.code)
	switch {
	case n == byConfig && (class == ClassFinal || class == ClassGone):
		return ClassOperator, "the API refuses the ids of the configuration (" + text + "); check the target's id, its project and the region"
	case n == byFilter && said.shaped && !known && status == http.StatusNotFound:
		return ClassGone, "the API does not know the endpoint"
	}
	return class, text
}

// codeTable finds rows by normalized code.
type codeTable map[string][]row

func newCodeTable(rows []row) (codeTable, error) {
	table := codeTable{}
	for _, r := range rows {
		codes, err := expand(r.codes)
		if err != nil {
			return nil, err
		}
		for _, code := range codes {
			table[normal(code)] = append(table[normal(code)], r)
		}
	}
	return table, nil
}

// class returns the class of an error response and its text.
func (t codeTable) class(status int, said errorBody) (Class, string) {
	if r, known := t.row(status, said.code); known {
		return r.class, r.text
	}
	return byStatus(status, said.shaped)
}

func (t codeTable) row(status int, code string) (row, bool) {
	for _, r := range t[normal(code)] {
		if r.status == 0 || r.status == status/100 {
			return r, true
		}
	}
	return row{}, false
}

// normal normalizes a code: the documents differ in case, and write the codes of the
// API gateway both as "APIGW.0308" and as "APIG.0308".
func normal(code string) string {
	code = strings.ToUpper(strings.TrimSpace(code))
	if rest, ok := strings.CutPrefix(code, "APIG.0"); ok {
		return "APIGW.0" + rest
	}
	return code
}

// expand returns the codes of a row.
func expand(codes string) ([]string, error) {
	var out []string
	var prefix string
	for word := range strings.FieldsSeq(codes) {
		if dot := strings.IndexByte(word, '.'); dot > 0 {
			prefix, word = word[:dot], word[dot:]
		}
		first, last, ranged := strings.Cut(word, "-")
		if hundred, ok := strings.CutSuffix(first, "xx"); ok {
			first, last, ranged = hundred+"00", hundred+"99", true
		}
		if !ranged {
			out = append(out, prefix+first)
			continue
		}
		from, err1 := strconv.Atoi(strings.TrimPrefix(first, "."))
		to, err2 := strconv.Atoi(strings.TrimPrefix(last, "."))
		if err1 != nil || err2 != nil || prefix == "" {
			return nil, fmt.Errorf("table of error codes: %q is not a range", word)
		}
		for n := from; n <= to; n++ {
			out = append(out, fmt.Sprintf("%s.%04d", prefix, n))
		}
	}
	return out, nil
}
