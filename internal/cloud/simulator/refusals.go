package simulator

import (
	"net/http"
)

// plainError is how most services refuse.
type plainError struct {
	Code    string `json:"error_code"`
	Message string `json:"error_msg"`
}

// gatewayError is how the gateway in front of all services refuses.
type gatewayError struct {
	plainError
	RequestID string `json:"request_id"`
}

// nestedError is how VPCEP refuses by its newer pages, and IAM for credentials.
type nestedError struct {
	Error struct {
		Message string `json:"message"`
		Code    string `json:"code"`
		Title   string `json:"title,omitempty"`
	} `json:"error"`
}

// keystoneError is how IAM refuses other things.
type keystoneError struct {
	Code    string `json:"code"`
	Message string `json:"message"`
}

// refuse is a refusal by a service.
func refuse(status int, code, message string) answer {
	return answer{status: status, body: plainError{Code: code, Message: message}}
}

// gateway is a refusal by the gateway in front of the services.
func gateway(status int, code, message, requestID string) answer {
	return answer{status: status, body: gatewayError{plainError{Code: code, Message: message}, requestID}}
}

// vpcepRefuse is a refusal by VPCEP, in the shape that the configuration wants.
func (s *Simulator) vpcepRefuse(status int, code, message string) answer {
	if !s.cfg.NestedErrors {
		return refuse(status, code, message)
	}
	var body nestedError
	body.Error.Code, body.Error.Message = code, message
	return answer{status: status, body: body}
}

// iamRefuse is a refusal by IAM; of credentials in Keystone's nested shape.
func iamRefuse(status int, code, message string) answer {
	if status != http.StatusUnauthorized {
		return answer{status: status, body: keystoneError{Code: code, Message: message}}
	}
	var body nestedError
	body.Error.Code, body.Error.Message, body.Error.Title = code, message, "Unauthorized"
	return answer{status: status, body: body}
}
