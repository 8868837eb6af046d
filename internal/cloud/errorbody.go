package cloud

import (
	"bytes"
	"encoding/json"
	"strings"
)

// errorBody is what can be used of an error answer's body.
type errorBody struct {
	code      string // such as "EndPoint.2013"; may be empty
	requestID string
	shaped    bool // it has the form of an API error, with or without a code
}

// parseErrorBody reads the shapes in use: {"error_code", "error_msg",
// "request_id"}, {"code", "message"}, and either of them inside {"error": …},
// where Keystone has the status as the code. Firewalls use none of them.
func parseErrorBody(data []byte) errorBody {
	var members map[string]json.RawMessage
	if err := json.Unmarshal(data, &members); err != nil {
		// One documented example lacks a comma but has a code.
		return errorBody{code: brokenCode(data), shaped: brokenCode(data) != ""}
	}
	out := membersBody(members)
	var inner map[string]json.RawMessage
	if out.code == "" && json.Unmarshal(members["error"], &inner) == nil {
		in := membersBody(inner)
		out.code, out.shaped = in.code, out.shaped || in.shaped
		if out.requestID == "" {
			out.requestID = in.requestID
		}
	}
	return out
}

func membersBody(members map[string]json.RawMessage) errorBody {
	text := func(name string) string {
		var s string
		if json.Unmarshal(members[name], &s) != nil {
			return ""
		}
		return s
	}
	out := errorBody{requestID: plain(text("request_id"))}
	for _, name := range []string{"error_code", "code"} {
		_, has := members[name]
		out.shaped = out.shaped || has
		if out.code == "" {
			out.code = code(text(name))
		}
	}
	return out
}

// brokenCode finds the value of "error_code" in invalid JSON.
func brokenCode(data []byte) string {
	_, rest, found := bytes.Cut(data, []byte(`"error_code"`))
	if !found {
		return ""
	}
	rest, found = bytes.CutPrefix(bytes.TrimLeft(rest, " \t\r\n"), []byte(":"))
	if !found {
		return ""
	}
	rest, found = bytes.CutPrefix(bytes.TrimLeft(rest, " \t\r\n"), []byte(`"`))
	value, _, closed := bytes.Cut(rest, []byte(`"`))
	if !found || !closed {
		return ""
	}
	return code(string(value))
}

// code returns s if it has the form "Service.0123", else "". Errors must not contain
// other text of the cloud.
func code(s string) string {
	service, number, found := strings.Cut(s, ".")
	if !found || service == "" || number == "" || strings.Contains(number, ".") {
		return ""
	}
	return plain(s)
}

// maxPlain is the maximum length of a code or id, in bytes.
const maxPlain = 80

// plain returns s if it is short and consists of letters, digits and "-_.", else "".
func plain(s string) string {
	if len(s) > maxPlain {
		return ""
	}
	for _, r := range s {
		switch {
		case r >= 'a' && r <= 'z', r >= 'A' && r <= 'Z', r >= '0' && r <= '9', strings.ContainsRune("-_.", r):
		default:
			return ""
		}
	}
	return s
}
