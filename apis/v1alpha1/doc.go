// Package v1alpha1 holds the documents of the store, version
// npcnix.dev/v1alpha1: HostSpec, HostOverride, Remote and HostStatus, with
// their defaults, their validation, and the condition types and reasons that
// statuses use.
//
// Values of these types say what a document says; a field that is absent stays
// absent (nil or empty) until WithDefaults fills it in, so that an explicit
// zero is never mistaken for "unset". Decoding and encoding is package codec's.
//
// Every package that knows kinds may use it; it imports only apis.
package v1alpha1
