package policy

import (
	"slices"
	"strings"
	"time"

	"github.com/vpcep-approver/vpcep-approver/internal/approval"
)

// Role is what a person may do.
type Role string

// The roles. Everybody in the file may view.
const (
	RoleViewer   Role = "viewer"
	RoleReviewer Role = "reviewer"
	RoleOperator Role = "operator" // may replay dead letters
)

// Reviewer is a person of reviewers.yaml.
type Reviewer struct {
	Name    string
	Key     string // public user NKey; empty: signs in at a console only
	Issuer  string // of OpenID Connect
	Subject string // the issuer's name of the person
	Email   string
	Groups  []string
	Roles   []Role
	Domains []string  // accounts of their own, in the canonical spelling; they may not review these
	Expires time.Time // zero: never
}

// Active reports whether r may do anything at now.
func (r *Reviewer) Active(now time.Time) bool { return r.Expires.IsZero() || now.Before(r.Expires) }

// Has reports whether r has a role. Everybody is a viewer.
func (r *Reviewer) Has(role Role) bool { return role == RoleViewer || slices.Contains(r.Roles, role) }

// In reports whether r is one of names, which are names of people and groups.
func (r *Reviewer) In(names []string) bool {
	return slices.Contains(names, r.Name) || slices.ContainsFunc(r.Groups, func(g string) bool { return slices.Contains(names, g) })
}

// Owns reports whether a request is the reviewer's own: by the account that the
// cloud shows, or by whom the event says it is from.
func (r *Reviewer) Owns(req *approval.Request, domainID string) bool {
	if domainID != "" && slices.ContainsFunc(r.Domains, func(d string) bool { return approval.SameID(d, domainID) }) {
		return true
	}
	for _, who := range req.Claims.Values("requester") {
		who = strings.TrimSpace(who)
		if strings.EqualFold(who, r.Name) || r.Email != "" && strings.EqualFold(who, r.Email) {
			return true
		}
	}
	return false
}

// Console is a console that may vouch for people who signed in there.
type Console struct {
	Name string
	Key  string // public user NKey
}

// Reviewers is who may review, from reviewers.yaml. It does not change. The zero
// value, and nil, has nobody.
type Reviewers struct {
	people   []Reviewer
	consoles []Console
}

// All returns every person, in the order of the file.
func (r *Reviewers) All() []Reviewer {
	if r == nil {
		return nil
	}
	return slices.Clone(r.people)
}

// ByName returns the person called name, or nil.
func (r *Reviewers) ByName(name string) *Reviewer {
	return r.find(func(p *Reviewer) bool { return p.Name == name })
}

// ByKey returns the person whose key is public, or nil.
func (r *Reviewers) ByKey(public string) *Reviewer {
	return r.find(func(p *Reviewer) bool { return public != "" && p.Key == public })
}

// BySubject returns the person whom an issuer of OpenID Connect knows as subject,
// or nil.
func (r *Reviewers) BySubject(issuer, subject string) *Reviewer {
	return r.find(func(p *Reviewer) bool { return subject != "" && p.Issuer == issuer && p.Subject == subject })
}

// ByEmail returns the person with a verified e-mail address, or nil.
func (r *Reviewers) ByEmail(email string) *Reviewer {
	return r.find(func(p *Reviewer) bool { return email != "" && strings.EqualFold(p.Email, email) })
}

func (r *Reviewers) find(match func(*Reviewer) bool) *Reviewer {
	if r == nil {
		return nil
	}
	for i := range r.people {
		if match(&r.people[i]) {
			p := r.people[i]
			return &p
		}
	}
	return nil
}

// Console returns the console whose key is public, or nil.
func (r *Reviewers) Console(public string) *Console {
	if r == nil || public == "" {
		return nil
	}
	for _, c := range r.consoles {
		if c.Key == public {
			return &c
		}
	}
	return nil
}

// hasConsole reports whether a console of this name may vouch for people.
func (r *Reviewers) hasConsole(name string) bool {
	return r != nil && slices.ContainsFunc(r.consoles, func(c Console) bool { return c.Name == name })
}
