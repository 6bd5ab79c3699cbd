package host

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"

	"github.com/npcnix/npcnix/apis/meta"
	"github.com/npcnix/npcnix/apis/v1alpha1"
	"github.com/npcnix/npcnix/reconciler/health"
	"github.com/npcnix/npcnix/reconciler/plan"
	"github.com/npcnix/npcnix/reconciler/transaction"
)

// maxInterrupted is how many reboots in the middle of it a target survives.
const maxInterrupted = 2

// conclude takes a transaction's outcome into the journal.
func (r *Reconciler) conclude(ctx context.Context, p *pass, t *transaction.Transaction, o transaction.Outcome) error {
	j := r.journal
	if o.Problem.StoreLost && o.RebootFrom != "" && o.RebootFrom == r.bootID { // whose fault it was is judged from the earlier system
		j.LeaveBoot = o.RebootFrom
		if err := errors.Join(r.save(), r.leaveBoot(ctx)); err != nil {
			return err
		}
	}
	j.Attempt.NewlyFailedUnits, j.Attempt.BootDefaultUncertain = cut(o.Problem.Units), o.BootDefaultUncertain
	if j.Staged == t.Plan.Target {
		j.Staged = ""
	}
	j.RebootNeeded, j.LeaveBoot, j.Leaving, j.Asked = false, o.RebootFrom, plan.Reboots{}, false
	j.endReboot(t.AwaitedBoot())
	var err error
	switch o.Kind {
	case transaction.Committed, transaction.Tested:
		err = r.inForce(ctx, t, o)
	case transaction.RolledBack, transaction.RollbackFailed, transaction.Kept:
		err = r.tookBack(ctx, p, t, o)
	case transaction.Superseded:
		j.Superseded = t.Plan.Target
		p.attempted = true
		r.endAttempt(phaseFailed, v1alpha1.OutcomeSuperseded, v1alpha1.ReasonSuperseded, o.Message)
	default:
		err = r.failedOutcome(context.WithoutCancel(ctx), p, t, o)
	}
	if err != nil {
		return err
	}
	if err := r.save(); err != nil {
		return err
	}
	r.opts.Log.Info("Ended a transaction", "host", r.opts.Host, "transaction", t.Plan.ID, "target", t.Plan.Target, "outcome", o.Kind, "by", o.By,
		"reason", o.Problem.Reason, "message", o.Message)
	r.tidy(context.WithoutCancel(ctx), t.Plan.ID)
	return nil
}

// failedOutcome takes in a transaction that changed nothing, or had nothing to
// go back to.
func (r *Reconciler) failedOutcome(ctx context.Context, p *pass, t *transaction.Transaction, o transaction.Outcome) error {
	class := plan.ActivationClass
	switch {
	case o.Problem.Transient:
		class = plan.Transient
	case o.Problem.Reason == v1alpha1.ReasonRebootRequired:
		class = plan.Permanent
	}
	if machine, err := r.opts.Observer.Observe(ctx, t.Plan.Target); err == nil && t.Runs(r.opts.Observer, machine.Running) && !t.Plan.Mend && !t.Plan.Committed {
		r.journal.doubt(t.Plan.Target, o.Problem.Units)
	}
	err := r.fail(p, failure{class, o.Problem.Reason, joinMessage(o)})
	r.journal.Tries.Failure.Reboot = t.Plan.Committed
	return err
}

func joinMessage(o transaction.Outcome) string {
	return strings.TrimSpace(meta.Cut(transaction.Sentence(o.Problem.Message), maxWhy) + "\n" + transaction.Sentence(o.Message))
}

// inForce takes in a system that runs and is confirmed.
func (r *Reconciler) inForce(ctx context.Context, t *transaction.Transaction, o transaction.Outcome) error {
	j := r.journal
	outcome := v1alpha1.OutcomeCommitted
	if o.Kind == transaction.Tested {
		outcome = v1alpha1.OutcomeTested
	} else {
		j.Committed = t.Plan.Target
	}
	if !t.Plan.Mend { // by which nothing was confirmed anew
		units, err := health.NewBaseline(ctx, r.opts.machine())
		if err != nil {
			return fmt.Errorf("list units: %w", err)
		}
		j.Units = &units
		r.healthy()
	}
	if t.AwaitedBoot() {
		j.VainBoots = nil
	}
	j.Drift, j.Unproven, j.UnprovenUnits, j.Superseded, j.BootedOther = nil, "", nil, "", nil
	j.Tries = tries{Key: j.Tries.Key}
	r.endAttempt(phaseCommitted, outcome, v1alpha1.ReasonUpToDate, "")
	return nil
}

// tookBack takes in a target that is not in force because it did not prove itself.
func (r *Reconciler) tookBack(ctx context.Context, p *pass, t *transaction.Transaction, o transaction.Outcome) error {
	j := r.journal
	p.attempted = true
	if t.Plan.Committed && o.Kind == transaction.RolledBack {
		j.Committed, _ = t.Plan.GoesBack()
	}
	stayed := j.StayedIn == r.bootID // so that nothing can be judged from the earlier system
	if o.Problem.StoreLost && o.Kind == transaction.RolledBack && (stayed || !r.reachable(ctx, p, t)) {
		if ctx.Err() != nil {
			return context.Cause(ctx) //nolint:wrapcheck // the loop's own: draining
		}
		r.noVerdict(t)
		message := joinMessage(o) + " It could not be reached from the earlier system either."
		if stayed {
			message = joinMessage(o) + " The host did not reboot into the earlier system, so that nobody knows whose fault it was."
		}
		r.endAttempt(phaseRolledBack, v1alpha1.OutcomeInconclusive, v1alpha1.ReasonInconclusive, message)
		j.Tries.Failure = &plan.Failure{
			Class: plan.Inconclusive, Reason: v1alpha1.ReasonInconclusive, Message: message, Content: r.documents.contentOr(""),
			NextAt: r.opts.Now().Add(r.jittered(r.policy().Retry.MaxBackoff.Duration)),
		}
		return nil
	}
	ends := map[transaction.Kind]struct {
		phase   phase
		outcome v1alpha1.Outcome
		reason  string
	}{
		transaction.RolledBack:     {phaseRolledBack, v1alpha1.OutcomeRolledBack, o.Problem.Reason},
		transaction.RollbackFailed: {phaseRollbackFailed, v1alpha1.OutcomeRollbackFailed, v1alpha1.ReasonRollbackFailed},
		transaction.Kept:           {phaseFailed, v1alpha1.OutcomeKept, o.Problem.Reason},
	}
	end := ends[o.Kind]
	if o.Kind != transaction.RolledBack {
		j.doubt(t.Plan.Target, o.Problem.Units)
	}
	message := joinMessage(o)
	if o.Problem.Transient && o.Kind == transaction.RolledBack {
		r.noVerdict(t)
		err := r.fail(p, failure{plan.Transient, o.Problem.Reason, message})
		j.Phase, j.Attempt.Outcome = end.phase, end.outcome
		return err
	}
	j.quarantine(quarantined{Toplevel: t.Plan.Target, Policy: t.Plan.Policy, Message: message})
	j.Tries.Failure = nil // quarantine says it
	r.endAttempt(end.phase, end.outcome, end.reason, message)
	return nil
}

// noVerdict counts a boot whose target was taken back though it may be good.
func (r *Reconciler) noVerdict(t *transaction.Transaction) {
	if t.AwaitedBoot() {
		r.journal.bootedInVain(t.Plan.Target, t.Plan.Policy)
	}
}

// reachable reports whether the store can be reached from the earlier system,
// within the time that the new one had.
func (r *Reconciler) reachable(ctx context.Context, p *pass, t *transaction.Transaction) bool {
	r.pulse.Begin("reach the store", t.Plan.ConfirmLimit+awaitSlack)
	limited, cancel := context.WithTimeout(ctx, t.Plan.ConfirmLimit)
	defer cancel()
	return r.reach(limited, p) == nil
}

// endAttempt closes the newest attempt; the caller saves the journal.
func (r *Reconciler) endAttempt(ph phase, outcome v1alpha1.Outcome, reason, message string) {
	r.journal.end(ph, outcome, reason, message, r.opts.Now())
}

// tidy removes the guard and the roots of a transaction that has ended. What
// cannot be removed is tried again at the next start.
func (r *Reconciler) tidy(ctx context.Context, id string) {
	err := r.opts.Guard.Disarm(ctx, id)
	err = errors.Join(err, r.opts.Activator.Unroot(id), r.opts.Activator.Unroot(id+".guard"))
	if err != nil {
		r.opts.Log.Info("Could not remove what is left of a transaction", "host", r.opts.Host, "transaction", id, "error", err.Error())
	}
}

// discard removes a transaction that did not begin.
func (r *Reconciler) discard(ctx context.Context) {
	id := r.journal.Attempt.ID
	r.tidy(ctx, id)
	if err := os.RemoveAll(transaction.Dir(r.opts.StateDir, id)); err != nil {
		r.opts.Log.Info("Could not remove a transaction that did not begin", "host", r.opts.Host, "transaction", id, "error", err.Error())
	}
}

// cutOff ends a transaction that a reboot cut off before its commit. The boot
// default was not touched, so the machine is back at the recorded system.
func (r *Reconciler) cutOff(ctx context.Context, p *pass, t *transaction.Transaction) error {
	j := r.journal
	message := rebootedInPhase(j.Phase, p.machine.Booted)
	problem := transaction.Problem{Reason: v1alpha1.ReasonInterrupted, Message: message}
	o, err := t.Undo(context.WithoutCancel(ctx), r.opts.machine(), r.opts.Now, transaction.Failed, problem, "")
	if err != nil {
		return err
	}
	interrupted := j.Tries.Interrupted + 1
	if o.Kind == transaction.Failed && interrupted >= maxInterrupted {
		j.quarantine(quarantined{Toplevel: t.Plan.Target, Policy: t.Plan.Policy, Message: message + " That happened before."})
	}
	if err := r.conclude(ctx, p, t, o); err != nil {
		return err
	}
	j.Tries.Interrupted = interrupted
	if f := j.Tries.Failure; f != nil && o.Kind == transaction.Failed {
		f.NextAt = r.opts.Now() // the wait is for what fails, not for what was cut off
	}
	p.attempted = false
	return r.save()
}

// transaction opens the transaction of the newest attempt, nil if it never had one.
func (r *Reconciler) transaction() (*transaction.Transaction, error) {
	t, err := transaction.Open(transaction.Dir(r.opts.StateDir, r.journal.Attempt.ID))
	if errors.Is(err, os.ErrNotExist) {
		return nil, nil //nolint:nilnil // it was killed before it wrote one
	}
	if errors.Is(err, transaction.ErrTooNew) {
		return nil, fmt.Errorf("%w: %w", errJournalTooNew, err)
	}
	return t, err
}

// cut keeps a list of a status within its limit.
func cut(list []string) []string {
	if len(list) <= v1alpha1.MaxStatusList {
		return list
	}
	more := fmt.Sprintf("and %d more", len(list)-v1alpha1.MaxStatusList+1)
	return append(list[:v1alpha1.MaxStatusList-1:v1alpha1.MaxStatusList-1], more)
}
