package exitcode

// Exit codes of npcnix.
const (
	// OK: done.
	OK = 0
	// Failed: something went wrong: the store, the network, a file.
	Failed = 1
	// Usage: the command line or the configuration is wrong.
	Usage = 2
	// Refused: the input was read and refused; nothing was written.
	Refused = 3
	// NotFound: what was asked for is not there.
	NotFound = 4
	// Conflict: another writer was faster; try again.
	Conflict = 5
	// HostsNotReady: hosts that were waited for are not Ready, or not in time.
	HostsNotReady = 6
)

// Exit codes of npcnix-reconciler --once. As a daemon it uses Ready for an
// orderly end, Internal and Usage.
const (
	// Ready: the declared system runs.
	Ready = 0
	// Internal: the agent failed, or the store was out of reach before a target was known.
	Internal = 1
	// BadUsage: the command line or the configuration is wrong.
	BadUsage = 2
	// NotReady: failed, refused or stalled; the status says why.
	NotReady = 3
	// Waiting: not ready because policy says to wait.
	Waiting = 4
)
