package host

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/npcnix/npcnix/apis/v1alpha1"
	"github.com/npcnix/npcnix/nixos"
	"github.com/npcnix/npcnix/reconciler/plan"
)

// awaitSlack is how much longer than its own limit a switch is waited for.
const awaitSlack = time.Minute

// activate switches the running system. Nothing is made permanent.
func (r *Reconciler) activate(ctx context.Context, p *pass) error {
	j, target := r.journal, p.desired.Toplevel
	j.Attempt.Target = target
	j.Unproven = target
	if err := r.enter(phaseSwitching); err != nil {
		return err
	}
	result, err := r.stc(ctx, nixos.ActionTest, target)
	if err != nil {
		return r.fail(p, plan.ActivationClass, v1alpha1.ReasonActivationFailed, "The switch could not be run: "+err.Error())
	}
	if result.Exited {
		j.Attempt.ExitCode = new(result.ExitCode)
	}
	if result.Exited && result.ExitCode == nixos.ExitRebootRequired {
		j.Unproven = "" // nothing was activated
		return r.fail(p, plan.Permanent, v1alpha1.ReasonRebootRequired, rebootMessage(target, result))
	}
	machine, err := r.opts.Observer.Observe(ctx, target)
	if err != nil {
		return fmt.Errorf("observe machine: %w", err)
	}
	if !switched(result) || !machine.Runs(target) {
		return r.fail(p, plan.ActivationClass, v1alpha1.ReasonActivationFailed, activationMessage(result, machine, target))
	}
	r.activated(target, result)
	return r.enter(phaseActivated)
}

// switched reports whether stc says that the system runs.
func switched(result nixos.Result) bool {
	return result.Exited && (result.ExitCode == nixos.ExitDone || result.ExitCode == nixos.ExitUnitsFailed)
}

// activated remembers that the activation of a toplevel ended well. Failures
// before it do not hold the commit back.
func (r *Reconciler) activated(toplevel string, result nixos.Result) {
	j := r.journal
	j.Unproven, j.Degraded, j.Tries.Failure = "", nil, nil
	if result.ExitCode == nixos.ExitUnitsFailed {
		j.Degraded = &degraded{Toplevel: toplevel, Message: strings.TrimSpace("The system runs, but some unit failed to start. " + tailOf(result))}
	}
}

// commit makes the running system the profile's and the boot default, in this
// order: boot loader installers ignore a system that is in no profile.
func (r *Reconciler) commit(ctx context.Context, p *pass) error {
	j, target := r.journal, p.desired.Toplevel
	j.Attempt.Target = target
	if err := r.enter(phaseCommitting); err != nil {
		return err
	}
	if p.machine.Profile != target {
		if err := r.opts.Activator.SetProfile(ctx, target); err != nil {
			return r.fail(p, plan.ActivationClass, v1alpha1.ReasonProfileFailed, "The new system runs, but is not the profile's: "+err.Error())
		}
	}
	result, err := r.stc(ctx, nixos.ActionBoot, target)
	if err != nil || !result.Exited || result.ExitCode != nixos.ExitDone {
		return r.fail(p, plan.ActivationClass, v1alpha1.ReasonBootLoaderFailed, "The new system runs, but is not the boot default: "+bootMessage(result, err))
	}
	machine, err := r.opts.Observer.Observe(ctx, target)
	if err != nil {
		return fmt.Errorf("observe machine: %w", err)
	}
	if machine.Profile != target {
		return r.fail(p, plan.ActivationClass, v1alpha1.ReasonProfileFailed, fmt.Sprintf("The profile is %s after it was set to %s.", machine.Profile, target))
	}
	if machine.BootDefault != target && machine.BootDefault != nixos.Unknown {
		return r.fail(p, plan.ActivationClass, v1alpha1.ReasonBootLoaderFailed,
			fmt.Sprintf("The boot loader's installer ended well, but the boot default is %q.", machine.BootDefault))
	}
	return r.committed(target)
}

func (r *Reconciler) committed(target string) error {
	j := r.journal
	outcome, reason := v1alpha1.OutcomeCommitted, v1alpha1.ReasonUpToDate
	message := j.Degraded.of(target)
	if message != "" {
		outcome, reason = v1alpha1.OutcomeDegraded, v1alpha1.ReasonDegraded
	}
	j.Committed, j.Drift, j.Tries = target, nil, tries{Key: j.Tries.Key}
	j.end(phaseCommitted, outcome, reason, message, r.opts.Now())
	return saveJournal(r.opts.StateDir, j)
}

// stc runs switch-to-configuration to its end.
func (r *Reconciler) stc(ctx context.Context, action nixos.Action, toplevel string) (nixos.Result, error) {
	limit := r.documents.accepted.spec.RebuildPolicy.Timeouts.Activate.Duration
	id := runID(r.journal.Attempt.ID, action)
	err := r.opts.Activator.Start(ctx, nixos.Activation{ID: id, Toplevel: toplevel, Action: action, Limit: limit})
	if err != nil {
		return nixos.Result{}, err
	}
	ctx, cancel := context.WithTimeout(ctx, limit+awaitSlack)
	defer cancel()
	return r.opts.Activator.Await(ctx, id)
}

func runID(attempt string, action nixos.Action) string { return attempt + "-" + string(action) }
