package v1alpha1

import "github.com/npcnix/npcnix/apis/meta"

// HostOverride holds what operators ask of a host now, apart from its HostSpec
// so that a sync from git never undoes it.
type HostOverride struct {
	meta.TypeMeta

	Metadata meta.ObjectMeta  `json:"metadata"`
	Spec     HostOverrideSpec `json:"spec"`
}

// HostOverrideSpec is the request; every field is optional.
type HostOverrideSpec struct {
	Suspend *Suspend `json:"suspend,omitempty"`
	// ReconcileRequestedAt asks anew when it differs from status.handled.
	ReconcileRequestedAt *meta.Time `json:"reconcileRequestedAt,omitempty"`
	// RetryRequestedAt does the same and also lifts the quarantine.
	RetryRequestedAt *meta.Time `json:"retryRequestedAt,omitempty"`
	// OpenWindowUntil makes the window count as allowed until then; deny still wins.
	OpenWindowUntil *meta.Time `json:"openWindowUntil,omitempty"`
}
