// Package events is the bus: NATS JetStream. It takes requests from
// VPCEP_REQUESTS as CloudEvents, hands each to a handler for as long as it takes,
// settles it, and publishes results and dead letters. No request leaves the
// stream's consumer before its end is stored elsewhere.
package events

import (
	"errors"
	"slices"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/rs/zerolog"

	"github.com/vpcep-approver/vpcep-approver/internal/approval"
)

// Names on the bus, which others build on.
const (
	RequestsStream    = "VPCEP_REQUESTS"
	ResultsStream     = "VPCEP_RESULTS"
	DeadLettersStream = "VPCEP_DEADLETTERS"
	LedgerBucket      = "vpcep-ledger"
	WorkersBucket     = "vpcep-workers"
	ConsumerName      = "vpcep-approver"

	RequestsSubject    = "vpcep.requests"    // + .<target>
	ResultsSubject     = "vpcep.results"     // + .<outcome>.<target>.<decision id>
	DeadLettersSubject = "vpcep.deadletters" // + .<reason>
)

// Config says how to reach the bus and how to work with it. The zero value of a
// field is its default.
type Config struct {
	Name string // of the connection, as the broker shows it; default "vpcep-approver"
	URL  string // nats://… or tls://…, several separated by commas
	// InProcess, if set, is connected to instead of URL: the embedded server.
	InProcess nats.InProcessConnProvider

	// Files are read anew at each connect.
	CredentialsFile string
	NKeySeedFile    string
	// Login returns user and password; asked at each connect. Nil: none.
	Login                  func() (user, password string, err error)
	TLSCA, TLSCert, TLSKey string
	TLSFirst               bool          // the TLS handshake comes before anything else, as the server is set
	AllowPlaintext         bool          // without TLS also to other hosts than this one
	Domain                 string        // of JetStream; default the server's own
	InboxPrefix            string        // of the subjects on which answers come; default "_INBOX"
	MaxBytes               int64         // of each stream and bucket that is made; default no limit
	ReconnectWait          time.Duration // between tries to connect again; default 500 ms
	Create                 bool          // make streams, consumer and bucket where they are missing
	Replicas               int           // of what is made; default 1
	RequestsMaxAge         time.Duration // how long requests stay stored; default 30 days
	ResultsMaxAge          time.Duration // default 90 days
	DeadLettersMaxAge      time.Duration // default 365 days
	Slots                  int           // requests in hand at once; default 64
	AckWait                time.Duration // after which a silent worker's requests go to another; default 10 s
	MaxAckPending          int           // requests in hand or given back with a delay, of all workers; default 100,000
	ShutdownGrace          time.Duration // for requests in hand when Consume shall end; default 10 s
	Targets                approval.Targets
	Version                string // of the worker
	// Ledger makes what keeps delivery records, poison records and heartbeats.
	// Submit, Replay and Consume need it.
	Ledger func(*Bus) (CrashRecords, Heartbeats)
	// Describe adds to a heartbeat what the bus does not know; nil: nothing. It
	// must be safe for concurrent use once Consume runs.
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
	def(&c.AckWait, DefaultAckWait)
	def(&c.ShutdownGrace, 10*time.Second)
	defInt(&c.Slots, 64)
	defInt(&c.MaxAckPending, 100_000)
	defInt(&c.Replicas, 1)
	return c
}

// Observer is told of what happens; *metrics.Metrics provides it. All strings
// are of the bounded sets below.
type Observer interface {
	Delivered(kind string)                        // a request was taken: one of Kinds
	DeadLettered(reason string)                   // one of DeadLetterReasons
	BusConnected(up bool)                         //
	BusReconnected()                              //
	ConsumerBound(up bool)                        // whether requests can come
	Backlog(pending, ackPending, redelivered int) // of the consumer, every five seconds
	ResultPublished(what string)                  // one of PublishResults
	SlotsInUse(delta int)                         // requests taken in hand (1) and settled (-1)
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

// What became of a result that was offered to the broker.
const (
	PublishOK       = "ok"       // it is stored
	PublishError    = "error"    // it is not
	PublishConflict = "conflict" // it is stored behind another that no worker wrote
)

// PublishResults returns all of them.
func PublishResults() []string { return []string{PublishOK, PublishError, PublishConflict} }

// The kinds of request.
const (
	KindConnection = "connection"
	KindEndpoint   = "endpoint"
)

// Kinds returns every kind.
func Kinds() []string { return []string{KindConnection, KindEndpoint} }

// The causes of giving a request back.
const (
	CauseBusy     = "busy"     // no room for its target
	CauseRetry    = "retry"    // an error that may pass, or it waits for the cloud
	CauseStopping = "stopping" // this worker ends
	CausePanic    = "panic"    // the handler panicked
)

// GivenBackCauses returns every cause.
func GivenBackCauses() []string {
	return []string{CauseBusy, CauseRetry, CauseStopping, CausePanic}
}

// causeOf is the cause that err names itself, or CauseRetry.
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
