package k8s

import (
	"context"
	"flag"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"helm.sh/helm/v4/pkg/chart/common"
	"helm.sh/helm/v4/pkg/chart/common/util"
	"helm.sh/helm/v4/pkg/chart/v2/loader"
	"helm.sh/helm/v4/pkg/engine"
	corev1 "k8s.io/api/core/v1"
	"sigs.k8s.io/yaml"
)

const (
	root  = "../../.."
	chart = root + "/deploy/helm/vpcep-approver"
)

var update = flag.Bool("update", false, "write the kustomize base again")

// everything are values that switch every part of the chart on.
const everything = `
image: {repository: registry.example.org/vpcep-approver, tag: "1.2.3", pullSecrets: [registry]}
config:
  targets: [{name: payments, kind: service, id: 4189d3c2-8882-4871-a3c2-d380272eed88, project_id: 0123456789abcdef0123456789abcdef}]
  http: {web_config: /etc/vpcep-approver/web/web.yml}
  sweep: {interval: 1m}
policies:
  files:
    payments.yaml: |
      # the first policy
      policy: payments
    partners.txt: "# partners\n"
extraVolumes: [{name: web, secret: {secretName: vpcep-approver-web}}]
extraVolumeMounts: [{name: web, mountPath: /etc/vpcep-approver/web, readOnly: true}]
podAnnotations: {example.org/team: network}
nodeSelector: {kubernetes.io/arch: amd64}
tolerations: [{key: dedicated, operator: Exists}]
networkPolicy: {extraEgress: [{ports: [{port: 4318, protocol: TCP}]}]}
tracing: {OTEL_EXPORTER_OTLP_ENDPOINT: "http://collector.monitoring:4318", OTEL_TRACES_SAMPLER_ARG: "0.1"}
podMonitor: {enabled: true, labels: {release: prometheus}, endpoint: {scheme: https, tlsConfig: {insecureSkipVerify: true}}}
keda: {enabled: true}
`

// render returns what `helm template` prints with these values, by file. Unlike it,
// render refuses a template that uses a value which is not there.
func render(ctx context.Context, values string) (map[string]string, error) {
	c, err := loader.Load(chart)
	if err != nil {
		return nil, err
	}
	var given map[string]any
	if err := yaml.UnmarshalStrict([]byte(values), &given); err != nil {
		return nil, err
	}
	release := common.ReleaseOptions{Name: "vpcep-approver", Namespace: "vpcep-approver", Revision: 1, IsInstall: true}
	all, err := util.ToRenderValues(c, given, release, nil)
	if err != nil {
		return nil, err
	}
	return engine.Engine{Strict: true}.RenderWithContext(ctx, c, all)
}

// rendered are the objects that the chart makes of values.
func rendered(t *testing.T, values string) objects {
	t.Helper()
	files, err := render(t.Context(), values)
	if err != nil {
		t.Fatal(err)
	}
	all := objects{}
	for name, text := range files {
		if !strings.HasSuffix(name, ".yaml") {
			continue
		}
		found, err := decode(name, text)
		if err != nil {
			t.Error(err)
		}
		maps.Copy(all, found)
	}
	return all
}

// TestChart decodes what the chart makes strictly and holds it to the rules.
func TestChart(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct {
		values string
		count  int
	}{
		"defaults":             {"", 6},
		"everything":           {everything, 8},
		"policies in a volume": {"policies: {volume: {persistentVolumeClaim: {claimName: policies}}}", 5},
		"policies elsewhere":   {"policies: {configMap: our-policies}", 5},
		"no secrets":           {"secrets: []", 6},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			all := rendered(t, tt.values)
			if len(all) != tt.count {
				t.Errorf("%d objects, want %d", len(all), tt.count)
			}
			obeyRules(t, all)
		})
	}
}

// TestChartRefusesWrongValues: what is wrong stops the installation and is named.
func TestChartRefusesWrongValues(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct{ values, want string }{
		{"replcas: 3", "additional properties 'replcas' not allowed"},
		{"replicas: two", "at '/replicas': got string, want integer"},
		{"config: {nats: {urll: x}}", "at '/config/nats': additional properties 'urll' not allowed"},
		{"config: {targets: [{name: a, kind: service, project_id: p, ident: x}]}", "at '/config/targets/0': additional properties 'ident' not allowed"},
		{"config: {nats: {create: 'yes'}}", "at '/config/nats/create': got string, want boolean"},
		{"config: {log: {level: loud}}", "at '/config/log/level'"},
		{"config: {worker: {slots: 0}}", "at '/config/worker/slots': minimum: got 0, want 1"},
		{"config: {sweep: {interval: 5 minutes}}", "at '/config/sweep/interval': '5 minutes' does not match pattern"},
		{"config: {targets: [{name: a, kind: sevice, project_id: p}]}", "at '/config/targets/0/kind': value must be one of"},
		{"keda: {maxReplicas: 20}", "at '/keda/maxReplicas': maximum: got 20, want 3"},
		{"tracing: {OTLP_ENDPOINT: x}", "at '/tracing': additional properties 'OTLP_ENDPOINT' not allowed"},
		{"image: {pullPolicy: Sometimes}", "at '/image/pullPolicy'"},
		{"secrets: [{name: a, files: {OTHER_KEY: b}}]", "at '/secrets/0/files': additional properties 'OTHER_KEY' not allowed"},
		{"policies: {configMap: a, volume: {emptyDir: {}}}", "policies: set one of configMap and volume"},
		{"policies: {configMap: a, files: {a.yaml: b}}", "policies: files are not mounted"},
	} {
		if _, err := render(t.Context(), tt.values); err == nil || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%s: %v, want %q", tt.values, err, tt.want)
		}
	}
}

// TestOperateShowsGoodValues renders the values that docs/operate.md shows.
func TestOperateShowsGoodValues(t *testing.T) {
	t.Parallel()
	doc, err := os.ReadFile(root + "/docs/operate.md")
	if err != nil {
		t.Fatal(err)
	}
	_, values, found := strings.Cut(string(doc), "```yaml\n# values.yaml\n")
	values, _, _ = strings.Cut(values, "```")
	if !found {
		t.Fatal("docs/operate.md shows no values.yaml")
	}
	all := rendered(t, values)
	obeyRules(t, all)
	settings := find[corev1.ConfigMap](t, all, "vpcep-approver-config").Data["worker.yaml"]
	if !strings.Contains(settings, "4189d3c2-8882-4871-a3c2-d380272eed88") {
		t.Errorf("the target is not in the settings:\n%s", settings)
	}
	checkSettings(t, settings)
}

// TestDecodeFindsFaults: what no template must contain is found, with its place.
func TestDecodeFindsFaults(t *testing.T) {
	t.Parallel()
	const account = "apiVersion: v1\nkind: ServiceAccount\nmetadata: {name: a}\n"
	for _, tt := range []struct{ text, want string }{
		{account + "automountToken: false\n", `unknown field "automountToken"`},
		{account + "Secrets: []\n", `unknown field "Secrets"`},
		{account + "---\n" + account, "ServiceAccount a is there twice"},
		{account + "---\napiVersion: v1\nkind: Pod\n", `document 2: apiVersion "v1" with kind "Pod" is not expected`},
		{account + "secrets: []\nsecrets: []\n", `key "secrets" already set`},
		{"apiVersion: apps/v1\nkind: Deployment\nspec: {template: {spec: {enableServiceLink: true}}}\n", `unknown field "spec.template.spec.enableServiceLink"`},
		{"apiVersion: apps/v1\nkind: Deployment\nspec: {template: {spec: {containers: [{resources: {limits: {memory: 256MB}}}]}}}\n", "quantities must match"},
		{"apiVersion: keda.sh/v1alpha1\nkind: ScaledObject\nspec: {scaleTargetRef: {name: a}, triggers: [], minReplicasCount: 1}\n", "additional properties 'minReplicasCount' not allowed"},
	} {
		if _, err := decode("test.yaml", tt.text); err == nil || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%s: %v, want %q", tt.text, err, tt.want)
		}
	}
}

// TestWorkerTakesTheChartsConfiguration: the file in the ConfigMap is one that the
// worker accepts.
func TestWorkerTakesTheChartsConfiguration(t *testing.T) {
	t.Parallel()
	for _, values := range []string{"", everything} {
		checkSettings(t, find[corev1.ConfigMap](t, rendered(t, values), "vpcep-approver-config").Data["worker.yaml"])
	}
}

// checkSettings has the worker read a configuration.
func checkSettings(t *testing.T, text string) {
	t.Helper()
	file := filepath.Join(t.TempDir(), "worker.yaml")
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	show := exec.CommandContext(t.Context(), "go", "run", "./cmd/worker", "config", "show", "--config", file)
	show.Dir = root
	if out, err := show.CombinedOutput(); err != nil {
		t.Errorf("%v\n%s", err, out)
	}
}
