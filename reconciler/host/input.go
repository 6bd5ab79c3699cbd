package host

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/npcnix/npcnix/apis/v1alpha1"
	"github.com/npcnix/npcnix/reconciler/plan"
)

// errNixUnavailable is returned when Nix does not even say its version.
var errNixUnavailable = errors.New("nix does not answer")

// input gathers what the decision depends on.
func (r *Reconciler) input(ctx context.Context, p *pass) (plan.Input, error) {
	d, j, now := &r.documents, r.journal, r.opts.Now()
	in := plan.Input{
		Now: now, StoreProblem: p.storeProblem, SpecProblem: d.specProblem, Remote: d.publication, RemoteProblem: d.remoteProblem,
		Committed: j.Committed, Unproven: j.Unproven, Asked: p.asked, Attempted: p.attempted,
	}
	if d.overrideProblem != nil {
		in.SpecProblem = d.overrideProblem
	}
	p.desired = nil
	if d.accepted != nil && d.overrideProblem == nil {
		in.Spec = &d.accepted.spec
		in.Suspended = suspension(in.Spec.Suspend, now)
	}
	if in.Spec != nil && in.Remote != nil {
		if err := r.desired(ctx, p); err != nil {
			return in, err
		}
		r.newTarget()
		in.Content = d.content()
		in.Attempts, in.Failure = j.Tries.Counted, j.Tries.Failure
	}
	if p.desired != nil {
		in.Desired = p.desired.Toplevel
		in.Degraded = j.Degraded.of(in.Desired)
	}
	machine, err := r.opts.Observer.Observe(ctx, in.Desired)
	if err != nil {
		return in, fmt.Errorf("observe machine: %w", err)
	}
	p.machine, p.observed, in.Machine = machine, true, machine
	return in, r.trackDrift(&in)
}

// suspension returns the suspension that is in force at now, or nil.
func suspension(s *v1alpha1.Suspend, now time.Time) *plan.Suspension {
	if s == nil {
		return nil
	}
	if s.Until == nil {
		return &plan.Suspension{Reason: s.Reason}
	}
	if !now.Before(s.Until.Time) {
		return nil
	}
	return &plan.Suspension{Reason: s.Reason, Until: s.Until.Time}
}

// desired finds the toplevel that the target's source gave, if it is still there.
func (r *Reconciler) desired(ctx context.Context, p *pass) error {
	if r.nixVersion == "" {
		version, err := r.opts.Observer.NixVersion(ctx)
		if err != nil {
			return fmt.Errorf("%w: %w", errNixUnavailable, err)
		}
		r.nixVersion = version
	}
	b := r.journal.find(r.documents.publication.Spec.Archive.Digest, r.documents.accepted.spec.FlakeAttribute, r.nixVersion)
	if b != nil && r.opts.Builder.Built(ctx, b.OutLink, b.Toplevel) {
		p.desired = b
	}
	return nil
}

// trackDrift remembers since when the machine differs from what was committed.
// The grace starts anew when the running system changes again, but not when it
// is the desired one that was brought back.
func (r *Reconciler) trackDrift(in *plan.Input) error {
	j := r.journal
	drifted := in.Spec != nil && plan.Drifted(*in)
	switch {
	case !drifted && j.Drift == nil:
		return nil
	case !drifted:
		j.Drift = nil
	case j.Drift == nil || (j.Drift.Running != in.Machine.Running && !in.Machine.Runs(in.Desired)):
		j.Drift = &drift{Running: in.Machine.Running, Since: in.Now}
	default:
		in.DriftSince = j.Drift.Since
		return nil
	}
	if j.Drift != nil {
		in.DriftSince = j.Drift.Since
	}
	return saveJournal(r.opts.StateDir, j)
}
