package k8s

import (
	"maps"
	"testing"

	monitoring "github.com/prometheus-operator/prometheus-operator/pkg/apis/monitoring/v1"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	policyv1 "k8s.io/api/policy/v1"
	"k8s.io/apimachinery/pkg/util/intstr"
)

const name = "vpcep-approver"

// find returns the object of a type by its name.
func find[T any](t *testing.T, all objects, name string) *T {
	t.Helper()
	for key, object := range all {
		if found, ok := object.(*T); ok && len(key) > len(name) && key[len(key)-len(name)-1:] == " "+name {
			return found
		}
	}
	t.Fatalf("there is no %T %s", *new(T), name)
	return nil
}

// has returns the objects of a type.
func has[T any](all objects) (out []*T) {
	for _, object := range all {
		if found, ok := object.(*T); ok {
			out = append(out, found)
		}
	}
	return out
}

// obeyRules checks what no schema knows.
func obeyRules(t *testing.T, all objects) {
	t.Helper()
	deployment := find[appsv1.Deployment](t, all, name)
	pod := deployment.Spec.Template
	worker := pod.Spec.Containers[0]
	check := func(ok bool, rule string) {
		t.Helper()
		if !ok {
			t.Error("broken: " + rule)
		}
	}

	labels := pod.Labels
	selects := func(selector map[string]string) bool {
		for key, value := range selector {
			if labels[key] != value {
				return false
			}
		}
		return len(selector) > 0
	}
	selector := deployment.Spec.Selector.MatchLabels
	check(selects(selector), "the Deployment selects its pods")
	for _, budget := range has[policyv1.PodDisruptionBudget](all) {
		check(maps.Equal(budget.Spec.Selector.MatchLabels, selector), "the disruption budget is about the Deployment's pods")
		check(*budget.Spec.UnhealthyPodEvictionPolicy == policyv1.AlwaysAllow, "unhealthy pods can be evicted")
		check(budget.Spec.MaxUnavailable.IntValue() == 1, "one pod at a time is evicted")
	}
	for _, policy := range has[networkingv1.NetworkPolicy](all) {
		check(maps.Equal(policy.Spec.PodSelector.MatchLabels, selector), "the network policy is about the Deployment's pods")
		check(len(policy.Spec.PolicyTypes) == 2, "the network policy is about both directions")
		for _, rule := range policy.Spec.Ingress {
			for _, port := range rule.Ports {
				check(hasPort(worker, port.Port.StrVal), "the network policy names a port of the worker")
			}
		}
	}
	for _, monitor := range has[monitoring.PodMonitor](all) {
		check(maps.Equal(monitor.Spec.Selector.MatchLabels, selector), "the pod monitor is about the Deployment's pods")
		check(hasPort(worker, *monitor.Spec.PodMetricsEndpoints[0].Port), "the pod monitor names a port of the worker")
	}
	for _, constraint := range pod.Spec.TopologySpreadConstraints {
		check(maps.Equal(constraint.LabelSelector.MatchLabels, selector), "the spread is about the Deployment's pods")
	}
	check(len(pod.Spec.TopologySpreadConstraints) == 2, "pods spread over zones and nodes")

	scaled := false
	for _, object := range has[scaledObject](all) {
		spec := (*object)["spec"].(map[string]any)
		check(spec["scaleTargetRef"].(map[string]any)["name"] == deployment.Name, "KEDA scales the Deployment")
		scaled = true
	}
	check((deployment.Spec.Replicas == nil) == scaled, "either the Deployment or KEDA sets the replicas")

	check(*pod.Spec.SecurityContext.RunAsNonRoot && *pod.Spec.SecurityContext.RunAsUser == 65532, "the worker is not root")
	check(pod.Spec.SecurityContext.SeccompProfile.Type == corev1.SeccompProfileTypeRuntimeDefault, "seccomp is on")
	check(*worker.SecurityContext.ReadOnlyRootFilesystem && !*worker.SecurityContext.AllowPrivilegeEscalation, "the root is read-only")
	check(len(worker.SecurityContext.Capabilities.Drop) == 1 && worker.SecurityContext.Capabilities.Drop[0] == "ALL", "no capability is left")
	check(!*pod.Spec.AutomountServiceAccountToken && !*pod.Spec.EnableServiceLinks, "no token and no service links")
	check(!worker.Resources.Limits.Memory().IsZero() && !worker.Resources.Requests.Cpu().IsZero(), "memory is limited, CPU requested")
	check(worker.Resources.Limits.Cpu().IsZero(), "CPU is not limited: throttling would delay heartbeats")
	check(*pod.Spec.TerminationGracePeriodSeconds > 10, "the grace period is longer than worker.shutdown_grace")

	for _, probe := range []*corev1.Probe{worker.StartupProbe, worker.LivenessProbe, worker.ReadinessProbe} {
		check(probe.HTTPGet.Port == intstr.FromString("probes") && hasPort(worker, "probes"), "probes use the port of probes")
		check(probe.HTTPGet.Scheme == "", "probes are plain HTTP")
	}
	check(worker.LivenessProbe.HTTPGet.Path == "/livez", "a broker that is away restarts no pod")
	check(worker.StartupProbe.PeriodSeconds*worker.StartupProbe.FailureThreshold > 120, "the start may take longer than nats.wait")

	volumes := map[string]bool{}
	for _, volume := range pod.Spec.Volumes {
		check(!volumes[volume.Name], "volumes have names of their own: "+volume.Name)
		volumes[volume.Name] = true
	}
	for _, mount := range worker.VolumeMounts {
		check(volumes[mount.Name], "the volume of a mount exists: "+mount.Name)
		check(mount.SubPath == "", "whole folders are mounted: "+mount.Name)
		check(mount.ReadOnly || mount.Name == "tmp", "mounts are read-only: "+mount.Name)
	}
	for _, account := range has[corev1.ServiceAccount](all) {
		check(account.Name == pod.Spec.ServiceAccountName, "the pods use the service account")
	}
}

func hasPort(worker corev1.Container, name string) bool {
	for _, port := range worker.Ports {
		if port.Name == name && name != "" {
			return true
		}
	}
	return false
}
