package k8s

import (
	"errors"
	"fmt"
	"reflect"
	"strings"

	monitoring "github.com/prometheus-operator/prometheus-operator/pkg/apis/monitoring/v1"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	policyv1 "k8s.io/api/policy/v1"
	"sigs.k8s.io/json"
	"sigs.k8s.io/yaml"
)

// kinds are the types of what may be deployed, by apiVersion and kind.
func kinds() map[string]any {
	return map[string]any{
		"v1 ServiceAccount":                   corev1.ServiceAccount{},
		"v1 ConfigMap":                        corev1.ConfigMap{},
		"apps/v1 Deployment":                  appsv1.Deployment{},
		"policy/v1 PodDisruptionBudget":       policyv1.PodDisruptionBudget{},
		"networking.k8s.io/v1 NetworkPolicy":  networkingv1.NetworkPolicy{},
		"monitoring.coreos.com/v1 PodMonitor": monitoring.PodMonitor{},
		"keda.sh/v1alpha1 ScaledObject":       scaledObject{},
	}
}

// scaledObject is checked by KEDA's own schema.
type scaledObject map[string]any

// objects are what was decoded, by "Kind name".
type objects map[string]any

// decode decodes all documents of text strictly: fields that a type does not have,
// also in another case, doubled keys and wrong values are errors with their path,
// and so is a kind that nobody expects.
func decode(file, text string) (objects, error) {
	out := objects{}
	var errs []error
	for i, doc := range strings.Split("\n"+text, "\n---") {
		fail := func(err error) { errs = append(errs, fmt.Errorf("%s, document %d: %w", file, i+1, err)) }
		raw, err := yaml.YAMLToJSONStrict([]byte(doc))
		if err != nil {
			fail(err)
			continue
		}
		if string(raw) == "null" {
			continue
		}
		var head struct {
			APIVersion string `json:"apiVersion"`
			Kind       string `json:"kind"`
			Metadata   struct {
				Name string `json:"name"`
			} `json:"metadata"`
		}
		if err := json.UnmarshalCaseSensitivePreserveInts(raw, &head); err != nil {
			fail(err)
			continue
		}
		zero, ok := kinds()[head.APIVersion+" "+head.Kind]
		if !ok {
			fail(fmt.Errorf("apiVersion %q with kind %q is not expected", head.APIVersion, head.Kind))
			continue
		}
		if _, custom := zero.(scaledObject); custom {
			if err := validateScaledObject(raw); err != nil {
				fail(fmt.Errorf("%s %s: %w", head.Kind, head.Metadata.Name, err))
			}
		}
		object := reflect.New(reflect.TypeOf(zero)).Interface()
		strict, err := json.UnmarshalStrict(raw, object)
		for _, err := range append(strict, err) {
			if err != nil {
				fail(fmt.Errorf("%s %s: %w", head.Kind, head.Metadata.Name, err))
			}
		}
		key := head.Kind + " " + head.Metadata.Name
		if _, twice := out[key]; twice {
			fail(fmt.Errorf("%s is there twice", key))
		}
		out[key] = object
	}
	return out, errors.Join(errs...)
}
