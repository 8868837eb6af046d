package events

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/nats-io/nkeys"
)

// ErrClosed means that the connection is closed for good. Restart the process.
var ErrClosed = errors.New("the connection to NATS is closed for good")

// Bus is a connection to the bus. It is safe for concurrent use.
type Bus struct {
	cfg     Config
	nc      *nats.Conn
	js      jetstream.JetStream
	trouble *logLimiter
	denials denials

	closing    atomic.Bool
	closed     chan struct{} // closed when the connection is, for good
	wake       chan struct{} // gets a token after a reconnection
	loop       atomic.Int64  // when the consume loop last iterated, in Unix nanoseconds; 0: it does not run
	bound      atomic.Bool   // whether the consumer existed when last checked
	setupDirty atomic.Bool   // whether streams, buckets and consumer must be checked
	setupAt    atomic.Int64  // when they were found well, over this connection, in Unix nanoseconds; 0: not yet
	refused    atomic.Pointer[VersionError]

	asking atomic.Int32 // calls that end when the broker denies a permission

	records      CrashRecords
	heartbeats   Heartbeats
	heartbeatNow chan struct{}            // gets a token when a heartbeat must be sent
	present      atomic.Pointer[presence] // of the consume loop; nil: it does not run

	mu      sync.Mutex
	stop    context.CancelFunc // cancels the running pull or bind
	buckets openBuckets
}

const (
	connectWithin = 5 * time.Second
	// pingEvery and pingsOut detect a half-open connection before other workers
	// declare this one dead for its missing heartbeats.
	pingEvery = 2 * time.Second
	pingsOut  = 2
	// requestWithin bounds a request to JetStream's API.
	requestWithin = 5 * time.Second
)

// Connect connects to the broker. It fails immediately if the broker is down or
// refuses. A later loss of the connection is repaired until Close.
func Connect(ctx context.Context, cfg Config) (*Bus, error) {
	cfg = cfg.withDefaults()
	b := &Bus{cfg: cfg, buckets: openBuckets{}, closed: make(chan struct{}), wake: make(chan struct{}, 1), heartbeatNow: make(chan struct{}, 1), trouble: newLogLimiter(maxWarnings, time.Minute)}
	opts, err := b.options()
	if err != nil {
		return nil, fmt.Errorf("connect to NATS: %w", err)
	}
	if err := ctx.Err(); err != nil {
		return nil, fmt.Errorf("connect to NATS: %w", err)
	}
	where := "the embedded server"
	if cfg.InProcess == nil {
		where = redacted(cfg.URL)
	}
	if b.nc, err = nats.Connect(cfg.URL, opts...); err != nil {
		return nil, fmt.Errorf("connect to NATS at %s: %w; check that the broker runs, and the address and the credentials", where, plain(err, cfg.URL))
	}
	if err := b.tooOld(); err != nil {
		b.closing.Store(true)
		b.nc.Close()
		return nil, fmt.Errorf("connect to NATS at %s: %w", where, err)
	}
	if cfg.Domain == "" {
		b.js, err = jetstream.New(b.nc)
	} else {
		b.js, err = jetstream.NewWithDomain(b.nc, cfg.Domain)
	}
	if err != nil {
		b.closing.Store(true)
		b.nc.Close()
		return nil, fmt.Errorf("use JetStream at %s: %w", where, err)
	}
	b.records, b.heartbeats = noLedger{}, noLedger{}
	if cfg.Ledger != nil {
		b.records, b.heartbeats = cfg.Ledger(b)
	}
	cfg.Observer.BusConnected(true)
	return b, nil
}

func (b *Bus) options() ([]nats.Option, error) {
	cfg := b.cfg
	opts := []nats.Option{
		nats.Name(cfg.Name),
		nats.Timeout(connectWithin),
		nats.RetryOnFailedConnect(false),
		nats.MaxReconnects(-1),
		nats.ReconnectWait(cfg.ReconnectWait),
		nats.ReconnectJitter(cfg.ReconnectWait/5, cfg.ReconnectWait/5),
		// Credentials rotate: refused ones may be renewed soon.
		nats.IgnoreAuthErrorAbort(),
		nats.PingInterval(pingEvery),
		nats.MaxPingsOutstanding(pingsOut),
		// A message that was buffered while disconnected is outdated later.
		nats.ReconnectBufSize(-1),
		nats.DisconnectErrHandler(b.onDisconnect),
		nats.ReconnectHandler(b.onReconnect),
		nats.ClosedHandler(b.onClosed),
		nats.ErrorHandler(b.onError),
	}
	if cfg.InProcess != nil {
		opts = append(opts, nats.InProcessServer(cfg.InProcess))
	}
	encrypted, err := cfg.encrypted()
	if err != nil {
		return nil, err
	}
	opts = append(opts, encrypted...)
	if cfg.InboxPrefix != "" {
		opts = append(opts, nats.CustomInboxPrefix(cfg.InboxPrefix))
	}
	if cfg.TLSFirst {
		opts = append(opts, nats.TLSHandshakeFirst())
	}
	ways := 0
	if cfg.CredentialsFile != "" {
		ways++
		if _, err := os.ReadFile(cfg.CredentialsFile); err != nil {
			return nil, fmt.Errorf("read the credentials file: %w", err)
		}
		opts = append(opts, nats.UserCredentials(cfg.CredentialsFile))
	}
	if cfg.NKeySeedFile != "" {
		ways++
		opt, err := nkeyFrom(cfg.NKeySeedFile)
		if err != nil {
			return nil, err
		}
		opts = append(opts, opt)
	}
	if cfg.Login != nil {
		ways++
		if _, _, err := cfg.Login(); err != nil {
			return nil, fmt.Errorf("read user and password: %w", err)
		}
		opts = append(opts, nats.UserInfoHandler(func() (string, string) {
			user, password, err := cfg.Login()
			if err != nil {
				b.warn(err, "reading user and password failed; the broker will refuse the connection")
			}
			return user, password
		}))
	}
	if ways > 1 {
		return nil, errors.New("more than one kind of credentials is set; keep one of credentials file, nkey seed file, and user with password")
	}
	if (cfg.TLSCert == "") != (cfg.TLSKey == "") {
		return nil, errors.New("a TLS certificate needs its key, and a key its certificate")
	}
	if cfg.TLSCA != "" {
		opts = append(opts, nats.RootCAs(cfg.TLSCA))
	}
	if cfg.TLSCert != "" {
		opts = append(opts, nats.ClientCert(cfg.TLSCert, cfg.TLSKey))
	}
	return opts, nil
}

// nkeyFrom signs with the seed in file, which is read at each connect. The client
// library needs the public key in advance, so it cannot change while the process runs.
func nkeyFrom(file string) (nats.Option, error) {
	pair := func() (nkeys.KeyPair, string, error) {
		seed, err := os.ReadFile(file) //nolint:gosec // the operator names the file
		if err != nil {
			return nil, "", fmt.Errorf("read the nkey seed file: %w", err)
		}
		defer clear(seed)
		kp, err := nkeys.ParseDecoratedNKey(seed)
		if err != nil {
			return nil, "", fmt.Errorf("the nkey seed file %s holds no seed", file)
		}
		public, err := kp.PublicKey()
		return kp, public, err
	}
	kp, public, err := pair()
	if err != nil {
		return nil, err
	}
	kp.Wipe()
	return nats.Nkey(public, func(nonce []byte) ([]byte, error) {
		kp, now, err := pair()
		if err != nil {
			return nil, err
		}
		defer kp.Wipe()
		if now != public {
			return nil, fmt.Errorf("the nkey seed file %s holds another key than at the start; restart the worker", file)
		}
		return kp.Sign(nonce)
	}), nil
}

// redacted is url without its passwords.
func redacted(urls string) string {
	var out []string
	for part := range strings.SplitSeq(urls, ",") {
		u, err := url.Parse(strings.TrimSpace(part))
		if err != nil {
			out = append(out, "(an address that cannot be read)")
			continue
		}
		if u.User != nil {
			u.User = url.User("xxxxx")
		}
		out = append(out, u.String())
	}
	return strings.Join(out, ",")
}

// plain is err unless its text may quote an address with a password.
func plain(err error, urls string) error {
	if strings.Contains(urls, "@") {
		if _, ok := errors.AsType[*url.Error](err); ok {
			return errors.New("the address cannot be read")
		}
	}
	return err
}

func (b *Bus) onDisconnect(_ *nats.Conn, err error) {
	b.cfg.Observer.BusConnected(false)
	if b.closing.Load() {
		return
	}
	b.warn(err, "disconnected from NATS; reconnecting")
}

func (b *Bus) onReconnect(nc *nats.Conn) {
	if err, ok := errors.AsType[*VersionError](b.tooOld()); ok {
		// Nothing may be written to it. A new process may find another server.
		b.refused.Store(err)
		b.cfg.Log.Error().Err(err).Msg("reconnected to a server that is too old; stopping")
		nc.Close()
		return
	}
	b.setupAt.Store(0)
	b.cfg.Observer.BusConnected(true)
	b.cfg.Observer.BusReconnected()
	if ok, missed := b.trouble.allow(); ok {
		b.cfg.Log.Info().Str("server", redacted(nc.ConnectedUrl())).Int("lines_left_out", missed).Msg("reconnected to NATS")
	}
	if p := b.present.Load(); p != nil {
		p.reconnected()
	}
	for _, now := range []chan struct{}{b.wake, b.heartbeatNow} {
		select {
		case now <- struct{}{}:
		default:
		}
	}
	// Requests sent over the old connection stay unanswered.
	b.interrupt()
}

func (b *Bus) onClosed(*nats.Conn) {
	b.cfg.Observer.BusConnected(false)
	close(b.closed)
	if !b.closing.Load() {
		b.cfg.Log.Error().Err(b.closedError()).Msg("the connection to NATS is closed")
	}
}

func (b *Bus) onError(_ *nats.Conn, sub *nats.Subscription, err error) {
	if b.closing.Load() {
		return
	}
	if denied := b.denials.note(err); denied != nil {
		err = denied
	} else if sub != nil {
		err = fmt.Errorf("on subject %s: %w", sub.Subject, err)
	}
	if _, denied := errors.AsType[*DeniedError](err); denied && b.asking.Load() > 0 {
		return // the caller gets it as an error
	}
	b.warn(err, "NATS reported an error")
}

// warn logs trouble with the broker, at most maxWarnings a minute.
func (b *Bus) warn(err error, text string) {
	if ok, missed := b.trouble.allow(); ok {
		b.cfg.Log.Warn().Err(err).Int("lines_left_out", missed).Msg(text)
	}
}

// interrupt cancels the running pull or bind.
func (b *Bus) interrupt() {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.stop != nil {
		b.stop()
	}
}

// markSetupDirty makes the consume loop check streams, buckets and consumer
// immediately.
func (b *Bus) markSetupDirty() {
	b.setupAt.Store(0)
	if !b.setupDirty.Swap(true) {
		b.interrupt()
	}
}

// Close ends the connection. Consume must have returned.
func (b *Bus) Close() error {
	if b.closing.Swap(true) {
		return nil
	}
	err := b.nc.FlushTimeout(time.Second)
	if errors.Is(err, nats.ErrConnectionClosed) || errors.Is(err, nats.ErrConnectionReconnecting) || errors.Is(err, nats.ErrTimeout) {
		err = nil // the buffer holds nothing that was acknowledged
	}
	b.nc.Close()
	<-b.closed
	return err
}

// stalledAfter is the maximum duration of one iteration of the consume loop.
const stalledAfter = 30 * time.Second

// LastLoop returns when the consume loop last iterated; zero if it does not run.
func (b *Bus) LastLoop() time.Time {
	if n := b.loop.Load(); n != 0 {
		return time.Unix(0, n)
	}
	return time.Time{}
}

// Alive reports whether the consume loop iterates, or was not started. It iterates
// even while the broker is down.
func (b *Bus) Alive() bool {
	last := b.LastLoop()
	return last.IsZero() || time.Since(last) < stalledAfter
}

// Connected reports whether there is a connection to the broker now.
func (b *Bus) Connected() bool { return b.nc.IsConnected() }

// Ready returns why no requests can be delivered now; nil if they can.
func (b *Bus) Ready() error {
	switch {
	case b.nc.IsClosed():
		return b.closedError()
	case !b.Connected():
		return errors.New("not connected to NATS")
	case !b.bound.Load():
		return errors.New("the consumer " + ConsumerName + " is not bound")
	}
	if p := b.present.Load(); p != nil && p.lapsed() {
		return errLapsed
	}
	return nil
}

// closedError returns ErrClosed with the reason, if it is known.
func (b *Bus) closedError() error {
	if err := b.refused.Load(); err != nil {
		return fmt.Errorf("%w: %w", ErrClosed, err)
	}
	return ErrClosed
}

// RTT returns the round-trip time to the broker.
func (b *Bus) RTT() (time.Duration, error) { return b.nc.RTT() }
