// Package reconciler is the generic loop: a queue of keys, each brought to its
// desired state by one function that is called again and again. It knows
// nothing about hosts.
//
// The contract is controller-runtime's: level-triggered, at most one call per
// key at a time, an error means "again, later". A function says what it wants
// with its Result and with the class of its error: a plain error is transient
// and tried again with growing delays, Wait says when to look again, Terminal
// that only an event helps.
//
// Package host uses it, and whoever else has something to reconcile. It imports
// nothing of ours.
package reconciler
