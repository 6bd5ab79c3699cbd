package v1alpha1

// APIVersion is the version of every document in this package.
const APIVersion = "npcnix.dev/v1alpha1"

// The kinds of documents in the store, and of the views that clients print.
const (
	KindHostSpec     = "HostSpec"
	KindHostOverride = "HostOverride"
	KindRemote       = "Remote"
	KindHostStatus   = "HostStatus"
	KindHost         = "Host"
	KindHostList     = "HostList"
	KindRemoteList   = "RemoteList"
)
