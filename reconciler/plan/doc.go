// Package plan decides what a host does next. It is a pure function of what is
// declared, what was observed, what the journal remembers, and the time: no
// I/O, no clock, no randomness. All policy is here, and every decision says in
// one sentence why, and when the host looks again.
//
// Only package host uses it.
package plan
