package host

import (
	"sync"
	"time"
)

// Pulse tells whether the agent makes progress: it is in a step, and each step
// has a limit of its own, so that a build of two hours is not taken for one
// that hangs.
type Pulse struct {
	mu   sync.Mutex
	step string
	due  time.Time // by the monotonic clock
}

// Begin says that a step begins which takes at most limit.
func (p *Pulse) Begin(step string, limit time.Duration) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.step, p.due = step, time.Now().Add(limit) //nolint:forbidigo // the monotonic clock, whatever the time is said to be
}

// Overdue names the step that takes longer than its limit, or "".
func (p *Pulse) Overdue() string {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.due.IsZero() || time.Now().Before(p.due) { //nolint:forbidigo // as above
		return ""
	}
	return p.step
}

// Pulse is this reconciler's.
func (r *Reconciler) Pulse() *Pulse { return r.pulse }
