package host

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/npcnix/npcnix/apis/v1alpha1"
	"github.com/npcnix/npcnix/reconciler/plan"
	"github.com/npcnix/npcnix/reconciler/window"
	"github.com/npcnix/npcnix/store"
)

// errNixUnavailable is returned when Nix does not even say its version.
var errNixUnavailable = errors.New("nix does not answer")

// input gathers what the decision depends on.
func (r *Reconciler) input(ctx context.Context, p *pass) (plan.Input, error) {
	d, j, now := &r.documents, r.journal, r.opts.Now()
	in := plan.Input{
		Now: now, StoreProblem: p.storeProblem, SpecProblem: d.specProblem, Remote: d.publication, RemoteProblem: d.remoteProblem,
		Committed: j.Committed, Staged: j.Staged, Unproven: j.Unproven,
	}
	p.desired = nil
	if err := r.takeUp(p); err != nil {
		return in, err
	}
	in.Asked, in.Attempted = p.asked || j.Asked, p.attempted
	r.declared(&in)
	if in.Spec != nil && in.Remote != nil {
		if err := r.desired(ctx, p); err != nil {
			return in, err
		}
		r.newTarget()
		in.Content = d.content()
		in.Attempts, in.Failure = j.Tries.Counted, j.Tries.Failure
	}
	if p.desired != nil {
		r.remembered(&in, p.desired.Toplevel)
	}
	machine, err := r.opts.Observer.Observe(ctx, in.Desired)
	if err != nil {
		return in, fmt.Errorf("observe machine: %w", err)
	}
	p.machine, p.observed, in.Machine = machine, true, machine
	if in.Unhealthy, err = r.unhealthy(ctx, in); err != nil {
		return in, fmt.Errorf("check health: %w", err)
	}
	in.Disk = r.disk(in.Now)
	return in, errors.Join(r.trackDrift(ctx, &in), r.trackReboot(ctx, &in))
}

// makeRoomPause is how often room is made at most.
const makeRoomPause = time.Hour

// passed reports whether that much time has passed. A clock that was set back does
// not tell; it counts as if.
func passed(since, now time.Time, d time.Duration) bool {
	age := now.Sub(since)
	return age < 0 || age >= d
}

// disk is the room for a build, nil where it cannot be told.
func (r *Reconciler) disk(now time.Time) *plan.Disk {
	free, ok := r.opts.Observer.FreeDisk()
	if !ok {
		return nil
	}
	return &plan.Disk{Free: free, Collected: !passed(r.journal.CollectedAt, now, makeRoomPause)}
}

// declared adds what the documents say.
func (r *Reconciler) declared(in *plan.Input) {
	d := &r.documents
	if in.SpecProblem == nil {
		in.SpecProblem = d.overrideProblem
	}
	if d.accepted != nil {
		in.Spec, in.Window = &d.accepted.spec, r.calendar()
		in.Suspended, in.ClockSkewed = r.suspension(in.Now), r.skewed()
	}
}

// calendar is the host's window, as the override opens it.
func (r *Reconciler) calendar() *window.Calendar {
	c := r.documents.accepted.calendar
	if until := r.documents.overrideSpec().OpenWindowUntil; until != nil {
		return c.Opened(r.opts.Now(), until.Time)
	}
	return c
}

// maxSkew is how far this machine's clock may be from the store's.
const maxSkew = 2 * time.Minute

// skewed reports whether this machine's clock is too far from the store's to
// judge by it. A store that tells no time is believed to agree.
func (r *Reconciler) skewed() bool {
	clocked, ok := r.opts.Store.(store.Clocked)
	if !ok {
		return false
	}
	skew, known := clocked.Skew()
	return known && skew.Abs() > maxSkew
}

// unhealthy says what is wrong with the desired system, if it runs.
func (r *Reconciler) unhealthy(ctx context.Context, in plan.Input) (string, error) {
	if in.Spec == nil || !in.Machine.Runs(in.Desired) || in.Unproven == in.Desired {
		return "", nil
	}
	return r.checkHealth(ctx, in.Desired)
}

// remembered adds what the journal knows of the desired toplevel.
func (r *Reconciler) remembered(in *plan.Input, desired string) {
	j := r.journal
	in.Desired, in.RebootNeeded, in.Dry = desired, j.RebootNeeded, j.Dry
	in.Quarantined = j.quarantined(desired, r.documents.accepted.policyDigest)
	if in.Quarantined != "" && j.StayedIn == r.bootID {
		in.Quarantined += "\n" + stayedInBoot()
	}
	if v := j.VainBoots; v != nil && v.Toplevel == desired && v.Policy == r.documents.accepted.policyDigest {
		in.VainBoots = v.Count
	}
	if j.Superseded == desired { // a person switched away from it: drift
		in.Committed = desired
	}
	if b := j.BootedOther; b != nil && b.Committed == desired && b.Content == in.Content {
		in.BootedOther = bootedInstead(b)
	}
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
// is the desired one that was brought back; and where a clock that was wrong had
// begun it.
func (r *Reconciler) trackDrift(ctx context.Context, in *plan.Input) error {
	j := r.journal
	drifted := in.Spec != nil && plan.Drifted(*in)
	switch {
	case !drifted && j.Drift == nil:
		return nil
	case !drifted:
		j.Drift = nil
	case j.Drift == nil, j.Drift.Since.After(in.Now), j.Drift.Skewed && !r.skewed(), j.Drift.Running != in.Machine.Running && !in.Machine.Runs(in.Desired):
		j.Drift = &drift{Running: in.Machine.Running, Since: in.Now, Skewed: r.skewed()}
	default:
		in.DriftSince = j.Drift.Since
		return nil
	}
	if err := r.save(); err != nil || !drifted {
		return err
	}
	in.DriftSince = j.Drift.Since
	r.warnOfCorrection(ctx, *in)
	return nil
}

// warnOfCorrection tells those who are logged in, who may have changed the host
// for a reason.
func (r *Reconciler) warnOfCorrection(ctx context.Context, in plan.Input) {
	policy := in.Spec.RebuildPolicy.Drift
	if policy.Action == v1alpha1.DriftReport || in.Suspended != nil || in.BootedOther != "" || in.Quarantined != "" {
		return
	}
	r.tell(ctx, correctsIn(policy.Grace.Duration))
}
