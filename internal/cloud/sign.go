package cloud

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
	algorithm  = "SDK-HMAC-SHA256"
	signedTime = "20060102T150405Z" // of X-Sdk-Date, in UTC
)

// signedAlways are the headers that are signed if they are set. User-Agent is not one of
// them, because a proxy may rewrite it.
func signedAlways() []string {
	return []string{"x-project-id", "x-sdk-date", "x-security-token", "x-workspace-id"}
}

// sign sets the date and the signature of r, for exactly the bytes of body. The cloud
// refuses signatures older than 15 minutes.
//
// Source: recorded requests of huaweicloud-sdk-go-v3 v0.1.207.
func sign(r *http.Request, body []byte, cred Credentials, now time.Time) {
	r.Header.Set("X-Sdk-Date", now.UTC().Format(signedTime))
	if cred.SecurityToken != "" {
		r.Header.Set("X-Security-Token", cred.SecurityToken)
	}
	signed := slices.DeleteFunc(signedAlways(), func(name string) bool { return r.Header.Get(name) == "" })
	r.Header.Set("Authorization", algorithm+" Access="+cred.AccessKey+
		", SignedHeaders="+strings.Join(signed, ";")+
		", Signature="+signature(r, body, signed, cred.SecretKey))
}

// signature returns the hexadecimal signature of r and body. signed are the names of the
// signed headers, in lower case and sorted.
func signature(r *http.Request, body []byte, signed []string, secret string) string {
	hash := sha256.Sum256([]byte(canonical(r, body, signed)))
	mac := hmac.New(sha256.New, []byte(secret))
	mac.Write([]byte(algorithm + "\n" + r.Header.Get("X-Sdk-Date") + "\n" + hex.EncodeToString(hash[:])))
	return hex.EncodeToString(mac.Sum(nil))
}

// canonical returns the canonical form of a request, which is signed.
func canonical(r *http.Request, body []byte, signed []string) string {
	var headers strings.Builder
	for _, name := range signed {
		values := slices.Sorted(slices.Values(r.Header.Values(name)))
		if name == "host" {
			values = []string{r.Host}
		}
		for _, v := range values {
			headers.WriteString(name + ":" + strings.TrimSpace(v) + "\n")
		}
	}
	hash := sha256.Sum256(body)
	return strings.Join([]string{
		r.Method, canonicalPath(r.URL), canonicalQuery(r.URL.RawQuery),
		headers.String(), strings.Join(signed, ";"), hex.EncodeToString(hash[:]),
	}, "\n")
}

// canonicalPath escapes each segment in canonical form. It always ends with a slash.
func canonicalPath(u *url.URL) string {
	segments := strings.Split(u.EscapedPath(), "/")
	for i, s := range segments {
		if plain, err := url.PathUnescape(s); err == nil {
			s = plain
		}
		segments[i] = escape(s)
	}
	path := strings.Join(segments, "/")
	if !strings.HasSuffix(path, "/") {
		path += "/"
	}
	return path
}

// canonicalQuery sorts by key, then by value; a key without a value gets "=".
func canonicalQuery(raw string) string {
	type pair struct{ key, value string }
	var pairs []pair
	for part := range strings.SplitSeq(raw, "&") {
		if part == "" {
			continue
		}
		key, value, _ := strings.Cut(part, "=")
		pairs = append(pairs, pair{unescape(key), unescape(value)})
	}
	slices.SortFunc(pairs, func(a, b pair) int {
		if c := strings.Compare(a.key, b.key); c != 0 {
			return c
		}
		return strings.Compare(a.value, b.value)
	})
	parts := make([]string, len(pairs))
	for i, p := range pairs {
		parts[i] = escape(p.key) + "=" + escape(p.value)
	}
	return strings.Join(parts, "&")
}

// unescape unescapes a part of a query. Invalid escapes stay as they are.
func unescape(s string) string {
	if plain, err := url.QueryUnescape(s); err == nil {
		return plain
	}
	return s
}

// escape escapes all but the unreserved characters of RFC 3986.
func escape(s string) string {
	const digits = "0123456789ABCDEF"
	var b strings.Builder
	b.Grow(len(s))
	for i := range len(s) {
		c := s[i]
		switch {
		case c >= 'a' && c <= 'z', c >= 'A' && c <= 'Z', c >= '0' && c <= '9', strings.IndexByte("-_.~", c) >= 0:
			b.WriteByte(c)
		default:
			b.WriteByte('%')
			b.WriteByte(digits[c>>4])
			b.WriteByte(digits[c&15])
		}
	}
	return b.String()
}
