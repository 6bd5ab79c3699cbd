package host

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/npcnix/npcnix/apis/v1alpha1"
	"github.com/npcnix/npcnix/nixos"
	"github.com/npcnix/npcnix/reconciler/health"
	"github.com/npcnix/npcnix/reconciler/plan"
	"github.com/npcnix/npcnix/reconciler/transaction"
)

const (
	// awaitSlack is how much longer than its own limit a switch is waited for.
	awaitSlack = time.Minute
	// maxRestarts is how often an agent that is not the one that the new system
	// defines restarts in one transaction.
	maxRestarts = 3
	// guardPoll is how often a guard at work is looked at, guardStarts how often
	// one that ended without an outcome is started again.
	guardPoll   = 200 * time.Millisecond
	guardStarts = 3
)

// errRestarting says that this agent asked to be restarted, and that the one
// after it goes on.
var errRestarting = errors.New("the agent restarts as the running system defines it")

// activate brings the target into force: from here on the transaction on disk
// and the journal say how far it has come, whoever goes on.
func (r *Reconciler) activate(ctx context.Context, p *pass) error {
	t, err := r.arm(ctx, p)
	if t == nil || err != nil {
		return err
	}
	return r.drive(ctx, p, t)
}

// arm records what to go back to and starts the guard. t is nil if the attempt
// ended here, with nothing to undo.
func (r *Reconciler) arm(ctx context.Context, p *pass) (t *transaction.Transaction, err error) {
	if err := r.roundTrip(ctx, p); err != nil {
		return nil, r.fail(p, noRoundTrip(err))
	}
	if t, err = r.record(ctx, p); err == nil {
		if t.Plan.AgentRemoved {
			r.lastWord(ctx, p)
		}
		// Before the guard is armed: an armed one that no journal knows of would
		// take back what a later transaction commits.
		if err := r.enter(phaseArmed); err != nil {
			return nil, err
		}
		err = r.opts.Guard.Arm(ctx, t.Plan.ID, t.Directory(), t.Plan.Deadline())
	}
	if err != nil {
		r.discard(context.WithoutCancel(ctx))
		return nil, r.fail(p, notPrepared(err))
	}
	return t, nil
}

// lastWord says in the status that no agent will follow this one.
func (r *Reconciler) lastWord(ctx context.Context, p *pass) {
	p.progress = p.decision.Message + " " + lastWord
	p.decision.Message = p.progress
	if err := r.report(ctx, p); err != nil {
		r.opts.Log.Info("Could not report that the agent goes", "host", r.opts.Host, "error", err.Error())
	}
}

// record writes the plan, and roots what it may need.
func (r *Reconciler) record(ctx context.Context, p *pass) (*transaction.Transaction, error) {
	target, id, o := p.desired.Toplevel, r.journal.Attempt.ID, r.opts
	r.journal.Attempt.Target = target
	machine, err := o.Observer.Observe(ctx, target)
	if err != nil {
		return nil, fmt.Errorf("observe machine: %w", err)
	}
	units, err := r.baseline(ctx, machine.Running)
	if err != nil {
		return nil, err
	}
	removes, err := o.Service.Removes(ctx, target)
	if err != nil {
		return nil, fmt.Errorf("look for the agent in %s: %w", target, err)
	}
	spec, policy := r.documents.accepted.spec, r.documents.accepted.spec.RebuildPolicy
	pl := transaction.Plan{
		ID: id, Host: o.Host, CreatedAt: o.Now(), Mode: policy.Mode, Target: target, Activate: r.specialised(p, machine.Running),
		Policy: r.documents.accepted.policyDigest, AgentRemoved: removes, Mend: p.decision.Action == plan.Commit,
		Recorded: transaction.Recorded{
			Running: machine.Running, Profile: machine.Profile, ProfileGeneration: machine.ProfileGeneration,
			BootDefault: machine.BootDefault, BootID: r.bootID, Units: units,
		},
		Retain:        *policy.Retention.Generations,
		ActivateLimit: policy.Timeouts.Activate.Duration, ConfirmLimit: policy.Timeouts.Confirm.Duration,
		Rollback: *policy.Rollback, HealthChecks: spec.HealthChecks.WithDefaults(), Checks: o.Checks, RemoteChecks: o.RemoteChecks,
	}
	pl.Committed = p.decision.Action == plan.Reboot && machine.Profile == target
	if !pl.Mend && machine.Profile == target {
		pl.Back = r.earlier(machine, target, pl.Committed)
	}
	if err := o.Activator.Root(ctx, id, target, machine.Running, machine.Profile, pl.Back); err != nil {
		return nil, err
	}
	return transaction.Create(transaction.Dir(o.StateDir, id), pl)
}

// earlier is the system that the profile goes back to where it names the target
// already: a person set it, or only a reboot is missing. Empty if there is none.
func (r *Reconciler) earlier(machine nixos.Machine, target string, committed bool) string {
	list := []string{machine.Booted}
	if !committed {
		list = []string{r.journal.Committed, machine.Booted, machine.Running}
	}
	for _, path := range list {
		if nixos.IsStorePath(path) && path != target && r.opts.Observer.Specialisation(target, path) == "" {
			return path
		}
	}
	return ""
}

// baseline is what of the services is held against no target, as it was so before.
// What a system failed by that runs, and did not prove itself, was not.
func (r *Reconciler) baseline(ctx context.Context, running string) (health.Baseline, error) {
	units, err := health.NewBaseline(ctx, r.opts.machine())
	if err != nil {
		return units, fmt.Errorf("list units: %w", err)
	}
	if j := r.journal; j.Unproven != "" && j.Unproven == running {
		units.Failed = slices.DeleteFunc(units.Failed, func(name string) bool { return slices.Contains(j.UnprovenUnits, name) })
	}
	return units, nil
}

// specialised returns what is activated: the target, or its specialisation of
// the name of the one that runs.
func (r *Reconciler) specialised(p *pass, running string) string {
	target := p.desired.Toplevel
	for _, base := range []string{r.journal.Committed, p.machine.Profile} {
		if base == "" {
			continue
		}
		name := r.opts.Observer.Specialisation(base, running)
		if path := r.opts.Observer.Specialised(target, name); path != "" {
			return path
		}
		if name != "" {
			r.journal.Attempt.Changes = []string{"specialisation " + name + " ran, and the new system has none of that name"}
		}
	}
	return target
}

// drive carries the transaction on from where the journal says it is, until it
// has ended. ctx ends when the agent is told to stop: then it leaves things as
// they are, for the next agent and the guard.
func (r *Reconciler) drive(ctx context.Context, p *pass, t *transaction.Transaction) error {
	for r.journal.Phase.transacting() {
		var err error
		r.pulse.Begin(string(r.journal.Phase), t.Plan.Deadline()+awaitSlack)
		switch r.journal.Phase {
		case phaseArmed:
			err = r.begin(ctx, t)
		case phaseSwitching:
			err = r.awaitSwitch(ctx, p, t)
		case phaseConfirming:
			err = r.confirm(ctx, p, t)
		case phaseCommitting:
			err = r.commit(context.WithoutCancel(ctx), p, t)
		case phaseStaging:
			err = r.stageNow(context.WithoutCancel(ctx), p, t)
		default:
			err = r.rollBack(ctx, p, t)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// begin starts the switch. Where that fails, awaiting it tells that it never started.
func (r *Reconciler) begin(ctx context.Context, t *transaction.Transaction) error {
	if err := r.enter(phaseSwitching); err != nil {
		return err
	}
	r.startFailed = nil
	err := t.Switch(ctx, r.opts.machine(), r.opts.Now)
	if err != nil && !errors.Is(err, nixos.ErrRunExists) {
		r.opts.Log.Error(err, "Could not start the switch", "host", r.opts.Host, "target", t.Plan.Activate)
		r.startFailed = err
		return nil
	}
	if t.Plan.AgentRemoved { // this agent may not live to see the end, and said so in its last status
		return r.opts.Guard.Fire(ctx, t.Plan.ID, t.Directory())
	}
	return nil
}

// awaitSwitch waits for the end of the switch and judges it.
func (r *Reconciler) awaitSwitch(ctx context.Context, p *pass, t *transaction.Transaction) error {
	r.began = t.Plan.ID // an agent that sees a switch end may have read what was configured before it
	limited, cancel := context.WithTimeout(ctx, t.Plan.ActivateLimit+awaitSlack)
	defer cancel()
	result, err := r.opts.Activator.Await(limited, t.RunID(transaction.SwitchRun))
	if ctx.Err() != nil {
		return context.Cause(ctx) //nolint:wrapcheck // the loop's own: draining
	}
	if err != nil && limited.Err() == nil {
		return fmt.Errorf("wait for the switch: %w", err) // and again with the next look
	}
	if err != nil { // it may still run: the guard stops it and decides
		result.How, result.Lost = "it did not end: "+err.Error(), true
	}
	if o, ended, err := t.Outcome(); ended || err != nil {
		return r.concludeIf(ctx, p, t, o, err)
	}
	if t.Plan.AgentRemoved { // the guard judges
		return r.enter(phaseRollingBack)
	}
	return r.judgeSwitch(ctx, p, t, result)
}

// judgeSwitch decides by the machine and by stc's word what became of a switch.
func (r *Reconciler) judgeSwitch(ctx context.Context, p *pass, t *transaction.Transaction, result nixos.Result) error {
	if result.Exited {
		r.journal.Attempt.ExitCode = new(result.ExitCode)
	}
	machine, err := r.opts.Observer.Observe(context.WithoutCancel(ctx), t.Plan.Target)
	if err != nil {
		return fmt.Errorf("observe machine: %w", err)
	}
	switch runs := t.Runs(r.opts.Observer, machine.Running); {
	case result.Exited && result.ExitCode == nixos.ExitRebootRequired:
		return r.stageInstead(ctx, p, t)
	case result.Switched() && runs:
		return r.enter(phaseConfirming)
	case result.Untouched() && !runs:
		return r.untouched(ctx, p, t, result)
	default:
		problem := transaction.Problem{Reason: v1alpha1.ReasonActivationFailed, Message: activationMessage(result, machine, t)}
		return r.takeBack(t, problem)
	}
}

// untouched ends a transaction whose switch never changed anything.
func (r *Reconciler) untouched(ctx context.Context, p *pass, t *transaction.Transaction, result nixos.Result) error {
	problem := transaction.Problem{Reason: v1alpha1.ReasonActivationFailed, Message: endedUntouched(result)}
	cutOff := result.How == nixos.NeverStarted && r.startFailed == nil
	switch {
	case cutOff:
		problem = transaction.Problem{Reason: v1alpha1.ReasonInterrupted, Message: endedBefore, Transient: true}
	case r.startFailed != nil:
		problem.Message += ". " + r.startFailed.Error()
		r.startFailed = nil
	}
	if other, err := r.opts.Observer.OtherSwitch(ctx); err == nil && other != "" {
		problem.Reason, problem.Transient = v1alpha1.ReasonSwitchActive, true
		problem.Message += alsoSwitches(other)
	}
	problem.Message = strings.TrimSuffix(problem.Message, ".") + ". " + tailOf(result)
	o, err := t.Abandon(ctx, r.opts.machine(), r.opts.Now, transaction.Failed, problem, nothingChanged)
	if err == nil {
		err = r.conclude(ctx, p, t, o)
	}
	if err == nil && cutOff {
		return r.retryNow(p)
	}
	return err
}

// concludeIf concludes unless there was an error.
func (r *Reconciler) concludeIf(ctx context.Context, p *pass, t *transaction.Transaction, o transaction.Outcome, err error) error {
	if err != nil {
		return err
	}
	return r.conclude(ctx, p, t, o)
}

// takeBack lets the guard roll back.
func (r *Reconciler) takeBack(t *transaction.Transaction, problem transaction.Problem) error {
	if err := t.Blame(problem); err != nil {
		return err
	}
	return r.enter(phaseRollingBack)
}

// commit makes the confirmed system permanent.
func (r *Reconciler) commit(ctx context.Context, p *pass, t *transaction.Transaction) error {
	var o transaction.Outcome
	var err error
	if t.Staged() {
		o, err = t.Booted(ctx, r.opts.machine(), r.opts.Now)
	} else {
		o, err = t.Commit(ctx, r.opts.machine(), r.opts.Now)
	}
	var refused *transaction.RefusedError
	switch {
	case errors.As(err, &refused) && t.Plan.Mend: // what runs is right
		o, err = t.Abandon(ctx, r.opts.machine(), r.opts.Now, transaction.Failed, refused.Problem, whatRunsStays)
	case errors.As(err, &refused):
		return r.enter(phaseRollingBack)
	}
	if err != nil {
		return err
	}
	return r.conclude(ctx, p, t, o)
}

// rollBack lets the guard end the transaction, and takes in its word.
func (r *Reconciler) rollBack(ctx context.Context, p *pass, t *transaction.Transaction) error {
	o, err := r.awaitGuard(ctx, t)
	if err != nil {
		return err
	}
	return r.conclude(ctx, p, t, o)
}

// awaitGuard starts the guard and waits for the outcome.
func (r *Reconciler) awaitGuard(ctx context.Context, t *transaction.Transaction) (transaction.Outcome, error) {
	limit := t.Plan.ActivateLimit + t.Plan.ConfirmLimit + 2*awaitSlack
	r.pulse.Begin("roll back", limit+awaitSlack)
	limited, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	ticker := time.NewTicker(guardPoll)
	defer ticker.Stop()
	for starts := 0; ; {
		o, ended, err := t.Outcome()
		if err != nil || ended {
			return o, err
		}
		starts, err = r.keepGuard(limited, t, starts)
		if errors.Is(err, transaction.ErrNotBroughtBack) {
			return o, err // and again with the next look
		}
		if err != nil && limited.Err() == nil {
			r.opts.Log.Error(err, "Could not start the guard", "host", r.opts.Host, "transaction", t.Plan.ID)
		}
		select {
		case <-ctx.Done():
			return o, context.Cause(ctx) //nolint:wrapcheck // the loop's own: draining
		case <-limited.Done():
			return o, fmt.Errorf("the guard of %s did not end within %s; by hand: %s/bin/switch-to-configuration test", t.Plan.ID, limit, t.Plan.Recorded.Running)
		case <-ticker.C:
		}
	}
}

// keepGuard starts the guard unless it runs, a few times at most; it returns
// how often.
func (r *Reconciler) keepGuard(ctx context.Context, t *transaction.Transaction, starts int) (int, error) {
	runs, err := r.opts.Guard.Runs(ctx, t.Plan.ID)
	if err != nil || (runs && starts > 0) || starts >= guardStarts {
		return starts, err
	}
	return starts + 1, r.fire(ctx, t)
}

// fire starts the guard. One of a staged transaction that was booted changes
// nothing that runs, so that this process can be it.
func (r *Reconciler) fire(ctx context.Context, t *transaction.Transaction) error {
	if t.Staged() {
		_, err := t.RunBootGuard(ctx, r.opts.machine(), r.opts.Now)
		return err
	}
	return r.opts.Guard.Fire(ctx, t.Plan.ID, t.Directory())
}
