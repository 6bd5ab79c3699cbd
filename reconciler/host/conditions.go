package host

import (
	"github.com/npcnix/npcnix/apis/meta"
	"github.com/npcnix/npcnix/apis/v1alpha1"
	"github.com/npcnix/npcnix/nixos"
	"github.com/npcnix/npcnix/reconciler/plan"
	"github.com/npcnix/npcnix/reconciler/transaction"
)

// The conditions of a status, with their sentences.

func condition(kind string, status meta.ConditionStatus, reason, message string) meta.Condition {
	return meta.Condition{Type: kind, Status: status, Reason: reason, Message: message}
}

func (r *Reconciler) conditions(p *pass) []meta.Condition {
	d := p.decision
	list := []meta.Condition{r.specAccepted(), r.suspended(), r.clock()}
	if p.observed {
		list = append(list, r.built(p), r.sourceVerified(p), r.healthCondition(p), r.rebootRequired(p))
		list = append(list, inForce(p)...)
	}
	ready, reconciling, stalled := meta.False, meta.False, meta.False
	reconcilingReason := d.Reason
	switch {
	case p.progress != "":
		reconciling = meta.True
	case d.Ready:
		ready = meta.True
	case d.Stalled:
		stalled = meta.True
	case !d.Waiting:
		reconciling, reconcilingReason = meta.True, v1alpha1.ReasonRetrying
	}
	return append(list,
		condition(v1alpha1.ConditionReady, ready, d.Reason, d.Message),
		condition(v1alpha1.ConditionReconciling, reconciling, reconcilingReason, d.Message),
		condition(v1alpha1.ConditionStalled, stalled, d.Reason, d.Message))
}

func (r *Reconciler) specAccepted() meta.Condition {
	d := &r.documents
	for _, problem := range []*plan.Problem{d.specProblem, d.overrideProblem} {
		if problem != nil {
			return condition(v1alpha1.ConditionSpecAccepted, meta.False, problem.Reason, problem.Message)
		}
	}
	if d.accepted == nil {
		return condition(v1alpha1.ConditionSpecAccepted, meta.Unknown, v1alpha1.ReasonPending, "The HostSpec was not read yet.")
	}
	return condition(v1alpha1.ConditionSpecAccepted, meta.True, v1alpha1.ReasonAccepted, "The HostSpec is in force.")
}

func (r *Reconciler) suspended() meta.Condition {
	if s := r.suspension(r.opts.Now()); s != nil {
		return condition(v1alpha1.ConditionSuspended, meta.True, v1alpha1.ReasonSuspended, s.String()+". Nothing new is started.")
	}
	return condition(v1alpha1.ConditionSuspended, meta.False, v1alpha1.ReasonAccepted, "Not suspended.")
}

func (r *Reconciler) clock() meta.Condition {
	if r.skewed() {
		return condition(v1alpha1.ConditionClockSkewed, meta.True, v1alpha1.ReasonClockSkewed, "This machine's clock is more than two minutes off the store's: windows count as closed, and no suspension ends.")
	}
	return condition(v1alpha1.ConditionClockSkewed, meta.False, v1alpha1.ReasonClockAgrees, "This machine's clock agrees with the store's, as far as that tells the time.")
}

func (r *Reconciler) rebootRequired(p *pass) meta.Condition {
	in := plan.Input{Machine: p.machine}
	if p.desired != nil && r.journal != nil {
		in.Desired, in.Staged = p.desired.Toplevel, r.journal.Staged
	}
	switch required, known := plan.RebootRequired(in); {
	case !known:
		return condition(v1alpha1.ConditionRebootRequired, meta.Unknown, v1alpha1.ReasonPending, "What was booted cannot be compared with what runs.")
	case required:
		return condition(v1alpha1.ConditionRebootRequired, meta.True, v1alpha1.ReasonRebootRequired, "Only a reboot brings into force: "+in.Why()+".")
	default:
		return condition(v1alpha1.ConditionRebootRequired, meta.False, v1alpha1.ReasonRebootNotRequired, "What was booted has the kernel, initrd, modules and parameters of what runs.")
	}
}

// failure returns how the last attempt at the target ended, if badly.
func (r *Reconciler) failure() *plan.Failure {
	if r.journal == nil {
		return nil
	}
	return r.journal.Tries.Failure
}

func (r *Reconciler) sourceVerified(p *pass) meta.Condition {
	f, pub := r.failure(), r.documents.publication
	verified := r.journal != nil && pub != nil && r.journal.Verified == pub.Spec.Archive.Digest
	switch {
	case p.desired != nil || verified:
		return condition(v1alpha1.ConditionSourceVerified, meta.True, v1alpha1.ReasonVerified, "The archive is what the remote says.")
	case f != nil && (f.Reason == v1alpha1.ReasonArchiveInvalid || f.Reason == v1alpha1.ReasonArchiveNotFound):
		return condition(v1alpha1.ConditionSourceVerified, meta.False, f.Reason, f.Message)
	default:
		return condition(v1alpha1.ConditionSourceVerified, meta.Unknown, v1alpha1.ReasonPending, "The archive was not fetched yet.")
	}
}

func (r *Reconciler) built(p *pass) meta.Condition {
	f := r.failure()
	switch {
	case p.desired != nil:
		return condition(v1alpha1.ConditionBuilt, meta.True, v1alpha1.ReasonBuilt, "Built "+p.desired.Toplevel+".")
	case f != nil:
		return condition(v1alpha1.ConditionBuilt, meta.False, f.Reason, f.Message)
	default:
		return condition(v1alpha1.ConditionBuilt, meta.Unknown, v1alpha1.ReasonPending, "The system was not built yet.")
	}
}

// inForce says what the machine has of the desired toplevel.
func inForce(p *pass) []meta.Condition {
	if p.desired == nil {
		return []meta.Condition{
			condition(v1alpha1.ConditionActivated, meta.Unknown, v1alpha1.ReasonPending, "The desired system is not known yet."),
			condition(v1alpha1.ConditionStaged, meta.Unknown, v1alpha1.ReasonPending, "The desired system is not known yet."),
		}
	}
	activated := condition(v1alpha1.ConditionActivated, meta.False, v1alpha1.ReasonNotRunning, "Another system than the desired one runs.")
	if p.machine.Runs(p.desired.Toplevel) {
		activated = condition(v1alpha1.ConditionActivated, meta.True, v1alpha1.ReasonRunning, "The desired system runs.")
	}
	staged := condition(v1alpha1.ConditionStaged, meta.False, v1alpha1.ReasonPending, "Another system than the desired one is the boot default.")
	switch p.machine.BootDefault {
	case p.desired.Toplevel:
		staged = condition(v1alpha1.ConditionStaged, meta.True, v1alpha1.ReasonRunning, "The desired system is the boot default.")
	case nixos.Unknown:
		staged = condition(v1alpha1.ConditionStaged, meta.Unknown, v1alpha1.ReasonPending, "The boot default cannot be read.")
	}
	return []meta.Condition{activated, staged}
}

func (r *Reconciler) healthCondition(p *pass) meta.Condition {
	switch c := r.checked; {
	case p.desired == nil || c.toplevel != p.desired.Toplevel || !p.machine.Runs(c.toplevel):
		return condition(v1alpha1.ConditionHealthy, meta.Unknown, v1alpha1.ReasonNotChecked, "The desired system does not run, or was not checked yet.")
	case c.problem != "":
		return condition(v1alpha1.ConditionHealthy, meta.False, v1alpha1.ReasonHealthCheckFailed, transaction.Sentence("What runs is not healthy: "+c.problem))
	default:
		return condition(v1alpha1.ConditionHealthy, meta.True, v1alpha1.ReasonHealthChecksPassed, "Every health check succeeds.")
	}
}
