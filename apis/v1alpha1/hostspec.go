package v1alpha1

import "github.com/npcnix/npcnix/apis/meta"

// HostSpec declares what one host shall run. Operators write it.
type HostSpec struct {
	meta.TypeMeta

	Metadata meta.ObjectMeta `json:"metadata"`
	Spec     HostSpecSpec    `json:"spec"`
}

// HostSpecSpec is the declaration itself.
type HostSpecSpec struct {
	// Remote names the configuration source.
	Remote string `json:"remote"`
	// FlakeAttribute is the name below nixosConfigurations; default: the host's name.
	FlakeAttribute string `json:"flakeAttribute,omitempty"`
	// Origin says where the system comes from.
	Origin Origin `json:"origin,omitempty"`
	// PollInterval bounds the time between two looks at the store.
	PollInterval *PollInterval `json:"pollInterval,omitempty"`
	// Suspend, if present, stops new action on this host.
	Suspend *Suspend `json:"suspend,omitempty"`
	// MaintenanceWindow says when systems may be activated; absent: always.
	MaintenanceWindow *MaintenanceWindow `json:"maintenanceWindow,omitempty"`
	// RebuildPolicy says how a new system is brought into force.
	RebuildPolicy *RebuildPolicy `json:"rebuildPolicy,omitempty"`
	// HealthChecks decide whether a new system is kept.
	HealthChecks *HealthChecks `json:"healthChecks,omitempty"`
}

// Origin says where a host's system comes from.
type Origin string

// Auto takes a prebuilt closure where the remote offers one, Flake evaluates
// on the host, Closure never evaluates.
const (
	OriginAuto    Origin = "Auto"
	OriginFlake   Origin = "Flake"
	OriginClosure Origin = "Closure"
)

// PollInterval bounds the adaptive polling of the store.
type PollInterval struct {
	Min *meta.Duration `json:"min,omitempty"`
	Max *meta.Duration `json:"max,omitempty"`
}

// Suspend stops new action: what runs is observed and reported, nothing new is started.
type Suspend struct {
	// Reason is shown to whoever asks why nothing happens.
	Reason string `json:"reason,omitempty"`
	// Until ends the suspension by itself; absent: until it is removed.
	Until *meta.Time `json:"until,omitempty"`
}
