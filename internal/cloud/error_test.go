package cloud

import (
	"errors"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"
)

// TestCodes has each code with the status that the documents give it, apart from
// the table that it checks.
func TestCodes(t *testing.T) {
	t.Parallel()
	tests := []struct {
		status int
		want   Class
		codes  string
	}{
		{500, ClassRetry, "EndPoint.0001"},
		{504, ClassUnknown, "EndPoint.0013"},
		{504, ClassFinal, "EndPoint.0011 EndPoint.0012"},
		{400, ClassThrottle, "EndPoint.0022 Endpoint.0022 ENDPOINT.0022"},
		{400, ClassSlow, "EndPoint.2004 EndPoint.3006 EndPoint.3045"},
		{400, ClassAlreadyDone, "EndPoint.2014"},
		{400, ClassGone, "EndPoint.2018"},
		{404, ClassGone, "EndPoint.2006 EndPoint.2007 EndPoint.2008 EndPoint.0005 endpoint.2006"},
		{400, ClassRetry, "EndPoint.2019 EndPoint.2051 EndPoint.1008"},
		{400, ClassRetry, "EndPoint.2021 EndPoint.2022 EndPoint.2023 EndPoint.2024 EndPoint.2025 EndPoint.2026 EndPoint.2038"},
		{404, ClassRetry, "EndPoint.4000 EndPoint.4017 EndPoint.4099"},
		{400, ClassFinal, "EndPoint.2047 EndPoint.2015 EndPoint.2050"},
		{400, ClassOperator, "EndPoint.2003 EndPoint.2013 Endpoint.2013 EndPoint.2012"},
		{400, ClassFinal, "EndPoint.2027 EndPoint.0007 EndPoint.3035 EndPoint.2031"},
		{400, ClassOperator, "EndPoint.1018 Endpoint.1018 EndPoint.3049 EndPoint.2045"},
		{400, ClassFinal, "EndPoint.0002 EndPoint.0006 EndPoint.0010 EndPoint.0014 EndPoint.0017 EndPoint.0018 EndPoint.0019 EndPoint.0020 EndPoint.0021 EndPoint.1003 EndPoint.1004 EndPoint.2017 EndPoint.2029"},
		{401, ClassCredentials, "EndPoint.0003"},
		{403, ClassOperator, "EndPoint.0004"},

		{401, ClassCredentials, "APIC.7100 APIC.7101 APIC.7102 APIC.7103 APIC.7105 APIC.7107"},
		{403, ClassOperator, "APIC.7106 APIC.7109 APIC.7110 APIC.7111 APIC.7118 APIC.7130 APIC.7134 APIC.7300"},
		{404, ClassOperator, "APIC.7302 APIG.3030 APIC.7314"},
		{400, ClassFinal, "APIC.7211"},
		{409, ClassSlow, "APIC.7701 APIG.3718"},
		{500, ClassUnknown, "APIC.9000 APIC.9007 APIC.9100 APIC.9999 APIG.9999"},
		{500, ClassThrottle, "APIG.9008 apig.9008"},

		{400, ClassFinal, "FSS.0400 FSS.0406 FSS.0413 FSS.0424 FSS.1036 FSS.1037"},
		{401, ClassCredentials, "FSS.0401"},
		{403, ClassOperator, "FSS.0403 FSS.1121 FSS.1122 FSS.1125 FSS.1126 FSS.1047 FSS.1048"},
		{404, ClassFinal, "FSS.0404"},
		{410, ClassFinal, "FSS.0410"},
		{409, ClassAlreadyDone, "FSS.0409"},
		{412, ClassSlow, "FSS.1090"},
		{429, ClassThrottle, "FSS.0429"},
		{500, ClassUnknown, "FSS.0408 FSS.0500 FSS.0502 FSS.0503 FSS.0504 FSS.1115 FSS.1169"},

		{400, ClassFinal, "HSS.0001 HSS.0002 HSS.0011"},
		{400, ClassOperator, "HSS.0010 HSS.0013 HSS.0014"},

		{403, ClassOperator, "DataArtsInsight.20010003"},
		{404, ClassFinal, "DataArtsInsight.24010003"},
		{400, ClassOperator, "DataArtsInsight.24010043 DataArtsInsight.24150005"},
		{400, ClassSlow, "DataArtsInsight.24150004"},

		{401, ClassCredentials, "IAM.0001 IAM.0061 IAM.0062 IAM.0063 IAM.0064 IAM.0066 IAM.0067"},
		{403, ClassCredentials, "IAM.0080 IAM.0081 IAM.0082"},
		{400, ClassCredentials, "IAM.1104 IAM.1105 IAM.1106 IAM.1107 IAM.1108"},
		{403, ClassOperator, "IAM.0002 IAM.0003 IAM.0083"},
		{404, ClassOperator, "IAM.0004"},
		{400, ClassOperator, "IAM.1109"},
		{400, ClassFinal, "IAM.0007 IAM.0011 IAM.0072 IAM.0073 IAM.1101 IAM.1102 IAM.1103"},
		{429, ClassThrottle, "IAM.0012"},
		{500, ClassUnknown, "IAM.0006"},
		{410, ClassRetry, "IAM.0020"},

		{404, ClassOperator, "APIGW.0101 APIG.0101 APIGW.0103"},
		{400, ClassFinal, "APIGW.0201 APIG.0201"},
		{413, ClassFinal, "APIGW.0201"},
		{494, ClassFinal, "APIGW.0201"},
		{500, ClassUnknown, "APIGW.0201"},
		{502, ClassUnknown, "APIGW.0201 APIGW.0202 APIGW.0610"},
		{504, ClassUnknown, "APIGW.0201 APIGW.0203"},
		{401, ClassCredentials, "APIGW.0301 APIG.0301 apigw.0301 APIGW.0303 APIGW.0305 APIGW.0307 APIG.0307"},
		{403, ClassOperator, "APIGW.0302 APIGW.0304 APIGW.0306 APIGW.0310 APIGW.0402 APIGW.0405 APIGW.0802"},
		{429, ClassThrottle, "APIGW.0308 APIG.0308"},
		{405, ClassOperator, "APIGW.0501 APIGW.0502"},
		{500, ClassRetry, "APIGW.0601 APIGW.0605 APIGW.0606 APIGW.0608 APIGW.0705"},
		{503, ClassRetry, "APIGW.0613"},
	}
	book, err := newCodeTable(errorCodes())
	if err != nil {
		t.Fatal(err)
	}
	tested := map[string]bool{}
	for _, tt := range tests {
		for code := range strings.FieldsSeq(tt.codes) {
			tested[normal(code)] = true
			got, text := book.class(tt.status, errorBody{code: code, shaped: true})
			if got != tt.want || text == "" {
				t.Errorf("%d %s is %q (%q), want %q", tt.status, code, got, text, tt.want)
			}
		}
	}
	for code := range book {
		if !tested[code] && !strings.HasPrefix(code, "ENDPOINT.40") {
			t.Errorf("%s is in the table and in no test", code)
		}
	}
	for code, rows := range book {
		if len(rows) > 1 && code != "APIGW.0201" {
			t.Errorf("%s is in the table %d times", code, len(rows))
		}
	}
}

func TestStatuses(t *testing.T) {
	t.Parallel()
	book, _ := newCodeTable(errorCodes())
	tests := []struct {
		name   string
		status int
		said   errorBody
		want   Class
	}{
		{"throttled", 429, errorBody{}, ClassThrottle},
		{"unauthorized, said by the API", 401, errorBody{"", "", true}, ClassCredentials},
		{"unauthorized, said by a proxy", 401, errorBody{}, ClassUnknown},
		{"a proxy requires a login", 407, errorBody{}, ClassOperator},
		{"a redirect", 302, errorBody{}, ClassUnknown},
		{"a firewall's refusal is not the API's", 403, errorBody{}, ClassUnknown},
		{"no such address", 404, errorBody{}, ClassOperator},
		{"broken, no body", 502, errorBody{}, ClassUnknown},
		{"broken, with a code of a later version", 500, errorBody{"EndPoint.9876", "", true}, ClassUnknown},
		{"timed out", 408, errorBody{"X.1", "", true}, ClassUnknown},
		{"busy", 409, errorBody{"X.1", "", true}, ClassSlow},
		{"refused, with a code of a later version", 400, errorBody{"EndPoint.9876", "", true}, ClassFinal},
		{"not found, said by the API", 404, errorBody{"X.1", "", true}, ClassOperator},
		{"not permitted, with a code of a later version", 403, errorBody{"EndPoint.9876", "", true}, ClassOperator},
		{"not permitted, without a code", 403, errorBody{"", "", true}, ClassOperator},
		{"gone, which may be the project", 410, errorBody{"X.1", "", true}, ClassOperator},
		{"not this method", 405, errorBody{"X.1", "", true}, ClassOperator},
		{"too large", 413, errorBody{"X.1", "", true}, ClassFinal},
		{"the API's shape without a code", 400, errorBody{"", "", true}, ClassFinal},
		{"the code goes before the status", 429, errorBody{"EndPoint.2047", "", true}, ClassFinal},
	}
	for _, tt := range tests {
		if got, _ := book.class(tt.status, tt.said); got != tt.want {
			t.Errorf("%s: %d %+v is %q, want %q", tt.name, tt.status, tt.said, got, tt.want)
		}
	}
}

func TestErrorBodies(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name, body string
		want       errorBody
	}{
		{"as documented", `{"error_code":"EndPoint.2013","error_msg":"m"}`, errorBody{"EndPoint.2013", "", true}},
		{"of the gateway", `{"error_code":"APIGW.0301","error_msg":"m","request_id":"r-1"}`, errorBody{"APIGW.0301", "r-1", true}},
		{"nested", `{"error":{"message":"m","code":"EndPoint.0005"}}`, errorBody{"EndPoint.0005", "", true}},
		{"nested, other names", `{"error":{"error_msg":"m","error_code":"EndPoint.0005","request_id":"r"}}`, errorBody{"EndPoint.0005", "r", true}},
		{"of a policy", `{"error_code":"EndPoint.0004","error_msg":"m","encoded_authorization_message":"x","details":[{"error_code":"Y.1"}]}`, errorBody{"EndPoint.0004", "", true}},
		{"of IAM", `{"code":"IAM.0061","message":"m"}`, errorBody{"IAM.0061", "", true}},
		{"of Keystone", `{"error":{"code":401,"message":"m","title":"Unauthorized"}}`, errorBody{"", "", true}},
		{"the documents' own, without a comma", `{"error_code": "Endpoint.2013" "error_msg": "m"}`, errorBody{"Endpoint.2013", "", true}},
		{"cut off", `{"error_code":"EndPoint.2013","error_m`, errorBody{"EndPoint.2013", "", true}},
		{"HTML", `<html>error_code</html>`, errorBody{}},
		{"empty", ``, errorBody{}},
		{"null", `null`, errorBody{}},
		{"a list is searched too", `[{"error_code":"A.1"}]`, errorBody{"A.1", "", true}},
		{"other JSON", `{"status":"down"}`, errorBody{}},
		{"error is a text", `{"error":"down"}`, errorBody{}},
		{"a code that is none", `{"error_code":"the password is hunter2","error_msg":"m"}`, errorBody{"", "", true}},
		{"a code with a line break", `{"error_code":"A.1\nfake log line"}`, errorBody{"", "", true}},
		{"a code without end", `{"error_code":"A.` + strings.Repeat("1", 500) + `"}`, errorBody{"", "", true}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if got := parseErrorBody([]byte(tt.body)); got != tt.want {
				t.Errorf("parseErrorBody(%s) = %+v, want %+v", tt.body, got, tt.want)
			}
		})
	}
}

// TestErrorBehaviour: what an error of each class says of itself.
func TestErrorBehaviour(t *testing.T) {
	t.Parallel()
	tests := []struct {
		class          Class
		retry, unknown bool
		after          time.Duration
	}{
		{ClassRetry, true, true, 0},
		{ClassUnknown, true, true, 0},
		{ClassThrottle, true, false, 2 * time.Second},
		{ClassSlow, true, false, 30 * time.Second},
		{ClassOpen, true, false, 0},
		{ClassCredentials, true, false, checkInterval},
		{ClassOperator, true, false, operatorWait},
		{ClassGone, false, false, 0},
		{ClassAlreadyDone, true, false, 0},
		{ClassFinal, false, false, 0},
	}
	if len(tests) != len(Classes())-1 {
		t.Errorf("%d classes are tested, there are %d", len(tests), len(Classes())-1)
	}
	for _, tt := range tests {
		e := &Error{Class: tt.class, changes: true}
		if e.Retryable() != tt.retry || e.OutcomeUnknown() != tt.unknown || e.RetryAfter() != tt.after || e.Gone() != (tt.class == ClassGone) {
			t.Errorf("%s: retryable %v, outcome unknown %v, after %v, gone %v", tt.class, e.Retryable(), e.OutcomeUnknown(), e.RetryAfter(), e.Gone())
		}
		if e.notSent = true; e.OutcomeUnknown() {
			t.Errorf("%s: what was never sent has an unknown outcome", tt.class)
		}
		if e := (&Error{Class: tt.class}); e.OutcomeUnknown() {
			t.Errorf("%s: a read has an unknown outcome", tt.class)
		}
		if f := e.Failure(); f.Code == "" || f.Text == "" {
			t.Errorf("%s: failure %+v", tt.class, f)
		}
		if e.Wait = time.Hour; e.RetryAfter() != time.Hour {
			t.Errorf("%s: what the cloud asks for is not honored", tt.class)
		}
	}
}

func TestErrorText(t *testing.T) {
	t.Parallel()
	e := &Error{
		API: "vpcep", Op: "AcceptOrRejectEndpoint", Status: 400, Code: "EndPoint.2013", Class: ClassFinal,
		Text: "the endpoint does not belong to the service", RequestID: "req-1",
	}
	const want = "vpcep AcceptOrRejectEndpoint: 400 EndPoint.2013 (final): the endpoint does not belong to the service [request id req-1]"
	if e.Error() != want {
		t.Errorf("got  %s\nwant %s", e, want)
	}
	wrapped := fmt.Errorf("act: %w", &Error{Class: ClassCredentials, Err: ErrCredentials})
	if !errors.Is(wrapped, ErrCredentials) || !is(wrapped, ClassCredentials) {
		t.Errorf("%v does not show what it wraps", wrapped)
	}
}

func TestRetryAfter(t *testing.T) {
	t.Parallel()
	now := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	for value, want := range map[string]time.Duration{
		"": 0, "5": 5 * time.Second, " 7 ": 7 * time.Second, "-1": 0, "1e3": 0, "999999999": maxRetryAfter, "99999999999999999999": 0,
		now.Add(time.Minute).Format(http.TimeFormat): time.Minute, now.Add(-time.Minute).Format(http.TimeFormat): 0,
		now.Add(time.Hour * 99).Format(http.TimeFormat): maxRetryAfter,
	} {
		if got := retryAfter(value, now); got != want {
			t.Errorf("retryAfter(%q) = %v, want %v", value, got, want)
		}
	}
}

func TestExpand(t *testing.T) {
	t.Parallel()
	got, err := expand("A.0001 .0003-.0005 B.1")
	if err != nil || strings.Join(got, " ") != "A.0001 A.0003 A.0004 A.0005 B.1" {
		t.Errorf("expand: %q, %v", got, err)
	}
	if _, err := expand(".0001-.x"); err == nil {
		t.Error("a range without sense is no error")
	}
}

// FuzzErrorBody: nothing but a short plain code and id gets out of a body, and
// case does not change its class.
func FuzzErrorBody(f *testing.F) {
	f.Add([]byte(`{"error_code":"EndPoint.2013","error_msg":"m","request_id":"r"}`), 400)
	f.Add([]byte(`{"error":{"code":"APIG.0308"}}`), 429)
	f.Add([]byte(`{"error_code" : "A.1`), 500)
	book, err := newCodeTable(errorCodes())
	if err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, data []byte, status int) {
		said := parseErrorBody(data)
		for _, s := range []string{said.code, said.requestID} {
			if len(s) > maxPlain || strings.Trim(s, unreserved) != "" {
				t.Errorf("%q gives %q", data, s)
			}
		}
		if said.code != "" && !said.shaped {
			t.Errorf("%q has a code and is not shaped", data)
		}
		class, text := book.class(status, said)
		said.code = strings.ToLower(said.code)
		if lower, _ := book.class(status, said); lower != class || text == "" || class == ClassOK {
			t.Errorf("%q at %d is %q, in lower case %q", data, status, class, lower)
		}
	})
}
