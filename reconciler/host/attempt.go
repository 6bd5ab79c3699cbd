package host

import (
	"context"
	"strings"
	"time"

	"github.com/npcnix/npcnix/apis/meta"
	"github.com/npcnix/npcnix/apis/v1alpha1"
	"github.com/npcnix/npcnix/reconciler/plan"
	"github.com/npcnix/npcnix/reconciler/transaction"
)

// newTarget forgets the attempts at another archive, attribute or policy.
func (r *Reconciler) newTarget() {
	d := &r.documents
	key := strings.Join([]string{d.publication.Spec.Archive.Digest, d.accepted.spec.FlakeAttribute, d.accepted.policyDigest}, " ")
	if r.journal.Tries.Key != key {
		r.journal.Tries = tries{Key: key}
	}
}

// forgetTarget drops the failure of a target with which nothing is left to do:
// somebody else may have helped.
func (r *Reconciler) forgetTarget(p *pass, in plan.Input) error {
	j := r.journal
	if !p.decision.Ready {
		return r.closeHeld(p)
	}
	inForce := in.Machine.Runs(in.Desired) && in.Machine.Profile == in.Desired && in.Unproven != in.Desired
	tries := j.Tries.settled()
	asked := j.Asked && tries.Failure != nil // for a reboot, which is not tried yet
	if !j.Tries.failed() && asked == j.Asked && !j.open() && (!inForce || j.Committed == in.Desired) {
		return nil
	}
	if j.open() {
		r.endWithoutActivation(in.Spec.RebuildPolicy.Mode)
	}
	j.Tries, j.Asked = tries, asked
	if inForce {
		j.Committed = in.Desired
	}
	return r.save()
}

// closeHeld ends an attempt whose system is built, and which something holds
// back: what comes after that is another attempt.
func (r *Reconciler) closeHeld(p *pass) error {
	if !r.journal.open() || p.desired == nil {
		return nil
	}
	r.endAttempt(phaseBuilt, v1alpha1.OutcomeBuilt, p.decision.Reason, p.decision.Message)
	return r.save()
}

// endWithoutActivation ends an attempt that had nothing to activate.
func (r *Reconciler) endWithoutActivation(mode v1alpha1.Mode) {
	switch mode {
	case v1alpha1.ModeBuild, v1alpha1.ModeDryActivate:
		r.endAttempt(phaseBuilt, v1alpha1.OutcomeBuilt, v1alpha1.ReasonBuiltOnly, activatesNothing)
	default:
		r.endAttempt(phaseCommitted, v1alpha1.OutcomeCommitted, v1alpha1.ReasonUpToDate, ranAlready)
	}
}

// open begins an attempt unless one is open.
func (r *Reconciler) open(ctx context.Context) error {
	j, pub := r.journal, r.documents.publication
	if j.open() && j.Attempt.Remote == pub.Metadata.Name && j.Attempt.RemoteGeneration == pub.Metadata.Generation {
		return nil
	}
	if j.open() {
		r.endAttempt(phaseFailed, v1alpha1.OutcomeFailed, v1alpha1.ReasonInterrupted, otherGeneration)
	}
	if err := r.unstage(ctx, otherTarget); err != nil {
		return err
	}
	r.removeOtherTrees(pub.Spec.Archive.Digest)
	j.begin(v1alpha1.Attempt{
		ID: r.opts.NewID(), Remote: pub.Metadata.Name, RemoteGeneration: pub.Metadata.Generation, Revision: pub.Spec.Source.FullRevision(),
		StartedAt: newTime(r.opts.Now()), Outcome: v1alpha1.OutcomeRunning, Attempt: j.Tries.Counted + 1,
	})
	return r.save()
}

// enter writes the phase before the act that it names.
func (r *Reconciler) enter(ph phase) error {
	if ph != phaseConfirming {
		r.journal.ConfirmingSince = time.Time{}
	}
	r.journal.Phase, r.journal.BootID = ph, r.bootID
	return r.save()
}

// fail ends the attempt and remembers how, so that the planner can decide
// whether and when it is tried again.
func (r *Reconciler) fail(p *pass, f failure) error {
	j := r.journal
	message := r.failed(p, f)
	j.end(phaseFailed, v1alpha1.OutcomeFailed, f.reason, message, r.opts.Now())
	return r.save()
}

// failed remembers how an act failed, and returns what is said of it.
func (r *Reconciler) failed(p *pass, f failure) string {
	j := r.journal
	message := meta.Cut(transaction.Sentence(f.message), maxWhy)
	p.attempted, j.Asked = true, false
	n := int32(1)
	switch f.class {
	case plan.Transient:
		j.Tries.Transient++
		n = j.Tries.Transient
	case plan.BuildClass, plan.ActivationClass:
		j.Tries.Transient = 0
		j.Tries.Counted++
		n = j.Tries.Counted
	default:
		j.Tries.Transient = 0
	}
	j.Tries.Failure = &plan.Failure{
		Class: f.class, Reason: f.reason, Message: message, Content: r.documents.contentOr(""), Reboot: p.decision.Action == plan.Reboot,
		NextAt: r.opts.Now().Add(plan.Backoff(r.policy().Retry, n)),
	}
	return message
}

// policy is the rebuildPolicy in force, or the default where none is known.
func (r *Reconciler) policy() *v1alpha1.RebuildPolicy {
	if a := r.documents.accepted; a != nil {
		return a.spec.RebuildPolicy
	}
	return v1alpha1.HostSpecSpec{}.WithDefaults("").RebuildPolicy
}

// jittered is a random part of a time, so that hosts that failed together do
// not try again together.
func (r *Reconciler) jittered(most time.Duration) time.Duration {
	return max(time.Second, time.Duration(r.opts.Rand()*float64(most)))
}
