package v1alpha1

import "github.com/npcnix/npcnix/apis/meta"

// Host is a client's view of one host: all documents of its name together. It
// is printed and never stored.
type Host struct {
	meta.TypeMeta

	Metadata meta.ObjectMeta   `json:"metadata"`
	Spec     *HostSpecSpec     `json:"spec"`
	Override *HostOverrideSpec `json:"override"`
	Status   *HostStatusStatus `json:"status"`
	// LastSeen is when the store last took a status from the host.
	LastSeen *meta.Time `json:"lastSeen"`
}

// HostList is the union of the hosts that are declared and those that report.
type HostList struct {
	meta.TypeMeta

	Items []Host `json:"items"`
}

// RemoteList is a list of remotes.
type RemoteList struct {
	meta.TypeMeta

	Items []Remote `json:"items"`
}
