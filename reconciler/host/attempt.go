package host

import (
	"strings"

	"github.com/npcnix/npcnix/apis/v1alpha1"
	"github.com/npcnix/npcnix/reconciler/plan"
)

// newTarget forgets the attempts at another archive, attribute or policy.
func (r *Reconciler) newTarget() {
	d := &r.documents
	key := strings.Join([]string{d.publication.Spec.Archive.Digest, d.accepted.spec.FlakeAttribute, d.accepted.policyDigest}, " ")
	if r.journal.Tries.Key != key {
		r.journal.Tries = tries{Key: key}
	}
}

// forgetTarget drops the failure of a target that is in force now: somebody
// else may have helped.
func (r *Reconciler) forgetTarget(p *pass, in plan.Input) error {
	j := r.journal
	if !p.decision.Ready || (j.Tries.Failure == nil && j.Committed == in.Desired && !j.open()) {
		return nil
	}
	if j.open() {
		message := "The system ran already; nothing was activated."
		if j.Phase == phaseActivated {
			message = "The system was activated; profile and boot default were right already."
		}
		j.end(phaseCommitted, v1alpha1.OutcomeCommitted, v1alpha1.ReasonUpToDate, message, r.opts.Now())
	}
	j.Tries = tries{Key: j.Tries.Key}
	j.Committed = in.Desired
	return saveJournal(r.opts.StateDir, j)
}

// open begins an attempt unless one is open.
func (r *Reconciler) open() error {
	j, pub := r.journal, r.documents.publication
	if j.open() && j.Attempt.RemoteGeneration == pub.Metadata.Generation {
		return nil
	}
	if j.open() {
		j.end(phaseFailed, v1alpha1.OutcomeFailed, v1alpha1.ReasonInterrupted, "A newer generation took its place.", r.opts.Now())
	}
	j.begin(v1alpha1.Attempt{
		ID: r.opts.NewID(), RemoteGeneration: pub.Metadata.Generation, Revision: pub.Spec.Source.FullRevision(),
		StartedAt: newTime(r.opts.Now()), Outcome: v1alpha1.OutcomeRunning, Attempt: j.Tries.Counted + 1,
	})
	return saveJournal(r.opts.StateDir, j)
}

// enter writes the phase before the act that it names.
func (r *Reconciler) enter(ph phase) error {
	r.journal.Phase = ph
	return saveJournal(r.opts.StateDir, r.journal)
}

// fail ends the attempt and remembers how, so that the planner can decide
// whether and when it is tried again.
func (r *Reconciler) fail(p *pass, class plan.Class, reason, message string) error {
	j, d, now := r.journal, &r.documents, r.opts.Now()
	p.attempted = true
	n := int32(1)
	switch class {
	case plan.Transient:
		j.Tries.Transient++
		n = j.Tries.Transient
	case plan.BuildClass, plan.ActivationClass:
		j.Tries.Transient = 0
		j.Tries.Counted++
		n = j.Tries.Counted
	case plan.Permanent:
		j.Tries.Transient = 0
	}
	j.Tries.Failure = &plan.Failure{
		Class: class, Reason: reason, Message: message, Content: d.content(),
		NextAt: now.Add(plan.Backoff(d.accepted.spec.RebuildPolicy.Retry, n)),
	}
	j.end(phaseFailed, v1alpha1.OutcomeFailed, reason, message, now)
	return saveJournal(r.opts.StateDir, j)
}
