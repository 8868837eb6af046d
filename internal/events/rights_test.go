package events

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/rs/zerolog"

	"github.com/vpcep-approver/vpcep-approver/internal/natstest"
)

const permissionFiles = "../../deploy/nats"

// roles are the permission files.
func roles(t *testing.T) []string {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(permissionFiles, "*.conf"))
	if err != nil {
		t.Fatal(err)
	}
	var out []string
	for _, name := range files {
		if role := strings.TrimSuffix(filepath.Base(name), ".conf"); role != "nats-server" {
			out = append(out, role)
		}
	}
	return out
}

// permissionServer is the server of deploy/nats, whose users have the password p.
func permissionServer(t *testing.T, edit func(*server.Options)) (*natstest.Server, *natstest.Log) {
	t.Helper()
	for _, role := range roles(t) {
		t.Setenv("VPCEP_"+strings.ToUpper(role)+"_PASSWORD", "p")
	}
	opts := natstest.Options(t, filepath.Join(permissionFiles, "nats-server.conf"))
	if edit != nil {
		edit(opts)
	}
	s, log := natstest.StartOptions(t, opts)
	return &natstest.Server{URL: s.ClientURL()}, log
}

func permissionsOf(t *testing.T, opts *server.Options, role string) *server.Permissions {
	t.Helper()
	for _, u := range opts.Users {
		if u.Username == "vpcep-"+role {
			return u.Permissions
		}
	}
	t.Fatalf("nats-server.conf has no user vpcep-%s", role)
	return nil
}

// as connects as a user of the server.
func as(t *testing.T, s *natstest.Server, user, inbox string, create bool) *Bus {
	t.Helper()
	b, err := Connect(t.Context(), testConfig(s, func(c *Config) {
		c.Login, c.InboxPrefix, c.Create, c.Log = login(user, "p"), inbox, create, zerolog.Nop()
	}))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = b.Close() })
	return b
}

// TestEachMissingRightIsNamed takes one right after the other from the worker's
// permission file: with all of them nothing is missing, and without one, that one is.
func TestEachMissingRightIsNamed(t *testing.T) {
	const inbox = "_INBOX_vpcep_worker"
	without := map[string]string{} // user to right
	s, log := permissionServer(t, func(o *server.Options) {
		perms := permissionsOf(t, o, "worker")
		for i, subject := range append(slices.Clone(perms.Publish.Allow), perms.Subscribe.Allow...) {
			is := func(s string) bool { return s == subject }
			user := &server.User{Username: fmt.Sprintf("without-%d", i), Password: "p", Permissions: &server.Permissions{
				Publish:   &server.SubjectPermission{Allow: slices.DeleteFunc(slices.Clone(perms.Publish.Allow), is)},
				Subscribe: &server.SubjectPermission{Allow: slices.DeleteFunc(slices.Clone(perms.Subscribe.Allow), is)},
			}}
			if len(user.Permissions.Subscribe.Allow) == 0 {
				user.Permissions.Subscribe.Deny = []string{">"}
			}
			o.Users = append(o.Users, user)
			without[user.Username] = subject
		}
	})
	if err := as(t, s, "vpcep-setup", "_INBOX_vpcep_setup", true).Setup(t.Context()); err != nil {
		t.Fatal(err)
	}
	b := as(t, s, "vpcep-worker", inbox, false)
	if err := b.Setup(t.Context()); err != nil {
		t.Fatal(err)
	}
	before := storedIn(t, s)
	tried := map[string]bool{}
	for _, c := range b.Rights(t.Context()) {
		tried[c.Subject] = true
		if c.Err != nil || c.Skipped != "" {
			t.Errorf("with every right: %s: %v %s", c.Right, c.Err, c.Skipped)
		}
	}
	if lines := log.With("Violation"); len(lines) > 0 {
		t.Errorf("with every right: %q", lines)
	}
	for user, subject := range without {
		if !tried[subject] {
			t.Errorf("%s is granted and not tried", subject)
			continue
		}
		named := false
		for _, c := range as(t, s, user, inbox, false).Rights(t.Context()) {
			_, denied := errors.AsType[*DeniedError](c.Err)
			if denied != (c.Subject == subject) || (c.Err != nil) != denied {
				t.Errorf("without %s: %s: %v", subject, c.Right, c.Err)
			}
			named = named || denied
		}
		if !named {
			t.Errorf("without %s nothing is missing", subject)
		}
	}
	if after := storedIn(t, s); before != after {
		t.Errorf("trying left marks: %s, before %s", after, before)
	}
}

// stored tells how many messages each stream has, and ever had.
func storedIn(t *testing.T, s *natstest.Server) string {
	t.Helper()
	b := as(t, s, "vpcep-setup", "_INBOX_vpcep_setup", false)
	var out []string
	for _, want := range b.streams() {
		info, err := b.streamInfo(t.Context(), want.Name)
		if err != nil {
			t.Fatal(err)
		}
		out = append(out, fmt.Sprintf("%s %d/%d", want.Name, info.info.State.Msgs, info.info.State.LastSeq))
	}
	return strings.Join(out, ", ")
}

// TestRightsBeforeAnythingIsMade tries the right to make what is missing.
func TestRightsBeforeAnythingIsMade(t *testing.T) {
	s, _ := permissionServer(t, nil)
	for user, may := range map[string]bool{"vpcep-setup": true, "vpcep-worker": false} {
		failed, skipped := 0, 0
		for _, c := range as(t, s, user, strings.Replace(user, "vpcep-", "_INBOX_vpcep_", 1), true).Rights(t.Context()) {
			if c.Skipped != "" {
				skipped++
			} else if c.Err != nil {
				failed++
				if !strings.Contains(c.Subject, ".CREATE.") {
					t.Errorf("%s: %s: %v", user, c.Right, c.Err)
				}
			}
		}
		if (failed == 0) != may || skipped == 0 {
			t.Errorf("%s: %d rights are missing, %d not tried", user, failed, skipped)
		}
	}
	b := as(t, s, "vpcep-setup", "_INBOX_vpcep_setup", false)
	if d, err := b.Status(t.Context()); err != nil || slices.ContainsFunc(d, func(d Difference) bool { return d.Field != "" }) {
		t.Errorf("trying made something: %v, %v", d, err)
	}
}

// TestDeniedSetupEndsSoon wants the right in the error, and no wait for an answer
// that never comes.
func TestDeniedSetupEndsSoon(t *testing.T) {
	s, _ := permissionServer(t, nil)
	b, began := as(t, s, "vpcep-producer", "", false), time.Now()
	err := b.Setup(t.Context())
	if denied, ok := errors.AsType[*DeniedError](err); !ok || denied.Subject != "$JS.API.STREAM.INFO."+RequestsStream || time.Since(began) > requestWithin/2 {
		t.Errorf("%v after %s", err, time.Since(began))
	}
}

// TestRightsAreDocumented holds docs/nats.md to the permission files.
func TestRightsAreDocumented(t *testing.T) {
	text, err := os.ReadFile("../../docs/nats.md")
	if err != nil {
		t.Fatal(err)
	}
	for _, role := range roles(t) {
		t.Setenv("VPCEP_"+strings.ToUpper(role)+"_PASSWORD", "p")
	}
	opts := natstest.Options(t, filepath.Join(permissionFiles, "nats-server.conf"))
	want := map[string][]string{} // role to rights
	for _, role := range roles(t) {
		perms := permissionsOf(t, opts, role)
		for _, s := range perms.Publish.Allow {
			want[role] = append(want[role], "publish "+s)
		}
		for _, s := range perms.Publish.Deny {
			want[role] = append(want[role], "not publish "+s)
		}
		for _, s := range perms.Subscribe.Allow {
			want[role] = append(want[role], "subscribe "+s)
		}
	}
	got := map[string][]string{}
	row := regexp.MustCompile("(?m)^\\| (publish|not publish|subscribe) \\| `([^`]+)` \\| ([a-z, ]+) \\|")
	for _, m := range row.FindAllStringSubmatch(string(text), -1) {
		for role := range strings.SplitSeq(m[3], ", ") {
			got[role] = append(got[role], m[1]+" "+m[2])
		}
	}
	for role, rights := range want {
		slices.Sort(rights)
		slices.Sort(got[role])
		if !slices.Equal(rights, got[role]) {
			t.Errorf("%s has\n%s\nand docs/nats.md says\n%s", role, strings.Join(rights, "\n"), strings.Join(got[role], "\n"))
		}
	}
	if len(got) != len(want) {
		t.Errorf("docs/nats.md has %d roles, want %d", len(got), len(want))
	}
}
