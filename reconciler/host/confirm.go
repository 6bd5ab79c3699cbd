package host

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/npcnix/npcnix/apis/v1alpha1"
	"github.com/npcnix/npcnix/reconciler"
	"github.com/npcnix/npcnix/reconciler/health"
	"github.com/npcnix/npcnix/reconciler/transaction"
	"github.com/npcnix/npcnix/store"
	"github.com/npcnix/npcnix/store/document"
)

// tripPause is the time between two tries to reach the store from the new system.
const tripPause = time.Second

// errConfirmLimit is the cause of a confirmation that took too long.
var errConfirmLimit = errors.New("the time limit for confirming was reached")

// confirm wants of the new system what keeps the host reachable: an agent as it
// defines it, the store, and its health checks.
func (r *Reconciler) confirm(ctx context.Context, p *pass, t *transaction.Transaction) error {
	if err := r.becomeDefined(ctx, t); err != nil {
		return err
	}
	if r.journal.Phase != phaseConfirming {
		return nil
	}
	left, err := r.confirmLeft(t.Plan.ConfirmLimit)
	if err != nil {
		return err
	}
	r.pulse.Begin("confirm", left+awaitSlack)
	limited, cancel := context.WithTimeoutCause(ctx, left, errConfirmLimit)
	defer cancel()
	if err := r.showConfirming(ctx, p, t, left); err != nil {
		return err
	}
	var tripErr, healthErr error
	reconciler.Together(
		func() { tripErr = r.reach(limited, p) },
		func() {
			healthErr = health.Await(limited, r.opts.machine(), t.Plan.HealthChecks, r.unmanaged(t), r.opts.Now)
		},
	)
	if o, ended, err := t.Outcome(); ended || err != nil { // the guard was faster
		return r.concludeIf(ctx, p, t, o, err)
	}
	if ctx.Err() != nil && (tripErr != nil || healthErr != nil) {
		return context.Cause(ctx) //nolint:wrapcheck // the loop's own: draining
	}
	return r.judgeConfirmation(t, healthErr, tripErr)
}

// judgeConfirmation keeps the new system, or takes it back.
func (r *Reconciler) judgeConfirmation(t *transaction.Transaction, healthErr, tripErr error) error {
	switch {
	case healthErr != nil:
		return r.takeBack(t, transaction.Unhealthy(healthErr))
	case tripErr != nil && t.Plan.Rollback.OnStoreLost == v1alpha1.RollbackRollback:
		return r.takeBack(t, transaction.Problem{
			Reason: v1alpha1.ReasonStoreLost, StoreLost: true,
			Message: storeLost(t.Plan.ConfirmLimit, tripErr),
		})
	default:
		return r.enter(phaseCommitting)
	}
}

// resumeSlack is how much longer an agent has that goes on where another was
// killed: to be started takes time, which is not the new system's fault. The
// guard, which has a minute more than both limits, waits for that.
const resumeSlack = 45 * time.Second

// confirmLeft is what is left of the limit, whichever agent began to confirm. A
// clock that was set meanwhile begins it anew; the guard's own is monotonic.
func (r *Reconciler) confirmLeft(limit time.Duration) (time.Duration, error) {
	now, since := r.opts.Now(), r.journal.ConfirmingSince
	left := limit + min(limit, resumeSlack) - now.Sub(since)
	if !since.IsZero() && !since.After(now) && left >= 0 {
		return left, nil
	}
	r.journal.ConfirmingSince = now
	return limit, r.save()
}

// showConfirming makes the status say what runs and what is waited for.
func (r *Reconciler) showConfirming(ctx context.Context, p *pass, t *transaction.Transaction, left time.Duration) (err error) {
	p.machine, err = r.opts.Observer.Observe(ctx, t.Plan.Target)
	if err != nil {
		return fmt.Errorf("observe machine: %w", err)
	}
	p.observed = true
	p.progress = confirming(t.Plan.Target, r.opts.Now().Add(left), r.journal.Attempt.ExitCode)
	p.decision.Message = p.progress
	r.requests.keep(r.buildStatus(p))
	return nil
}

// becomeDefined sees to it that this agent is the one that the running system
// defines, started after the switch. If it is not, it is restarted, and the guard stays armed.
func (r *Reconciler) becomeDefined(ctx context.Context, t *transaction.Transaction) error {
	outdated, err := r.opts.Service.Outdated(ctx)
	if err != nil {
		return err
	}
	if outdated == "" && r.began == t.Plan.ID && r.opts.Service.Managed() {
		// Its unit is the same, but its configuration, the host's name or the
		// certificates that it read may not be.
		outdated = "it was started before the switch"
	}
	if outdated == "" {
		return nil
	}
	if r.journal.Restarts >= maxRestarts {
		return r.takeBack(t, transaction.Problem{
			Reason: v1alpha1.ReasonNotConfirmed, Message: agentOutdated(outdated),
		})
	}
	r.journal.Restarts++
	return r.restart(ctx, outdated)
}

// restart asks to be restarted as the running system defines the agent.
func (r *Reconciler) restart(ctx context.Context, why string) error {
	r.journal.RestartedFor = why
	if err := r.save(); err != nil {
		return err
	}
	r.opts.Log.Info("Restarting", "host", r.opts.Host, "reason", why)
	if err := r.opts.Service.Restart(ctx); err != nil {
		return fmt.Errorf("restart the agent, as %s: %w", why, err)
	}
	return errRestarting
}

// unmanaged is the baseline of a transaction. Where nothing manages units, the
// exit code of the switch is all that is known of them.
func (r *Reconciler) unmanaged(t *transaction.Transaction) health.Baseline {
	baseline := t.Plan.Recorded.Units
	if code := r.journal.Attempt.ExitCode; code != nil && *code != 0 {
		baseline.Unmanaged = fmt.Sprintf("the switch ended with exit code %d: some unit failed", *code)
	}
	return baseline
}

// reach makes the round trip to the store until it works or ctx ends.
func (r *Reconciler) reach(ctx context.Context, p *pass) error {
	for {
		err := r.roundTrip(ctx, p)
		if err == nil {
			return nil
		}
		select {
		case <-ctx.Done():
			return err
		case <-time.After(tripPause):
		}
	}
}

// roundTrip reads the HostSpec, writes the HostStatus and reads it back, over
// connections of its own: one from before a switch may outlive the network's
// configuration.
func (r *Reconciler) roundTrip(ctx context.Context, p *pass) error {
	fresh, err := r.opts.Fresh(ctx)
	if err != nil {
		return fmt.Errorf("connect to the store: %w", err)
	}
	if _, err := document.Read(ctx, fresh, store.HostSpecKey(r.opts.Host), ""); err != nil && !errors.Is(err, store.ErrNotFound) {
		return fmt.Errorf("read the HostSpec: %w", err)
	}
	w := &r.status
	w.mu.Lock()
	defer w.mu.Unlock()
	usual := w.store
	w.store = fresh
	defer func() { w.store = usual }()
	if err := w.claim(ctx, r.opts.Now()); err != nil {
		return fmt.Errorf("read the HostStatus: %w", err)
	}
	status := r.buildStatus(p)
	data, err := encodeStatus(status)
	if err == nil {
		err = w.replace(ctx, data, r.opts.Now())
	}
	if err != nil {
		return fmt.Errorf("write the HostStatus: %w", err)
	}
	w.last = status
	raw, err := document.Read(ctx, fresh, w.key, "")
	if err != nil {
		return fmt.Errorf("read the HostStatus back: %w", err)
	}
	if !bytes.Equal(raw.Data, data) {
		return errors.New("read the HostStatus back: it is not what was written")
	}
	return nil
}
