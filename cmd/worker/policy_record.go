package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"iter"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/vpcep-approver/vpcep-approver/internal/approval"
	"github.com/vpcep-approver/vpcep-approver/internal/cli"
	"github.com/vpcep-approver/vpcep-approver/internal/config"
	"github.com/vpcep-approver/vpcep-approver/internal/events"
	"github.com/vpcep-approver/vpcep-approver/internal/inspect"
	"github.com/vpcep-approver/vpcep-approver/internal/ledger"
	"github.com/vpcep-approver/vpcep-approver/internal/policy/workbench"
)

// recordLine is a recorded decision as a line of a file: all that a decision
// depends on, and what it was.
type recordLine struct {
	ID       string       `json:"request_id"`
	Now      time.Time    `json:"now"` // of the decision
	Request  requestLine  `json:"request"`
	Facts    factsLine    `json:"facts"`
	Decision decisionLine `json:"decision"`
}

type requestLine struct {
	Source        string           `json:"source,omitempty"`
	EventID       string           `json:"event_id,omitempty"`
	Time          *time.Time       `json:"time,omitempty"`
	Target        string           `json:"target"`
	Kind          string           `json:"kind"`
	Region        string           `json:"region,omitempty"`
	WorkspaceID   string           `json:"workspace_id,omitempty"`
	EndpointID    string           `json:"endpoint_id,omitempty"`
	Claims        approval.Claims  `json:"claims,omitempty"`
	FunctionGraph *functionLine    `json:"functiongraph,omitempty"`
	HSS           *serversLine     `json:"hss,omitempty"`
	Insight       *dataInsightLine `json:"dataarts_insight,omitempty"`
}

type functionLine struct {
	VPCID    string `json:"vpc_id"`
	SubnetID string `json:"subnet_id"`
	Flavor   string `json:"flavor,omitempty"`
	XRole    string `json:"xrole,omitempty"`
}

type serversLine struct {
	HostIDs []string  `json:"host_id_list,omitempty"`
	VPCs    []vpcLine `json:"vpc_list,omitempty"`
}

type vpcLine struct {
	VPCID     string   `json:"vpc_id"`
	SubnetIDs []string `json:"subnet_id_list,omitempty"`
}

type dataInsightLine struct {
	DSType     string `json:"ds_type"`
	ServerName string `json:"vpc_ep_server_name,omitempty"`
	ServerID   string `json:"vpc_ep_server_id,omitempty"`
}

type factsLine struct {
	EndpointID string     `json:"endpoint_id,omitempty"`
	MarkerID   markerID   `json:"marker_id,omitempty"`
	DomainID   string     `json:"domain_id,omitempty"`
	State      string     `json:"state,omitempty"`
	CreatedAt  *time.Time `json:"created_at,omitempty"`
	UpdatedAt  *time.Time `json:"updated_at,omitempty"`
	Accepted   *int       `json:"accepted,omitempty"` // absent: not counted
	ReadAt     *time.Time `json:"read_at,omitempty"`
}

type decisionLine struct {
	Verdict string       `json:"verdict"`
	Policy  string       `json:"policy,omitempty"`
	Rule    string       `json:"rule,omitempty"`
	Reasons []reasonView `json:"reasons,omitempty"`
	Digest  string       `json:"digest,omitempty"`
}

func newRequestLine(r approval.Request) requestLine {
	out := requestLine{
		Source: r.Source, EventID: r.EventID, Time: moment(r.Time), Target: r.Target.Name, Kind: string(r.Target.Kind),
		Region: r.Target.Region, WorkspaceID: r.Target.WorkspaceID, EndpointID: r.EndpointID, Claims: r.Claims,
	}
	if f := r.Creation.FunctionGraph; f != nil {
		line := functionLine(*f)
		out.FunctionGraph = &line
	}
	if h := r.Creation.HSS; h != nil {
		out.HSS = &serversLine{HostIDs: h.HostIDs}
		for _, v := range h.VPCs {
			out.HSS.VPCs = append(out.HSS.VPCs, vpcLine(v))
		}
	}
	if d := r.Creation.DataArtsInsight; d != nil {
		line := dataInsightLine(*d)
		out.Insight = &line
	}
	return out
}

func (l requestLine) request(id string) approval.Request {
	r := approval.Request{
		ID: id, Source: l.Source, EventID: l.EventID, Time: timeOf(l.Time), EndpointID: l.EndpointID, Claims: l.Claims,
		Target: approval.Target{Name: l.Target, Kind: approval.TargetKind(l.Kind), Region: l.Region, WorkspaceID: l.WorkspaceID},
	}
	if l.FunctionGraph != nil {
		f := approval.FunctionGraphEndpoint(*l.FunctionGraph)
		r.Creation.FunctionGraph = &f
	}
	if l.HSS != nil {
		r.Creation.HSS = &approval.HSSEndpoints{HostIDs: l.HSS.HostIDs}
		for _, v := range l.HSS.VPCs {
			r.Creation.HSS.VPCs = append(r.Creation.HSS.VPCs, approval.HSSVPC(v))
		}
	}
	if l.Insight != nil {
		d := approval.DataArtsInsightEndpoint(*l.Insight)
		r.Creation.DataArtsInsight = &d
	}
	return r
}

// markerID is written as a string, as in results: many readers of JSON have 53
// bits. It is read as a number, too.
type markerID int64

func (m markerID) MarshalJSON() ([]byte, error) {
	return json.Marshal(strconv.FormatInt(int64(m), 10))
}

func (m *markerID) UnmarshalJSON(data []byte) error {
	if string(data) == "null" {
		return nil
	}
	n, err := strconv.ParseInt(strings.Trim(string(data), `"`), 10, 64)
	if err != nil {
		return fmt.Errorf("marker_id %.40s is no integer of 64 bits", data)
	}
	*m = markerID(n)
	return nil
}

func newFactsLine(f approval.Facts) factsLine {
	return factsLine{
		EndpointID: f.EndpointID, MarkerID: markerID(f.MarkerID), DomainID: f.DomainID, State: string(f.State),
		CreatedAt: moment(f.CreatedAt), UpdatedAt: moment(f.UpdatedAt), Accepted: countLine(f.Accepted), ReadAt: moment(f.ReadAt),
	}
}

func (l factsLine) facts() approval.Facts {
	return approval.Facts{
		EndpointID: l.EndpointID, MarkerID: int64(l.MarkerID), DomainID: l.DomainID, State: approval.State(l.State),
		CreatedAt: timeOf(l.CreatedAt), UpdatedAt: timeOf(l.UpdatedAt), Accepted: l.count(), ReadAt: timeOf(l.ReadAt),
	}
}

func countLine(c approval.Count) *int {
	if !c.Known {
		return nil
	}
	return &c.N
}

func (l factsLine) count() approval.Count {
	if l.Accepted == nil {
		return approval.Count{}
	}
	return approval.Counted(*l.Accepted)
}

func newDecisionLine(d approval.Decision) decisionLine {
	out := decisionLine{Verdict: string(d.Verdict), Policy: d.Policy, Rule: d.Rule, Digest: d.Digest}
	for _, r := range d.Reasons {
		out.Reasons = append(out.Reasons, reasonView{string(r.Code), r.Text})
	}
	return out
}

type reasonView struct {
	Code string `json:"code"`
	Text string `json:"text"`
}

func moment(t time.Time) *time.Time {
	if t.IsZero() {
		return nil
	}
	t = t.UTC()
	return &t
}

// timeOf is the opposite of moment.
func timeOf(t *time.Time) time.Time {
	if t == nil {
		return time.Time{}
	}
	return t.UTC()
}

func newRecordLine(r workbench.Record) recordLine {
	return recordLine{
		ID: r.ID, Now: r.Input.Now.UTC(), Request: newRequestLine(r.Input.Request),
		Facts: newFactsLine(r.Input.Facts), Decision: newDecisionLine(r.Decision),
	}
}

// record reports what cannot be in a record.
func (l recordLine) record() (workbench.Record, error) {
	verdict := approval.Verdict(l.Decision.Verdict)
	switch {
	case l.Now.IsZero():
		return workbench.Record{}, errors.New("it has no now, the time of the decision")
	case !slices.Contains(approval.Verdicts(), verdict):
		return workbench.Record{}, fmt.Errorf("decision.verdict %.40q is none", l.Decision.Verdict)
	case l.Facts.Accepted != nil && *l.Facts.Accepted < 0:
		return workbench.Record{}, fmt.Errorf("facts.accepted %d is less than none — leave it out if nothing was counted", *l.Facts.Accepted)
	}
	if err := approval.ValidName(l.Request.Target); err != nil {
		return workbench.Record{}, fmt.Errorf("request.target: %w", err)
	}
	r := workbench.Record{
		ID:    l.ID,
		Input: approval.Input{Request: l.Request.request(l.ID), Facts: l.Facts.facts(), Now: l.Now.UTC()},
		Decision: approval.Decision{
			Verdict: verdict, Policy: l.Decision.Policy, Rule: l.Decision.Rule, Digest: l.Decision.Digest, At: l.Now.UTC(),
		},
	}
	for _, reason := range l.Decision.Reasons {
		r.Decision.Reasons = append(r.Decision.Reasons, approval.Reason{Code: approval.ReasonCode(reason.Code), Text: reason.Text})
	}
	r.Decision.Facts = r.Input.Facts
	return r, nil
}

// readRecords yields the records in data, one a line. An error names the file and
// the line and is the last thing that is yielded.
func readRecords(name string, data []byte) iter.Seq2[workbench.Record, error] {
	return func(yield func(workbench.Record, error) bool) {
		n := 0
		for text := range bytes.Lines(data) {
			n++
			if len(bytes.TrimSpace(text)) == 0 {
				continue
			}
			var line recordLine
			dec := json.NewDecoder(bytes.NewReader(text))
			dec.DisallowUnknownFields()
			err := dec.Decode(&line)
			if err == nil && dec.More() {
				err = errors.New("more than one record on the line")
			}
			var r workbench.Record
			if err == nil {
				r, err = line.record()
			}
			if err != nil {
				yield(r, fmt.Errorf("%s:%d: this is no record of worker policy records: %w", name, n, err))
				return
			}
			if !yield(r, nil) {
				return
			}
		}
	}
}

// recordSource says where recorded decisions are taken from.
type recordSource struct {
	since cli.DurationFlag
	file  string // "-": stdin; empty: the ledger
}

const defaultSince = 30 * 24 * time.Hour

// recordFlags adds the flags of a source of records to c.
func recordFlags(c *cobra.Command, since string) *recordSource {
	s := &recordSource{}
	f := c.Flags()
	f.Var(&s.since, "since", since)
	f.StringVar(&s.file, "records", "", "take the decisions from this `file` of worker policy records, and not from the ledger; - is stdin")
	config.AddFlags(f, config.ClientSettings()...)
	return s
}

// read returns the records, and an error for what of them could not be read.
func (s *recordSource) read(c *cobra.Command, env cli.Environment) (records iter.Seq2[workbench.Record, error], hole, err error) {
	if s.file != "" {
		var data []byte
		name := s.file
		if name == "-" {
			name = "stdin"
			data, err = io.ReadAll(env.Stdin)
		} else {
			data, err = env.ReadFile(s.file)
		}
		if errors.Is(err, fs.ErrNotExist) {
			err = fmt.Errorf("there is no file %s", s.file)
		}
		if err != nil {
			return nil, nil, cli.WithCode(cli.ExitInvalid, fmt.Errorf("--records: %w", err))
		}
		var after time.Time
		if s.since.Duration > 0 {
			after = time.Now().Add(-s.since.Duration)
		}
		return func(yield func(workbench.Record, error) bool) {
			for r, err := range readRecords(name, data) {
				if err == nil && r.Input.Now.Before(after) {
					continue
				}
				if !yield(r, cli.WithCode(cli.ExitInvalid, err)) {
					return
				}
			}
		}, nil, nil
	}
	since := s.since.Duration
	if since == 0 {
		since = defaultSince
	}
	list, hole, err := recorded(c, env, time.Now().Add(-since))
	return func(yield func(workbench.Record, error) bool) {
		for _, r := range list {
			if !yield(r, nil) {
				return
			}
		}
	}, hole, err
}

// recorded reads the decisions since then from the ledger, the latest first. Of
// requests that ended before a decision there is nothing to compare. hole tells
// what could not be read: what rests on a part of the decisions is no proof.
func recorded(c *cobra.Command, env cli.Environment, since time.Time) (list []workbench.Record, hole, err error) {
	err = withLedger(env, func(c *cobra.Command, _ config.Config, _ *events.Bus, book *ledger.Ledger) error {
		found, err := inspect.Find(c.Context(), book, ledger.Filter{Since: since}, 0)
		if err != nil {
			return err
		}
		for _, e := range found.Entries {
			if decided(e.Decision) {
				list = append(list, workbench.RecordOf(e))
			}
		}
		hole = found.Incomplete()
		return nil
	})(c, nil)
	return list, hole, err
}

// decided reports whether the policies made d.
func decided(d approval.Decision) bool {
	return !slices.ContainsFunc(d.Reasons, func(r approval.Reason) bool {
		return r.Code == approval.ReasonNotDecided || r.Code == approval.ReasonNotVisible
	})
}

func newPolicyRecordsCommand(env cli.Environment) *cobra.Command {
	c := &cobra.Command{
		Use:   "records",
		Short: "Print recorded decisions, for backtests elsewhere",
		Long: `records prints the decisions in the ledger with all that they rest on, one JSON
object a line, the latest first. A backtest can then run where the broker cannot be
reached, such as in the checks of a merge request. The lines hold what requesters
claimed: treat the file as you treat the ledger.`,
		Example: `  worker policy records --since 30d > records.jsonl
  worker policy backtest policies --records records.jsonl`,
	}
	since := &cli.DurationFlag{Duration: defaultSince}
	c.Flags().Var(since, "since", "decisions made within the last `duration`")
	config.AddFlags(c.Flags(), config.ClientSettings()...)
	c.RunE = func(c *cobra.Command, _ []string) error {
		list, hole, err := recorded(c, env, time.Now().Add(-since.Duration))
		if err != nil {
			return err
		}
		enc := json.NewEncoder(c.OutOrStdout())
		enc.SetEscapeHTML(false)
		for _, r := range list {
			if err := enc.Encode(newRecordLine(r)); err != nil {
				return fmt.Errorf("write the records: %w", err)
			}
		}
		return hole
	}
	return c
}
