package review

import (
	"bytes"
	"encoding/base64"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nkeys"

	"github.com/vpcep-approver/vpcep-approver/internal/approval"
)

const (
	domain   = "6e9dfd51d1124e8d8498dce894923a0d"
	endpoint = "705290f3-0d00-41f2-aedc-71f09844e879"
)

func now() time.Time { return time.Date(2026, 11, 27, 12, 0, 0, 0, time.UTC) }

func sample() *Submission {
	return New(approval.RequestID("source", "1"), Approve, "known partner", "oncall-1", Facts{DomainID: domain, EndpointID: endpoint, MarkerID: 7}, now(), 5*time.Minute)
}

func seed(t *testing.T, create func() (nkeys.KeyPair, error)) []byte {
	t.Helper()
	pair, err := create()
	if err != nil {
		t.Fatal(err)
	}
	s, err := pair.Seed()
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func TestSignedSubmissionIsReadAsItWasWritten(t *testing.T) {
	t.Parallel()
	s := sample()
	s.SignIn = &SignIn{Method: "oidc", Issuer: "https://id.example.org", Subject: "1"}
	data, err := s.Encode()
	if err != nil {
		t.Fatal(err)
	}
	header, err := Sign(seed(t, nkeys.CreateUser), data)
	if err != nil {
		t.Fatal(err)
	}
	public, err := Verify(header, data)
	if err != nil || !strings.HasPrefix(public, "U") {
		t.Fatalf("Verify = %q, %v", public, err)
	}
	got, err := Decode(data)
	if err != nil {
		t.Fatal(err)
	}
	again, err := got.Encode()
	if err != nil || !bytes.Equal(again, data) {
		t.Errorf("read and written again it is %s, %v; want %s", again, err, data)
	}
}

func TestForgedSignatures(t *testing.T) {
	t.Parallel()
	data, err := sample().Encode()
	if err != nil {
		t.Fatal(err)
	}
	mine, other := seed(t, nkeys.CreateUser), seed(t, nkeys.CreateUser)
	header, err := Sign(mine, data)
	if err != nil {
		t.Fatal(err)
	}
	otherHeader, err := Sign(other, data)
	if err != nil {
		t.Fatal(err)
	}
	key, signature, _ := strings.Cut(header, ".")
	otherKey, _, _ := strings.Cut(otherHeader, ".")
	pair, _ := nkeys.FromSeed(mine)
	plain, _ := pair.Sign(data) // what a NATS server could have a client sign
	changed := bytes.Replace(data, []byte("known"), []byte("KNOWN"), 1)
	for name, tt := range map[string]struct {
		header string
		data   []byte
	}{
		"no header":                      {"", data},
		"no signature":                   {key, data},
		"empty signature":                {key + ".", data},
		"another key":                    {otherKey + "." + signature, data},
		"changed data":                   {header, changed},
		"longer data":                    {header, append(bytes.Clone(data), ' ')},
		"a signature of the bytes alone": {key + "." + encode(plain), data},
		"padding":                        {header + "=", data},
		"other base64 of the same bytes": {key + "." + signature[:len(signature)-1] + next(signature[len(signature)-1]), data},
		"not a user key":                 {"A" + key[1:] + "." + signature, data},
		"short signature":                {key + "." + signature[:20], data},
	} {
		_, err := Verify(tt.header, tt.data)
		if bad, ok := errors.AsType[*InvalidError](err); !ok || bad.Code != CodeBadSignature {
			t.Errorf("%s: %v, want %s", name, err, CodeBadSignature)
		}
	}
}

func TestSignTakesUserKeysOnly(t *testing.T) {
	t.Parallel()
	account := seed(t, nkeys.CreateAccount)
	for name, s := range map[string][]byte{"account": account, "nothing": nil, "garbage": []byte("SUAGARBAGE")} {
		if _, err := Sign(s, []byte("{}")); err == nil || len(s) > 0 && strings.Contains(err.Error(), string(s)) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// TestKeyFileThatIsAFolder: nobody is told to change the mode of a folder.
func TestKeyFileThatIsAFolder(t *testing.T) {
	t.Parallel()
	if _, _, err := ReadKey(t.TempDir()); err == nil || strings.Contains(err.Error(), "chmod") {
		t.Errorf("%v, want an error that names the folder", err)
	}
}

func TestDecodeRefuses(t *testing.T) {
	t.Parallel()
	good, err := sample().Encode()
	if err != nil {
		t.Fatal(err)
	}
	for name, tt := range map[string]struct{ old, new, field string }{
		"not JSON":              {`{"request_id"`, `{request_id`, ""},
		"unknown member":        {`"reason"`, `"extra":1,"reason"`, ""},
		"twice":                 {`"reason"`, `"reason":"x","reason"`, ""},
		"other verdict":         {`"approve"`, `"accept"`, "verdict"},
		"no reason":             {`"known partner"`, `"  "`, "reason"},
		"a reason nobody sees":  {`"known partner"`, `"\u202e\u200b\u3164"`, "reason"},
		"control characters":    {`"known partner"`, `"a\u001bb"`, "reason"},
		"long reason":           {`known partner`, strings.Repeat("x", MaxReason+1), "reason"},
		"request id":            {`"request_id":"`, `"request_id":"x`, "request_id"},
		"path in an account id": {domain, "../../../../../../../../../../etc", "facts.domain_id"},
		"no marker":             {`"marker_id":7`, `"marker_id":0`, "facts.marker_id"},
		"two kinds of facts":    {`"marker_id":7`, `"marker_id":7,"parameters_sha256":"` + strings.Repeat("a", 64) + `"`, "facts.parameters_sha256"},
		"no reviewer":           {`"oncall-1"`, `""`, "reviewer"},
		"valid too long":        {`"2026-11-27T12:05:00Z"`, `"2026-11-28T12:05:00Z"`, "expires_at"},
		"ends before":           {`"2026-11-27T12:05:00Z"`, `"2026-11-27T12:00:00Z"`, "expires_at"},
		"short nonce":           {`"nonce":"`, `"nonce":"a`, "nonce"},
	} {
		if !bytes.Contains(good, []byte(tt.old)) {
			t.Fatalf("%s: %s is not in %s", name, tt.old, good)
		}
		_, err := Decode(bytes.Replace(good, []byte(tt.old), []byte(tt.new), 1))
		if bad, ok := errors.AsType[*InvalidError](err); !ok || bad.Code != CodeUnreadable || bad.Field != tt.field {
			t.Errorf("%s: %v, want an error of the field %q", name, err, tt.field)
		}
	}
}

func TestValid(t *testing.T) {
	t.Parallel()
	s := sample()
	for at, code := range map[time.Duration]string{
		0: "", 4 * time.Minute: "", -time.Minute: "", 5 * time.Minute: CodeExpired, time.Hour: CodeExpired, -3 * time.Minute: CodeNotYetValid,
	} {
		err := s.Valid(now().Add(at))
		if bad, ok := errors.AsType[*InvalidError](err); ok != (code != "") || ok && bad.Code != code {
			t.Errorf("after %s: %v, want %q", at, err, code)
		}
	}
}

func FuzzDecode(f *testing.F) {
	good, err := sample().Encode()
	if err != nil {
		f.Fatal(err)
	}
	f.Add(good)
	f.Add([]byte(`{}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		s, err := Decode(data)
		if err != nil {
			if _, ok := errors.AsType[*InvalidError](err); !ok {
				t.Fatalf("%T is not an *InvalidError", err)
			}
			return
		}
		again, err := s.Encode()
		if err != nil {
			t.Fatalf("what was read cannot be written: %v", err)
		}
		if _, err := Decode(again); err != nil {
			t.Fatalf("what was written cannot be read: %v", err)
		}
	})
}

func encode(b []byte) string { return base64.RawURLEncoding.EncodeToString(b) }

// next is another character of base64url, of which only the unused low bits may differ.
func next(c byte) string {
	const alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
	return string(alphabet[strings.IndexByte(alphabet, c)^1])
}
