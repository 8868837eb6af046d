package cloud

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"net/http"
	"os"
	"slices"
	"strconv"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/vpcep-approver/vpcep-approver/internal/approval"
)

const otherDomain = "0000000000000000000000000000beef"

// rowOf returns a row with all facts.
func rowOf(id, domain string, marker int64, state approval.State) string {
	return fmt.Sprintf(`{"id":%q,"marker_id":%d,"created_at":"2018-01-30T07:42:01Z","domain_id":%q,"status":%q}`, id, marker, domain, state)
}

// reading is a way to read a list.
type reading struct {
	name string
	read func(t *testing.T, c *Client) error
}

func readings(target approval.Target) []reading {
	return []reading{
		{"facts", func(t *testing.T, c *Client) error { _, err := c.Facts(t.Context(), connect(target)); return err }},
		{"await", func(t *testing.T, c *Client) error {
			_, err := c.Await(t.Context(), connect(target), approval.Accepted, time.Time{})
			return err
		}},
		{"count", func(t *testing.T, c *Client) error {
			_, err := c.Accepted(t.Context(), target, domainID, endpoint)
			return err
		}},
		{"pending", func(t *testing.T, c *Client) error { _, err := c.Pending(t.Context(), target); return err }},
	}
}

func functionsAsTarget() []reading {
	return []reading{{"look", func(t *testing.T, c *Client) error {
		_, err := c.Look(t.Context(), creation(approval.FunctionGraph), nil)
		return err
	}}}
}

// TestIncompleteListIsAnError: every list with a sign of missing or wrong rows is a
// retryable error, after at most two reads.
func TestIncompleteListIsAnError(t *testing.T) {
	t.Parallel()
	row := rowJSON(endpoint, approval.Pending)
	many := strings.TrimSuffix(strings.Repeat(row+",", vpcepPage+1), ",")
	lists := []struct {
		name, answer string
		status       int
	}{
		{"fewer rows than the total", rowsJSON(7), 200},
		{"fewer rows than the total, one shown", rowsJSON(7, row), 200},
		{"more rows than the total", rowsJSON(0, row), 200},
		{"a row twice", rowsJSON(2, row, row), 200},
		{"no total", `{"connections":[` + row + `],"endpoints":[` + row + `]}`, 200},
		{"no total, empty", `{"connections":[],"endpoints":[]}`, 200},
		{"a negative total", rowsJSON(-1, row), 200},
		{"a total that is no number", strings.ReplaceAll(rowsJSON(1, row), `:1,`, `:"1",`), 200},
		{"a total without bounds", rowsJSON(maxRows+1, row), 200},
		{"a total without rows", `{"total_count":3,"total":3}`, 200},
		{"rows that are null", `{"connections":null,"endpoints":null,"total_count":3,"total":3}`, 200},
		{"a page with more than was asked for", rowsJSON(vpcepPage+1, many), 200},
		{"a part of an answer", rowsJSON(1, row), 206},
		{"a row without an id", rowsJSON(1, strings.ReplaceAll(row, endpoint, "")), 200},
		{"a row without a status", rowsJSON(1, strings.ReplaceAll(row, `"status"`, `"sstatus"`)), 200},
		{"a row with an empty status", rowsJSON(1, strings.ReplaceAll(row, `"pendingAcceptance"`, `""`)), 200},
		{"a row with a status that is null", rowsJSON(1, strings.ReplaceAll(row, `"pendingAcceptance"`, `null`)), 200},
		{"a row that is null", rowsJSON(1, "null"), 200},
		{"a row that is a text", rowsJSON(1, `"row"`), 200},
		{"an id that is a number", rowsJSON(1, strings.ReplaceAll(row, `"`+endpoint+`"`, `7`)), 200},
		{"a status without end", rowsJSON(1, strings.ReplaceAll(row, "pendingAcceptance", strings.Repeat("x", 1000))), 200},
		{"a member twice in a row", rowsJSON(1, strings.TrimSuffix(row, "}")+`,"status":"accepted"}`), 200},
		{"an unknown member twice in a row", rowsJSON(1, strings.TrimSuffix(row, "}")+`,"x":1,"x":2}`), 200},
		{"a member twice inside a member", rowsJSON(1, strings.TrimSuffix(row, "}")+`,"x":{"y":1,"y":2}}`), 200},
		{"a member twice, spelled otherwise", rowsJSON(1, strings.TrimSuffix(row, "}")+`,"st\u0061tus":"accepted"}`), 200},
		{"a member in capitals", rowsJSON(1, strings.TrimSuffix(row, "}")+`,"Status":"accepted"}`), 200},
		{"a member in camel case", rowsJSON(1, strings.ReplaceAll(row, `"created_at"`, `"createdAt"`)), 200},
		{"the total twice", `{"total_count":1,"total":1,"total_count":0,"total":0,"connections":[],"endpoints":[]}`, 200},
		{"the list twice", `{"total_count":1,"total":1,"connections":[` + row + `],"endpoints":[` + row + `],"connections":[],"endpoints":[]}`, 200},
		{"not UTF-8", rowsJSON(1, strings.TrimSuffix(row, "}")+",\"description\":\"\xff\"}"), 200},
		{"something behind it", rowsJSON(1, row) + "{}", 200},
	}
	type subject struct {
		target   approval.Target
		readings []reading
	}
	for _, s := range []subject{{service(), readings(service())}, {gateway(), readings(gateway())}, {creation(approval.FunctionGraph).Target, functionsAsTarget()}} {
		for _, lie := range lists {
			for _, r := range s.readings {
				t.Run(fmt.Sprintf("%s/%s/%s", s.target.Kind, r.name, lie.name), func(t *testing.T) {
					t.Parallel()
					synctest.Test(t, func(t *testing.T) {
						w, calls := &watcher{}, 0
						c := client(t, script(func(*http.Request, string) (*http.Response, error) {
							calls++
							answer := lie.answer
							if s.target.Kind == approval.FunctionGraph {
								answer = strings.ReplaceAll(strings.ReplaceAll(answer, `"endpoints"`, `"unused"`), `"connections"`, `"endpoints"`)
							}
							return says(lie.status, answer)
						}), func(cfg *Config) { cfg.Observer = w })
						err := r.read(t, c)
						e, ok := asError(err)
						if !ok || e.Code != CodeListIncomplete || !e.Retryable() || e.OutcomeUnknown() || e.Gone() {
							t.Fatalf("error %v", err)
						}
						// A list of several pages takes two calls a read to be found out.
						if calls < 2 || calls > 4 {
							t.Errorf("%d calls", calls)
						}
						if !slices.Equal(w.listed, []string{s.target.Name + " false"}) {
							t.Errorf("told %q", w.listed)
						}
						if slices.ContainsFunc(w.breaker, func(s string) bool { return strings.HasSuffix(s, "open") }) {
							t.Errorf("breaker %q", w.breaker)
						}
					})
				})
			}
		}
	}
}

// TestIncompleteOnceIsReadAgain: a list that is complete in the second read is used.
func TestIncompleteOnceIsReadAgain(t *testing.T) {
	t.Parallel()
	for _, r := range readings(service()) {
		t.Run(r.name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				w, calls := &watcher{}, 0
				c := client(t, script(func(*http.Request, string) (*http.Response, error) {
					if calls++; calls == 1 {
						return says(200, rowsJSON(1))
					}
					return says(200, rowsJSON(1, rowJSON(endpoint, approval.Accepted)))
				}), func(cfg *Config) { cfg.Observer = w })
				if err := r.read(t, c); err != nil || calls != 2 || !slices.Equal(w.listed, []string{"payments true"}) {
					t.Errorf("%v, %d calls, told %q", err, calls, w.listed)
				}
			})
		})
	}
}

// TestContradictoryRowsShowNoAccount: of two contradictory rows none is believed, in
// any order.
func TestContradictoryRowsShowNoAccount(t *testing.T) {
	t.Parallel()
	one := rowOf(endpoint, domainID, 7, approval.Pending)
	for name, other := range map[string]string{
		"domain_id":   rowOf(endpoint, otherDomain, 7, approval.Pending),
		"marker_id":   rowOf(endpoint, domainID, 8, approval.Pending),
		"status":      rowOf(endpoint, domainID, 7, approval.Accepted),
		"created_at":  strings.ReplaceAll(one, "2018", "2019"),
		"no account":  rowOf(endpoint, "", 7, approval.Pending),
		"capitals id": rowOf(strings.ToUpper(endpoint), otherDomain, 7, approval.Pending),
	} {
		for _, rows := range [][]string{{one, other}, {other, one}} {
			for _, total := range []int{1, 2} { // as endpoints are counted, or as rows are
				for _, target := range []approval.Target{service(), gateway()} {
					c := client(t, script(func(*http.Request, string) (*http.Response, error) { return says(200, rowsJSON(total, rows...)) }))
					f, err := c.Facts(t.Context(), connect(target))
					if err != nil || f.DomainID != "" || f.State != approval.Pending {
						t.Errorf("%s: facts %+v, %v", name, f, err)
					}
					if n, err := c.Accepted(t.Context(), target, domainID, endpoint); err == nil {
						t.Errorf("%s: counted %+v", name, n)
					}
					if s, err := c.Await(t.Context(), connect(target), approval.Accepted, time.Time{}); !isIncomplete(err) {
						t.Errorf("%s: await %q, %v", name, s, err)
					}
					pending, err := c.Pending(t.Context(), target)
					if err != nil || len(pending) != 1 || pending[0].DomainID != "" {
						t.Errorf("%s: pending %+v, %v", name, pending, err)
					}
				}
			}
		}
	}
}

// TestContradictoryStatesAreNoState: a connection that is accepted in one row and
// rejected in another has no known state.
func TestContradictoryStatesAreNoState(t *testing.T) {
	t.Parallel()
	for _, pair := range [][2]approval.State{{approval.Accepted, approval.Rejected}, {approval.Failed, approval.Accepted}, {approval.Deleting, approval.Failed}} {
		c := client(t, script(func(*http.Request, string) (*http.Response, error) {
			return says(200, rowsJSON(2, rowJSON(endpoint, pair[0]), rowJSON(endpoint, pair[1])))
		}))
		f, err := c.Facts(t.Context(), connect(service()))
		if err != nil || f.State.Known() {
			t.Errorf("%v: %q, %v", pair, f.State, err)
		}
	}
}

// TestActIsNotRepeatedOnAListThatLies: after a lost response a decision is repeated only
// if the list shows the connection as pending.
func TestActIsNotRepeatedOnAListThatLies(t *testing.T) {
	t.Parallel()
	pending, accepted := rowJSON(endpoint, approval.Pending), rowJSON(endpoint, approval.Accepted)
	for name, list := range map[string]string{
		"short":           rowsJSON(1),
		"contradictory":   rowsJSON(2, pending, accepted),
		"of two accounts": rowsJSON(2, pending, rowOf(endpoint, otherDomain, 1, approval.Pending)),
		"twice a member":  rowsJSON(1, strings.TrimSuffix(pending, "}")+`,"status":"pendingAcceptance"}`),
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				acts := 0
				c := client(t, script(func(r *http.Request, _ string) (*http.Response, error) {
					if r.Method == http.MethodPost {
						acts++
						return nil, errors.New("connection reset by peer")
					}
					return says(200, list)
				}))
				err := c.Act(t.Context(), new(connect(service())), approval.Accept)
				if e, ok := asError(err); !ok || !e.Retryable() || !e.OutcomeUnknown() || acts != 1 {
					t.Errorf("%d acts, %v", acts, err)
				}
			})
		})
	}
}

// TestCountIsOfTheAccountThatWasJudged: a count that is not known is an error and never
// zero.
func TestCountIsOfTheAccountThatWasJudged(t *testing.T) {
	t.Parallel()
	more := ids(4)
	accepted := func(domain string) []string {
		return []string{rowOf(more[0], domain, 1, approval.Accepted), rowOf(more[1], domain, 2, approval.Accepted), rowOf(more[2], otherDomain, 3, approval.Accepted)}
	}
	own := func(domain string, s approval.State) string { return rowOf(endpoint, domain, 9, s) }
	tests := []struct {
		name     string
		rows     []string
		want     int // -1: an error
		creating int
	}{
		{"as it was judged", append(accepted(domainID), own(domainID, approval.Pending)), 2, 0},
		{"it is accepted itself", append(accepted(domainID), own(domainID, approval.Accepted)), 2, 0},
		{"capitals", append(accepted(strings.ToUpper(domainID)), own(domainID, approval.Pending)), 2, 0},
		{"its own row does not show", accepted(domainID), -1, 0},
		{"an empty list", nil, -1, 0},
		{"it is another account's", append(accepted(domainID), own(otherDomain, approval.Pending)), -1, 0},
		{"it shows no account", append(accepted(domainID), own("", approval.Pending)), -1, 0},
		{"an accepted one shows no account", append(accepted(""), own(domainID, approval.Pending)), -1, 0},
		{"a pending one shows no account", append(accepted(domainID), own(domainID, approval.Pending), rowOf(more[3], "", 4, approval.Pending)), 2, 0},
		{"one is in a state that is not documented", append(accepted(domainID), own(domainID, approval.Pending), rowOf(more[3], domainID, 4, "switchingPool")), -1, 0},
		{"one of others is", append(accepted(domainID), own(domainID, approval.Pending), rowOf(more[3], otherDomain, 4, "switchingPool")), 2, 0},
		{"its own state is not documented", append(accepted(domainID), own(domainID, "switchingPool")), 2, 0},
		{"one is being created", append(accepted(domainID), own(domainID, approval.Pending), rowOf(more[3], domainID, 4, approval.Creating)), 2, 1},
		{"one of others is being created", append(accepted(domainID), own(domainID, approval.Pending), rowOf(more[3], otherDomain, 4, approval.Creating)), 2, 0},
		{"one that shows no account is being created", append(accepted(domainID), own(domainID, approval.Pending), rowOf(more[3], "", 4, approval.Creating)), 2, 1},
		{"it is being created itself", append(accepted(domainID), own(domainID, approval.Creating)), 2, 0},
		{"another one contradicts itself", append(accepted(domainID), own(domainID, approval.Pending), rowOf(more[3], otherDomain, 4, approval.Pending), rowOf(more[3], domainID, 4, approval.Accepted)), -1, 0},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			c := client(t, script(func(*http.Request, string) (*http.Response, error) {
				return says(200, rowsJSON(len(tt.rows), tt.rows...))
			}))
			n, err := c.Accepted(t.Context(), service(), domainID, endpoint)
			if tt.want < 0 {
				if e, ok := asError(err); !ok || !e.Retryable() {
					t.Errorf("counted %+v, %v", n, err)
				}
				return
			}
			if n.Accepted != tt.want || n.Creating != tt.creating || err != nil {
				t.Errorf("counted %+v, %v, want %d and %d", n, err, tt.want, tt.creating)
			}
			if err == nil && (n.State(strings.ToUpper(more[0])) != approval.Accepted || n.State(more[2]) != approval.Absent || n.State(ids(9)[8]) != approval.Absent) {
				t.Error("the states are not those of the account's connections")
			}
		})
	}
	c := client(t, script(func(*http.Request, string) (*http.Response, error) {
		return says(200, rowsJSON(1, own("", approval.Pending)))
	}))
	if n, err := c.Accepted(t.Context(), service(), "", endpoint); err == nil {
		t.Errorf("counted %+v for no account", n)
	}
}

// TestPageWithTooManyRowsIsNotKept: the limit of the request bounds the memory of a page.
func TestPageWithTooManyRowsIsNotKept(t *testing.T) {
	t.Parallel()
	var rows []string
	for _, id := range ids(38_000) {
		rows = append(rows, rowJSON(id, approval.Accepted))
	}
	var out page[connection]
	err := decodeList(&out, "connections", "total_count", vpcepPage, readConnection)(nil, []byte(rowsJSON(38_000, rows...)))
	if !isIncomplete(err) || len(out.rows) > vpcepPage {
		t.Errorf("%d rows, %v", len(out.rows), err)
	}
}

// TestFailedConnectionTellsWhy: the failure in a row is sanitized for terminals.
func TestFailedConnectionTellsWhy(t *testing.T) {
	t.Parallel()
	for text, want := range map[string][2]string{
		`[{"error_code":"EndPoint.2023","error_message":"No route."}]`:              {"EndPoint.2023", "No route."},
		`[{},{"error_code":"EndPoint.2023"}]`:                                       {"EndPoint.2023", ""},
		`[{"error_code":"a b","error_message":"two\nlines \u001b[31mred"}]`:         {"", "two lines [31mred"},
		`[{"error_code":"E.1","error_message":"` + strings.Repeat("ä", 300) + `"}]`: {"E.1", strings.Repeat("ä", maxReadable) + "…"},
		`[]`: {}, `null`: {}, `{"code":"x"}`: {}, `"text"`: {}, `[{"error_code":5}]`: {},
	} {
		c := client(t, script(func(*http.Request, string) (*http.Response, error) {
			return says(200, rowsJSON(1, strings.TrimSuffix(rowJSON(endpoint, approval.Failed), "}")+`,"error":`+text+`}`))
		}))
		f, err := c.Facts(t.Context(), connect(service()))
		if err != nil || f.State != approval.Failed || f.ErrorCode != want[0] || f.ErrorText != want[1] {
			t.Errorf("%s: %+v, %v", text, f, err)
		}
	}
}

// TestRandomListsThatLie: whatever the pages and the faults of a list, rows that are
// returned without an error are true.
func TestRandomListsThatLie(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		lists := 200
		if os.Getenv("FAULT_COUNTS") == "ci" { // as .ci/run does
			lists = 1000
		}
		good := 0
		for seed := range uint64(lists) {
			dice := rand.New(rand.NewPCG(seed, 1))
			all := ids(1 + dice.IntN(12))
			states := []approval.State{approval.Accepted, approval.Pending, approval.Creating, approval.Rejected}
			rows := make([]string, len(all))
			accepted, pending := 0, []string{}
			for i, id := range all {
				domain, state := []string{domainID, otherDomain}[dice.IntN(2)], states[dice.IntN(len(states))]
				if i == 0 {
					domain, state = domainID, approval.Pending
				}
				if domain == domainID && state == approval.Accepted {
					accepted++
				}
				if state == approval.Pending {
					pending = append(pending, id)
				}
				rows[i] = rowOf(id, domain, int64(i+1), state)
			}
			cut, calls := 1+dice.IntN(5), 0
			c := client(t, script(func(r *http.Request, _ string) (*http.Response, error) {
				q := r.URL.Query()
				calls++
				var shown []string
				for _, row := range rows {
					if (q.Get("status") == "" || strings.Contains(row, q.Get("status"))) && (q.Get("id") == "" || strings.Contains(row, q.Get("id"))) {
						shown = append(shown, row)
					}
				}
				total := len(shown)
				offset, _ := strconv.Atoi(q.Get("offset"))
				if dice.IntN(4) == 0 { // a row slips to the page before
					offset++
				}
				shown = shown[min(offset, total):]
				shown = shown[:min(cut, len(shown))]
				if len(shown) > 0 {
					i := dice.IntN(len(shown))
					switch dice.IntN(12) {
					case 0: // a row is left out
						shown = slices.Delete(slices.Clone(shown), i, i+1)
					case 1: // a row is there twice
						shown = slices.Insert(slices.Clone(shown), i, shown[dice.IntN(len(shown))])
					case 2: // a row contradicts another
						shown = append(slices.Clone(shown), strings.ReplaceAll(shown[i], domainID, otherDomain))
					case 3:
						total += 1 + dice.IntN(3)
					case 4: // a member twice
						shown = slices.Clone(shown)
						shown[i] = strings.TrimSuffix(shown[i], "}") + `,"domain_id":"` + otherDomain + `"}`
					case 5:
						shown = nil
					case 6:
						return says(206, rowsJSON(total, shown...))
					}
				}
				return says(200, rowsJSON(total, shown...))
			}), func(cfg *Config) { cfg.RatePerSecond = 1e6 })
			req := approval.Request{Target: service(), EndpointID: all[0]}
			if n, err := c.Accepted(t.Context(), req.Target, domainID, all[0]); err == nil {
				if good++; n.Accepted != accepted {
					t.Fatalf("seed %d: counted %+v of %d accepted ones", seed, n, accepted)
				}
			}
			if got, err := c.Pending(t.Context(), req.Target); err == nil {
				var found []string
				unclear := false // such rows may stand in for others, as far as the total tells
				for _, f := range got {
					found = append(found, f.EndpointID)
					unclear = unclear || f.DomainID == ""
				}
				if good++; !unclear && !slices.Equal(slices.Sorted(slices.Values(found)), pending) {
					t.Fatalf("seed %d: pending %v of %v", seed, found, pending)
				}
			}
			if f, err := c.Facts(t.Context(), req); err == nil {
				if good++; f.State != approval.Pending || f.DomainID != "" && f.DomainID != domainID {
					t.Fatalf("seed %d: facts %+v", seed, f)
				}
			}
		}
		if good < lists/2 {
			t.Errorf("only %d of %d reads were good: the test proves little", good, 3*lists)
		}
		t.Logf("%d of %d reads were good", good, 3*lists)
	})
}
