package host

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/npcnix/npcnix/apis/v1alpha1"
	"github.com/npcnix/npcnix/nixos"
	"github.com/npcnix/npcnix/reconciler/plan"
	"github.com/npcnix/npcnix/reconciler/statefile"
	"github.com/npcnix/npcnix/reconciler/transaction"
)

// recover reads the journal, unless New did, and goes on with what an earlier
// agent, or an earlier pass, left open.
func (r *Reconciler) recover(ctx context.Context, p *pass) (err error) {
	if err := r.prepare(ctx, p); err != nil {
		return err
	}
	switch j := r.journal; {
	case j.Phase == phaseLost:
		err = r.closeUnknown(ctx)
	case j.Phase.transacting(), j.Phase.waiting() && j.BootID != r.bootID:
		err = r.resume(ctx, p)
	case j.open() && !r.recovered:
		err = r.closeInterrupted()
	}
	if err != nil {
		return err
	}
	if err := r.leaveBoot(ctx); err != nil || r.recovered {
		return err
	}
	if err := r.noticeBoot(ctx); err != nil {
		return err
	}
	r.removeUnnamed()
	r.recovered = true
	return nil
}

// prepare reads the journal and the boot's id, and ends what an earlier agent
// was building.
func (r *Reconciler) prepare(ctx context.Context, p *pass) (err error) {
	if r.journal == nil || r.unsaved {
		if r.journal, err = r.loadJournal(); err != nil {
			return errors.Join(err, r.claim(ctx, p)) // to say so
		}
		r.unsaved = false
	}
	if r.bootID == "" {
		if r.bootID, err = r.opts.Observer.BootID(ctx); err != nil {
			return err
		}
	}
	if r.recovered {
		return nil
	}
	if err := r.opts.Builder.Sweep(ctx); err != nil {
		return fmt.Errorf("end an earlier agent's builds: %w", err)
	}
	return nil
}

// leftOpen reports whether an earlier agent left an attempt open, which is a
// reason to look at once.
func (r *Reconciler) leftOpen() bool {
	return r.journal != nil && (r.journal.open() || r.journal.Phase == phaseLost || r.journal.Phase.waiting())
}

// resume goes on with a transaction. A boot since its newest phase was a
// reboot: then what is done depends on what was booted.
func (r *Reconciler) resume(ctx context.Context, p *pass) error {
	t, err := r.transaction()
	switch {
	case errors.Is(err, statefile.ErrUnusable):
		return r.loseTransaction(ctx, err)
	case err != nil:
		return err
	case t == nil:
		return r.closeInterrupted()
	}
	p.progress = goingOn(t.Plan.Target, r.journal.Phase)
	p.decision = plan.Decision{Reason: v1alpha1.ReasonProgressing, Message: p.progress}
	defer func() { p.progress = "" }()
	if p.machine, err = r.opts.Observer.Observe(ctx, t.Plan.Target); err != nil {
		return fmt.Errorf("observe machine: %w", err)
	}
	p.observed = true
	r.requests.keep(r.buildStatus(p))
	ctx, stop := r.beatDuring(ctx)
	defer stop()
	r.opts.Log.Info("Going on with a transaction", "host", r.opts.Host, "transaction", t.Plan.ID, "target", t.Plan.Target, "phase", r.journal.Phase)
	return r.goOn(ctx, p, t)
}

// goOn carries an opened transaction on from where it was found.
func (r *Reconciler) goOn(ctx context.Context, p *pass, t *transaction.Transaction) error {
	o, ended, err := t.Outcome()
	switch {
	case errors.Is(err, statefile.ErrUnusable):
		return r.loseTransaction(ctx, err)
	case err != nil:
		return err
	case ended:
		return r.conclude(ctx, p, t, o)
	case r.journal.Phase == phaseArmed: // nothing was begun, in whichever boot
		problem := transaction.Problem{Reason: v1alpha1.ReasonInterrupted, Message: endedBefore, Transient: true}
		o, err := t.Abandon(context.WithoutCancel(ctx), r.opts.machine(), r.opts.Now, transaction.Failed, problem, nothingChanged)
		if err != nil {
			return err
		}
		return errors.Join(r.conclude(ctx, p, t, o), r.retryNow(p))
	case r.journal.BootID != r.bootID:
		return r.resumeAfterBoot(ctx, p, t)
	default:
		return r.drive(ctx, p, t)
	}
}

// loseTransaction forgets a transaction whose files cannot be used, as if the
// journal were lost: what runs counts as unproven.
func (r *Reconciler) loseTransaction(ctx context.Context, why error) error {
	dir := transaction.Dir(r.opts.StateDir, r.journal.Attempt.ID)
	if err := r.setAside(dir, why); err != nil {
		return err
	}
	r.tidy(ctx, r.journal.Attempt.ID)
	r.journal.loseStaged()
	r.endAttempt(phaseLost, v1alpha1.OutcomeFailed, v1alpha1.ReasonJournalLost, transactionLost(why))
	return r.closeUnknown(ctx)
}

// retryNow lets what was cut off be tried again at once.
func (r *Reconciler) retryNow(p *pass) error {
	p.attempted = false
	if f := r.journal.Tries.Failure; f != nil {
		f.NextAt = r.opts.Now()
	}
	return r.save()
}

// resumeAfterBoot goes on with a transaction after a reboot, which no guard
// and no run of stc has survived.
func (r *Reconciler) resumeAfterBoot(ctx context.Context, p *pass, t *transaction.Transaction) error {
	booted := t.Runs(r.opts.Observer, p.machine.Booted)
	switch ph := r.journal.Phase; {
	case r.awaitedBoot(t, booted) && booted:
		return r.confirmBoot(ctx, p, t)
	case r.awaitedBoot(t, booted):
		return r.bootedAnother(ctx, p, t)
	case ph == phaseStaging, booted && (ph == phaseCommitting || ph == phaseRollingBack): // the boot loader knew of the commit
		if err := r.enter(ph); err != nil { // of this boot now
			return err
		}
		return r.drive(ctx, p, t)
	case ph == phaseRollingBack:
		return r.rolledBackByBoot(ctx, p, t)
	default:
		return r.cutOff(ctx, p, t)
	}
}

// awaitedBoot reports whether this boot is what a staged transaction waited
// for, also where the power failed just before, or while it was confirmed.
func (r *Reconciler) awaitedBoot(t *transaction.Transaction, booted bool) bool {
	switch ph := r.journal.Phase; {
	case ph.waiting():
		return true
	case ph == phaseConfirming:
		return t.Staged()
	default:
		return ph == phaseStaging && booted && t.Staged()
	}
}

// confirmBoot confirms a staged system that was booted.
func (r *Reconciler) confirmBoot(ctx context.Context, p *pass, t *transaction.Transaction) error {
	j := r.journal
	j.Attempt.Outcome, j.Attempt.FinishedAt = v1alpha1.OutcomeRunning, nil
	j.ConfirmingSince = time.Time{} // each boot has all of its time
	if j.Phase == phaseConfirming {
		j.Tries.Interrupted++
	}
	enter := func() error { return r.enter(phaseConfirming) }
	if j.Tries.Interrupted >= maxInterrupted {
		enter = func() error {
			return r.takeBack(t, transaction.Problem{Reason: v1alpha1.ReasonInterrupted, Message: rebootedOften()})
		}
	}
	if err := enter(); err != nil {
		return err
	}
	return r.drive(ctx, p, t)
}

// bootedAnother ends a staged transaction: the host booted, and not its target.
// A person or a boot counter wanted that, so the target is not tried again.
func (r *Reconciler) bootedAnother(ctx context.Context, p *pass, t *transaction.Transaction) error {
	message := bootedOtherThan(t.Plan.Target, p.machine.Booted)
	problem := transaction.Problem{Reason: v1alpha1.ReasonBootedOther, Message: message}
	o, err := t.Undo(context.WithoutCancel(ctx), r.opts.machine(), r.opts.Now, transaction.RolledBack, problem, asBefore)
	if err != nil {
		return err
	}
	return r.conclude(ctx, p, t, o)
}

// rolledBackByBoot ends a rollback that a reboot overtook: the boot default was
// the recorded one, unless the commit had begun.
func (r *Reconciler) rolledBackByBoot(ctx context.Context, p *pass, t *transaction.Transaction) error {
	problem, blamed := t.Blamed()
	if !blamed {
		problem = transaction.Problem{Reason: v1alpha1.ReasonNotConfirmed, Message: notConfirmed}
	}
	message := rebootedInRollback(p.machine.Booted, t.Plan.Recorded.Running)
	o, err := t.Undo(context.WithoutCancel(ctx), r.opts.machine(), r.opts.Now, transaction.RolledBack, problem, message)
	if err != nil {
		return err
	}
	return r.conclude(ctx, p, t, o)
}

// errLeaving is returned while the machine is to leave this boot: nothing is
// begun any more.
var errLeaving = errors.New("the host reboots into the earlier system")

// leaveBoot asks for the reboot that a transaction ended with, until it is made.
func (r *Reconciler) leaveBoot(ctx context.Context) error {
	j := r.journal
	switch due := j.LeaveBoot; {
	case due == "" || due != r.bootID || j.StayedIn == r.bootID:
		return nil
	case j.Leaving.UnderWay(r.opts.Now()):
		return errLeaving
	case j.Leaving.Asked >= plan.MostAsked:
		return r.stayInBoot()
	}
	j.Leaving = plan.Reboots{Asked: j.Leaving.Asked + 1, AskedAt: r.opts.Now(), Within: r.policy().Timeouts.Reboot.Duration}
	if err := r.save(); err != nil {
		return err
	}
	err := r.tellToReboot(ctx, "the new system did not prove itself; rebooting into the earlier one")
	if err == nil {
		return errLeaving
	}
	j.Leaving = plan.Reboots{Asked: j.Leaving.Asked - 1} // it was not told
	return errors.Join(fmt.Errorf("reboot into the earlier system: %w", err), r.save())
}

// stayInBoot gives up leaving a boot: a machine that does not go down is for a
// person to look at, and goes on with what is declared until then.
func (r *Reconciler) stayInBoot() error {
	j := r.journal
	j.StayedIn, j.Leaving = r.bootID, plan.Reboots{}
	j.doubt(j.Attempt.Target, j.Attempt.NewlyFailedUnits)
	r.opts.Log.Error(nil, "Could not leave the new system", "host", r.opts.Host, "target", j.Attempt.Target)
	return r.save()
}

// noticeBoot remembers when the host booted something else than the system
// that was committed last: it was told so by a person or a boot counter.
func (r *Reconciler) noticeBoot(ctx context.Context) error {
	j := r.journal
	if j.BootID == r.bootID {
		return nil
	}
	first := j.BootID == "" // this agent is the first to look
	j.BootID = r.bootID
	machine, err := r.opts.Observer.Observe(ctx, j.Committed)
	if err != nil {
		return fmt.Errorf("observe machine: %w", err)
	}
	other := machine.Booted != "" && machine.Booted != nixos.Unknown && machine.Booted != j.Committed &&
		r.opts.Observer.Specialisation(j.Committed, machine.Booted) == ""
	if !first && j.Committed != "" && other && !j.Phase.waiting() {
		j.BootedOther = &bootedOther{Booted: machine.Booted, Committed: j.Committed, Content: r.documents.contentOr("")}
	}
	return r.save()
}

// closeUnknown ends whatever a lost journal knew of: transactions without an
// outcome are taken back, every switch is waited for, and what runs counts as
// unproven, so that it is activated once more.
func (r *Reconciler) closeUnknown(ctx context.Context) error {
	for _, id := range r.names("transactions") {
		if err := r.takeBackUnknown(ctx, id); err != nil {
			return err
		}
	}
	for _, id := range r.names("activations") {
		if _, err := r.opts.Activator.Await(ctx, id); err != nil {
			return fmt.Errorf("wait for an earlier agent's switch: %w", err)
		}
	}
	machine, err := r.opts.Observer.Observe(ctx, "")
	if err != nil {
		return fmt.Errorf("observe machine: %w", err)
	}
	r.journal.doubt(machine.Running, nil)
	r.journal.Phase, r.journal.BootID = phaseFailed, r.bootID
	return r.save()
}

// takeBackUnknown ends a transaction of which the journal says nothing.
func (r *Reconciler) takeBackUnknown(ctx context.Context, id string) error {
	if strings.Contains(id, asideSuffix) {
		return nil
	}
	t, err := transaction.Open(transaction.Dir(r.opts.StateDir, id))
	if errors.Is(err, transaction.ErrTooNew) {
		return fmt.Errorf("%w: %w", errJournalTooNew, err)
	}
	if err != nil {
		return nil //nolint:nilerr // without a plan nothing was begun
	}
	if _, ended, err := t.Outcome(); ended || err != nil {
		return err
	}
	return r.endUnknown(ctx, t)
}

// endUnknown ends an open transaction of which the journal says nothing.
func (r *Reconciler) endUnknown(ctx context.Context, t *transaction.Transaction) (err error) {
	problem := transaction.Problem{Reason: v1alpha1.ReasonJournalLost, Message: lostMeanwhile, Transient: true}
	sameBoot := t.Plan.Recorded.BootID == r.bootID
	switch {
	case t.Plan.Committed && sameBoot: // what runs was confirmed before
		_, err = t.Abandon(context.WithoutCancel(ctx), r.opts.machine(), r.opts.Now, transaction.Failed, problem, "")
		return err
	case !sameBoot || t.Staged() || t.Plan.Mend: // no guard was armed for it, or none is left
		_, err = t.Undo(context.WithoutCancel(ctx), r.opts.machine(), r.opts.Now, transaction.Failed, problem, "")
		return err
	}
	if err := t.Blame(problem); err != nil {
		return err
	}
	if _, err := r.awaitGuard(ctx, t); err != nil {
		return err
	}
	r.tidy(ctx, t.Plan.ID)
	return nil
}

// closeInterrupted ends an attempt that an earlier agent began and that had
// changed nothing.
func (r *Reconciler) closeInterrupted() error {
	j := r.journal
	message := endedInPhase(j.Phase)
	j.loseStaged()
	r.endAttempt(phaseFailed, v1alpha1.OutcomeFailed, v1alpha1.ReasonInterrupted, message)
	r.opts.Log.Info("Closed an interrupted attempt", "host", r.opts.Host, "attempt", j.Attempt.ID, "reason", message)
	return r.save()
}
