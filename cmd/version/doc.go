// Package version says which build this is, from what the Go tool recorded.
//
// Both programs use it.
package version
