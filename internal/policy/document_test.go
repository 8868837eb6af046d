package policy

import (
	"fmt"
	"os"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/vpcep-approver/vpcep-approver/internal/approval"
	"github.com/vpcep-approver/vpcep-approver/internal/strictyaml"
)

// TestPolicyDocument holds the tables of docs/policy.md to the decoder's.
func TestPolicyDocument(t *testing.T) {
	t.Parallel()
	const file, begin, end = "../../docs/policy.md", "<!-- tables: made by the tests with -update -->\n", "<!-- end of the tables -->"
	source, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	before, rest, ok := strings.Cut(string(source), begin)
	have, after, ok2 := strings.Cut(rest, end)
	if !ok || !ok2 {
		t.Fatalf("%s has no place for the tables", file)
	}
	want := "\n" + documentTables() + "\n"
	if *update {
		if err := os.WriteFile(file, []byte(before+begin+want+end+after), 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	if diff := cmp.Diff(want, have); diff != "" {
		t.Errorf("%s (-want +got; -update writes it):\n%s", file, diff)
	}
}

// documentTables returns the tables of keys and of names in expressions as
// docs/policy.md holds them.
func documentTables() string {
	k := newKeys()
	var b strings.Builder
	b.WriteString("### A policy\n\n")
	table(&b, k.policy, nil)
	b.WriteString("\n### An entry of allow or deny\n\n")
	kinds := make(map[string]string)
	for f, s := range specs() {
		kinds[field(f).name()] = kindWords(s.kinds)
	}
	kinds["any_domain"] = "connections"
	kinds["limit"] = "connections"
	table(&b, k.entry, kinds)
	b.WriteString("\n### hours\n\n")
	table(&b, k.hours, nil)
	b.WriteString("\n### review\n\n")
	table(&b, k.review, nil)
	b.WriteString("\n### reviewers.yaml\n\n")
	table(&b, reviewersKeys(), nil)
	b.WriteString("\n### A person of reviewers.yaml\n\n")
	table(&b, reviewerKeys(), nil)
	b.WriteString("\n### A console of reviewers.yaml\n\n")
	table(&b, consoleKeys(), nil)
	b.WriteString("\n### Names in an expression\n\n| name | type | of | what |\n| --- | --- | --- | --- |\n")
	for _, v := range variables() {
		fmt.Fprintf(&b, "| `%s` | %s | %s | %s |\n", v.name, strings.ReplaceAll(v.kind.String(), "google.protobuf.Timestamp", "timestamp"), kindWords(v.kinds), v.doc)
	}
	return b.String()
}

func table[D strictyaml.Decoder, T any](b *strings.Builder, keys []strictyaml.Key[D, T], of map[string]string) {
	if of == nil {
		b.WriteString("| key | value | what |\n| --- | --- | --- |\n")
	} else {
		b.WriteString("| key | of | value | what |\n| --- | --- | --- | --- |\n")
	}
	for _, k := range keys {
		name := "`" + k.Name + "`"
		if k.Must {
			name += " (needed)"
		}
		if of != nil {
			what := "all"
			if of[k.Name] != "" {
				what = of[k.Name]
			}
			if k.Only != "" {
				what += ", " + k.Only + " only"
			}
			name += " | " + what
		}
		words := k.Form.Words
		if def, ok := k.Form.Schema["default"]; ok {
			words += fmt.Sprintf("; default %v", def)
		}
		fmt.Fprintf(b, "| %s | %s | %s |\n", name, words, k.Doc)
	}
}

// kindWords names kinds of targets, or what they have in common.
func kindWords(kinds []approval.TargetKind) string {
	switch {
	case len(kinds) == len(approval.TargetKinds()):
		return "all"
	case len(kinds) == 2 && kinds[0] == approval.Service:
		return "connections"
	}
	var out []string
	for _, k := range kinds {
		out = append(out, string(k))
	}
	return strings.Join(out, ", ")
}
