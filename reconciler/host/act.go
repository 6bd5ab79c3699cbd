package host

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"time"

	"github.com/npcnix/npcnix/apis/v1alpha1"
	"github.com/npcnix/npcnix/nixos"
	"github.com/npcnix/npcnix/reconciler/plan"
)

// errNixUnavailable is returned when Nix does not even say its version.
var errNixUnavailable = errors.New("nix does not answer")

// awaitSlack is how much longer than its own limit a switch is waited for.
const awaitSlack = time.Minute

// planAndAct looks at the machine, decides and acts, until nothing can be done
// now. An agent that is told to stop begins nothing, but commits what it has
// activated.
func (r *Reconciler) planAndAct(ctx context.Context, p *pass) error {
	for range maxActs {
		in, err := r.input(context.WithoutCancel(ctx), p)
		if errors.Is(err, errNixUnavailable) {
			p.decide(plan.Decision{Action: plan.None, Reason: v1alpha1.ReasonNixUnavailable, Message: err.Error()})
			r.logDecision(p)
			return nil
		}
		if err != nil {
			return err
		}
		p.decision = plan.Decide(in)
		r.logDecision(p)
		if p.decision.Action == plan.None {
			p.decided = true
			return r.forgetTarget(p, in)
		}
		if ctx.Err() != nil && p.decision.Action != plan.Commit {
			return r.interrupted(ctx, p)
		}
		if err := r.act(ctx, p); err != nil {
			return err
		}
	}
	return fmt.Errorf("no end after %d acts; last: %s", maxActs, p.decision.Message)
}

func (r *Reconciler) act(ctx context.Context, p *pass) error {
	if err := r.open(); err != nil {
		return err
	}
	p.progress = p.decision.Message
	if err := r.report(ctx, p); errors.Is(err, errDuplicateHost) {
		return err
	} else if err != nil {
		r.opts.Log.Info("Could not report progress", "host", r.opts.Host, "error", err.Error())
	}
	defer func() { p.progress = "" }()
	ctx, stop := r.beatDuring(ctx)
	defer stop()
	if p.desired != nil {
		if err := r.opts.Activator.Check(ctx, p.desired.Toplevel); errors.Is(err, nixos.ErrRootNotSupported) {
			return r.fail(p, plan.Permanent, v1alpha1.ReasonRootNotSupported, p.desired.Toplevel+": "+err.Error())
		} else if err != nil {
			return err
		}
	}
	switch p.decision.Action {
	case plan.Build:
		return r.build(ctx, p)
	case plan.Activate:
		return r.activate(context.WithoutCancel(ctx), p)
	case plan.Commit:
		return r.commit(context.WithoutCancel(ctx), p)
	default:
		return fmt.Errorf("no such action: %s", p.decision.Action)
	}
}

// beatDuring keeps the heartbeat up until stop is called. Where it finds that
// another machine reports under this name, the context ends: a build is given
// up, a switch goes on.
func (r *Reconciler) beatDuring(ctx context.Context) (_ context.Context, stop func()) {
	ctx, cancel := context.WithCancelCause(ctx)
	var beats sync.WaitGroup
	done := make(chan struct{})
	beats.Go(func() {
		ticker := time.NewTicker(Heartbeat)
		defer ticker.Stop()
		for {
			select {
			case <-done:
				return
			case <-ticker.C:
			}
			switch err := r.status.beat(ctx, r.opts.Now()); {
			case errors.Is(err, errDuplicateHost):
				cancel(err)
				return
			case err != nil:
				r.opts.Log.Info("Could not put the heartbeat", "error", err.Error())
			}
		}
	})
	return ctx, func() {
		close(done)
		beats.Wait()
		cancel(nil)
	}
}

// input gathers what the decision depends on.
func (r *Reconciler) input(ctx context.Context, p *pass) (plan.Input, error) {
	d, j, now := &r.documents, r.journal, r.opts.Now()
	in := plan.Input{
		Now: now, Host: r.opts.Host, SpecProblem: d.specProblem, Remote: d.publication, RemoteProblem: d.remoteProblem,
		Committed: j.Committed, Unproven: j.Unproven, Asked: p.asked, Attempted: p.attempted,
	}
	if d.overrideProblem != nil {
		in.SpecProblem = d.overrideProblem
	}
	p.desired = nil
	if d.accepted != nil && d.overrideProblem == nil {
		in.Spec = &d.accepted.spec
		in.Suspended = suspension(in.Spec.Suspend, now)
	}
	if in.Spec != nil && in.Remote != nil {
		if err := r.desired(ctx, p); err != nil {
			return in, err
		}
		r.newTarget()
		in.Content = d.content()
		in.Attempts, in.Failure = j.Tries.Counted, j.Tries.Failure
	}
	if p.desired != nil {
		in.Desired = p.desired.Toplevel
		in.Degraded = j.Degraded.of(in.Desired)
	}
	machine, err := r.opts.Observer.Observe(ctx, in.Desired)
	if err != nil {
		return in, fmt.Errorf("observe machine: %w", err)
	}
	p.machine, p.observed, in.Machine = machine, true, machine
	return in, r.trackDrift(&in)
}

// suspension returns the suspension that is in force at now, or nil.
func suspension(s *v1alpha1.Suspend, now time.Time) *plan.Suspension {
	if s == nil {
		return nil
	}
	if s.Until == nil {
		return &plan.Suspension{Reason: s.Reason}
	}
	if !now.Before(s.Until.Time) {
		return nil
	}
	return &plan.Suspension{Reason: s.Reason, Until: s.Until.Time}
}

// desired finds the toplevel that the target's source gave, if it is still there.
func (r *Reconciler) desired(ctx context.Context, p *pass) error {
	if r.nixVersion == "" {
		version, err := r.opts.Observer.NixVersion(ctx)
		if err != nil {
			return fmt.Errorf("%w: %w", errNixUnavailable, err)
		}
		r.nixVersion = version
	}
	b := r.journal.find(r.documents.publication.Spec.Archive.Digest, r.documents.accepted.spec.FlakeAttribute, r.nixVersion)
	if b != nil && r.opts.Builder.Built(ctx, b.OutLink, b.Toplevel) {
		p.desired = b
	}
	return nil
}

// newTarget forgets the attempts at another archive, attribute or policy.
func (r *Reconciler) newTarget() {
	d := &r.documents
	key := strings.Join([]string{d.publication.Spec.Archive.Digest, d.accepted.spec.FlakeAttribute, d.accepted.policyDigest}, " ")
	if r.journal.Tries.Key != key {
		r.journal.Tries = tries{Key: key}
	}
}

// trackDrift remembers since when the machine differs from what was committed.
// The grace starts anew when the running system changes again, but not when it
// is the desired one that was brought back.
func (r *Reconciler) trackDrift(in *plan.Input) error {
	j := r.journal
	drifted := in.Spec != nil && plan.Drifted(*in)
	switch {
	case !drifted && j.Drift == nil:
		return nil
	case !drifted:
		j.Drift = nil
	case j.Drift == nil || (j.Drift.Running != in.Machine.Running && !in.Machine.Runs(in.Desired)):
		j.Drift = &drift{Running: in.Machine.Running, Since: in.Now}
	default:
		in.DriftSince = j.Drift.Since
		return nil
	}
	if j.Drift != nil {
		in.DriftSince = j.Drift.Since
	}
	return saveJournal(r.opts.StateDir, j)
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
