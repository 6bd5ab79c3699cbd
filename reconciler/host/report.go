package host

import (
	"context"
	"slices"
	"time"

	"github.com/npcnix/npcnix/apis/meta"
	"github.com/npcnix/npcnix/apis/v1alpha1"
	"github.com/npcnix/npcnix/nixos"
	"github.com/npcnix/npcnix/reconciler/plan"
	"github.com/npcnix/npcnix/reconciler/transaction"
	"github.com/npcnix/npcnix/reconciler/window"
)

const (
	reportLimit = time.Minute
	// maxShort is the length of a message in the history, in bytes.
	maxShort = 200
)

// unreported is a decision that could not be reported.
type unreported struct {
	decision plan.Decision
	at       time.Time
	err      error
}

// report writes the HostStatus if this pass has something to say: a decision,
// or an act under way. What could not be said to a store that cannot be read
// either is said again with the next heartbeat: one that is down is not asked
// twice at each look.
func (r *Reconciler) report(ctx context.Context, p *pass) error {
	if !p.decided && p.progress == "" {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, reportLimit)
	defer cancel()
	if r.bootID == "" {
		id, err := r.opts.Observer.BootID(ctx)
		if err != nil {
			return err
		}
		r.bootID = id
	}
	now, next := r.opts.Now(), r.untilNext(p.decision)
	status := r.buildStatus(p)
	r.requests.keep(status)
	if !r.status.claimed {
		return nil
	}
	if u := &r.unreported; u.err != nil && p.storeProblem != nil && u.decision == p.decision && now.Sub(u.at)+next/2 < Heartbeat {
		return u.err
	}
	err := r.status.put(ctx, status, now, next)
	r.unreported = unreported{p.decision, now, err}
	return err
}

func (r *Reconciler) buildStatus(p *pass) *v1alpha1.HostStatus {
	d := &r.documents
	s := &v1alpha1.HostStatus{
		TypeMeta: meta.TypeMeta{APIVersion: v1alpha1.APIVersion, Kind: v1alpha1.KindHostStatus},
		Metadata: meta.ObjectMeta{Name: r.opts.Host},
		Status: v1alpha1.HostStatusStatus{
			System: system(p.machine),
			Agent: v1alpha1.Agent{
				Version: r.opts.Version, StartedAt: newTime(r.startedAt), BootID: r.bootID,
				MachineID: r.machineID, NixVersion: r.nixVersion, Warnings: r.warnings,
			},
		},
	}
	st := &s.Status
	if d.accepted != nil {
		s.Metadata.Labels = d.accepted.labels
	}
	r.sayObserved(st, p)
	r.sayAttempts(st)
	if last := r.status.last; !p.observed && last != nil { // what was last seen of the machine
		st.System, st.Desired = last.Status.System, last.Status.Desired
	}
	st.Window = r.windowStatus()
	if local := r.Suspended(); local != nil {
		st.LocalSuspension = &v1alpha1.Suspend{Reason: local.Reason, Until: timeOrNil(local.Until)}
	}
	if !p.decision.NextAt.IsZero() && !p.decision.Waiting && !p.decision.Ready {
		st.NextAttemptAt = new(newTime(p.decision.NextAt))
	}
	r.setConditions(st, p)
	r.setReadySince(st, p)
	r.redactStatus(st)
	return s
}

// sayObserved says which documents the status is about, and what they want.
func (r *Reconciler) sayObserved(st *v1alpha1.HostStatusStatus, p *pass) {
	d := &r.documents
	if a := d.accepted; a != nil {
		st.Observed.Spec = &v1alpha1.ObservedDocument{ETag: a.etag, Digest: a.digest}
		st.Desired = &v1alpha1.Desired{Origin: v1alpha1.OriginFlake, FlakeAttribute: a.spec.FlakeAttribute}
		if p.desired != nil {
			st.Desired.Toplevel = p.desired.Toplevel
		}
	}
	if o := d.adopted; o != nil {
		st.Observed.Override = &v1alpha1.ObservedDocument{ETag: o.etag, Digest: o.digest}
	}
	if pub := d.publication; pub != nil {
		st.Observed.Remote = &v1alpha1.ObservedRemote{
			Name: pub.Metadata.Name, ETag: d.remoteETag, Generation: pub.Metadata.Generation, Digest: d.remoteDigest,
		}
		if src := pub.Spec.Source; src != nil {
			st.Observed.Remote.Revision, st.Observed.Remote.Dirty = src.Revision, src.Dirty
		}
	}
}

// sayAttempts says what was tried, and what was taken up of the override.
func (r *Reconciler) sayAttempts(st *v1alpha1.HostStatusStatus) {
	j := r.journal
	if last := r.status.last; r.unsaved && last != nil { // nothing was begun that could not be remembered
		st.LastAttempt, st.History, st.Handled = last.Status.LastAttempt, last.Status.History, last.Status.Handled
		return
	}
	if j == nil {
		return
	}
	if j.Handled != (v1alpha1.Handled{}) {
		st.Handled = new(j.Handled)
	}
	if j.Attempt != nil {
		st.LastAttempt = new(*j.Attempt) // the journal's own goes on changing
	}
	for _, a := range j.History {
		a.Message = meta.Cut(a.Message, maxShort)
		st.History = append(st.History, a)
	}
}

// redactStatus leaves out of everything that programs printed what they should
// not have printed.
func (r *Reconciler) redactStatus(st *v1alpha1.HostStatusStatus) {
	attempt := func(a *v1alpha1.Attempt) {
		a.Message = r.opts.Redact.String(a.Message)
		a.Changes = slices.Clone(a.Changes)
		for i := range a.Changes {
			a.Changes[i] = r.opts.Redact.String(a.Changes[i])
		}
	}
	if st.LastAttempt != nil {
		attempt(st.LastAttempt)
	}
	for i := range st.History {
		attempt(&st.History[i])
	}
}

func system(m nixos.Machine) *v1alpha1.System {
	s := &v1alpha1.System{
		Current: m.Running, Profile: m.Profile, Booted: m.Booted, BootDefault: m.BootDefault,
		Specialisation: m.Specialisation, NixOSVersion: m.NixOSVersion, Kernel: m.Kernel,
	}
	if m.Profile == m.Running {
		s.Generation = m.ProfileGeneration
	}
	return s
}

// setReadySince carries on since when the host is Ready on this generation.
func (r *Reconciler) setReadySince(st *v1alpha1.HostStatusStatus, p *pass) {
	if !p.decision.Ready || p.progress != "" {
		return
	}
	if last := r.status.last; last != nil && last.Status.ReadySince != nil && last.Status.Observed.Remote != nil &&
		last.Status.Observed.Remote.Name == st.Observed.Remote.Name && last.Status.Observed.Remote.Generation == st.Observed.Remote.Generation {
		st.ReadySince = last.Status.ReadySince
		return
	}
	st.ReadySince = new(newTime(r.opts.Now()))
}

// setConditions says what this pass came to, keeping the transition times of
// what did not change.
func (r *Reconciler) setConditions(st *v1alpha1.HostStatusStatus, p *pass) {
	if last := r.status.last; last != nil {
		st.Conditions = append(st.Conditions, last.Status.Conditions...)
	}
	generation := int64(0)
	if st.Observed.Remote != nil {
		generation = st.Observed.Remote.Generation
	}
	for _, c := range r.conditions(p) {
		c.ObservedGeneration = generation
		c.Message = r.opts.Redact.String(c.Message)
		meta.SetCondition(&st.Conditions, c, r.opts.Now())
	}
}

// windowStatus is the window as rule 3 has it; nil while no spec is known.
func (r *Reconciler) windowStatus() *v1alpha1.WindowStatus {
	a := r.documents.accepted
	if a == nil {
		return nil
	}
	if a.spec.MaintenanceWindow != nil && r.skewed() {
		return &v1alpha1.WindowStatus{State: string(window.Closed), Reason: window.ReasonClockSkewed}
	}
	now, c := r.opts.Now(), r.calendar()
	if k := &r.judged; k.calendar != a.calendar || k.opened != r.documents.overrideSpec().OpenWindowUntil || now.Before(k.at) || (!k.until.IsZero() && !now.Before(k.until)) {
		*k = judged{calendar: a.calendar, opened: r.documents.overrideSpec().OpenWindowUntil, at: now, judgement: c.At(now)}
		if k.until = k.judgement.ClosesAt; k.judgement.State == window.Closed {
			k.until = k.judgement.NextOpensAt
		}
		if again := now.Add(Heartbeat); k.until.IsZero() || k.until.After(again) { // why it is so may change before
			k.until = again
		}
	}
	j := r.judged.judgement
	return &v1alpha1.WindowStatus{State: string(j.State), Reason: j.Reason, ClosesAt: timeOrNil(j.ClosesAt), NextOpensAt: timeOrNil(j.NextOpensAt)}
}

// judged is what the window is until it changes.
type judged struct {
	calendar  *window.Calendar
	opened    *meta.Time
	at, until time.Time
	judgement window.Judgement
}

func timeOrNil(t time.Time) *meta.Time {
	if t.IsZero() {
		return nil
	}
	return new(newTime(t))
}

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
