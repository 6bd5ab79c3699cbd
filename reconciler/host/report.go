package host

import (
	"context"
	"slices"
	"time"

	"github.com/npcnix/npcnix/apis/meta"
	"github.com/npcnix/npcnix/apis/v1alpha1"
	"github.com/npcnix/npcnix/nixos"
	"github.com/npcnix/npcnix/reconciler/plan"
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
	if u := &r.unreported; u.err != nil && p.storeProblem != nil && u.decision == p.decision && !passed(u.at, now, Heartbeat-next/2) {
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
