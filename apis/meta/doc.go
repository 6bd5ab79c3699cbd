// Package meta holds what every document has in common: its type, its
// metadata, conditions, and the scalar types of its fields.
//
// The shapes are JSON-compatible with Kubernetes' own (apimachinery's
// apis/meta/v1), so that kustomize, yq and kubeconform work on npcnix
// documents. Every package may import it; it imports none of ours.
package meta
