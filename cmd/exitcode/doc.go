// Package exitcode holds the exit codes of both programs: scripts rely on them.
//
// Both programs use it, and their tests.
package exitcode
