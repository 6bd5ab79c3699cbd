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
)

// planAndAct looks at the machine, decides and acts, until nothing can be done
// now. An agent that is told to stop begins nothing, but commits what it has
// activated.
func (r *Reconciler) planAndAct(ctx context.Context, p *pass) error {
	p.looked = p.storeProblem == nil
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
	defer func() { p.progress = "" }()
	if err := r.announce(ctx, p); err != nil {
		return err
	}
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
