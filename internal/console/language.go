package console

import (
	"fmt"
	"net/http"
	"net/url"
	"strconv"
	"strings"
)

// The languages, in the order of the columns of texts.
const (
	english = "en"
	chinese = "zh-CN"
)

func languageCodes() []string { return []string{english, chinese} }

func languageNames() []string { return []string{"English", "简体中文"} }

// say returns the text of key in all with its arguments.
func say(all map[string][2]string, code, key string, args ...any) string {
	columns, ok := all[key]
	if !ok {
		return key
	}
	text := columns[0]
	if code == chinese {
		text = columns[1]
	}
	if len(args) == 0 {
		return text
	}
	return fmt.Sprintf(text, args...)
}

// languageCookie holds the language that a person chose.
const languageCookie = "vpcep_console_language"

// language is that of the cookie, else the one that the browser prefers.
func (c *Console) language(r *http.Request) *language {
	if cookie, err := r.Cookie(languageCookie); err == nil {
		if l := c.pages[cookie.Value]; l != nil {
			return l
		}
	}
	return c.pages[preferred(r.Header.Get("Accept-Language"))]
}

// preferred is the language of an Accept-Language header.
func preferred(header string) string {
	best, quality := english, 0.0
	for part := range strings.SplitSeq(header, ",") {
		tag, params, _ := strings.Cut(strings.TrimSpace(part), ";")
		q := 1.0
		if text, ok := strings.CutPrefix(strings.TrimSpace(params), "q="); ok {
			var err error
			if q, err = strconv.ParseFloat(text, 64); err != nil {
				continue
			}
		}
		code := map[string]string{"en": english, "zh": chinese}[strings.ToLower(strings.SplitN(tag, "-", 2)[0])]
		if code != "" && q > quality {
			best, quality = code, q
		}
	}
	return best
}

func (c *Console) chooseLanguage(w http.ResponseWriter, r *http.Request) {
	r.Body = http.MaxBytesReader(w, r.Body, maxForm)
	if code := r.PostFormValue("language"); c.pages[code] != nil {
		http.SetCookie(w, &http.Cookie{ //nolint:gosec // G124: Secure unless it is served to this machine alone
			Name: languageCookie, Value: code, Path: "/", MaxAge: 365 * 24 * 3600, Secure: c.cfg.Site.secureCookies(), HttpOnly: true, SameSite: http.SameSiteLaxMode,
		})
	}
	http.Redirect(w, r, localPath(r.PostFormValue("back")), http.StatusSeeOther) //nolint:gosec // G710: a path on this site
}

// localPath returns a path on this site; "/" if text is anything else.
func localPath(text string) string {
	u, err := url.Parse(text)
	if err != nil || u.Host != "" || u.Scheme != "" || u.User != nil || !strings.HasPrefix(u.Path, "/") || strings.HasPrefix(u.Path, "//") || strings.Contains(text, `\`) {
		return "/"
	}
	return u.RequestURI()
}
