package run

import (
	"context"
	"syscall"
	"time"
)

// identityPoll is how often a process that is not our child is looked at.
const identityPoll = 50 * time.Millisecond

// Identity names a process that another program started, or an earlier run of
// this one: its pid alone may have been given away again.
type Identity struct {
	PID     int    `json:"pid"`
	Started string `json:"started"`
}

// Identity returns the process's identity. ok is false if it has ended.
func (p *Process) Identity() (id Identity, ok bool) { return identify(p.cmd.Process.Pid) }

// Alive reports whether the process still runs.
func (id Identity) Alive() bool {
	now, ok := identify(id.PID)
	return ok && now == id
}

// Wait waits until the process has ended. After limit it is stopped, with its
// group: SIGTERM, and SIGKILL 10 s later. stopped says so.
func (id Identity) Wait(ctx context.Context, limit time.Duration) (stopped bool, err error) {
	ticker := time.NewTicker(identityPoll)
	defer ticker.Stop()
	timer := time.NewTimer(limit)
	defer timer.Stop()
	signal := syscall.SIGTERM
	for id.Alive() {
		select {
		case <-ctx.Done():
			return stopped, context.Cause(ctx) //nolint:wrapcheck // the caller's own
		case <-timer.C:
			stopped = true
			_ = syscall.Kill(-id.PID, signal) // it may just have ended
			signal = syscall.SIGKILL
			timer.Reset(defaultGrace)
		case <-ticker.C:
		}
	}
	return stopped, nil
}
