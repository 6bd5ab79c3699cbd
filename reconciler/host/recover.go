package host

import (
	"context"
	"fmt"

	"github.com/npcnix/npcnix/apis/v1alpha1"
	"github.com/npcnix/npcnix/nixos"
	"github.com/npcnix/npcnix/reconciler/plan"
)

// recover reads the journal, unless New did, and closes what a killed agent
// left open.
func (r *Reconciler) recover(ctx context.Context, _ *pass) (err error) {
	if r.recovered {
		return nil
	}
	if r.journal == nil {
		if r.journal, err = r.loadJournal(); err != nil {
			return err
		}
	}
	switch j := r.journal; {
	case j.Phase == phaseLost:
		err = r.closeUnknown(ctx)
	case j.open():
		err = r.closeInterrupted(ctx)
	}
	if err != nil {
		return err
	}
	r.removeUnnamed()
	r.recovered = true
	return nil
}

// leftOpen reports whether an earlier agent left an attempt open, which is a
// reason to look at once.
func (r *Reconciler) leftOpen() bool {
	return r.journal != nil && (r.journal.open() || r.journal.Phase == phaseLost)
}

// closeUnknown ends whatever a lost journal knew of: every switch is waited
// for, and what runs counts as unproven, so that it is activated once more.
func (r *Reconciler) closeUnknown(ctx context.Context) error {
	for _, id := range r.runs() {
		if _, err := r.opts.Activator.Await(ctx, id); err != nil {
			return fmt.Errorf("wait for an earlier agent's switch: %w", err)
		}
	}
	machine, err := r.opts.Observer.Observe(ctx, "")
	if err != nil {
		return fmt.Errorf("observe machine: %w", err)
	}
	r.journal.Unproven, r.journal.Phase = machine.Running, phaseFailed
	return saveJournal(r.opts.StateDir, r.journal)
}

// closeInterrupted ends an attempt that an earlier agent began. A switch that
// still runs is waited for. If nobody took its result, nothing is known of how
// it ended, so it counts.
func (r *Reconciler) closeInterrupted(ctx context.Context) error {
	j := r.journal
	message := "The agent ended during this attempt, in phase " + string(j.Phase) + "."
	failed := j.Phase == phaseSwitching
	if j.Phase == phaseSwitching || j.Phase == phaseCommitting {
		for _, act := range []nixos.Action{nixos.ActionTest, nixos.ActionBoot} {
			result, err := r.opts.Activator.Await(ctx, runID(j.Attempt.ID, act))
			if err != nil {
				return fmt.Errorf("wait for an earlier agent's switch: %w", err)
			}
			if act == nixos.ActionTest && failed && switched(result) {
				failed = false
				r.activated(j.Attempt.Target, result)
			}
		}
	}
	if failed {
		j.Tries.Counted++
		j.Tries.Failure = &plan.Failure{
			Class: plan.ActivationClass, Reason: v1alpha1.ReasonInterrupted, Message: message,
			NextAt: r.opts.Now(), // the wait is for what fails, not for what was cut off
		}
	}
	j.end(phaseFailed, v1alpha1.OutcomeFailed, v1alpha1.ReasonInterrupted, message, r.opts.Now())
	r.opts.Log.Info("Closed an interrupted attempt", "host", r.opts.Host, "attempt", j.Attempt.ID, "reason", message)
	return saveJournal(r.opts.StateDir, j)
}
