package transaction

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/npcnix/npcnix/apis/meta"
	"github.com/npcnix/npcnix/apis/v1alpha1"
	"github.com/npcnix/npcnix/nixos"
	"github.com/npcnix/npcnix/reconciler/health"
)

const (
	// rollbackPause is the time between two tries to bring the recorded system back.
	rollbackPause = 2 * time.Second
	// maxRollbackPause is what it grows to.
	maxRollbackPause = 30 * time.Second
	// stopLimit is how long a switch is waited for that was told to stop.
	stopLimit = 5 * time.Minute
	// attendSlack bounds what a guard that confirms does beside its limits.
	attendSlack = time.Minute
)

// RunGuard ends the transaction: it finishes a commit that has begun, and
// takes back what was not confirmed. One that has ended stays as it is.
func (t *Transaction) RunGuard(ctx context.Context, m Machine, now func() time.Time) (Outcome, error) {
	o, err := t.under(ctx, m, now, Guard, func(l *locked) (Outcome, error) {
		switch _, blamed := t.Blamed(); {
		case t.has(stagedFile): // and waits for its reboot
			return Outcome{}, nil
		case t.has(rebootingFile): // its agent died before it was staged
			return l.unstage(ctx, l.problem(ctx))
		case t.Plan.AgentRemoved && !blamed:
			return l.confirm(ctx)
		}
		if err := l.stop(ctx, SwitchRun); err != nil {
			return Outcome{}, err
		}
		return l.settle(ctx)
	})
	if err != nil {
		return o, err
	}
	return o, o.reboot(ctx, m)
}

// stop ends a run. One of which something cannot be killed is waited for no longer
// than stopLimit: what it changed is taken back all the same.
func (l *locked) stop(ctx context.Context, what string) error {
	limited, cancel := context.WithTimeout(ctx, stopLimit)
	defer cancel()
	switch err := l.m.Stop(limited, l.RunID(what)); {
	case ctx.Err() != nil:
		return context.Cause(ctx) //nolint:wrapcheck // the caller's own
	case err != nil && limited.Err() == nil:
		return fmt.Errorf("stop %s: %w", what, err)
	default:
		return nil
	}
}

// settle decides what becomes of a transaction whose switch has ended.
func (l *locked) settle(ctx context.Context) (Outcome, error) {
	machine, err := l.m.Observe(ctx, l.Plan.Target)
	if err != nil {
		return Outcome{}, fmt.Errorf("observe machine: %w", err)
	}
	if l.taken(machine) {
		return l.superseded(ctx, machine)
	}
	if _, blamed := l.Blamed(); l.has(committingFile) && !blamed && l.Runs(l.m, machine.Running) {
		if o, err := l.commit(ctx); err == nil || !isRefused(err) {
			return o, err
		}
	}
	return l.takeBack(ctx)
}

// takeBack ends a transaction that was not confirmed.
func (l *locked) takeBack(ctx context.Context) (Outcome, error) {
	problem := l.problem(ctx)
	if len(problem.Units) == 0 && !problem.Transient { // a check that its limit cut off names none
		problem.Units = l.newlyFailed(ctx)
	}
	switch {
	case l.Plan.Rollback.OnFailure == v1alpha1.RollbackKeep && !l.has(committingFile):
		return l.end(ctx, Outcome{Kind: Kept, Problem: problem, Message: "The new system is kept, as rollback.onFailure says; it is neither the profile's nor the boot default."})
	case !l.canGoBack():
		message := "There is no earlier system to go back to; profile and boot default are as before."
		if l.has(committingFile) {
			message = "There is no earlier system to go back to."
		}
		return l.end(ctx, Outcome{Kind: Failed, Problem: problem, Message: message})
	default:
		return l.rollBack(ctx, problem)
	}
}

// canGoBack reports whether there is an earlier system, and another one than
// the target, which may have been activated once more.
func (l *locked) canGoBack() bool {
	back := l.Plan.Recorded.Running
	return nixos.IsStorePath(back) && !l.Runs(l.m, back)
}

// taken reports whether somebody else took over: another system runs than the
// target and the recorded one, or the target was committed, and not by this.
func (l *locked) taken(machine nixos.Machine) bool {
	mine := l.Runs(l.m, machine.Running) || machine.Running == l.Plan.Recorded.Running
	committed := machine.Profile == l.Plan.Target && l.Plan.Recorded.Profile != l.Plan.Target
	return !mine || (committed && !l.has(committingFile))
}

// problem is what Blame said, or that nobody confirmed: which is not the
// target's fault where it was never activated, or where no agent could have
// remembered that it confirmed.
func (l *locked) problem(ctx context.Context) Problem {
	if p, blamed := l.Blamed(); blamed {
		return p
	}
	if result, err := l.m.Await(ctx, l.RunID(SwitchRun)); err == nil && result.How == nixos.NeverStarted && !l.has(rebootingFile) {
		return Problem{Reason: v1alpha1.ReasonInterrupted, Message: "The agent ended before the switch began.", Transient: true}
	}
	if err := l.mark(guardedFile); err != nil {
		return Problem{Reason: v1alpha1.ReasonStateNotWritable, Message: "No agent could confirm the new system, as its state cannot be written: " + err.Error(), Transient: true}
	}
	return Problem{Reason: v1alpha1.ReasonNotConfirmed, Message: "No agent confirmed the new system in time."}
}

// rollBack activates the recorded system, and brings profile and boot default
// back if the commit had begun. stc is asked to test, not to switch: with a
// full /boot, switch exits before it activates.
func (l *locked) rollBack(ctx context.Context, problem Problem) (Outcome, error) {
	profile, _ := l.Plan.GoesBack()
	begun := l.has(committingFile) && profile != ""
	var notBack error
	uncertain := ""
	if begun {
		if notBack = l.profileBack(ctx); notBack != nil {
			uncertain = Sentence("What was before is not back: " + notBack.Error())
		}
	}
	if how := l.reactivate(ctx); how != "" && ctx.Err() == nil {
		return l.rollbackFailed(ctx, problem, how, uncertain)
	}
	if notBack != nil { // what runs is right, and what would boot is not: it is tried again
		return Outcome{}, notBack
	}
	if begun {
		if p := l.installBoot(ctx, profile, backRun); p != nil {
			uncertain = "The boot default could not be brought back for sure: " + p.Message
		}
	}
	message := strings.TrimSpace(fmt.Sprintf("%s runs again. %s", l.Plan.Recorded.Running, uncertain))
	if failed := l.newlyFailed(ctx); len(failed) > 0 {
		message += " There failed since: " + strings.Join(failed, ", ") + "."
	}
	return l.end(ctx, Outcome{Kind: RolledBack, Problem: problem, Message: message, BootDefaultUncertain: uncertain != ""})
}

// newlyFailed names the units that failed since the transaction began.
func (l *locked) newlyFailed(ctx context.Context) []string {
	units, err := l.m.Units(ctx)
	if err != nil {
		return nil // nobody knows
	}
	return slices.DeleteFunc(units.Failed(), func(name string) bool { return slices.Contains(l.Plan.Recorded.Units.Failed, name) })
}

// reactivate runs the recorded system's stc until that system runs, or the
// limit is reached; how says why it does not then. It is judged by what runs,
// not by stc's exit code.
func (l *locked) reactivate(ctx context.Context) (how string) {
	limited, cancel := context.WithTimeout(ctx, l.Plan.ActivateLimit)
	defer cancel()
	for n, pause := 1, rollbackPause; ; n, pause = n+1, min(2*pause, maxRollbackPause) {
		if how = l.reactivateOnce(limited, n); how == "" {
			return ""
		}
		select {
		case <-limited.Done():
			if err := l.stop(context.WithoutCancel(ctx), fmt.Sprintf("rollback-%d", n)); err != nil {
				how += " " + err.Error()
			}
			return how
		case <-time.After(pause):
		}
	}
}

// reactivateOnce is one try of reactivate.
func (l *locked) reactivateOnce(ctx context.Context, n int) (how string) {
	back := l.Plan.Recorded.Running
	result, err := l.runOnce(ctx, fmt.Sprintf("rollback-%d", n), nixos.Activation{Toplevel: back, Action: nixos.ActionTest, Unchecked: true})
	if err != nil {
		return err.Error()
	}
	machine, err := l.m.Observe(context.WithoutCancel(ctx), back)
	switch {
	case err != nil:
		return err.Error()
	case machine.Running == back && (result.Switched() || (result.Exited && result.Touched)):
		return ""
	default:
		return describe(result)
	}
}

// rollbackFailed says so and, if the policy wants it, reboots once into the
// boot default, which was not touched.
func (l *locked) rollbackFailed(ctx context.Context, problem Problem, how, uncertain string) (Outcome, error) {
	message := fmt.Sprintf("%s could not be activated again within %s: %s. By hand: %s/bin/switch-to-configuration test",
		l.Plan.Recorded.Running, meta.Short(l.Plan.ActivateLimit), strings.TrimSuffix(how, "."), l.Plan.Recorded.Running)
	o := Outcome{Kind: RollbackFailed, Problem: problem, BootDefaultUncertain: l.has(committingFile)}
	if l.Plan.Rollback.LastResort == v1alpha1.LastResortReboot && !l.has(committingFile) && !l.has(lastResortFile) {
		message += ". The host reboots, as rollback.lastResort says."
		bootID, err := l.m.BootID(ctx)
		if err := errors.Join(err, l.mark(lastResortFile)); err != nil {
			return Outcome{}, err
		}
		o.RebootFrom = bootID
	}
	if uncertain != "" {
		message += ". " + uncertain
	}
	o.Message = message
	return l.end(ctx, o)
}

// confirm does the agent's part where the target has no agent: the health
// checks alone decide.
func (l *locked) confirm(ctx context.Context) (Outcome, error) {
	p := l.Plan
	limited, cancel := context.WithTimeout(ctx, p.ActivateLimit+attendSlack)
	defer cancel()
	result, err := l.m.Await(limited, l.RunID(SwitchRun))
	problem := Problem{Reason: v1alpha1.ReasonActivationFailed, Message: "The switch failed: " + describe(result)}
	switch {
	case err != nil:
		problem.Message = "The switch did not end: " + err.Error()
	case result.Exited && result.ExitCode == nixos.ExitRebootRequired: // after it no agent would confirm
		return l.end(ctx, Outcome{Kind: Failed, Problem: Problem{
			Reason: v1alpha1.ReasonRebootRequired, Message: "Only a reboot can bring this system into force, and no agent would be there to confirm it. Switch by hand.",
		}, Message: "Nothing was changed."})
	case result.Switched():
		checking, cancel := context.WithTimeout(ctx, p.ConfirmLimit)
		defer cancel()
		err := health.Await(checking, l.m, p.HealthChecks, p.Recorded.Units, l.now)
		if err == nil {
			return l.commitOrSettle(ctx)
		}
		problem = Unhealthy(err)
	}
	if ctx.Err() != nil {
		return Outcome{}, context.Cause(ctx) //nolint:wrapcheck // the caller's own
	}
	if err := l.Blame(problem); err != nil {
		return Outcome{}, err
	}
	if err := l.stop(ctx, SwitchRun); err != nil {
		return Outcome{}, err
	}
	return l.settle(ctx)
}

func (l *locked) commitOrSettle(ctx context.Context) (Outcome, error) {
	machine, err := l.m.Observe(ctx, l.Plan.Target)
	if err != nil {
		return Outcome{}, fmt.Errorf("observe machine: %w", err)
	}
	if !l.Runs(l.m, machine.Running) || !l.known(machine.Profile) {
		return l.superseded(ctx, machine)
	}
	if l.Plan.Mode == v1alpha1.ModeTest {
		return l.end(ctx, Outcome{Kind: Tested, Message: "The system runs and its health checks succeed."})
	}
	if err := l.mark(committingFile); err != nil {
		return Outcome{}, err
	}
	return l.settle(ctx)
}

// Unhealthy is the problem of a system whose checks do not succeed.
func Unhealthy(err error) Problem {
	p := Problem{Reason: v1alpha1.ReasonHealthCheckFailed, Message: "The new system is not healthy: " + err.Error()}
	if e := (*health.Error)(nil); errors.As(err, &e) {
		p.Units = e.Units
	}
	return p
}
