package cloud

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"net/url"
	"time"
)

type iamName struct {
	Name string `json:"name"`
}

type iamUser struct {
	Domain   iamName `json:"domain"`
	Name     string  `json:"name"`
	Password string  `json:"password"`
}

type iamPassword struct {
	User iamUser `json:"user"`
}

type iamIdentity struct {
	Methods  []string    `json:"methods"`
	Password iamPassword `json:"password"`
}

type iamProject struct {
	ID   string `json:"id,omitempty"`
	Name string `json:"name,omitempty"`
}

type iamScope struct {
	Project iamProject `json:"project"`
}

type iamAuth struct {
	Identity iamIdentity `json:"identity"`
	Scope    iamScope    `json:"scope"`
}

// iamTokenRequest is the request body of "obtain a token by password".
type iamTokenRequest struct {
	Auth iamAuth `json:"auth"`
}

// iamToken gets a token from IAM for user and password. Its scope is the project with
// that id, or the region's default project if it is empty, because an API refuses tokens
// of other projects. Earlier tokens stay valid.
func (c *Client) iamToken(ctx context.Context, cred Credentials, project string) (token, error) {
	of := iamProject{ID: project}
	if project == "" {
		of.Name = c.region
	}
	const op = "KeystoneCreateUserTokenByPassword"
	var tok token
	sent := time.Now()
	err := c.do(ctx, &call{
		api: APIIAM, op: op, method: http.MethodPost, path: "/v3/auth/tokens",
		query: url.Values{"nocatalog": {"true"}}, contentType: utf8JSON, anonymous: true, names: byConfig,
		body: iamTokenRequest{iamAuth{
			Identity: iamIdentity{[]string{"password"}, iamPassword{iamUser{iamName{cred.Domain}, cred.User, cred.Password}}},
			Scope:    iamScope{of},
		}},
		decode: func(header http.Header, body []byte) (err error) {
			tok, err = readToken(header, body, time.Now())
			return err
		},
	}, nil)
	if err == nil { // the token is for all targets of the project
		for _, t := range c.targets {
			if t.ProjectID == project {
				c.faults.resolve(APIIAM, op, t.Name, sent)
			}
		}
	}
	return tok, err
}

// readToken reads the response of IAM, received at now. The token is used even if the
// response has no expiry.
func readToken(header http.Header, body []byte, now time.Time) (token, error) {
	tok := token{value: header.Get("X-Subject-Token")}
	if tok.value == "" {
		return token{}, errors.New("the response has no X-Subject-Token")
	}
	var out struct {
		Token struct {
			ExpiresAt wireTime `json:"expires_at"`
		} `json:"token"`
	}
	if err := json.Unmarshal(body, &out); err != nil {
		return token{}, errUnexpectedJSON
	}
	life := out.Token.ExpiresAt.Sub(now)
	if out.Token.ExpiresAt.IsZero() || life <= 0 { // no expiry, or a wrong clock
		life = defaultTokenLife
	}
	tok.expires = now.Add(life)
	tok.renew = tok.expires.Add(-min(renewMargin, life/5))
	return tok, nil
}
