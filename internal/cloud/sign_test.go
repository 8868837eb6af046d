package cloud

import (
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"strings"
	"testing"
	"time"
)

// recording is one request as Huawei's own client sent it.
type recording struct {
	Service, API, Note string
	Requests           []struct {
		Method   string
		Path     string
		RawQuery string `json:"raw_query"`
		Headers  http.Header
		Body     string
	}
}

func recordings(t testing.TB) (list []recording, access, secret string) {
	t.Helper()
	data, err := os.ReadFile("testdata/huawei-requests.json")
	if err != nil {
		t.Fatal(err)
	}
	var file struct {
		Signing struct {
			Access string `json:"access_key"`
			Secret string `json:"secret_key"`
		} `json:"signing_example"`
		Requests []recording
	}
	if err := json.Unmarshal(data, &file); err != nil {
		t.Fatal(err)
	}
	return file.Requests, file.Signing.Access, file.Signing.Secret
}

func TestSignatureOfRecordings(t *testing.T) {
	t.Parallel()
	list, access, secret := recordings(t)
	if len(list) < 10 {
		t.Fatalf("%d recordings", len(list))
	}
	for _, rec := range list {
		t.Run(rec.Service+" "+rec.API+" "+rec.Note, func(t *testing.T) {
			for _, want := range rec.Requests {
				r := &http.Request{
					Method: want.Method, Header: want.Headers.Clone(),
					URL: &url.URL{Scheme: "https", Host: "x", Path: want.Path, RawQuery: want.RawQuery},
				}
				auth := want.Headers.Get("Authorization")
				_, rest, _ := strings.Cut(auth, "SignedHeaders=")
				names, _, _ := strings.Cut(rest, ",")
				got := algorithm + " Access=" + access + ", SignedHeaders=" + names +
					", Signature=" + signature(r, []byte(want.Body), strings.Split(names, ";"), secret)
				if got != auth {
					t.Errorf("Authorization\n got %s\nwant %s", got, auth)
				}
			}
		})
	}
}

// TestSignedAsReceived checks that a server which sees only the request computes
// the signature that came with it.
func TestSignedAsReceived(t *testing.T) {
	t.Parallel()
	cred, _ := aksk()
	cred.SecurityToken = "tmp"
	var got, want, names string
	server := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		got = r.Header.Get("Authorization")
		_, rest, _ := strings.Cut(got, "SignedHeaders=")
		names, _, _ = strings.Cut(rest, ",")
		want = signature(r, []byte("{}\n"), strings.Split(names, ";"), cred.SecretKey)
	}))
	defer server.Close()
	r, _ := http.NewRequest(http.MethodPost, server.URL+"/v1/a%20b/c?z=%E4%BD%A0+x&a=2&a=1&e", strings.NewReader("{}\n"))
	r.Header.Set("X-Project-Id", project)
	r.Header.Set("X-Workspace-Id", "w")
	sign(r, []byte("{}\n"), cred, time.Now())
	res, err := http.DefaultClient.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	_ = res.Body.Close()
	if !strings.HasSuffix(got, "Signature="+want) {
		t.Errorf("got %q, the server computes %q", got, want)
	}
	if names != "x-project-id;x-sdk-date;x-security-token;x-workspace-id" {
		t.Errorf("signed headers %q", names)
	}
}

func TestCanonical(t *testing.T) {
	t.Parallel()
	const empty = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
	tests := []struct {
		name, url, path, query string
	}{
		{"plain", "https://h/v1/p", "/v1/p/", ""},
		{"nothing", "https://h", "/", ""},
		{"a slash stays one", "https://h/v1/", "/v1/", ""},
		{"segments are escaped", "https://h/a b/c+d/e~f", "/a%20b/c%2Bd/e~f/", ""},
		{"an escaped slash is no separator", "https://h/a%2Fb", "/a%2Fb/", ""},
		{"UTF-8", "https://h/你", "/%E4%BD%A0/", ""},
		{"sorted by key", "https://h/?b=1&a=2", "/", "a=2&b=1"},
		{"keys sorted before they are escaped", "https://h/?a_b=1&a=2&aB=3", "/", "a=2&aB=3&a_b=1"},
		{"repeated keys sorted by value", "https://h/?a=2&a=10&a=1", "/", "a=1&a=10&a=2"},
		{"empty values", "https://h/?b&a=", "/", "a=&b="},
		{"plus and percent are a space", "https://h/?a=x+y&b=x%20y", "/", "a=x%20y&b=x%20y"},
		{"reserved", "https://h/?a=:/?#[]@!$'()*,;%3D", "/", "a=%3A%2F%3F"},
		{"an equals sign in a value", "https://h/?a=b=c", "/", "a=b%3Dc"},
		{"bad escapes stay", "https://h/?a=%zz", "/", "a=%25zz"},
		{"empty parts vanish", "https://h/?&&a=1&", "/", "a=1"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			u, err := url.Parse(tt.url)
			if err != nil {
				t.Fatal(err)
			}
			r := &http.Request{Method: "GET", URL: u, Host: "h", Header: http.Header{"X-Sdk-Date": {" d  "}, "X-Many": {"b", "a"}}}
			got := canonical(r, nil, []string{"host", "x-many", "x-sdk-date"})
			want := "GET\n" + tt.path + "\n" + tt.query + "\nhost:h\nx-many:a\nx-many:b\nx-sdk-date:d\n\nhost;x-many;x-sdk-date\n" + empty
			if got != want {
				t.Errorf("canonical(%s)\n got %q\nwant %q", tt.url, got, want)
			}
		})
	}
}

// FuzzCanonical: the canonical form depends on the meaning of a URL only, and
// holds nothing but unreserved characters, escapes and separators.
func FuzzCanonical(f *testing.F) {
	f.Add("/v1/a b/c", "k", "v", "k2", "")
	f.Add("/%2F/../x", "你", "=&", "k", "+ %")
	f.Fuzz(func(t *testing.T, path, k1, v1, k2, v2 string) {
		u := &url.URL{Path: "/" + path}
		p := canonicalPath(u)
		if !strings.HasPrefix(p, "/") || !strings.HasSuffix(p, "/") || strings.Trim(p, unreserved+"%/") != "" {
			t.Errorf("canonicalPath(%q) = %q", path, p)
		}
		if again := canonicalPath(&url.URL{Path: u.Path, RawPath: strings.TrimSuffix(p, "/")}); again != p && strings.TrimSuffix(u.Path, "/")+"/" == u.Path+"/" {
			t.Errorf("canonicalPath of its own result: %q, then %q", p, again)
		}
		one := escape(k1) + "=" + escape(v1) + "&" + url.QueryEscape(k2) + "=" + url.QueryEscape(v2)
		two := escape(k2) + "=" + escape(v2) + "&" + escape(k1) + "=" + escape(v1)
		got := canonicalQuery(one)
		if got != canonicalQuery(two) {
			t.Errorf("order or spelling matters: %q, %q", got, canonicalQuery(two))
		}
		if got != canonicalQuery(got) {
			t.Errorf("canonicalQuery is not stable: %q", got)
		}
		if strings.Trim(got, unreserved+"%=&") != "" {
			t.Errorf("canonicalQuery(%q) = %q", one, got)
		}
		for _, s := range []string{k1, v1} {
			if back, err := url.QueryUnescape(escape(s)); err != nil || back != s {
				t.Errorf("escape(%q) comes back as %q, %v", s, back, err)
			}
		}
	})
}

const unreserved = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_.~"

func BenchmarkSign(b *testing.B) {
	cred, _ := aksk()
	body := []byte(`{"action":"receive","endpoints":["705290f3-0d00-41f2-aedc-71f09844e879"]}` + "\n")
	r, err := http.NewRequest(http.MethodPost, "https://vpcep.cn-north-4.myhuaweicloud.com/v1/"+project+"/vpc-endpoint-services/"+serviceID+"/connections/action", nil)
	if err != nil {
		b.Fatal(err)
	}
	r.Header.Set("X-Project-Id", project)
	now := time.Now()
	b.ReportAllocs()
	for b.Loop() {
		sign(r, body, cred, now)
	}
}
