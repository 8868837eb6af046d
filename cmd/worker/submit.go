package main

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"time"

	"github.com/spf13/cobra"

	"github.com/vpcep-approver/vpcep-approver/internal/approval"
	"github.com/vpcep-approver/vpcep-approver/internal/cli"
	"github.com/vpcep-approver/vpcep-approver/internal/config"
	"github.com/vpcep-approver/vpcep-approver/internal/events"
	"github.com/vpcep-approver/vpcep-approver/internal/inspect"
)

// submission is what the flags of submit say.
type submission struct {
	target, endpointID string
	claims             []string // dotted.path=value
	file               string   // "-": stdin
	id, source         string
}

const defaultSource = "vpcep-approver/submit"

func newSubmitCommand(env cli.Environment) *cobra.Command {
	var s submission
	c := &cobra.Command{
		Use:   "submit",
		Short: "Publish a request, and wait for its result if asked to",
		Long: `submit publishes a request event: one connection by flags, or anything by a file
that holds a CloudEvent or the data of one. The request is checked first, against
the configured targets if there are any.

The only right that it needs is to publish requests. An id that is used already
ends it with exit code 1, unless the request that is stored is the same.

With --wait it prints how the request ended: exit code 1 if that is failed or
unknown, or if no result came in time. That needs the right to read results.`,
		Example: `  worker submit --target payments --endpoint-id 705290f3-0d00-41f2-aedc-71f09844e879 --claim tags.env=prod --wait
  echo '{"target": "functions", "functiongraph": {"vpc_id": "…", "subnet_id": "…"}}' | worker submit --file -`,
	}
	f := c.Flags()
	f.StringVar(&s.target, "target", "", "`name` of the target")
	f.StringVar(&s.endpointID, "endpoint-id", "", "`id` of the endpoint that wants to connect")
	f.StringArrayVar(&s.claims, "claim", nil, "a claim about the requester, `path=value`, such as tags.env=prod")
	f.StringVar(&s.file, "file", "", "`file` with a CloudEvent or the data of one; - is stdin")
	f.StringVar(&s.id, "id", "", "`id` of the event; the same source and id are the same request (default random)")
	f.StringVar(&s.source, "source", "", "`source` of the event (default "+defaultSource+")")
	wait := f.Bool("wait", false, "wait for the result")
	timeout := f.Duration("timeout", 5*time.Minute, "how long to wait")
	output := cli.OutputFlag(c)
	config.AddFlags(f, config.ClientSettings()...)
	c.RunE = func(c *cobra.Command, args []string) error {
		if err := s.check(); err != nil {
			return cli.UsageError(c.CommandPath(), err)
		}
		cfg, err := config.Load(env, config.FlagsOf(c))
		if err != nil {
			return err
		}
		req, err := s.request(cfg, env)
		if err != nil {
			return cli.WithCode(cli.ExitInvalid, err)
		}
		return withBus(env, func(c *cobra.Command, _ config.Config, bus *events.Bus) error {
			if !*wait {
				if err := bus.SubmitNew(c.Context(), req); err != nil {
					return err
				}
				return printSubmitted(c, output, req)
			}
			waiting, err := bus.WaitFor(c.Context(), req.ID)
			if err != nil {
				return fmt.Errorf("not submitted, for the result could not be waited for: %w", err)
			}
			defer waiting.Close()
			if err := bus.SubmitNew(c.Context(), req); err != nil {
				return err
			}
			return awaitResult(c, env, bus, waiting, req, *timeout, output)
		})(c, args)
	}
	return c
}

// check reports flags that do not go together.
func (s submission) check() error {
	switch {
	case s.file != "" && (s.target != "" || s.endpointID != "" || len(s.claims) > 0):
		return errors.New("--file holds the whole request — leave --target, --endpoint-id and --claim out")
	case s.file == "" && s.target == "":
		return errors.New("no --target — name one, or give the request as --file")
	case s.file == "" && s.endpointID == "":
		return errors.New("no --endpoint-id — name the endpoint; creations are given as --file")
	}
	_, err := claimsOf(s.claims)
	return err
}

// request makes the request and checks it as a worker would.
func (s submission) request(cfg config.Config, env cli.Environment) (approval.Request, error) {
	var body []byte
	var err error
	if s.file == "" {
		var claims map[string]any
		if claims, err = claimsOf(s.claims); err == nil {
			body, err = json.Marshal(map[string]any{"target": s.target, "endpoint_id": s.endpointID, "claims": claims})
		}
	} else {
		body, err = readInput(env, s.file)
	}
	if err != nil {
		return approval.Request{}, err
	}
	event, data, err := s.event(body)
	if err != nil {
		return approval.Request{}, err
	}
	targets := cfg.Targets
	if len(targets) == 0 { // a producer's machine knows no targets: the worker judges
		targets = impliedTarget(data)
	}
	req, err := events.DecodeRequest(nil, event, targets)
	if err != nil {
		return approval.Request{}, fmt.Errorf("the request would not be taken: %w", err)
	}
	if req.Source == approval.SweepSource {
		return approval.Request{}, fmt.Errorf("the source %s is the sweep's own; use another", req.Source)
	}
	return req, nil
}

// maxInput is the most that is read of a file or stdin: more is never taken.
const maxInput = 4 * events.MaxEvent

func readInput(env cli.Environment, name string) ([]byte, error) {
	in := env.Stdin
	if name != "-" {
		data, err := env.ReadFile(name)
		if err != nil {
			if errors.Is(err, fs.ErrNotExist) {
				return nil, fmt.Errorf("--file: there is no file %s", name)
			}
			return nil, fmt.Errorf("--file: %w", err)
		}
		in = bytes.NewReader(data)
	}
	data, err := io.ReadAll(io.LimitReader(in, maxInput))
	if err != nil {
		return nil, fmt.Errorf("--file %s: %w", name, err)
	}
	return data, nil
}

// event returns body as a CloudEvent in structured mode, and its data.
func (s submission) event(body []byte) (event, data []byte, err error) {
	var fields map[string]json.RawMessage
	if err := json.Unmarshal(body, &fields); err != nil {
		return nil, nil, fmt.Errorf("the request is no JSON object: %w", err)
	}
	if _, whole := fields["specversion"]; whole {
		if s.id != "" || s.source != "" {
			return nil, nil, errors.New("the file holds a whole event — leave --id and --source out")
		}
		return body, fields["data"], nil
	}
	e := struct {
		SpecVersion string          `json:"specversion"`
		ID          string          `json:"id"`
		Source      string          `json:"source"`
		Type        string          `json:"type"`
		Time        time.Time       `json:"time"`
		Data        json.RawMessage `json:"data"`
	}{"1.0", s.id, s.source, events.TypeEndpoint, time.Now().UTC(), body}
	if e.ID == "" {
		e.ID = rand.Text()
	}
	if e.Source == "" {
		e.Source = defaultSource
	}
	if _, connection := fields["endpoint_id"]; connection {
		e.Type = events.TypeConnection
	}
	event, err = json.Marshal(e)
	return event, body, err
}

// impliedTarget is the target that data names, of the kind that its parameters
// go with.
func impliedTarget(data []byte) approval.Targets {
	var d struct {
		Target          string          `json:"target"`
		FunctionGraph   json.RawMessage `json:"functiongraph"`
		HSS             json.RawMessage `json:"hss"`
		DataArtsInsight json.RawMessage `json:"dataarts_insight"`
	}
	if json.Unmarshal(data, &d) != nil || approval.ValidName(d.Target) != nil {
		return nil // reading the request tells what is wrong
	}
	t := approval.Target{Name: d.Target, Kind: approval.Service}
	switch {
	case d.FunctionGraph != nil:
		t.Kind = approval.FunctionGraph
	case d.HSS != nil:
		t.Kind = approval.HSS
	case d.DataArtsInsight != nil:
		t.Kind = approval.DataArtsInsight
	}
	return approval.Targets{t}
}

// claimsOf reads dotted.path=value.
func claimsOf(pairs []string) (map[string]any, error) {
	claims := map[string]any{}
	for _, pair := range pairs {
		path, value, ok := cutClaim(pair)
		if !ok || path == "" {
			return nil, fmt.Errorf("--claim %s: write path=value, such as tags.env=prod", pair)
		}
		names, err := approval.ParseClaimPath(path)
		if err != nil {
			return nil, fmt.Errorf(`--claim %s: %w — write a name such as tags."example.com/team"=a`, pair, err)
		}
		at := claims
		for _, name := range names[:len(names)-1] {
			next, there := at[name]
			inner, nested := next.(map[string]any)
			if there && !nested {
				return nil, fmt.Errorf("--claim %s: %s has a value already", pair, name)
			}
			if !there {
				inner = map[string]any{}
				at[name] = inner
			}
			at = inner
		}
		last := names[len(names)-1]
		if _, twice := at[last]; twice {
			return nil, fmt.Errorf("--claim %s: %s is given twice", pair, path)
		}
		at[last] = value
	}
	return claims, nil
}

// cutClaim cuts pair at the first equals sign that stands outside double quotes.
func cutClaim(pair string) (path, value string, ok bool) {
	quoted := false
	for i := 0; i < len(pair); i++ {
		switch c := pair[i]; {
		case c == '\\' && quoted:
			i++
		case c == '"':
			quoted = !quoted
		case c == '=' && !quoted:
			return pair[:i], pair[i+1:], true
		}
	}
	return pair, "", false
}

// printSubmitted says what the request is called from now on.
func printSubmitted(c *cobra.Command, output *cli.ChoiceFlag, req approval.Request) error {
	v := struct {
		ID      string `json:"id"`
		EventID string `json:"event_id"`
		Source  string `json:"source"`
		Target  string `json:"target"`
	}{req.ID, req.EventID, req.Source, req.Target.Name}
	return cli.Print(c, output, v, func(row cli.Row) {
		row("submitted request " + v.ID + " to " + v.Target)
		row("its result: worker watch --since 1h --request " + v.ID)
	})
}

// noticeAfter is how long submit waits for a result before it says that none came.
const noticeAfter = 10 * time.Second

// awaitResult prints how req ended.
func awaitResult(c *cobra.Command, env cli.Environment, bus *events.Bus, waiting *events.ResultWait, req approval.Request, timeout time.Duration, output *cli.ChoiceFlag) error {
	ctx, cancel := context.WithTimeout(c.Context(), timeout)
	defer cancel()
	notice := min(noticeAfter, timeout/2)
	soon, cancelSoon := context.WithTimeout(ctx, notice)
	defer cancelSoon()
	result, err := waiting.Result(soon)
	if err != nil && expired(ctx, soon) {
		why := "a worker may not be running, or be busy"
		if served, known := bus.Served(ctx); known && !served {
			why = "no worker takes requests; is one running?"
		}
		if _, err := fmt.Fprintf(env.Stderr, "no result within %s, still waiting: %s\n", notice, why); err != nil {
			return err
		}
		result, err = waiting.Result(ctx)
	}
	switch {
	case err != nil && expired(c.Context(), ctx):
		return fmt.Errorf("request %s: no result within %s — it may still come: worker watch --since 1h --request %s; or it was no request to the worker: worker deadletters list", req.ID, timeout, req.ID)
	case err != nil:
		return err
	}
	if output.Text == "table" {
		_, err = io.WriteString(c.OutOrStdout(), inspect.Result(result, cli.Colors(c, env, c.OutOrStdout())))
	} else {
		err = cli.Print(c, output, events.ResultRecord(result), nil)
	}
	if err == nil && (result.Outcome == approval.OutcomeFailed || result.Outcome == approval.OutcomeUnknown) {
		return cli.WithCode(cli.ExitFailed, cli.ErrReported)
	}
	return err
}
