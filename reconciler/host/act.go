package host

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/npcnix/npcnix/apis/v1alpha1"
	"github.com/npcnix/npcnix/nixos"
	"github.com/npcnix/npcnix/reconciler/plan"
	"github.com/npcnix/npcnix/reconciler/transaction"
)

// planAndAct looks at the machine, decides and acts, until nothing can be done
// now. An agent that is told to stop begins nothing.
func (r *Reconciler) planAndAct(ctx context.Context, p *pass) error {
	p.looked = p.storeProblem == nil
	for range maxActs {
		in, err := r.input(context.WithoutCancel(ctx), p)
		if errors.Is(err, errNixUnavailable) {
			p.decide(noNix(err))
			r.logDecision(p)
			return nil
		}
		if err != nil {
			return err
		}
		p.decision, err = r.decide(ctx, in)
		if err == nil {
			err = r.handled(in)
		}
		if err != nil {
			return err
		}
		r.logDecision(p)
		if p.decision.Action == plan.None {
			p.decided = true
			if err := r.forgetTarget(p, in); err != nil {
				return err
			}
			return r.restartIfOutdated(ctx)
		}
		if ctx.Err() != nil {
			return r.interrupted(ctx, p)
		}
		if err := r.act(ctx, p); err != nil {
			return err
		}
		if err := r.observeAgain(ctx, p); err != nil {
			return err
		}
	}
	return fmt.Errorf("no end after %d acts; last: %s", maxActs, p.decision.Message)
}

// observeAgain looks at the documents after an act, which may have taken hours:
// what comes next is decided by what is declared then.
func (r *Reconciler) observeAgain(ctx context.Context, p *pass) error {
	for _, s := range r.steps() {
		if !s.document {
			continue
		}
		if err := s.run(ctx, p); err != nil && ctx.Err() == nil {
			r.opts.Log.Info("Could not look at the documents again", "host", r.opts.Host, "step", s.name, "error", err.Error())
			p.storeFailed, p.storeProblem = true, storeProblem(s.name, err)
			return nil
		}
	}
	return nil
}

func (r *Reconciler) act(ctx context.Context, p *pass) error {
	if p.decision.Action == plan.Announce { // a word to who is logged in, which leaves the host as it is
		return r.announceReboot(ctx)
	}
	if attempts(p.decision.Action) {
		if err := r.open(ctx); err != nil {
			return err
		}
	}
	p.progress = p.decision.Message
	defer func() { p.progress = "" }()
	if err := r.announce(ctx, p); err != nil {
		return err
	}
	ctx, stop := r.beatDuring(ctx)
	defer stop()
	if p.desired != nil && p.decision.Action != plan.Reboot { // what it reboots into was activated, or staged
		if refused, err := r.refused(ctx, p); refused || err != nil {
			return err
		}
	}
	return r.carryOut(ctx, p)
}

// attempts reports whether an act is part of an attempt of its own.
func attempts(a plan.Action) bool {
	switch a {
	case plan.CollectGarbage, plan.Prune, plan.Reboot: // the last one goes on with the attempt that staged the system
		return false
	default:
		return true
	}
}

// collectGarbage makes room for a build.
func (r *Reconciler) collectGarbage(ctx context.Context) error {
	r.journal.CollectedAt = r.opts.Now()
	if err := r.save(); err != nil {
		return err
	}
	limit := r.policy().Timeouts.Build.Duration
	r.pulse.Begin("collect garbage", limit+awaitSlack)
	if err := r.opts.Builder.CollectGarbage(ctx, limit); err != nil { // the disk says whether it helped
		r.opts.Log.Error(err, "Could not collect garbage", "host", r.opts.Host)
	}
	return nil
}

// prune makes room on /boot: the boot loader's installer, run once more for what
// is the boot default, removes what it keeps for generations that are gone. Gates
// say whether that helped.
func (r *Reconciler) prune(ctx context.Context, p *pass) error {
	m, policy := p.machine, r.policy()
	r.journal.PrunedAt, r.journal.PrunedTo = r.opts.Now(), *policy.Retention.Generations
	if err := r.save(); err != nil {
		return err
	}
	protected := []string{m.Profile, m.Running, m.Booted, m.BootDefault}
	if r.journal.Phase.waiting() { // what is gone back to
		if t, err := r.transaction(); err == nil && t != nil {
			protected = append(protected, t.Plan.Back, t.Plan.Recorded.Profile, t.Plan.Recorded.Running, t.Plan.Recorded.BootDefault)
		}
	}
	err := r.opts.Activator.Retain(ctx, r.journal.PrunedTo, protected...)
	usual := m.BootDefault
	if usual == nixos.Unknown {
		usual = m.Profile
	}
	if err == nil && usual != "" {
		limit := policy.Timeouts.Activate.Duration
		r.pulse.Begin("make room on /boot", limit+2*awaitSlack)
		_, err = r.runStc(ctx, nixos.Activation{ID: transaction.RunID(r.opts.NewID(), "prune"), Toplevel: usual, Action: nixos.ActionBoot, Limit: limit})
	}
	if err != nil {
		r.opts.Log.Error(err, "Could not make room on /boot", "host", r.opts.Host)
	}
	return nil
}

// carryOut does the act that was decided.
func (r *Reconciler) carryOut(ctx context.Context, p *pass) error {
	switch p.decision.Action {
	case plan.Build:
		return r.build(ctx, p)
	case plan.Activate:
		if changed := r.opts.Observer.Inhibitors(p.desired.Toplevel); len(changed) > 0 {
			return r.inhibited(ctx, p, changed)
		}
		return r.activate(ctx, p)
	case plan.Stage:
		return r.stage(ctx, p)
	case plan.Commit:
		return r.mend(context.WithoutCancel(ctx), p)
	case plan.DryActivate:
		return r.dryActivate(ctx, p)
	case plan.CollectGarbage:
		return r.collectGarbage(ctx)
	case plan.Prune:
		return r.prune(ctx, p)
	case plan.Reboot:
		return r.reboot(ctx, p)
	default:
		return fmt.Errorf("no such action: %s", p.decision.Action)
	}
}

// refused ends the attempt at a system that cannot be activated here at all.
func (r *Reconciler) refused(ctx context.Context, p *pass) (bool, error) {
	err := r.opts.Activator.Check(ctx, p.desired.Toplevel)
	switch {
	case errors.Is(err, nixos.ErrRootNotSupported):
		return true, r.fail(p, notActivatable(v1alpha1.ReasonRootNotSupported, p.desired.Toplevel, err))
	case errors.Is(err, nixos.ErrNoSwitch):
		return true, r.fail(p, notActivatable(v1alpha1.ReasonNoSwitch, p.desired.Toplevel, err))
	default:
		return false, err
	}
}

// decide asks the planner, and what may hold an activation back at the last
// moment once there is one.
func (r *Reconciler) decide(ctx context.Context, in plan.Input) (plan.Decision, error) {
	d := plan.Decide(in)
	if !in.Last(d.Action) {
		return d, nil
	}
	other, err := r.opts.Observer.OtherSwitch(ctx)
	if err != nil {
		return d, fmt.Errorf("look for another switch: %w", err)
	}
	removed := false
	if in.Spec.RebuildPolicy.AllowAgentRemoval != r.opts.Host {
		if removed, err = r.opts.Service.Removes(ctx, in.Desired); err != nil {
			return d, fmt.Errorf("look for the agent in %s: %w", in.Desired, err)
		}
	}
	permanent := in.Spec.RebuildPolicy.Mode != v1alpha1.ModeTest
	in.Gates = &plan.Gates{
		OtherSwitch: other, AgentRemoved: removed, BootFull: permanent && r.opts.Observer.BootFull(in.Desired),
		Pruned: !passed(r.journal.PrunedAt, in.Now, makeRoomPause) && r.journal.PrunedTo == *in.Spec.RebuildPolicy.Retention.Generations,
	}
	return plan.Decide(in), nil
}

// restartIfOutdated restarts an idle agent whose program or unit somebody
// else's switch changed, once for each change.
func (r *Reconciler) restartIfOutdated(ctx context.Context) error {
	why, err := r.opts.Service.Outdated(ctx)
	if err != nil || why == "" || why == r.journal.RestartedFor || r.journal.Phase.transacting() {
		return err
	}
	return r.restart(ctx, why)
}

// announce reports what is about to be done. That it cannot be reported holds
// nothing up, unless another machine reports under this name, or may.
func (r *Reconciler) announce(ctx context.Context, p *pass) error {
	err := r.report(ctx, p)
	if errors.Is(err, errDuplicateHost) || (err != nil && r.status.assumed) {
		return err
	}
	if err != nil {
		r.opts.Log.Info("Could not report progress", "host", r.opts.Host, "error", err.Error())
	}
	return nil
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
