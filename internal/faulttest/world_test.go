package faulttest

import (
	"cmp"
	"context"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/vpcep-approver/vpcep-approver/internal/approval"
	"github.com/vpcep-approver/vpcep-approver/internal/cloud/simulator"
	"github.com/vpcep-approver/vpcep-approver/internal/events/broker"
	"github.com/vpcep-approver/vpcep-approver/internal/natstest"
)

// The names on the bus, as product users know them.
const (
	requestsStream = "VPCEP_REQUESTS"
	resultsStream  = "VPCEP_RESULTS"
	deadStream     = "VPCEP_DEADLETTERS"
	bucketStream   = "KV_vpcep-ledger"
	consumerName   = "vpcep-approver"
	entrySubjects  = "$KV.vpcep-ledger.request.*.*"
)

// markHeader tells a dead letter from others.
const markHeader = "Faulttest-Mark"

// world is a real broker and a simulated cloud on real sockets, for workers
// that are processes of their own.
type world struct {
	*ground
	t        *testing.T
	broker   *natstest.Server
	js       jetstream.JetStream
	api      string // host:port of the cloud
	dir      string
	policies string // folder
	begin    time.Time
	files    atomic.Int32
	guarded  *server.Server // the broker, if it has the permission files

	noCreations bool // in what mixed submits: one whose answer is lost is looked for over most of a minute
}

func newWorld(t *testing.T, cfg simulator.Config) *world {
	t.Helper()
	w := newCloudWorld(t, cfg)
	w.broker = natstest.StartWith(t, broker.Options{Dir: filepath.Join(w.dir, "jetstream")})
	w.js = w.broker.JetStream()
	w.requests()
	return w
}

// rolePassword is the password of the users of deploy/nats.
const rolePassword = "faulttest"

// newGuardedWorld is newWorld with the broker of deploy/nats, on which everybody has
// the rights of a role; edit changes them. Nothing is set up on it. The test itself
// may do everything.
func newGuardedWorld(t *testing.T, cfg simulator.Config, edit func(*server.Options)) *world {
	t.Helper()
	w := newCloudWorld(t, cfg)
	opts := natstest.Options(t, filepath.Join(root, "deploy", "nats", "nats-server.conf"))
	opts.Users = append(opts.Users, &server.User{Username: "faulttest", Password: rolePassword})
	opts.SyncAlways = false // no power is lost here
	if edit != nil {
		edit(opts)
	}
	w.guarded, _ = natstest.StartOptions(t, opts)
	w.broker = &natstest.Server{URL: w.guarded.ClientURL()}
	w.js = w.as("faulttest", "")
	return w
}

// as connects to a guarded broker as one of its users.
func (w *world) as(user, inbox string) jetstream.JetStream {
	w.t.Helper()
	opts := []nats.Option{
		nats.UserInfo(user, rolePassword), nats.MaxReconnects(-1),
		nats.ErrorHandler(func(*nats.Conn, *nats.Subscription, error) {}), // what is denied is looked at by who tries it
	}
	if inbox != "" {
		opts = append(opts, nats.CustomInboxPrefix(inbox))
	}
	nc, err := nats.Connect(w.broker.URL, opts...)
	if err != nil {
		w.t.Fatal(err)
	}
	w.t.Cleanup(nc.Close)
	js, err := jetstream.New(nc)
	if err != nil {
		w.t.Fatal(err)
	}
	return js
}

// command runs a command of the worker to its end, with the settings of o, and
// returns what it wrote and its exit code.
func (w *world) command(o options, args ...string) (string, int) {
	w.t.Helper()
	worker := build.path(w.t) // which may take minutes
	ctx, cancel := context.WithTimeout(w.t.Context(), 2*time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, worker, append(args, "--config", w.config(o))...)
	cmd.Env = append([]string{"PATH=" + os.Getenv("PATH"), "HOME=" + w.t.TempDir()}, w.environ(o)...)
	out, err := cmd.CombinedOutput()
	if _, ended := errors.AsType[*exec.ExitError](err); err != nil && !ended {
		w.t.Fatalf("worker %s: %v", strings.Join(args, " "), err)
	}
	return string(out), cmd.ProcessState.ExitCode()
}

// newCloudWorld is newWorld without a broker.
func newCloudWorld(t *testing.T, cfg simulator.Config) *world {
	t.Helper()
	slow(t)
	cfg.Admin = true
	w := &world{ground: newGround(cfg), t: t, dir: t.TempDir(), begin: time.Now()}
	api := httptest.NewServer(w.sim)
	t.Cleanup(func() {
		api.CloseClientConnections()
		api.Close()
	})
	w.api = strings.TrimPrefix(api.URL, "http://")
	w.policies = filepath.Join(w.dir, "policies")
	if err := os.Mkdir(w.policies, 0o700); err != nil {
		t.Fatal(err)
	}
	for name, text := range policies() {
		w.write(filepath.Join(w.policies, name), text)
	}
	return w
}

// secure serves the cloud over TLS too, with a connection for each call.
func (w *world) secure() (api, ca string) {
	w.t.Helper()
	server := httptest.NewTLSServer(w.sim)
	w.t.Cleanup(func() {
		server.CloseClientConnections()
		server.Close()
	})
	ca = filepath.Join(w.dir, "ca.pem")
	w.write(ca, string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: server.Certificate().Raw})))
	return strings.TrimPrefix(server.URL, "https://"), ca
}

// requests makes the stream of requests as the worker does, for events that are
// there before it.
func (w *world) requests() {
	w.t.Helper()
	if _, err := w.js.CreateStream(w.t.Context(), jetstream.StreamConfig{
		Name: requestsStream, Description: "Requests to the VPC endpoint approver", Subjects: []string{"vpcep.requests.>"},
		Discard: jetstream.DiscardNew, MaxAge: 30 * 24 * time.Hour, Duplicates: 2 * time.Minute, AllowDirect: true,
	}); err != nil {
		w.t.Fatal(err)
	}
}

func (w *world) write(path, text string) {
	w.t.Helper()
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		w.t.Fatal(err)
	}
}

// options are what differs between workers.
type options struct {
	user      string   // of the broker, if that has the permission files; empty: vpcep-worker
	nats, api string   // other addresses, such as those of proxies
	data      string   // folder of the server inside the process, which then serves at nats
	env       []string // more variables
	args      []string // more flags
	ca        string   // file of who vouches for the cloud at api; empty: it has no TLS
	sweep     string   // interval; empty: an hour
	more      string   // lines of the configuration
	slots     int
	rate      int    // of cloud calls a second; 0: 500
	auth      string // mode; empty: aksk
}

// config writes the configuration file of a worker.
func (w *world) config(o options) string {
	w.t.Helper()
	bus := "url: embedded, data_dir: " + strconv.Quote(o.data) + ", listen: " + strconv.Quote(o.nats)
	if o.nats == "" {
		o.nats = strings.TrimPrefix(w.broker.URL, "nats://")
	}
	if o.api == "" {
		o.api = w.api
	}
	if o.sweep == "" {
		o.sweep = "1h"
	}
	if o.slots == 0 {
		o.slots = 64
	}
	if o.auth == "" {
		o.auth = "aksk"
	}
	if o.rate == 0 {
		o.rate = 500
	}
	scheme := "http"
	if o.ca != "" {
		scheme = "https"
	}
	if o.data == "" {
		bus = "url: " + strconv.Quote("nats://"+o.nats)
	}
	if w.guarded != nil {
		bus += ", create: false, inbox_prefix: " + inboxOf(w.user(o))
	}
	var b strings.Builder
	fmt.Fprintf(&b, "nats: {%s}\ncloud:\n  region: %s\n  auth: {mode: %s}\n  rate_per_second: %d\n  rates: {hss: %d/s}\n  endpoints:\n", bus, region, o.auth, o.rate, o.rate)
	for _, api := range []string{"vpcep", "apig", "functiongraph", "hss", "dataartsinsight", "iam"} {
		fmt.Fprintf(&b, "    %s: %s://%s\n", api, scheme, o.api)
	}
	fmt.Fprintf(&b, "policies: {dir: %q, stable_for: 100ms}\nsweep: {interval: %s}\nworker: {slots: %d}\ntargets:\n", w.policies, o.sweep, o.slots)
	for _, t := range targets() {
		fmt.Fprintf(&b, "  - {name: %s, kind: %s, project_id: %s", t.Name, t.Kind, t.ProjectID)
		if t.ID != "" {
			fmt.Fprintf(&b, ", id: %s", t.ID)
		}
		if t.WorkspaceID != "" {
			fmt.Fprintf(&b, ", workspace_id: %s", t.WorkspaceID)
		}
		b.WriteString("}\n")
	}
	b.WriteString(o.more)
	path := filepath.Join(w.dir, fmt.Sprintf("worker-%d.yaml", w.files.Add(1)))
	w.write(path, b.String())
	return path
}

// start starts a worker.
func (w *world) start(name string, o options) *process {
	w.t.Helper()
	return start(w.t, name, w.config(o), w.environ(o), o.args...)
}

// inboxOf is the prefix of the inboxes of a user of deploy/nats.
func inboxOf(user string) string {
	if strings.HasPrefix(user, withoutRight) {
		user = "vpcep-worker"
	}
	return "_INBOX_" + strings.ReplaceAll(user, "-", "_")
}

func (w *world) user(o options) string { return cmp.Or(o.user, "vpcep-worker") }

// environ are the variables of a worker.
func (w *world) environ(o options) []string {
	auth := simulator.DefaultAuth()
	env := append([]string{"HUAWEICLOUD_SDK_AK=" + auth.AccessKey, "HUAWEICLOUD_SDK_SK=" + auth.SecretKey}, o.env...)
	if o.ca != "" {
		env = append(env, "SSL_CERT_FILE="+o.ca)
	}
	if w.guarded != nil {
		env = append(env, "APPROVER_NATS_USER="+w.user(o), "APPROVER_NATS_PASSWORD="+rolePassword)
	}
	return env
}

// eventJSON is a request event, as an outside producer would write it.
func eventJSON(r approval.Request) []byte {
	data := map[string]any{"target": r.Target.Name}
	kind := "vpcep.endpoint.requested"
	switch c := r.Creation; {
	case c.FunctionGraph != nil:
		data["functiongraph"] = map[string]any{"vpc_id": c.FunctionGraph.VPCID, "subnet_id": c.FunctionGraph.SubnetID}
	case c.HSS != nil:
		vpc := c.HSS.VPCs[0]
		data["hss"] = map[string]any{"host_id_list": c.HSS.HostIDs, "vpc_list": []any{map[string]any{"vpc_id": vpc.VPCID, "subnet_id_list": vpc.SubnetIDs}}}
	case c.DataArtsInsight != nil:
		data["dataarts_insight"] = map[string]any{"ds_type": c.DataArtsInsight.DSType, "vpc_ep_server_id": c.DataArtsInsight.ServerID}
	default:
		kind = "vpcep.connection.requested"
		data["endpoint_id"] = r.EndpointID
	}
	if r.Claims != nil {
		data["claims"] = r.Claims
	}
	body, err := json.Marshal(map[string]any{
		"specversion": "1.0", "id": r.EventID, "source": r.Source, "type": kind, "time": r.Time.Format(time.RFC3339Nano), "data": data,
	})
	if err != nil {
		panic(err) // strings and maps only
	}
	return body
}

// publish hands an event in, as often as it takes while the broker is away.
func (w *world) publish(subject string, header nats.Header, body []byte) {
	w.t.Helper()
	var last error
	if !until(w.t.Context(), time.Minute, func() bool {
		ctx, cancel := context.WithTimeout(w.t.Context(), 5*time.Second)
		defer cancel()
		_, last = w.js.PublishMsg(ctx, &nats.Msg{Subject: subject, Header: header, Data: body})
		return last == nil
	}) {
		w.t.Fatalf("publish an event: %v", last)
	}
}

// send hands r in.
func (w *world) send(r approval.Request) {
	w.t.Helper()
	w.publish("vpcep.requests."+r.Target.Name, nats.Header{
		"Content-Type": {"application/cloudevents+json"}, markHeader: {r.EventID},
	}, eventJSON(r))
}

// ask makes r an event and hands it in.
func (w *world) ask(r approval.Request, eventID string, outcomes ...approval.Outcome) approval.Request {
	w.t.Helper()
	r = w.event(r, eventID, outcomes...)
	w.send(r)
	return r
}

// mixed hands in n requests of all kinds.
func (w *world) mixed(n int, prefix string) {
	w.t.Helper()
	for i := range n {
		id := fmt.Sprintf("%s-%d", prefix, i)
		target := []string{"payments", "orders"}[i/6%2]
		kind := i % 6
		if w.noCreations {
			kind %= 4
		}
		switch kind {
		case 0, 1:
			w.ask(w.connect(target, partner), id, approval.OutcomeAccepted)
		case 2:
			w.ask(w.connect(target, banned), id, approval.OutcomeRejected)
		case 3:
			w.ask(w.connect(target, stranger), id, approval.OutcomeHeld)
		case 4:
			w.ask(w.creation("functions"), id, approval.OutcomeCreated)
		case 5:
			w.ask(w.creation("hosts"), id, approval.OutcomeCreated)
		}
	}
}

// stored returns how many messages a stream holds; -1 if it cannot be asked.
func (w *world) stored(stream string) int {
	ctx, cancel := context.WithTimeout(w.t.Context(), 5*time.Second)
	defer cancel()
	s, err := w.js.Stream(ctx, stream)
	if err != nil {
		return -1
	}
	return int(s.CachedInfo().State.Msgs)
}

// ends is how many requests of those that were asked have ended.
func (w *world) ends() int { return max(0, w.stored(resultsStream)) + max(0, w.stored(deadStream)) }

// wanted is how many ends there will be.
func (w *world) wanted() int {
	w.mu.Lock()
	defer w.mu.Unlock()
	told := map[string]bool{}
	for _, a := range w.asked {
		told[a.RequestID+" "+a.Mark] = true
	}
	return len(told)
}

// settled waits until everything that was asked has ended; what has not by then
// is for the checker to tell.
func (w *world) settled(within time.Duration) bool {
	return until(w.t.Context(), within, func() bool { return w.ends() >= w.wanted() && w.missing(nil) == 0 })
}

// missing is how many events have not ended: good ones without a result, bad ones
// without a dead letter. Results of the sweep's own requests, which it finds for
// the connections of bad events too, count for nothing here. Good ones with a mark
// in convicted have ended as well.
func (w *world) missing(convicted map[string]bool) int {
	ended := map[string]bool{}
	s, err := w.js.Stream(w.t.Context(), resultsStream)
	if err == nil {
		var info *jetstream.StreamInfo
		if info, err = s.Info(w.t.Context(), jetstream.WithSubjectFilter(">")); err == nil {
			for subject := range info.State.Subjects {
				ended[subject[strings.LastIndexByte(subject, '.')+1:]] = true
			}
		}
	}
	w.mu.Lock()
	all := slices.Clone(w.asked)
	w.mu.Unlock()
	var dead map[string]bool
	missing := 0
	for _, a := range all {
		switch {
		case a.Bad:
			if dead == nil {
				dead = w.dead()
			}
			if !dead[a.Mark] {
				missing++
			}
		case !ended[a.RequestID] && !convicted[a.Mark]:
			missing++
		}
	}
	return missing
}

// dead returns the marks of the dead letters; empty if they cannot be read.
func (w *world) dead() map[string]bool {
	marks := map[string]bool{}
	if err := w.read(deadStream, nil, func(m jetstream.Msg) { marks[m.Headers().Get(markHeader)] = true }); err != nil {
		w.t.Logf("read the dead letters: %v", err)
	}
	return marks
}

// read calls each for every message of a stream.
func (w *world) read(stream string, subjects []string, each func(jetstream.Msg)) error {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	s, err := w.js.Stream(ctx, stream)
	if errors.Is(err, jetstream.ErrStreamNotFound) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("open %s: %w", stream, err)
	}
	consumer, err := s.OrderedConsumer(ctx, jetstream.OrderedConsumerConfig{FilterSubjects: subjects})
	if err != nil {
		return fmt.Errorf("read %s: %w", stream, err)
	}
	info, err := consumer.Info(ctx)
	if err != nil {
		return fmt.Errorf("read %s: %w", stream, err)
	}
	messages, err := consumer.Messages()
	if err != nil {
		return fmt.Errorf("read %s: %w", stream, err)
	}
	defer messages.Stop()
	for left := int(info.NumPending); left > 0; left-- {
		msg, err := messages.Next(jetstream.NextMaxWait(time.Minute))
		if err != nil {
			return fmt.Errorf("read %s, %d messages to go: %w", stream, left, err)
		}
		each(msg)
	}
	return nil
}

// judge reads everything that is left behind and lets the checker look.
func (w *world) judge() findings {
	h, err := w.look()
	f := check(h)
	if err != nil {
		f.wrong("%v", err)
	}
	if n := w.sim.Counters().Reversals; n > 0 {
		f.wrong("%d actions turned an earlier one round", n)
	}
	return f
}

// forgetLast takes the newest event out of what was asked: it will not end.
func (w *world) forgetLast() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.asked = w.asked[:len(w.asked)-1]
}

// look is the whole history.
func (w *world) look() (history, error) {
	h := w.history()
	var bad error
	err1 := w.read(resultsStream, nil, func(m jetstream.Msg) {
		var body struct{ ID string }
		if err := json.Unmarshal(m.Data(), &body); err != nil && len(m.Headers()["ce-id"]) == 0 {
			bad = fmt.Errorf("the result on %s is no event: %w", m.Subject(), err)
		}
		if id := m.Headers()["ce-id"]; len(id) == 1 {
			body.ID = id[0]
		}
		token := strings.Split(m.Subject(), ".") // vpcep.results.<outcome>.<target>.<decision>
		if len(token) != 5 {
			bad = fmt.Errorf("a result has the subject %s", m.Subject())
			return
		}
		h.Results = append(h.Results, published{RequestID: token[4], Outcome: approval.Outcome(token[2]), EventID: body.ID})
	})
	err2 := w.read(deadStream, nil, func(m jetstream.Msg) {
		reason := strings.TrimPrefix(m.Subject(), "vpcep.deadletters.")
		h.Dead = append(h.Dead, deadLetter{Reason: reason, Mark: m.Headers().Get(markHeader)})
	})
	err3 := w.read(bucketStream, []string{entrySubjects}, func(m jetstream.Msg) {
		meta, err := m.Metadata()
		if err != nil {
			bad = err
			return
		}
		v, err := decodeVersion(m.Data(), meta.Timestamp)
		if err != nil {
			bad = err
			return
		}
		id := m.Subject()[strings.LastIndex(m.Subject(), ".")+1:]
		h.Entries[id] = append(h.Entries[id], v)
	})
	return h, errors.Join(bad, err1, err2, err3)
}

// took is since when the test runs.
func (w *world) took() time.Duration { return time.Since(w.begin) }
