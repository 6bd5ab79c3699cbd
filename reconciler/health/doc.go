// Package health judges whether a system works: the checks that a HostSpec
// declares, run until each has succeeded often enough, or until time is up.
//
// Packages host and transaction use it.
package health
