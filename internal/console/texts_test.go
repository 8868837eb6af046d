package console

import (
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/vpcep-approver/vpcep-approver/internal/approval"
	"github.com/vpcep-approver/vpcep-approver/internal/policy"
)

// TestTexts: each key that pages and code use has its text in each language, and each
// text is used.
func TestTexts(t *testing.T) {
	t.Parallel()
	used := map[string]bool{}
	for _, o := range approval.Outcomes() {
		used["outcome."+string(o)] = true
	}
	for _, s := range approval.Stages() {
		used["stage."+string(s)] = true
	}
	for _, a := range []policy.Answer{policy.Matches, policy.MatchesNot, policy.NotEvaluated} {
		used["answer."+string(a)] = true
	}
	for _, kind := range []approval.FaultKind{approval.FaultBreaker, approval.FaultCredential, approval.FaultOperator} {
		used["fault."+string(kind)] = true
	}
	for _, state := range []approval.WorkerState{approval.WorkerRunning, approval.WorkerStopping, approval.WorkerStopped, approval.WorkerDead} {
		used["state."+string(state)] = true
	}
	for _, name := range sections() {
		used["nav."+name] = true
	}
	for _, verdict := range []string{"approve", "reject"} {
		used["note.counted."+verdict] = true
	}
	key := regexp.MustCompile(`"([a-z_]+(?:\.[a-z_]+)*)"`)
	inTemplate := regexp.MustCompile(`\bT "([^"]+)"`)
	templates, err := fs.Glob(templateFiles, "templates/*.html")
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range templates {
		text, err := templateFiles.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		for _, m := range inTemplate.FindAllStringSubmatch(string(text), -1) {
			used[m[1]] = true
		}
	}
	all := texts()
	files, err := filepath.Glob("*.go")
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range files {
		if name == "texts.go" || strings.HasSuffix(name, "_test.go") {
			continue
		}
		text, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		for _, m := range key.FindAllStringSubmatch(string(text), -1) {
			if _, ok := all[m[1]]; ok {
				used[m[1]] = true
			}
		}
		for _, m := range regexp.MustCompile(`(?:Key: |title: |notFound\(|forbidden\(|return )"([a-z_]+\.[a-z_.]+)"`).FindAllStringSubmatch(string(text), -1) {
			used[m[1]] = true
		}
	}
	delete(used, "note.counted.") // with a verdict behind it
	for name := range used {
		if texts, ok := all[name]; !ok || texts[0] == "" || texts[1] == "" {
			t.Errorf("%s has no text in both languages", name)
		}
	}
	for name, columns := range all {
		if !used[name] && !strings.HasPrefix(name, "refused.") {
			t.Errorf("%s is not used", name)
		}
		if strings.Count(columns[0], "%d") != strings.Count(columns[1], "%d") {
			t.Errorf("%s takes other numbers in Chinese", name)
		}
	}
}

func TestPreferredLanguage(t *testing.T) {
	t.Parallel()
	for header, want := range map[string]string{
		"": english, "de": english, "*": english, "zh": chinese, "zh-HK": chinese, "ZH-cn": chinese, "fr, zh;q=0.1": chinese,
		"en-GB;q=0.5, zh-CN": chinese, "en, zh;q=0.9": english, "zh;q=x, en": english, ";;,": english,
	} {
		if got := preferred(header); got != want {
			t.Errorf("%q: %s, want %s", header, got, want)
		}
	}
}
