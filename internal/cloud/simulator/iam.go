package simulator

import (
	"encoding/json"
	"net/http"
	"slices"
	"strconv"
	"time"
)

// iamTime is the time format of IAM.
const iamTime = "2006-01-02T15:04:05.000000Z"

// iamName identifies a resource by id or name.
type iamName struct {
	ID   string `json:"id,omitempty"`
	Name string `json:"name,omitempty"`
}

// iamRequest is a request for a token.
type iamRequest struct {
	Auth struct {
		Identity struct {
			Methods  []string `json:"methods"`
			Password *struct {
				User struct {
					Name     string  `json:"name"`
					Password string  `json:"password"`
					Domain   iamName `json:"domain"`
				} `json:"user"`
			} `json:"password"`
		} `json:"identity"`
		Scope *struct {
			Project *iamName `json:"project"`
			Domain  *iamName `json:"domain"`
		} `json:"scope"`
	} `json:"auth"`
}

type iamProjectOf struct {
	iamName
	Domain iamName `json:"domain"`
}

type iamToken struct {
	Token struct {
		ExpiresAt string        `json:"expires_at"`
		IssuedAt  string        `json:"issued_at"`
		Methods   []string      `json:"methods"`
		Catalog   []string      `json:"catalog"`
		Roles     []string      `json:"roles"`
		Project   *iamProjectOf `json:"project,omitempty"`
		User      struct {
			iamName
			PasswordExpiresAt string  `json:"password_expires_at"`
			Domain            iamName `json:"domain"`
		} `json:"user"`
	} `json:"token"`
}

// createToken issues a token for user and password and the project of the scope.
func (s *Simulator) createToken(c *call) answer {
	var body iamRequest
	if json.Unmarshal(c.body, &body) != nil || !slices.Contains(body.Auth.Identity.Methods, "password") || body.Auth.Identity.Password == nil {
		return iamRefuse(http.StatusBadRequest, "IAM.0011", "The request body is invalid")
	}
	auth, user := s.cfg.Auth, body.Auth.Identity.Password.User
	if user.Name == "" || user.Password == "" || user.Domain.Name == "" {
		return iamRefuse(http.StatusBadRequest, "IAM.0011", "The request body is invalid")
	}
	who := "user " + user.Name
	if s.locked(who, c.now) {
		s.tally.refused++
		return iamRefuse(http.StatusUnauthorized, "IAM.0061", "The account is locked.")
	}
	if !auth.None && (auth.User == "" || user.Name != auth.User || user.Password != auth.Password || user.Domain.Name != auth.Domain) {
		s.tally.refused++
		s.fail(who, c.now)
		return iamRefuse(http.StatusUnauthorized, "IAM.0001", "The username or password is wrong.")
	}
	s.succeeded(who)

	life := auth.TokenLife
	if life <= 0 {
		life = tokenLife
	}
	given := token{expires: c.now.Add(life)}
	var out iamToken
	if scope := body.Auth.Scope; scope != nil && scope.Project != nil {
		p, found := s.project(*scope.Project)
		if !found {
			return iamRefuse(http.StatusUnauthorized, "IAM.0001", "The project of the scope does not exist.")
		}
		given.project = p.ID
		out.Token.Project = &iamProjectOf{iamName: p, Domain: iamName{ID: s.cfg.DomainID, Name: auth.Domain}}
	}
	out.Token.ExpiresAt = given.expires.UTC().Format(iamTime)
	out.Token.IssuedAt = c.now.UTC().Format(iamTime)
	out.Token.Methods, out.Token.Catalog, out.Token.Roles = []string{"password"}, []string{}, []string{}
	out.Token.User.iamName = iamName{ID: "simulated-user-id", Name: user.Name}
	out.Token.User.Domain = iamName{ID: s.cfg.DomainID, Name: auth.Domain}
	return answer{status: http.StatusCreated, body: out, header: map[string]string{"X-Subject-Token": s.issue(given)}}
}

// project finds the project of a scope. Without known projects, any id is valid, and the
// name of the region stands for all projects.
func (s *Simulator) project(want iamName) (iamName, bool) {
	if len(s.cloud.projects) == 0 {
		return want, want.ID != "" || want.Name == s.cfg.Region
	}
	for _, p := range s.cloud.projects {
		if want.ID == p.ID || want.ID == "" && want.Name == p.Name {
			return iamName(p), true
		}
	}
	return iamName{}, false
}

// iamProject is a row of the project list.
type iamProject struct {
	ID          string            `json:"id"`
	Name        string            `json:"name"`
	DomainID    string            `json:"domain_id"`
	ParentID    string            `json:"parent_id"`
	Enabled     bool              `json:"enabled"`
	IsDomain    bool              `json:"is_domain"`
	Description string            `json:"description"`
	Links       map[string]string `json:"links"`
}

type iamProjects struct {
	Projects []iamProject      `json:"projects"`
	Links    map[string]string `json:"links"`
}

// listedProjects returns the added projects, or those in use if none were added.
func (s *Simulator) listedProjects() []Project {
	if len(s.cloud.projects) > 0 {
		return s.cloud.projects
	}
	var ids []string
	for _, v := range s.cloud.order {
		ids = append(ids, v.ProjectID)
	}
	for _, g := range s.cloud.gateways {
		ids = append(ids, g.ProjectID)
	}
	for _, e := range s.cloud.local {
		ids = append(ids, e.ProjectID)
	}
	slices.Sort(ids)
	var out []Project
	for _, id := range slices.Compact(ids) {
		out = append(out, Project{ID: id, Name: s.cfg.Region})
	}
	return out
}

func (s *Simulator) listProjects(c *call) answer {
	q := c.query()
	number, goodPage := c.number("page", 1, 1, 1<<31)
	size, goodSize := c.number("per_page", 5000, 1, 5000)
	if !goodPage || !goodSize || q.Has("page") != q.Has("per_page") {
		return iamRefuse(http.StatusBadRequest, "IAM.0011", "page and per_page must be set together; page from 1, per_page from 1 to 5000")
	}
	rows := []iamProject{}
	for _, p := range s.listedProjects() {
		row := iamProject{
			ID: p.ID, Name: p.Name, DomainID: s.cfg.DomainID, ParentID: s.cfg.DomainID, Enabled: true,
			Links: map[string]string{"self": "https://iam." + s.cfg.Region + ".myhuaweicloud.com/v3/projects/" + p.ID},
		}
		differs := func(name, value string) bool { return q.Get(name) != "" && q.Get(name) != value }
		if differs("name", row.Name) || differs("domain_id", row.DomainID) || differs("parent_id", row.ParentID) ||
			differs("enabled", strconv.FormatBool(row.Enabled)) || differs("is_domain", strconv.FormatBool(row.IsDomain)) {
			continue
		}
		rows = append(rows, row)
	}
	return ok(iamProjects{
		Projects: page(rows, (number-1)*size, size),
		Links:    map[string]string{"self": "https://iam." + s.cfg.Region + ".myhuaweicloud.com" + c.request.URL.Path},
	})
}

// tokenCount returns the number of tokens that are valid at t.
func (k *keyring) tokenCount(t time.Time) int {
	n := 0
	for _, x := range k.tokens {
		if x.expires.IsZero() || t.Before(x.expires) {
			n++
		}
	}
	return n
}
