package simulator

import (
	"net/http"
)

// plainError is the error body of most services.
type plainError struct {
	Code    string `json:"error_code"`
	Message string `json:"error_msg"`
}

// gatewayError is the error body of the gateway in front of all services.
type gatewayError struct {
	plainError
	RequestID string `json:"request_id"`
}

// nestedError is the error body of VPCEP in its newer documents, and of IAM for
// credentials.
type nestedError struct {
	Error struct {
		Message string `json:"message"`
		Code    string `json:"code"`
		Title   string `json:"title,omitempty"`
	} `json:"error"`
}

// keystoneError is the other error body of IAM.
type keystoneError struct {
	Code    string `json:"code"`
	Message string `json:"message"`
}

// refuse returns a refusal by a service.
func refuse(status int, code, message string) answer {
	return answer{status: status, body: plainError{Code: code, Message: message}}
}

// gateway returns a refusal by the gateway in front of the services.
func gateway(status int, code, message, requestID string) answer {
	return answer{status: status, body: gatewayError{plainError{Code: code, Message: message}, requestID}}
}

// vpcepRefuse returns a refusal by VPCEP, in the configured form.
func (s *Simulator) vpcepRefuse(status int, code, message string) answer {
	if !s.cfg.NestedErrors {
		return refuse(status, code, message)
	}
	var body nestedError
	body.Error.Code, body.Error.Message = code, message
	return answer{status: status, body: body}
}

// iamRefuse returns a refusal by IAM. For credentials it has the nested form.
func iamRefuse(status int, code, message string) answer {
	if status != http.StatusUnauthorized {
		return answer{status: status, body: keystoneError{Code: code, Message: message}}
	}
	var body nestedError
	body.Error.Code, body.Error.Message, body.Error.Title = code, message, "Unauthorized"
	return answer{status: status, body: body}
}
