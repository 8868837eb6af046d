// Package review reads, writes, signs and counts reviews: what a person says of a
// held request, signed with their own key or by a console that vouches for them. It
// knows nothing of JetStream. What a review counts is decided by the policies.
package review

import (
	"crypto/rand"
	"encoding/hex"
	"fmt"
	"slices"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/go-json-experiment/json"

	"github.com/vpcep-approver/vpcep-approver/internal/approval"
)

const (
	// MaxReason is how long a reason may be, in characters.
	MaxReason = 1000
	// MaxLife is how long a review may be valid after it was signed. It bounds for how
	// long a copy of it can be sent again.
	MaxLife = time.Hour
	// clockSkew is how far ahead the clock of a reviewer may be.
	clockSkew = 2 * time.Minute

	maxName  = 256 // bytes of a name, an issuer and the like
	nonceLen = 16  // bytes
)

// The verdicts of a review.
const (
	Approve = "approve"
	Reject  = "reject"
)

// Submission is the data of an event that submits a review: one person's verdict on one
// held request.
type Submission struct {
	RequestID string    `json:"request_id"`
	Verdict   string    `json:"verdict"` // Approve or Reject
	Reason    string    `json:"reason"`
	Facts     Facts     `json:"facts"`    // what the person saw
	Reviewer  string    `json:"reviewer"` // name in reviewers.yaml
	Nonce     string    `json:"nonce"`    // 32 hexadecimal digits
	IssuedAt  time.Time `json:"issued_at"`
	ExpiresAt time.Time `json:"expires_at"`
	SignIn    *SignIn   `json:"sign_in,omitzero"` // set by a console
}

// Facts are approval.ReviewedFacts on the wire.
type Facts struct {
	DomainID   string `json:"domain_id,omitzero"`
	EndpointID string `json:"endpoint_id,omitzero"`
	MarkerID   int64  `json:"marker_id,omitzero"`
	Parameters string `json:"parameters_sha256,omitzero"` // 64 hexadecimal digits
}

// SignIn says how a console knew the person.
type SignIn struct {
	Method  string `json:"method"`           // oidc, proxy or link
	Issuer  string `json:"issuer,omitzero"`  // of OIDC
	Subject string `json:"subject,omitzero"` // the issuer's name of the person, or the proxy's
	Email   string `json:"email,omitzero"`
}

// InvalidError says why a submission cannot be read, or is not valid now.
type InvalidError struct {
	Code  string // stable, as in the event that refuses it
	Field string // of the submission; empty: the whole
	Text  string
}

func (e *InvalidError) Error() string {
	if e.Field == "" {
		return e.Text
	}
	return e.Field + ": " + e.Text
}

// The codes of InvalidError.
const (
	CodeUnreadable   = "unreadable"
	CodeBadSignature = "bad_signature"
	CodeExpired      = "submission_expired" // the signed validity has ended
	CodeNotYetValid  = "submission_not_yet_valid"
)

func unreadable(field, format string, args ...any) *InvalidError {
	return &InvalidError{Code: CodeUnreadable, Field: field, Text: fmt.Sprintf(format, args...)}
}

// New returns a submission with a new nonce, valid from now for life.
func New(requestID, verdict, reason, reviewer string, facts Facts, now time.Time, life time.Duration) *Submission {
	nonce := make([]byte, nonceLen)
	_, _ = rand.Read(nonce) // never fails
	return &Submission{
		RequestID: requestID, Verdict: verdict, Reason: reason, Reviewer: reviewer, Facts: facts,
		Nonce: hex.EncodeToString(nonce), IssuedAt: now.UTC(), ExpiresAt: now.Add(life).UTC(),
	}
}

// Encode returns the bytes to sign and to send. Any error is an *InvalidError.
func (s *Submission) Encode() ([]byte, error) {
	if err := s.check(); err != nil {
		return nil, err
	}
	data, err := json.Marshal(s, json.Deterministic(true))
	if err != nil {
		return nil, unreadable("", "it cannot be written as JSON: %v", err)
	}
	return data, nil
}

// Decode reads the data of a submission. Unknown members are refused: what was
// signed must have been understood. Any error is an *InvalidError.
func Decode(data []byte) (*Submission, error) {
	var s Submission
	if err := json.Unmarshal(data, &s, json.RejectUnknownMembers(true)); err != nil {
		return nil, unreadable("", "the data is not a review: %v", err)
	}
	if err := s.check(); err != nil {
		return nil, err
	}
	return &s, nil
}

func (s *Submission) check() error {
	if !hexadecimal(s.RequestID, 32) {
		return unreadable("request_id", "it must be 32 hexadecimal digits")
	}
	if s.Verdict != Approve && s.Verdict != Reject {
		return unreadable("verdict", "%.40q is neither %s nor %s", s.Verdict, Approve, Reject)
	}
	if err := CheckReason(s.Reason); err != nil {
		return err
	}
	if !hexadecimal(s.Nonce, 2*nonceLen) {
		return unreadable("nonce", "it must be %d hexadecimal digits", 2*nonceLen)
	}
	if s.IssuedAt.IsZero() || s.ExpiresAt.IsZero() || !s.ExpiresAt.After(s.IssuedAt) || s.ExpiresAt.Sub(s.IssuedAt) > MaxLife {
		return unreadable("expires_at", "it must be after issued_at, and at most %s after it", MaxLife)
	}
	if err := checkText("reviewer", s.Reviewer, true); err != nil {
		return err
	}
	if err := s.Facts.check(); err != nil {
		return err
	}
	if s.SignIn == nil {
		return nil
	}
	if !slices.Contains([]string{"oidc", "proxy", "link"}, s.SignIn.Method) {
		return unreadable("sign_in.method", "%.40q is none of oidc, proxy, link", s.SignIn.Method)
	}
	for field, text := range map[string]string{"sign_in.issuer": s.SignIn.Issuer, "sign_in.subject": s.SignIn.Subject, "sign_in.email": s.SignIn.Email} {
		if err := checkText(field, text, false); err != nil {
			return err
		}
	}
	return nil
}

func (f *Facts) check() error {
	if f.Parameters != "" {
		if !hexadecimal(f.Parameters, 64) || f.DomainID != "" || f.EndpointID != "" || f.MarkerID != 0 {
			return unreadable("facts.parameters_sha256", "it must be 64 hexadecimal digits, and the only fact")
		}
		return nil
	}
	for field, id := range map[string]string{"facts.domain_id": f.DomainID, "facts.endpoint_id": f.EndpointID} {
		if err := approval.ValidID(id); err != nil {
			return unreadable(field, "%v", err)
		}
	}
	if f.MarkerID == 0 {
		return unreadable("facts.marker_id", "it is missing")
	}
	return nil
}

// Valid reports whether s is valid at now. Any error is an *InvalidError.
func (s *Submission) Valid(now time.Time) error {
	switch {
	case s.IssuedAt.After(now.Add(clockSkew)):
		return &InvalidError{Code: CodeNotYetValid, Field: "issued_at", Text: "the review was signed in the future; check the clock of the reviewer"}
	case !now.Before(s.ExpiresAt):
		return &InvalidError{Code: CodeExpired, Field: "expires_at", Text: "the review is no longer valid; sign it again"}
	}
	return nil
}

// Blank reports whether nothing of text is seen.
func Blank(text string) bool {
	return !strings.ContainsFunc(text, func(r rune) bool {
		return unicode.IsGraphic(r) && !unicode.IsSpace(r) && !unicode.Is(unicode.Other_Default_Ignorable_Code_Point, r)
	})
}

// CheckReason reports what is wrong with the reason of a review.
func CheckReason(reason string) error {
	if Blank(reason) {
		return unreadable("reason", "say why: a reason is required")
	}
	if n := utf8.RuneCountInString(reason); n > MaxReason {
		return unreadable("reason", "it has %d characters; at most %d are allowed", n, MaxReason)
	}
	if !utf8.ValidString(reason) || strings.ContainsFunc(reason, func(r rune) bool { return unicode.IsControl(r) && r != '\n' && r != '\t' }) {
		return unreadable("reason", "it has control characters or is not UTF-8")
	}
	return nil
}

func checkText(field, text string, required bool) error {
	switch {
	case required && text == "":
		return unreadable(field, "it is missing")
	case len(text) > maxName:
		return unreadable(field, "it has %d bytes; at most %d are allowed", len(text), maxName)
	case !utf8.ValidString(text) || strings.ContainsFunc(text, unicode.IsControl):
		return unreadable(field, "it has control characters or is not UTF-8")
	}
	return nil
}

func hexadecimal(s string, n int) bool {
	return len(s) == n && strings.Trim(s, "0123456789abcdef") == ""
}
