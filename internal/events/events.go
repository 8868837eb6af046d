// Package events is the bus: NATS JetStream. It consumes requests from
// VPCEP_REQUESTS as CloudEvents, passes each to a handler, and publishes results
// and dead letters. A request is acknowledged only after its result or dead letter
// is stored.
package events

import (
	"errors"
	"slices"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/rs/zerolog"

	"github.com/vpcep-approver/vpcep-approver/internal/approval"
)

// Names on the bus. They are part of the contract in docs/events.md.
const (
	RequestsStream    = "VPCEP_REQUESTS"
	ResultsStream     = "VPCEP_RESULTS"
	DeadLettersStream = "VPCEP_DEADLETTERS"
	ReviewsStream     = "VPCEP_REVIEWS"
	LedgerBucket      = "vpcep-ledger"
	WorkersBucket     = "vpcep-workers"
	ConsumerName      = "vpcep-approver"

	ReviewsConsumerName = "vpcep-approver-reviews"

	RequestsSubject    = "vpcep.requests"    // + .<target>
	ResultsSubject     = "vpcep.results"     // + .<outcome>.<target>.<decision id>
	DeadLettersSubject = "vpcep.deadletters" // + .<reason>

	ReviewsSubject          = "vpcep.reviews"
	ReviewsSubmittedSubject = ReviewsSubject + ".submitted" // + .<target>.<request id>
	ReviewsRefusedSubject   = ReviewsSubject + ".refused"   // + .<target>.<request id>
)

// Config configures a Bus. The zero value of a field selects its default.
type Config struct {
	Name string // of the connection, as the broker shows it; default "vpcep-approver"
	URL  string // nats://… or tls://…, several separated by commas
	// InProcess, if set, is used instead of URL: the embedded server.
	InProcess nats.InProcessConnProvider

	// Files are read again at each connect.
	CredentialsFile string
	NKeySeedFile    string
	// Login returns user and password. It is called at each connect. Nil: none.
	Login                  func() (user, password string, err error)
	TLSCA, TLSCert, TLSKey string
	TLSFirst               bool          // do the TLS handshake first, as the server is configured
	AllowPlaintext         bool          // allow connections without TLS to other hosts
	Domain                 string        // of JetStream; default the server's own
	InboxPrefix            string        // of the reply subjects; default "_INBOX"
	MaxBytes               int64         // of each stream and bucket that is created; default no limit
	ReconnectWait          time.Duration // between reconnect attempts; default 500 ms
	Create                 bool          // create missing streams, buckets and the consumer
	Replicas               int           // of what is created; default 1
	RequestsMaxAge         time.Duration // how long requests are kept; default 30 days
	ResultsMaxAge          time.Duration // default 90 days
	DeadLettersMaxAge      time.Duration // default 365 days
	LedgerMaxAge           time.Duration // default approval.LedgerMemory
	Slots                  int           // requests handled concurrently; default 64
	AckWait                time.Duration // after which requests without progress are redelivered; default 10 s
	MaxAckPending          int           // of all workers: requests in flight or waiting for redelivery; default 100,000
	ShutdownGrace          time.Duration // for requests in flight when Consume is stopped; default 10 s
	Targets                approval.Targets
	Version                string // of the worker
	// Ledger returns the stores of delivery records, poison records and
	// heartbeats. Submit, Replay and Consume need it.
	Ledger func(*Bus) (CrashRecords, Heartbeats)
	// Admission decides which of the requests that were pulled run; nil: all.
	Admission Admission
	// Describe adds to a heartbeat what the bus does not know; nil: nothing. It
	// must be safe for concurrent use.
	Describe func(*approval.WorkerStatus)
	Observer Observer
	Log      zerolog.Logger
}

// DefaultAckWait is Config.AckWait where nothing is set.
const DefaultAckWait = 10 * time.Second

func (c Config) withDefaults() Config {
	def := func(d *time.Duration, v time.Duration) {
		if *d == 0 {
			*d = v
		}
	}
	defInt := func(i *int, v int) {
		if *i == 0 {
			*i = v
		}
	}
	const day = 24 * time.Hour
	if c.Name == "" {
		c.Name = "vpcep-approver"
	}
	if c.Observer == nil {
		c.Observer = noObserver{}
	}
	def(&c.ReconnectWait, 500*time.Millisecond)
	def(&c.RequestsMaxAge, 30*day)
	def(&c.ResultsMaxAge, 90*day)
	def(&c.DeadLettersMaxAge, 365*day)
	def(&c.LedgerMaxAge, approval.LedgerMemory)
	def(&c.AckWait, DefaultAckWait)
	def(&c.ShutdownGrace, 10*time.Second)
	defInt(&c.Slots, 64)
	defInt(&c.MaxAckPending, 100_000)
	defInt(&c.Replicas, 1)
	return c
}

// Observer receives what happens; *metrics.Metrics implements it. All strings are
// from the bounded sets below.
type Observer interface {
	Delivered(kind string)                        // a request was decoded: one of Kinds
	DeadLettered(reason string)                   // one of DeadLetterReasons
	BusConnected(up bool)                         //
	BusReconnected()                              //
	ConsumerBound(up bool)                        // whether requests can be delivered
	Backlog(pending, ackPending, redelivered int) // of the consumer, every five seconds
	ResultPublished(what string)                  // PublishOK, PublishError or PublishConflict
	SlotsInUse(delta int)                         // a delivery started (1) or was settled (-1)
	GivenBack(cause string)                       // one of GivenBackCauses
}

type noObserver struct{}

func (noObserver) Delivered(string)       {}
func (noObserver) DeadLettered(string)    {}
func (noObserver) BusConnected(bool)      {}
func (noObserver) BusReconnected()        {}
func (noObserver) ConsumerBound(bool)     {}
func (noObserver) Backlog(_, _, _ int)    {}
func (noObserver) ResultPublished(string) {}
func (noObserver) SlotsInUse(int)         {}
func (noObserver) GivenBack(string)       {}

// The outcomes of publishing a result.
const (
	PublishOK       = "ok"       // stored
	PublishError    = "error"    // not stored
	PublishConflict = "conflict" // stored as a correction, after a result that no worker wrote
)

// The kinds of request.
const (
	KindConnection = "connection"
	KindEndpoint   = "endpoint"
)

// The causes of giving a request back.
const (
	CauseBusy     = "busy"     // its target has no free slot
	CauseRetry    = "retry"    // a temporary error, or it waits for the cloud
	CauseStopping = "stopping" // this worker stops
	CausePaused   = "paused"   // an operator has paused the target
	CausePanic    = "panic"    // the handler panicked
)

// GivenBackCauses returns every cause.
func GivenBackCauses() []string {
	return []string{CauseBusy, CauseRetry, CausePaused, CauseStopping, CausePanic}
}

// causeOf returns the cause that err names, or CauseRetry.
func causeOf(err error) string {
	e, ok := errors.AsType[interface {
		error
		GivenBack() string
	}](err)
	if ok && slices.Contains(GivenBackCauses(), e.GivenBack()) {
		return e.GivenBack()
	}
	return CauseRetry
}
