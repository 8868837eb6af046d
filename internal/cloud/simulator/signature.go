package simulator

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"
)

const (
	algorithm       = "SDK-HMAC-SHA256"
	signatureDate   = "20060102T150405Z"
	unsignedPayload = "UNSIGNED-PAYLOAD"
)

// checkSignature returns the refusal of a signed call, or nil if the signature is valid.
func (s *Simulator) checkSignature(c *call) *answer {
	const wrong = "Incorrect IAM authentication information: "
	access, names, signature, ok := parseAuthorization(c.request.Header.Get("Authorization"))
	if !ok {
		return s.unauthorized(c, "APIGW.0301", wrong+"the header Authorization cannot be read")
	}
	key := s.keyring.keys[access]
	if key == nil {
		return s.unauthorized(c, "APIGW.0301", wrong+"AK not found")
	}
	if s.locked(access, c.now) {
		return s.unauthorized(c, "APIGW.0301", wrong+"AK access failed to reach the limit, forbidden")
	}
	problem := ""
	date, err := time.Parse(signatureDate, c.request.Header.Get("X-Sdk-Date"))
	switch {
	case err != nil:
		problem = "the header X-Sdk-Date is missing or not in the form YYYYMMDDTHHMMSSZ"
	case c.now.Sub(date).Abs() > clockSkew:
		problem = "signature expired"
	case !slices.Contains(names, "x-sdk-date"):
		problem = "x-sdk-date is not signed"
	case !key.Expires.IsZero() && !c.now.Before(key.Expires):
		problem = "the temporary key has expired"
	case key.SecurityToken != c.request.Header.Get("X-Security-Token"):
		problem = "the header X-Security-Token does not belong to the key"
	case !hmac.Equal([]byte(signature), []byte(sign(key.SecretKey, c.request, c.body, names))):
		problem = "verify aksk signature fail"
	}
	if problem != "" {
		s.fail(access, c.now)
		return s.unauthorized(c, "APIGW.0301", wrong+problem)
	}
	s.succeeded(access)
	project := c.request.Header.Get("X-Project-Id")
	if project != "" && c.path["project"] != "" && project != c.path["project"] {
		return s.unauthorized(c, "APIGW.0307", "X-Project-Id names another project than the path.")
	}
	return nil
}

// parseAuthorization parses the header; names are the signed headers.
func parseAuthorization(header string) (access string, names []string, signature string, ok bool) {
	rest, ok := strings.CutPrefix(header, algorithm+" ")
	if !ok {
		return "", nil, "", false
	}
	parts := map[string]string{}
	for part := range strings.SplitSeq(rest, ",") {
		name, value, _ := strings.Cut(strings.TrimSpace(part), "=")
		parts[name] = value
	}
	access, signature = parts["Access"], parts["Signature"]
	names = strings.Split(parts["SignedHeaders"], ";")
	return access, names, signature, access != "" && signature != "" && slices.IsSorted(names)
}

// sign returns the valid signature of r: SDK-HMAC-SHA256 over method, path, query, the
// named headers and the body.
func sign(secret string, r *http.Request, body []byte, names []string) string {
	var canonical strings.Builder
	canonical.WriteString(r.Method + "\n" + canonicalPath(r.URL) + "\n" + canonicalQuery(r.URL) + "\n")
	for _, name := range names {
		value := strings.Join(r.Header.Values(name), ",")
		if name == "host" {
			value = r.Host
		}
		canonical.WriteString(name + ":" + strings.TrimSpace(value) + "\n")
	}
	canonical.WriteString("\n" + strings.Join(names, ";") + "\n")
	digest := sha256.Sum256(body)
	if given := r.Header.Get("X-Sdk-Content-Sha256"); given == unsignedPayload {
		canonical.WriteString(given)
	} else {
		canonical.WriteString(hex.EncodeToString(digest[:]))
	}
	digest = sha256.Sum256([]byte(canonical.String()))
	mac := hmac.New(sha256.New, []byte(secret))
	mac.Write([]byte(algorithm + "\n" + r.Header.Get("X-Sdk-Date") + "\n" + hex.EncodeToString(digest[:])))
	return hex.EncodeToString(mac.Sum(nil))
}

// canonicalPath escapes each segment and ends with a slash.
func canonicalPath(u *url.URL) string {
	segments := strings.Split(u.EscapedPath(), "/")
	for i, text := range segments {
		if plain, err := url.PathUnescape(text); err == nil {
			text = plain
		}
		segments[i] = escape(text)
	}
	path := strings.Join(segments, "/")
	if !strings.HasSuffix(path, "/") {
		path += "/"
	}
	return path
}

// canonicalQuery returns the escaped key=value pairs, sorted by key and value.
func canonicalQuery(u *url.URL) string {
	query := u.Query()
	var out []string
	keys := make([]string, 0, len(query))
	for key := range query {
		keys = append(keys, key)
	}
	slices.Sort(keys)
	for _, key := range keys {
		for _, value := range slices.Sorted(slices.Values(query[key])) {
			out = append(out, escape(key)+"="+escape(value))
		}
	}
	return strings.Join(out, "&")
}

// escape escapes all but letters, digits and -_.~ as %XX, as RFC 3986 says.
func escape(text string) string {
	const hexits = "0123456789ABCDEF"
	var out strings.Builder
	for i := range len(text) {
		b := text[i]
		if b >= 'a' && b <= 'z' || b >= 'A' && b <= 'Z' || b >= '0' && b <= '9' || strings.IndexByte("-_.~", b) >= 0 {
			out.WriteByte(b)
			continue
		}
		out.WriteByte('%')
		out.WriteByte(hexits[b>>4])
		out.WriteByte(hexits[b&15])
	}
	return out.String()
}
