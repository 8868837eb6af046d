package events

import (
	"bytes"
	"cmp"
	"encoding/json"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/nats-io/nats.go/jetstream"
)

// Difference is one setting on the broker that differs from what Setup would create.
type Difference struct {
	Resource string // such as "stream VPCEP_RESULTS"
	Field    string // "" if the resource is missing
	Have     string
	Want     string
	Matters  bool   // whether a promise breaks; else it is the operator's choice
	Effect   string // the effect of the difference
	Fix      string // the next step; "" if the difference does not matter
}

func (d Difference) String() string {
	if d.missing() {
		return d.Resource + " is missing"
	}
	text := fmt.Sprintf("%s: %s is %s, should be %s", d.Resource, d.Field, d.Have, d.Want)
	if d.Effect != "" {
		text += " (" + d.Effect + ")"
	}
	return text
}

// comparison collects the differences of one resource.
type comparison struct {
	resource string
	fix      string          // of a field that can be changed
	remake   string          // of a field that cannot
	seen     map[string]bool // the JSON keys that were compared
	out      []Difference
}

// rule describes a difference of one field. By default it matters and can be changed.
type rule struct {
	key    string // in JSON, as the broker names the field
	name   string // in texts
	effect string
	accept bool // the difference breaks no promise
	fixed  bool // the broker does not let the field be changed
}

// field adds a difference unless have equals want.
func field[T comparable](c *comparison, r rule, have, want T) {
	c.seen[r.key] = true
	if have != want {
		c.add(r, text(have), text(want))
	}
}

func (c *comparison) add(r rule, have, want string) {
	d := Difference{Resource: c.resource, Field: r.name, Have: have, Want: want, Matters: !r.accept, Effect: r.effect}
	switch {
	case r.accept:
	case r.fixed:
		d.Fix = c.remake
	default:
		d.Fix = c.fix
	}
	c.out = append(c.out, d)
}

// rest adds the set fields of raw that were neither compared nor ignored: those of a
// later server, which this version does not know.
func (c *comparison) rest(raw map[string]json.RawMessage, harmless map[string]string) {
	var unknown []string
	for key, value := range raw {
		if _, ok := harmless[key]; !ok && !c.seen[key] && !isZero(value) {
			unknown = append(unknown, key)
		}
	}
	slices.Sort(unknown)
	for _, key := range unknown {
		c.add(rule{key: key, name: key, accept: true, effect: "this version does not know the field"}, fmt.Sprintf("%.80s", raw[key]), "unset")
	}
}

// isZero reports whether a JSON value is that of a field that is not set.
func isZero(value json.RawMessage) bool {
	switch string(bytes.TrimSpace(value)) {
	case "null", "false", "0", `""`, "{}", "[]":
		return true
	}
	return false
}

func text(v any) string {
	switch v := v.(type) {
	case string:
		return strconv.Quote(v)
	case fmt.Stringer:
		return v.String()
	}
	return fmt.Sprint(v)
}

// ignoredStreamFields are the fields of a stream's configuration that may have any
// value, each with the reason.
func ignoredStreamFields() map[string]string {
	return map[string]string{
		"name":           "it is what the stream was looked up by",
		"description":    "a text for people",
		"placement":      "where the servers are is the operator's choice",
		"compression":    "of files only",
		"first_seq":      "sequences are only compared with one another",
		"mirror_direct":  "does something for a mirror only, and a mirror is reported",
		"allow_atomic":   "a batch is stored as its messages are",
		"allow_batched":  "a batch is stored as its messages are",
		"metadata":       "a text for tools",
		"template_owner": "of outdated servers",
	}
}

// streamDifferences compares a stream, or the stream in which a bucket is kept.
func streamDifferences(resource string, raw map[string]json.RawMessage, have, want jetstream.StreamConfig, slots int) []Difference {
	bucket := strings.HasPrefix(want.Name, bucketPrefix)
	requests, letters := want.Name == RequestsStream, want.Name == DeadLettersStream
	c := &comparison{
		resource: resource, seen: map[string]bool{},
		fix:    "change it with the nats tool: nats stream edit " + want.Name,
		remake: "it cannot be changed: make a stream as worker bus setup does, and move the messages to it",
	}
	subject := want.Subjects[0]
	field(c, rule{
		key: "subjects", name: "subjects", accept: slices.Contains(have.Subjects, subject),
		effect: "subjects outside of it are refused or stored elsewhere",
	}, strings.Join(have.Subjects, ","), subject)
	field(c, rule{key: "retention", name: "retention", fixed: true, effect: "messages go before their time"}, have.Retention, want.Retention)
	field(c, rule{key: "storage", name: "storage", fixed: true, effect: "a restart of the broker loses everything"}, have.Storage, want.Storage)
	field(c, rule{key: "discard", name: "discard", effect: "when full it silently drops the oldest"}, have.Discard, want.Discard)
	age := rule{key: "max_age", name: "max age", accept: have.MaxAge == 0 || have.MaxAge > want.MaxAge, effect: "messages go before their time"}
	if bucket {
		age.name = "time to live"
	}
	if want.Name == bucketPrefix+WorkersBucket {
		age.accept, age.effect = false, "workers that live are taken for dead, or those that died for alive"
	}
	if age.accept {
		age.effect = "messages stay longer"
	}
	field(c, age, have.MaxAge, want.MaxAge)

	perSubject := rule{key: "max_msgs_per_subject", name: "max messages per subject", effect: "a message of a subject pushes out another, or is refused"}
	if bucket {
		perSubject.name, perSubject.accept, perSubject.effect = "history", have.MaxMsgsPerSubject > 0, "how many versions of a value can be looked at"
	}
	field(c, perSubject, max(have.MaxMsgsPerSubject, 0), want.MaxMsgsPerSubject)
	field(c, rule{
		key: "discard_new_per_subject", name: "discard new per subject", effect: "a subject, or a key, that is full takes nothing new",
	}, have.DiscardNewPerSubject, false)
	field(c, rule{
		key: "max_msg_size", name: "max message size", accept: have.MaxMsgSize >= minPayload, effect: "larger messages are refused",
	}, max(have.MaxMsgSize, 0), 0)
	field(c, rule{key: "max_msgs", name: "max messages", accept: true, effect: "a full stream refuses what is new"}, max(have.MaxMsgs, 0), 0)
	field(c, rule{key: "max_bytes", name: "max bytes", accept: true, effect: "a full stream refuses what is new"}, max(have.MaxBytes, 0), max(want.MaxBytes, 0))
	field(c, rule{
		key: "max_consumers", name: "max consumers", accept: true, effect: "each command that follows the stream needs a consumer",
	}, max(have.MaxConsumers, 0), 0)
	// The window only saves work: duplicates are found by the ledger and by the
	// sequence of results.
	field(c, rule{
		key: "duplicate_window", name: "duplicate window", accept: true, effect: "repeats are found later, by the ledger",
	}, have.Duplicates, want.Duplicates)
	field(c, rule{
		key: "num_replicas", name: "replicas", accept: have.Replicas > want.Replicas, effect: "fewer servers may be lost",
	}, max(have.Replicas, 1), max(want.Replicas, 1))
	field(c, rule{key: "no_ack", name: "acknowledgements", effect: "nobody knows whether a message was stored"}, !have.NoAck, true)
	field(c, rule{key: "sealed", name: "sealed", fixed: true, effect: "nothing can be stored"}, have.Sealed, false)
	field(c, rule{key: "persist_mode", name: "persist mode", fixed: true, effect: "a message is acknowledged before it is written"}, have.PersistMode, jetstream.DefaultPersistMode)
	field(c, rule{key: "mirror", name: "mirror of another stream", fixed: true, effect: "nothing can be published to it"}, have.Mirror != nil, false)
	c.sources(have, subject, requests)
	field(c, rule{
		key: "subject_transform", name: "subject transform", effect: "messages are stored under other subjects than they were published on",
		accept: have.SubjectTransform != nil && have.SubjectTransform.Source == have.SubjectTransform.Destination,
	}, have.SubjectTransform != nil, false)
	c.republish(have)

	direct := rule{key: "allow_direct", name: "direct reads", accept: true, effect: "reads go through the stream's leader, and need the permission $JS.API.STREAM.MSG.GET." + want.Name}
	field(c, direct, have.AllowDirect, true)
	rollup := rule{key: "allow_rollup_hdrs", name: "rollup headers", effect: "any publisher can remove every message by a header"}
	if bucket {
		rollup.accept, rollup.effect = true, "keys cannot be purged by a header; nothing here does"
	}
	field(c, rollup, have.AllowRollup, bucket)
	delet := rule{key: "deny_delete", name: "deny delete", accept: !letters, fixed: true, effect: "messages cannot be removed one by one; nothing here does"}
	if letters {
		delet.effect = "dead letters can be neither dropped nor replayed"
	}
	if bucket {
		delet.effect = "any user who may change streams can remove entries"
	}
	field(c, delet, have.DenyDelete, bucket)
	purge := rule{key: "deny_purge", name: "deny purge", accept: true, fixed: true, effect: "nothing here purges it"}
	if want.Name == bucketStream {
		purge.accept, purge.effect = false, "records of deliveries cannot be removed"
	}
	field(c, purge, have.DenyPurge, false)

	ttl := rule{key: "allow_msg_ttl", name: "message TTLs", effect: "any publisher can make a message expire before it is handled"}
	marker := rule{key: "subject_delete_marker_ttl", name: "delete markers", effect: "what expires leaves messages that nobody wrote"}
	if bucket {
		ttl.accept, ttl.effect = true, "only workers write here, and set none"
		marker.accept, marker.effect = true, "what expires leaves a marker, which is read as a key that is gone"
	}
	field(c, ttl, have.AllowMsgTTL, want.AllowMsgTTL)
	field(c, marker, have.SubjectDeleteMarkerTTL, want.SubjectDeleteMarkerTTL)
	field(c, rule{key: "allow_msg_counter", name: "counters", fixed: true, effect: "only counters can be stored"}, have.AllowMsgCounter, false)
	field(c, rule{
		key: "allow_msg_schedules", name: "message schedules", fixed: true, accept: bucket,
		effect: "any publisher can make the broker publish on any subject of the stream",
	}, have.AllowMsgSchedules, false)
	limits := have.ConsumerLimits
	field(c, rule{
		key: "consumer_limits", name: "consumer limits: inactive threshold", accept: !requests, effect: "consumers that nobody pulls from are removed",
	}, limits.InactiveThreshold, 0)
	field(c, rule{
		key: "consumer_limits", name: "consumer limits: max ack pending", accept: !requests || limits.MaxAckPending >= 10*slots,
		effect: "requests that wait would block the others",
	}, limits.MaxAckPending, 0)
	c.rest(raw, ignoredStreamFields())
	return c.out
}

// sources are fine for requests if all that comes from them is under the
// subjects of requests: anything else is stored and never delivered. Results,
// dead letters and the ledger are written by workers alone.
func (c *comparison) sources(have jetstream.StreamConfig, subject string, requests bool) {
	c.seen["sources"] = true
	for _, s := range have.Sources {
		r := rule{name: "source " + s.Name, effect: "what others wrote is taken for what workers wrote"}
		if requests {
			r.accept = deliversUnder(s, strings.TrimSuffix(subject, ">"))
			r.effect = "its messages keep subjects outside of " + subject + ", and are stored and never delivered"
			if r.accept {
				r.effect = "any publisher to it submits requests here"
			}
		}
		c.add(r, "set", "unset")
	}
}

// deliversUnder reports whether every message of s gets a subject under prefix.
func deliversUnder(s *jetstream.StreamSource, prefix string) bool {
	for _, t := range s.SubjectTransforms {
		if !strings.HasPrefix(cmp.Or(t.Destination, t.Source), prefix) {
			return false
		}
	}
	return len(s.SubjectTransforms) > 0 || strings.HasPrefix(s.FilterSubject, prefix)
}

func (c *comparison) republish(have jetstream.StreamConfig) {
	c.seen["republish"] = true
	if have.RePublish == nil {
		return
	}
	to := have.RePublish.Destination
	r := rule{name: "republish", accept: true, effect: "copies go to other subjects, and their readers read everything"}
	for _, ours := range []string{RequestsSubject, ResultsSubject, DeadLettersSubject, "$KV"} {
		if overlaps(to, ours+".>") {
			r.accept, r.effect = false, "its messages are published again where others are stored, and taken for those"
		}
	}
	c.add(r, text(to), "unset")
}

// overlaps reports whether two subjects with wildcards have one in common.
func overlaps(a, b string) bool {
	as, bs := strings.Split(a, "."), strings.Split(b, ".")
	for i := range min(len(as), len(bs)) {
		switch {
		case as[i] == ">" || bs[i] == ">":
			return true
		case strings.Contains(as[i], "{{") || strings.HasPrefix(as[i], "$") && i > 0: // filled in by a transform
		case as[i] != "*" && bs[i] != "*" && as[i] != bs[i]:
			return false
		}
	}
	return len(as) == len(bs)
}

// ignoredConsumerFields is the same for consumers.
func ignoredConsumerFields() map[string]string {
	return map[string]string{
		"durable_name": "it is what the consumer was looked up by",
		"name":         "it is what the consumer was looked up by",
		"description":  "a text for people",
		"sample_freq":  "of advisories, which nobody here reads",
		"max_bytes":    "pulls do not ask for a number of bytes",
		"direct":       "of consumers that servers make for themselves",
		"sourcing":     "of consumers that servers make for themselves",
		"metadata":     "a text for tools",
	}
}

// minWaiting is how many pulls must be able to wait.
const minWaiting = 64

func consumerDifferences(raw map[string]json.RawMessage, have, want jetstream.ConsumerConfig, slots, replicas int) []Difference {
	c := &comparison{
		resource: "consumer " + want.Durable, seen: map[string]bool{},
		fix:    "change it with the nats tool: nats consumer edit " + RequestsStream + " " + want.Durable,
		remake: "it cannot be changed: remove it with the nats tool while no worker runs, then run worker bus setup; requests that are done are known by the ledger",
	}
	filter := strings.Join(append(slices.Clone(have.FilterSubjects), slices.DeleteFunc([]string{have.FilterSubject}, func(s string) bool { return s == "" })...), ",")
	c.seen["filter_subjects"] = true
	field(c, rule{key: "filter_subject", name: "filter", effect: "requests on other subjects are never delivered"}, cmp.Or(filter, want.FilterSubject), want.FilterSubject)
	field(c, rule{key: "ack_policy", name: "ack policy", fixed: true, effect: "requests count as done before they are"}, have.AckPolicy, want.AckPolicy)
	field(c, rule{key: "ack_wait", name: "ack wait", effect: "requests of a worker that is gone come again too early or too late"}, have.AckWait, want.AckWait)
	field(c, rule{key: "deliver_policy", name: "deliver policy", fixed: true, effect: "stored requests are never delivered"}, have.DeliverPolicy, want.DeliverPolicy)
	field(c, rule{key: "opt_start_seq", name: "start sequence", fixed: true, effect: "stored requests are never delivered"}, have.OptStartSeq, 0)
	field(c, rule{key: "opt_start_time", name: "start time", fixed: true, effect: "stored requests are never delivered"}, have.OptStartTime != nil, false)
	field(c, rule{key: "max_deliver", name: "max deliver", effect: "requests are silently left behind"}, max(have.MaxDeliver, -1), want.MaxDeliver)
	field(c, rule{key: "backoff", name: "backoff steps", effect: "requests come again at other times than they were given back for"}, len(have.BackOff), 0)
	unbounded := have.MaxAckPending <= 0
	field(c, rule{
		key: "max_ack_pending", name: "max ack pending", accept: unbounded || have.MaxAckPending >= 10*slots, effect: "requests that wait block the others",
	}, have.MaxAckPending, want.MaxAckPending)
	field(c, rule{key: "replay_policy", name: "replay policy", fixed: true, effect: "stored requests come as slowly as they were published"}, have.ReplayPolicy, want.ReplayPolicy)
	field(c, rule{key: "headers_only", name: "headers only", effect: "requests come without their bodies"}, have.HeadersOnly, false)
	field(c, rule{key: "rate_limit_bps", name: "rate limit", effect: "requests are held up"}, have.RateLimit, 0)
	field(c, rule{key: "inactive_threshold", name: "inactive threshold", effect: "it is removed while no worker runs, and all requests come again"}, have.InactiveThreshold, 0)
	field(c, rule{
		key: "max_waiting", name: "max waiting", fixed: true, accept: have.MaxWaiting >= minWaiting, effect: "pulls of further workers are refused",
	}, cmp.Or(max(have.MaxWaiting, 0), defaultWaiting), defaultWaiting)
	field(c, rule{
		key: "max_batch", name: "max request batch", accept: have.MaxRequestBatch >= slots, effect: "pulls for all free slots are refused",
	}, max(have.MaxRequestBatch, 0), 0)
	field(c, rule{
		key: "max_expires", name: "max request expiry", accept: have.MaxRequestExpires >= pullFor, effect: "pulls are refused",
	}, max(have.MaxRequestExpires, 0), 0)
	field(c, rule{
		key: "num_replicas", name: "replicas", accept: have.Replicas > replicas, effect: "fewer servers may be lost",
	}, cmp.Or(have.Replicas, replicas), replicas)
	field(c, rule{key: "mem_storage", name: "memory storage", fixed: true, effect: "a restart of the broker forgets what was acknowledged"}, have.MemoryStorage, false)

	// Of consumers that push, and of groups; the client's type lacks some.
	effect := "workers pull, which this consumer refuses"
	for _, f := range []struct{ key, name string }{
		{"deliver_subject", "deliver subject"},
		{"deliver_group", "deliver group"},
		{"flow_control", "flow control"},
		{"idle_heartbeat", "idle heartbeat"},
		{"priority_groups", "priority groups"},
		{"priority_policy", "priority policy"},
		{"priority_timeout", "priority timeout"},
	} {
		c.seen[f.key] = true
		value := raw[f.key]
		if value != nil && !isZero(value) && string(value) != `"none"` {
			c.add(rule{key: f.key, name: f.name, fixed: true, effect: effect}, fmt.Sprintf("%.80s", value), "unset")
		}
	}
	c.paused(raw["pause_until"])
	c.rest(raw, ignoredConsumerFields())
	return c.out
}

// defaultWaiting is the broker's own max waiting.
const defaultWaiting = 512

// paused adds a difference if the consumer is paused until a time in the future.
func (c *comparison) paused(value json.RawMessage) {
	c.seen["pause_until"] = true
	var until time.Time
	if value == nil || json.Unmarshal(value, &until) == nil && !until.After(time.Now()) {
		return
	}
	c.add(rule{name: "paused", effect: "no request is delivered"}, "until "+cmp.Or(strings.Trim(string(value), `"`), "?"), "unset")
	c.out[len(c.out)-1].Fix = "end it with the nats tool: nats consumer resume " + RequestsStream + " " + ConsumerName
}
