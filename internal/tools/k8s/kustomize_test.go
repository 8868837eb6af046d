package k8s

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	"sigs.k8s.io/kustomize/api/krusty"
	"sigs.k8s.io/kustomize/kyaml/filesys"
	"sigs.k8s.io/yaml"
)

const overlays = root + "/deploy/kustomize"

// baseFiles are the files of the base that are made from the chart, and the ones
// of components, by the template of the chart.
func baseFiles() map[string]string {
	return map[string]string{
		"serviceaccount.yaml":      "base/serviceaccount.yaml",
		"policies.yaml":            "base/policies.yaml",
		"deployment.yaml":          "base/deployment.yaml",
		"poddisruptionbudget.yaml": "base/poddisruptionbudget.yaml",
		"networkpolicy.yaml":       "base/networkpolicy.yaml",
		"podmonitor.yaml":          "components/podmonitor/podmonitor.yaml",
		"scaledobject.yaml":        "components/keda/scaledobject.yaml",
	}
}

// ofHelm deletes from an object what only Helm needs: its labels, the namespace,
// which kustomize sets, and the digest of the settings, which is in the name of
// kustomize's ConfigMap.
func ofHelm(object map[string]any) {
	delete(object, "status")
	clean := func(metadata map[string]any) {
		delete(metadata, "namespace")
		delete(metadata, "creationTimestamp")
		labels, _ := metadata["labels"].(map[string]any)
		delete(labels, "app.kubernetes.io/managed-by")
		delete(labels, "helm.sh/chart")
		annotations, _ := metadata["annotations"].(map[string]any)
		delete(annotations, "checksum/config")
		if len(annotations) == 0 {
			delete(metadata, "annotations")
		}
	}
	metadata, _ := object["metadata"].(map[string]any)
	clean(metadata)
	spec, _ := object["spec"].(map[string]any)
	template, _ := spec["template"].(map[string]any)
	if metadata, ok := template["metadata"].(map[string]any); ok {
		clean(metadata)
	}
}

// plain returns the documents of text without what only Helm needs, by kind and
// name, as YAML.
func plain(t *testing.T, text string) map[string]string {
	t.Helper()
	out := map[string]string{}
	for doc := range strings.SplitSeq("\n"+text, "\n---") {
		var object map[string]any
		if err := yaml.UnmarshalStrict([]byte(doc), &object); err != nil {
			t.Fatal(err)
		}
		if object == nil {
			continue
		}
		ofHelm(object)
		clean, err := yaml.Marshal(object)
		if err != nil {
			t.Fatal(err)
		}
		metadata, _ := object["metadata"].(map[string]any)
		out[object["kind"].(string)+" "+metadata["name"].(string)] = string(clean)
	}
	return out
}

// chartText is all that the chart makes of values.
func chartText(t *testing.T, values string) (string, map[string]string) {
	t.Helper()
	files, err := render(t.Context(), values)
	if err != nil {
		t.Fatal(err)
	}
	all := ""
	for file, text := range files {
		if strings.HasSuffix(file, ".yaml") {
			all += "\n---\n" + text
		}
	}
	return all, files
}

// build is what `kustomize build` prints.
func build(t *testing.T, dir string) string {
	t.Helper()
	made, err := krusty.MakeKustomizer(krusty.MakeDefaultOptions()).Run(filesys.MakeFsOnDisk(), filepath.Join(overlays, dir))
	if err != nil {
		t.Fatal(err)
	}
	text, err := made.AsYaml()
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// hashed is the name of the ConfigMap that kustomize makes of the settings.
var hashed = regexp.MustCompile(`vpcep-approver-config-[0-9a-z]{10}`)

// TestKustomizeIsTheChart: the base is the chart's default output, and its
// components are what the chart adds. With -update it is written again.
//
//nolint:paralleltest // with -update it writes what other tests read
func TestKustomizeIsTheChart(t *testing.T) {
	const extras = "podMonitor: {enabled: true}\nkeda: {enabled: true}\n"
	defaults, _ := chartText(t, "")
	more, files := chartText(t, extras)
	if *update {
		_, defaultFiles := chartText(t, "")
		for template, file := range baseFiles() {
			text := defaultFiles["vpcep-approver/templates/"+template]
			if strings.HasPrefix(file, "components/") {
				text = files["vpcep-approver/templates/"+template]
			}
			for _, doc := range plain(t, text) {
				write(t, file, "# Made from deploy/helm by a test of internal/tools/k8s; change the chart instead.\n"+doc)
			}
		}
		config := find[corev1.ConfigMap](t, rendered(t, ""), "vpcep-approver-config")
		write(t, "base/worker.yaml", config.Data["worker.yaml"])
	}
	for _, tt := range []struct{ dir, chart string }{{"base", defaults}, {"test", more}} {
		want, got := plain(t, tt.chart), plain(t, hashed.ReplaceAllString(build(t, tt.dir), "vpcep-approver-config"))
		for key, text := range want {
			if got[key] != text {
				t.Errorf("%s of deploy/kustomize/%s is not that of the chart; run go test . -update\n%s\nthe chart has\n%s", key, tt.dir, got[key], text)
			}
		}
		for key := range got {
			if want[key] == "" {
				t.Errorf("the chart has no %s", key)
			}
		}
	}
}

// TestKustomizeExample builds the example as a user would.
func TestKustomizeExample(t *testing.T) {
	t.Parallel()
	text := build(t, "example")
	all, err := decode("example", hashed.ReplaceAllString(text, "vpcep-approver-config"))
	if err != nil {
		t.Fatal(err)
	}
	obeyRules(t, all)
	if len(hashed.FindAllString(text, -1)) != 2 {
		t.Errorf("the ConfigMap of the settings has no hash in its name, so a change restarts nothing:\n%s", text)
	}
	policies := find[corev1.ConfigMap](t, all, "vpcep-approver-policies")
	if !strings.Contains(policies.Data["payments.yaml"], "policy:") {
		t.Errorf("the policies are %v", policies.Data)
	}
	checkSettings(t, find[corev1.ConfigMap](t, all, "vpcep-approver-config").Data["worker.yaml"])
}

// TestKustomizeFindsFaults: a wrong key stops the build.
func TestKustomizeFindsFaults(t *testing.T) {
	t.Parallel()
	disk := filesys.MakeFsInMemory()
	if err := disk.WriteFile("/a/kustomization.yaml", []byte("resource: [b.yaml]\n")); err != nil {
		t.Fatal(err)
	}
	_, err := krusty.MakeKustomizer(krusty.MakeDefaultOptions()).Run(disk, "/a")
	if err == nil || !strings.Contains(err.Error(), `unknown field "resource"`) {
		t.Errorf("%v, want the wrong key", err)
	}
}

func write(t *testing.T, file, text string) {
	t.Helper()
	if err := os.WriteFile(filepath.Join(overlays, file), []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
}
