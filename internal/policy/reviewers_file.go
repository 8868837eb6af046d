package policy

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/nats-io/nkeys"

	"github.com/vpcep-approver/vpcep-approver/internal/approval"
	"github.com/vpcep-approver/vpcep-approver/internal/strictyaml"
)

// ReviewersFile is the file of a folder of policies that says who may review. It is
// part of the set and of its digest.
const ReviewersFile = "reviewers.yaml"

const (
	defaultApprovals = 1
	defaultWithin    = 168 * time.Hour
	maxApprovals     = 16
	maxWithin        = 90 * 24 * time.Hour
)

func roles() []string {
	return []string{string(RoleViewer), string(RoleReviewer), string(RoleOperator)}
}

func reviewKeys() []key[approval.ReviewRule] {
	names := strictyaml.Form{Words: "a list of names", Schema: map[string]any{
		"type": "array", "minItems": 1, "uniqueItems": true, "items": map[string]any{"type": "string", "minLength": 1},
	}}
	return []key[approval.ReviewRule]{
		{
			Name: "by", Must: true, Doc: "Who may decide what the policy holds: names of people and groups of reviewers.yaml.",
			Form: names,
			Read: func(d *decoder, n *strictyaml.Node, r *approval.ReviewRule) {
				if r.By = d.nameList(n); len(r.By) == 0 && n.Kind == strictyaml.List && len(n.Content) == 0 {
					d.Fail(n, "no-effect", "the list is empty, so nobody can decide", "name a person or a group of "+ReviewersFile+", or delete the key review")
				}
			},
		},
		{
			Name: "approvals", Doc: "How many different people must approve.",
			Form: strictyaml.Form{Words: "a whole number from 1", Schema: map[string]any{"type": "integer", "minimum": 1, "maximum": maxApprovals, "default": defaultApprovals}},
			Read: func(d *decoder, n *strictyaml.Node, r *approval.ReviewRule) {
				if v, ok := d.Number(n, 1, maxApprovals); ok {
					r.Approvals = v
				}
			},
		},
		{
			Name: "within", Doc: "For how long after the hold a review is taken. After it the request stays held and leaves the work list.",
			Form: strictyaml.Form{Words: "a duration such as 72h", Schema: map[string]any{"type": "string", "pattern": "^([0-9]+(h|m|s))+$", "default": "168h"}},
			Read: func(d *decoder, n *strictyaml.Node, r *approval.ReviewRule) {
				s, ok := d.Text(n, "a duration such as 72h")
				if !ok {
					return
				}
				v, err := time.ParseDuration(s)
				if err != nil || v < time.Minute || v > maxWithin {
					d.Fail(n, "duration", "got "+strictyaml.KindOf(n)+", want a duration from 1m to 2160h", "write it with its unit, such as 72h")
					return
				}
				r.Within = approval.Period(v)
			},
		},
		{
			Name: "trust_consoles", Doc: "Whether people who sign in at one console count one by one. Otherwise all reviews through one console count as one person.",
			Form: strictyaml.Form{Words: "true or false", Schema: map[string]any{"type": "boolean", "default": false}},
			Read: func(d *decoder, n *strictyaml.Node, r *approval.ReviewRule) { r.TrustConsoles, _ = d.Flag(n) },
		},
	}
}

// nameList reads a list of names that are not empty and come once.
func (d *decoder) nameList(n *strictyaml.Node) []string {
	var out []string
	d.Items(n, "a list of names", func(_ int, item *strictyaml.Node) {
		name, ok := d.Text(item, "a name")
		if !ok {
			return
		}
		if slices.Contains(out, name) {
			d.Fail(item, "duplicate-name", strconv.Quote(strictyaml.Cut(name))+" is listed twice", "keep one of them")
			return
		}
		out = append(out, name)
	})
	return out
}

// reviewersDoc is reviewers.yaml while it is read.
type reviewersDoc struct {
	people   []Reviewer
	consoles []Console
	places   map[string]strictyaml.Position // of what must be unique, by kind and value
}

func reviewersKeys() []key[reviewersDoc] {
	list := func(ref string) strictyaml.Form {
		return strictyaml.Form{Words: "a list of mappings, see below", Schema: map[string]any{"type": "array", "items": map[string]any{"$ref": "#/$defs/" + ref}}}
	}
	return []key[reviewersDoc]{
		{
			Name: "version", Must: true, Doc: "The version of the file format.",
			Form: strictyaml.Form{Words: formatVersion, Schema: map[string]any{"const": 1}},
			Read: func(d *decoder, n *strictyaml.Node, _ *reviewersDoc) { d.version(n) },
		},
		{
			Name: "reviewers", Must: true, Doc: "The people.", Form: list("reviewer"),
			Read: func(d *decoder, n *strictyaml.Node, doc *reviewersDoc) {
				d.Items(n, "a list of people", func(_ int, item *strictyaml.Node) {
					p := Reviewer{}
					strictyaml.ReadMapping(d, item, "a person", reviewerKeys(), &p)
					if len(p.Roles) == 0 {
						p.Roles = []Role{RoleReviewer}
					}
					if p.Key == "" && p.Subject == "" && p.Email == "" && p.Name != "" {
						d.Warn(item, "no-effect", p.Name+" has no key, no sign-in and no email, so only a trusted proxy can name them", "add one of key, oidc and email")
					}
					doc.unique(d, item, "name", p.Name)
					doc.unique(d, item, "key", p.Key)
					doc.unique(d, item, "email", strings.ToLower(p.Email))
					if p.Subject != "" {
						doc.unique(d, item, "oidc", p.Issuer+" "+p.Subject)
					}
					doc.people = append(doc.people, p)
				})
			},
		},
		{
			Name: "consoles", Doc: "The consoles that may vouch for people who signed in there.", Form: list("console"),
			Read: func(d *decoder, n *strictyaml.Node, doc *reviewersDoc) {
				d.Items(n, "a list of consoles", func(_ int, item *strictyaml.Node) {
					c := Console{}
					strictyaml.ReadMapping(d, item, "a console", consoleKeys(), &c)
					doc.unique(d, item, "console", c.Name)
					doc.unique(d, item, "key", c.Key)
					doc.consoles = append(doc.consoles, c)
				})
			},
		},
	}
}

// unique reports that value, which n has, was there before.
func (doc *reviewersDoc) unique(d *decoder, n *strictyaml.Node, kind, value string) {
	if value == "" {
		return
	}
	if doc.places == nil {
		doc.places = map[string]strictyaml.Position{}
	}
	if first, twice := doc.places[kind+" "+value]; twice {
		d.Fail(n, "duplicate-reviewer", fmt.Sprintf("duplicate %s, first on line %d; it must tell who it is", kind, first.Line), "give each its own")
		return
	}
	doc.places[kind+" "+value] = strictyaml.At(n)
}

func publicKeyForm() strictyaml.Form {
	return strictyaml.Form{Words: "a public user NKey", Schema: map[string]any{"type": "string", "pattern": "^U[A-Z2-7]{55}$"}}
}

// publicKey reads a public user NKey. What it finds instead is never shown: it may be a seed.
func (d *decoder) publicKey(n *strictyaml.Node) string {
	show := d.Show
	d.Show = strictyaml.ShowNothing
	defer func() { d.Show = show }()
	if !d.Plain(n) {
		return ""
	}
	if n.Kind != strictyaml.Scalar || !nkeys.IsValidPublicUserKey(n.Value) {
		d.Fail(n, "key", "it is not a public user NKey", "make a pair with worker reviews keygen; the public key begins with U and the seed, with SU, stays secret")
		return ""
	}
	return n.Value
}

func reviewerKeys() []key[Reviewer] {
	texts := strictyaml.Form{Words: "a list of names", Schema: map[string]any{"type": "array", "items": map[string]any{"type": "string", "minLength": 1}}}
	return []key[Reviewer]{
		{
			Name: "name", Must: true, Doc: "The name of the person, unique in the file. It is shown in decisions.", Form: nameForm(),
			Read: func(d *decoder, n *strictyaml.Node, p *Reviewer) { p.Name, _ = d.name(n) },
		},
		{
			Name: "key", Doc: "The public NKey with which the person signs. Not needed for people who only use a console.", Form: publicKeyForm(),
			Read: func(d *decoder, n *strictyaml.Node, p *Reviewer) { p.Key = d.publicKey(n) },
		},
		{
			Name: "oidc", Doc: "How a console knows the person: issuer and subject of OpenID Connect.",
			Form: strictyaml.Form{Words: "a mapping of issuer and subject", Schema: map[string]any{
				"type": "object", "additionalProperties": false, "required": []any{"issuer", "subject"},
				"properties": map[string]any{"issuer": map[string]any{"type": "string", "minLength": 1}, "subject": map[string]any{"type": "string", "minLength": 1}},
			}},
			Read: func(d *decoder, n *strictyaml.Node, p *Reviewer) {
				strictyaml.ReadMapping(d, n, "a sign-in", []key[Reviewer]{
					{Name: "issuer", Must: true, Doc: "The address of the provider, to the letter.", Read: func(d *decoder, n *strictyaml.Node, p *Reviewer) {
						p.Issuer, _ = d.Text(n, "the address of the provider")
					}},
					{Name: "subject", Must: true, Doc: "The provider's name of the person.", Read: func(d *decoder, n *strictyaml.Node, p *Reviewer) {
						p.Subject, _ = d.Text(n, "a text in quotes")
					}},
				}, p)
			},
		},
		{
			Name: "email", Doc: "The e-mail address. A console takes it only if the provider says that it is verified. A request that names it as its requester is the person's own.",
			Form: strictyaml.TextForm("an e-mail address"),
			Read: func(d *decoder, n *strictyaml.Node, p *Reviewer) {
				if s, ok := d.Text(n, "an e-mail address"); ok {
					if local, domain, ok := strings.Cut(s, "@"); !ok || local == "" || domain == "" || strings.ContainsAny(s, " \t") {
						d.Fail(n, "email", strconv.Quote(strictyaml.Cut(s))+" is not an e-mail address", "write it in full, such as oncall-1@example.org")
						return
					}
					p.Email = s
				}
			},
		},
		{
			Name: "groups", Doc: "The groups that the person is in.", Form: texts,
			Read: func(d *decoder, n *strictyaml.Node, p *Reviewer) { p.Groups = d.nameList(n) },
		},
		{
			Name: "roles", Doc: "What the person may do: viewer sees the console, reviewer also reviews, operator may replay dead letters.",
			Form: strictyaml.Form{Words: "a list of roles", Schema: map[string]any{"type": "array", "minItems": 1, "uniqueItems": true, "items": map[string]any{"enum": roles()}, "default": []any{string(RoleReviewer)}}},
			Read: func(d *decoder, n *strictyaml.Node, p *Reviewer) {
				d.Items(n, "a list of roles", func(_ int, item *strictyaml.Node) {
					if s, ok := d.Choice(item, roles()); ok {
						p.Roles = append(p.Roles, Role(s))
					}
				})
			},
		},
		{
			Name: "domains", Doc: "Accounts of the person's own. They may not review requests of these.",
			Form: strictyaml.Form{Words: "a list of account ids", Schema: map[string]any{"type": "array", "items": map[string]any{"type": "string"}}},
			Read: func(d *decoder, n *strictyaml.Node, p *Reviewer) {
				d.Items(n, "a list of account ids", func(_ int, item *strictyaml.Node) {
					s, ok := d.Text(item, "an account id")
					if !ok {
						return
					}
					if !approval.IsID(s) {
						d.Fail(item, "id", strconv.Quote(strictyaml.Cut(s))+" is no account id", "write the id as the console shows it")
						return
					}
					p.Domains = append(p.Domains, approval.CanonicalID(s))
				})
			},
		},
		{
			Name: "expires", Doc: "Until when the person may do anything: a date, which is the last day and ends at 24:00 UTC, or a time with its offset.",
			Form: instantForm(),
			Read: func(d *decoder, n *strictyaml.Node, p *Reviewer) {
				if at, ok := d.instant(n, true); ok {
					p.Expires = at
				}
			},
		},
	}
}

func consoleKeys() []key[Console] {
	return []key[Console]{
		{
			Name: "name", Must: true, Doc: "The name of the console. It is shown in decisions.", Form: nameForm(),
			Read: func(d *decoder, n *strictyaml.Node, c *Console) { c.Name, _ = d.name(n) },
		},
		{
			Name: "key", Must: true, Doc: "The public NKey with which the console signs.", Form: publicKeyForm(),
			Read: func(d *decoder, n *strictyaml.Node, c *Console) { c.Key = d.publicKey(n) },
		},
	}
}

// reviewers reads reviewers.yaml.
func (l *loading) reviewersFile(name string) {
	d := &decoder{Reader: strictyaml.NewReader(l.show(name), l.snap.files[name]), targets: l.targets, show: l.show}
	var doc reviewersDoc
	if root := rootOf(d.Reader); root != nil {
		strictyaml.ReadMapping(d, root, "a file of reviewers", reviewersKeys(), &doc)
	}
	people := map[string]bool{}
	for _, p := range doc.people {
		people[p.Name] = true
	}
	for _, p := range doc.people {
		for _, g := range p.Groups {
			if people[g] {
				d.Report(strictyaml.SeverityError, doc.places["name "+p.Name], "duplicate-reviewer", "the group "+g+" has the name of a person", "rename one of them")
			}
		}
	}
	l.findings = append(l.findings, d.All()...)
	l.people = &Reviewers{people: doc.people, consoles: doc.consoles}
}

// reviews reports policies whose review nobody can satisfy.
func (l *loading) reviews() {
	names := l.people.names()
	for _, p := range l.policies {
		if p.review == nil {
			continue
		}
		fail := func(code, text, hint string) {
			l.findings = append(l.findings, l.finding(p, p.reviewAt, strictyaml.Finding{Severity: strictyaml.SeverityError, Code: code, Path: "review", Text: text, Hint: hint}))
		}
		if l.people == nil {
			fail("no-reviewers", "nobody can review: the folder has no "+ReviewersFile, "add the file, or delete the key review")
			continue
		}
		known := true
		for _, by := range p.review.By {
			if !slices.Contains(names, by) {
				known = false
				fail("unknown-reviewer", strconv.Quote(strictyaml.Cut(by))+" is neither a person nor a group of "+ReviewersFile, strictyaml.DidYouMean(by, names))
			}
		}
		able := 0
		for _, who := range l.people.people {
			if who.In(p.review.By) && who.Has(RoleReviewer) {
				able++
			}
		}
		if known && able < p.review.Approvals {
			fail("no-effect", fmt.Sprintf("%d approvals are needed, and %d people may give one", p.review.Approvals, able), "name more people, or lower approvals")
		}
	}
}

// names are the people and groups that a policy can name.
func (r *Reviewers) names() []string {
	var out []string
	if r == nil {
		return nil
	}
	for _, p := range r.people {
		for _, name := range append([]string{p.Name}, p.Groups...) {
			if !slices.Contains(out, name) {
				out = append(out, name)
			}
		}
	}
	return out
}
