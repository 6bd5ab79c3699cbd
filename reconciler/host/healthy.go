package host

import (
	"context"
	"time"

	"github.com/npcnix/npcnix/apis/v1alpha1"
	"github.com/npcnix/npcnix/reconciler/health"
)

// checked is what the health checks of what runs came to.
type checked struct {
	at       time.Time
	toplevel string
	policy   string
	problem  string
}

// healthy remembers that what runs was just confirmed.
func (r *Reconciler) healthy() {
	r.checked = checked{at: r.opts.Now(), toplevel: r.journal.Attempt.Target}
	if a := r.documents.accepted; a != nil {
		r.checked.policy = a.policyDigest
	}
}

// longest is the greatest timeout of the checks, which run at a time.
func longest(checks v1alpha1.HealthChecks) (limit time.Duration) {
	for _, c := range checks.Checks {
		limit = max(limit, c.Timeout.Duration)
	}
	return limit
}

// checkHealth runs the health checks of the desired system, which runs, once
// for each heartbeat: with the look that is nearest to its time.
func (r *Reconciler) checkHealth(ctx context.Context, toplevel string) (problem string, err error) {
	c, now, accepted := &r.checked, r.opts.Now(), r.documents.accepted
	same := c.toplevel == toplevel && c.policy == accepted.policyDigest
	if same && !passed(c.at, now, Heartbeat-r.untilNext(r.logged)/2) {
		return c.problem, nil
	}
	if r.journal.Units == nil { // adopted: what fails now failed before
		units, err := health.NewBaseline(ctx, r.opts.machine())
		if err != nil {
			return "", err
		}
		r.journal.Units = &units
		if err := r.save(); err != nil {
			return "", err
		}
	}
	checks := accepted.spec.HealthChecks.WithDefaults()
	r.pulse.Begin("check health", longest(checks)+stepLimit)
	*c = checked{at: now, toplevel: toplevel, policy: accepted.policyDigest}
	if err := health.Once(ctx, r.opts.machine(), checks, *r.journal.Units); err != nil {
		c.problem = err.Error()
	}
	return c.problem, nil
}
