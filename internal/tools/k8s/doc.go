// Package k8s tests the manifests of deploy/helm and deploy/kustomize. It is a
// module of its own, because the worker needs no library of Kubernetes.
package k8s
