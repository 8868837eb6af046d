// Package console serves the web pages on which people see what the workers do, and
// review what the policies hold. It has no credentials of the cloud: it reads the bus
// and the ledger, and submits reviews that it signs with its own key.
package console

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"sync"
	"sync/atomic"
	"time"

	"github.com/nats-io/nkeys"
	"github.com/rs/zerolog"

	"github.com/vpcep-approver/vpcep-approver/internal/approval"
	"github.com/vpcep-approver/vpcep-approver/internal/events"
	"github.com/vpcep-approver/vpcep-approver/internal/ledger"
	"github.com/vpcep-approver/vpcep-approver/internal/policy"
)

// Policies has the set in force; *policy.Source provides it.
type Policies interface {
	Current() *policy.Set
}

// Config is what a console needs.
type Config struct {
	Bus      *events.Bus
	Ledger   *ledger.Ledger
	Policies Policies
	// Refused is why the policies of this machine could not be loaded last; empty: they
	// were. Nil: nobody knows.
	Refused func() string
	Targets approval.Targets
	Seed    []byte // of the console's NKey, which reviewers.yaml names
	Site    Site
	SignIn  SignIn
	// TraceURL returns where the trace with an id is shown; nil: nobody knows.
	TraceURL func(id string) string
	Now      func() time.Time
	Log      zerolog.Logger
}

// Console serves the pages. It is safe for concurrent use.
type Console struct {
	cfg      Config
	public   string // the console's public NKey
	pages    map[string]*language
	board    *board
	feed     *feed
	sessions *sessions
	links    *links
	logins   *logins // nil: there is no provider of OpenID Connect
	notes    *notes
	attempts *attempts
	handler  http.Handler
	changes  *changes      // of the board
	rights   *changes      // of who may look, after which each stream checks its session
	streams  atomic.Int64  // open ones
	beat     time.Duration // streamBeat
	closing  chan struct{} // closed when Run ends, which ends the streams
}

// New returns a console. Run must be running for its lists to be current.
func New(cfg Config) (*Console, error) {
	pair, err := nkeys.FromSeed(cfg.Seed)
	if err != nil {
		return nil, fmt.Errorf("the key of the console is not the seed of an NKey: %w", err)
	}
	defer pair.Wipe()
	public, err := pair.PublicKey()
	if err != nil {
		return nil, fmt.Errorf("read the public key of the console: %w", err)
	}
	if err := cfg.check(); err != nil {
		return nil, err
	}
	c := &Console{
		cfg: cfg, public: public, board: newBoard(cfg.Policies, cfg.Now), feed: newFeed(),
		notes: newNotes(cfg.Now), attempts: newAttempts(cfg.Now), changes: newChanges(), rights: newChanges(),
		beat: streamBeat, closing: make(chan struct{}),
	}
	c.sessions = newSessions(cfg.Now, c.rights.tell)
	c.board.changed = c.changes.tell
	c.links = newLinks(cfg.Now, cfg.Site.base(), cfg.SignIn.OnLink)
	if cfg.SignIn.OIDC != nil {
		c.logins = newLogins(*cfg.SignIn.OIDC, cfg.Site.base(), cfg.Now)
	}
	if c.pages, err = newLanguages(); err != nil {
		return nil, err
	}
	c.handler = c.secure(c.routes())
	return c, nil
}

// ServeHTTP serves the pages.
func (c *Console) ServeHTTP(w http.ResponseWriter, r *http.Request) { c.handler.ServeHTTP(w, r) }

// PoliciesChanged ends the streams of people whom the policies in force do not name any
// more. Call it after each change of the policies; without it, they end within 15 s.
func (c *Console) PoliciesChanged() { c.rights.tell() }

// Run follows the bus and the ledger until ctx ends. Call it once.
func (c *Console) Run(ctx context.Context) {
	defer close(c.closing)
	var following sync.WaitGroup
	following.Go(func() {
		c.keepFollowing(ctx, "the reviews", func() error { return c.board.follow(ctx, c.cfg.Ledger) }, c.board.failed)
	})
	following.Go(func() {
		c.keepFollowing(ctx, "the results", func() error { return c.feed.follow(ctx, c.cfg.Bus) }, c.feed.failed)
	})
	following.Go(func() { c.links.keep(ctx, c.cfg.SignIn.Links) })
	following.Wait()
}

const (
	followEvery = 2 * time.Second  // between tries to follow what cannot be read
	tellEvery   = 30 * time.Second // between log lines about it, however often it is tried
)

// keepFollowing follows until ctx ends, and tells failed of each end before that.
func (c *Console) keepFollowing(ctx context.Context, what string, follow func() error, failed func(error)) {
	var told time.Time
	for ctx.Err() == nil {
		err := follow()
		if ctx.Err() != nil {
			return
		}
		failed(err)
		if now := time.Now(); now.Sub(told) >= tellEvery {
			told = now
			c.cfg.Log.Warn().Err(err).Msg(what + " cannot be followed; trying again")
		}
		select {
		case <-ctx.Done():
		case <-time.After(followEvery):
		}
	}
}

// connected reports whether the bus can be read now. Tests of pages alone have no bus.
func (c *Console) connected() bool { return c.cfg.Bus == nil || c.cfg.Bus.Connected() }

// name is what reviewers.yaml calls this console; empty: it does not name its key.
func (c *Console) name(set *policy.Set) string {
	if found := set.Reviewers().Console(c.public); found != nil {
		return found.Name
	}
	return ""
}

// routes returns the pages.
func (c *Console) routes() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /{$}", func(w http.ResponseWriter, r *http.Request) {
		http.Redirect(w, r, "/reviews", http.StatusSeeOther)
	})
	mux.HandleFunc("GET /sign-in", c.signInPage)
	mux.HandleFunc("GET /sign-in/link", c.linkPage)
	mux.HandleFunc("POST /sign-in/link", c.useLink)
	if c.logins != nil {
		mux.HandleFunc("GET /sign-in/oidc", c.startOIDC)
		mux.HandleFunc("GET "+callbackPath, c.finishOIDC)
	}
	mux.HandleFunc("POST /sign-out", c.signOut)
	mux.HandleFunc("POST /language", c.chooseLanguage)
	mux.HandleFunc("GET /assets/{name}", serveAsset)
	mux.HandleFunc("GET /live", c.page(c.livePage))
	mux.HandleFunc("GET /live/stream", c.liveStream)
	mux.HandleFunc("GET /policies", c.page(c.policiesPage))
	mux.HandleFunc("GET /targets", c.page(c.targetsPage))
	mux.HandleFunc("GET /system", c.page(c.systemPage))
	mux.HandleFunc("POST /system/replay", c.page(c.replay))
	mux.HandleFunc("GET /reviews/stream", c.reviewsStream)
	mux.HandleFunc("GET /reviews", c.page(c.reviewsPage))
	mux.HandleFunc("GET /requests/{id}", c.page(c.requestPage))
	mux.HandleFunc("POST /requests/{id}/review", c.page(c.review))
	mux.HandleFunc("/", c.page(func(*http.Request, *visitor) (response, error) {
		return response{}, notFound("error.page")
	}))
	return mux
}

// pageError is an error that is shown to the person.
type pageError struct {
	status int
	Key    string // of the text
	Args   []any
}

func (e *pageError) Error() string { return fmt.Sprintf("%s %v", e.Key, e.Args) }

func notFound(key string, args ...any) error { return &pageError{http.StatusNotFound, key, args} }

func forbidden(key string, args ...any) error { return &pageError{http.StatusForbidden, key, args} }

// response is a page to render, or where to go.
type response struct {
	status int // 0: 200
	name   string
	title  string // key of the text
	data   any
	goTo   string
}

// pageLimit bounds a page, so that a broker that is away is said to be.
const pageLimit = 12 * time.Second

// refreshHeader marks what a page loads by itself. It is no sign that the person is there,
// so it keeps no session alive.
const refreshHeader = "Vpcep-Refresh"

// page serves what show returns to people who have signed in.
func (c *Console) page(show func(*http.Request, *visitor) (response, error)) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		v, err := c.visitor(r, r.Header.Get(refreshHeader) == "")
		if err != nil {
			c.fail(w, r, nil, err)
			return
		}
		if v == nil {
			c.askToSignIn(w, r)
			return
		}
		ctx, cancel := context.WithTimeout(r.Context(), pageLimit)
		defer cancel()
		out, err := show(r.WithContext(ctx), v)
		switch {
		case err != nil:
			c.fail(w, r, v, err)
		case out.goTo != "":
			http.Redirect(w, r, out.goTo, http.StatusSeeOther)
		default:
			c.render(w, r, v, out)
		}
	}
}

// askToSignIn sends a person to the page to sign in, and a script away.
func (c *Console) askToSignIn(w http.ResponseWriter, r *http.Request) {
	if r.Method != http.MethodGet {
		c.fail(w, r, nil, &pageError{http.StatusUnauthorized, "error.signed_out", nil})
		return
	}
	http.Redirect(w, r, "/sign-in", http.StatusSeeOther)
}

// fail shows an error. What is not for people is logged.
func (c *Console) fail(w http.ResponseWriter, r *http.Request, v *visitor, err error) {
	shown, ok := errors.AsType[*pageError](err)
	if !ok {
		if r.Context().Err() != nil {
			return // nobody waits for it
		}
		if !c.connected() { // the client's own error speaks of its buffers
			err = errors.New("not connected to NATS")
		}
		c.cfg.Log.Error().Err(err).Str("path", r.URL.Path).Msg("a page cannot be shown")
		shown = &pageError{http.StatusServiceUnavailable, "error.unavailable", []any{err.Error()}}
	}
	c.render(w, r, v, response{status: shown.status, name: "error", title: "error.title", data: shown})
}
