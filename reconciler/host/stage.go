package host

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/npcnix/npcnix/apis/v1alpha1"
	"github.com/npcnix/npcnix/nixos"
	"github.com/npcnix/npcnix/reconciler/statefile"
	"github.com/npcnix/npcnix/reconciler/transaction"
)

// stage makes the target the boot default, to come into force with a reboot.
func (r *Reconciler) stage(ctx context.Context, p *pass) error {
	if err := r.roundTrip(ctx, p); err != nil {
		return r.fail(p, noRoundTrip(err))
	}
	t, err := r.record(ctx, p)
	if err == nil {
		// Before the guard is armed, as with a switch.
		if err := r.enter(phaseStaging); err != nil {
			return err
		}
		err = r.opts.Guard.Arm(ctx, t.Plan.ID, t.Directory(), t.Plan.Deadline())
	}
	if err != nil {
		r.discard(context.WithoutCancel(ctx))
		return r.fail(p, notChanged(v1alpha1.ReasonBootLoaderFailed, err))
	}
	return r.drive(ctx, p, t)
}

// inhibited takes the boot path with a system whose critical components differ.
func (r *Reconciler) inhibited(ctx context.Context, p *pass, components []string) error {
	why := "critical components differ: " + strings.Join(components, ", ")
	if r.policy().Mode == v1alpha1.ModeTest {
		return r.fail(p, onlyByReboot(why+"; mode Test makes nothing permanent"))
	}
	if removes, err := r.opts.Service.Removes(ctx, p.desired.Toplevel); removes || err != nil {
		if err != nil {
			return err
		}
		return r.fail(p, onlyByReboot(why+", and no agent would be there to confirm it. Switch by hand"))
	}
	r.journal.Attempt.Changes, r.journal.RebootNeeded = []string{why}, true
	return r.stage(ctx, p)
}

// mend makes what runs permanent: it is the target already, and only profile or
// boot default are not.
func (r *Reconciler) mend(ctx context.Context, p *pass) error {
	t, err := r.record(ctx, p)
	if err != nil {
		r.discard(ctx)
		return r.fail(p, notChanged(v1alpha1.ReasonProfileFailed, err))
	}
	if err := r.enter(phaseCommitting); err != nil {
		return err
	}
	return r.drive(ctx, p, t)
}

// stageInstead takes the boot path with a system that cannot be activated
// while this one runs.
func (r *Reconciler) stageInstead(ctx context.Context, p *pass, t *transaction.Transaction) error {
	r.journal.RebootNeeded = true
	if t.Plan.Mode == v1alpha1.ModeTest {
		problem := transaction.Problem{Reason: v1alpha1.ReasonRebootRequired, Message: notInModeTest}
		o, err := t.Abandon(context.WithoutCancel(ctx), r.opts.machine(), r.opts.Now, transaction.Failed, problem, nothingChanged)
		return r.concludeIf(ctx, p, t, o, err)
	}
	return r.enter(phaseStaging)
}

// stageNow sets profile and boot default.
func (r *Reconciler) stageNow(ctx context.Context, p *pass, t *transaction.Transaction) error {
	r.pulse.Begin("stage", t.Plan.Deadline()+awaitSlack)
	o, staged, err := t.Stage(ctx, r.opts.machine(), r.opts.Now)
	switch {
	case err != nil:
		return err
	case !staged:
		return r.conclude(ctx, p, t, o)
	}
	if err := r.opts.Guard.Disarm(ctx, t.Plan.ID); err != nil {
		return err
	}
	j := r.journal
	if j.Staged = t.Plan.Target; !t.Plan.Committed { // whose attempt is the reboot
		j.Tries, j.Asked = tries{Key: j.Tries.Key}, false
	}
	r.endAttempt(phaseRebootPending, v1alpha1.OutcomeStaged, v1alpha1.ReasonRebootPending, isStaged)
	return r.save()
}

// unstage takes back a staged system, and says why.
func (r *Reconciler) unstage(ctx context.Context, why string) error {
	j := r.journal
	if !j.Phase.waiting() {
		return nil
	}
	t, err := r.transaction()
	if errors.Is(err, statefile.ErrUnusable) {
		return r.loseTransaction(ctx, err)
	}
	if err != nil {
		return err
	}
	if t != nil {
		end := t.Undo
		if t.Plan.Committed { // nothing was changed that could be taken back
			end = t.Abandon
		}
		o, err := end(context.WithoutCancel(ctx), r.opts.machine(), r.opts.Now, transaction.Superseded, transaction.Problem{Reason: v1alpha1.ReasonInterrupted}, why)
		if err != nil {
			return err
		}
		r.endAttempt(phaseIdle, v1alpha1.OutcomeSuperseded, o.Problem.Reason, o.Message)
		r.opts.Log.Info("Took back a staged system", "host", r.opts.Host, "transaction", t.Plan.ID, "target", t.Plan.Target, "message", o.Message)
		r.tidy(ctx, t.Plan.ID)
	}
	j.Staged, j.RebootNeeded, j.Phase = "", false, phaseIdle
	return nil
}

// dryActivate asks stc what activating the target would do.
func (r *Reconciler) dryActivate(ctx context.Context, p *pass) error {
	j, target := r.journal, p.desired.Toplevel
	id := transaction.RunID(j.Attempt.ID, "dry")
	limit := r.policy().Timeouts.Activate.Duration
	r.pulse.Begin("dry-activate", limit+2*awaitSlack)
	result, err := r.runStc(ctx, nixos.Activation{ID: id, Toplevel: target, Action: nixos.ActionDry, Limit: limit})
	j.Attempt.Changes = changes(result.Output)
	switch {
	case ctx.Err() != nil:
		return r.interrupted(ctx, p)
	case err != nil:
		return r.fail(p, notAsked(err))
	}
	j.Dry, j.Attempt.Target = target, target
	return r.save()
}

// runStc runs stc outside of a transaction, for what changes nothing that runs.
func (r *Reconciler) runStc(ctx context.Context, a nixos.Activation) (result nixos.Result, err error) {
	if err := r.opts.Activator.Start(ctx, a); err != nil {
		return result, err
	}
	limited, cancel := context.WithTimeout(ctx, a.Limit+awaitSlack)
	defer cancel()
	if result, err = r.opts.Activator.Await(limited, a.ID); err == nil && !result.Done() {
		err = fmt.Errorf("%s: %s. %s", a.Action, howEnded(result), tailOf(result))
	}
	return result, err
}

// changes are the lines that say what would be done.
func changes(output string) []string {
	var list []string
	for line := range strings.Lines(output) {
		if line = strings.TrimSpace(line); strings.HasPrefix(line, "would ") {
			list = append(list, line)
		}
	}
	return cut(list)
}
