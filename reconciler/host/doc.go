// Package host reconciles one host: an ordered list of named steps that observe
// the store and the machine, ask package plan for the next act, carry it out,
// and report, always, also after an error.
//
// What the host must remember is in one journal file, replaced before each act;
// what it says of itself is in its HostStatus. It is used by the agent through
// package reconciler's loop, and by a single pass for --once.
//
// Only cmd uses it.
package host
