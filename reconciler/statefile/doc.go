// Package statefile reads and replaces the small files that must survive a
// crash and a power cut: written, synced, renamed, and the rename made durable.
//
// Packages host and transaction use it.
package statefile
