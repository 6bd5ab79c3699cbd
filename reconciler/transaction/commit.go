package transaction

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/npcnix/npcnix/apis/meta"
	"github.com/npcnix/npcnix/apis/v1alpha1"
	"github.com/npcnix/npcnix/nixos"
	"github.com/npcnix/npcnix/reconciler/health"
)

// Machine is what a transaction acts on.
type Machine interface {
	nixos.Observer
	nixos.Activator
	nixos.Power
	health.Machine
}

const (
	// exitLockHeld is errno EAGAIN, which the Rust stc exits with where its lock is held.
	exitLockHeld = 11
	// maxRuns is how often the boot loader's installer is tried.
	maxRuns = 3
	// backRun names the runs that bring the boot default back.
	backRun = "boot-back"
	// maxTail is how much of a program's output a message quotes, in bytes.
	maxTail = 400
)

// Switch starts the activation of the target, unless the transaction has ended:
// a guard that was faster has the last word.
func (t *Transaction) Switch(ctx context.Context, m Machine, now func() time.Time) error {
	_, err := t.under(ctx, m, now, Agent, func(*locked) (Outcome, error) {
		return Outcome{}, m.Start(ctx, nixos.Activation{
			ID: t.RunID(SwitchRun), Toplevel: t.Plan.Activate, Action: nixos.ActionTest, Limit: t.Plan.ActivateLimit,
		})
	})
	return err
}

// Commit makes the confirmed target permanent: the profile's, then the boot
// default. A system that was only to be tested is left as it is. An error that
// is a *RefusedError wants a rollback by the guard.
func (t *Transaction) Commit(ctx context.Context, m Machine, now func() time.Time) (Outcome, error) {
	return t.under(ctx, m, now, Agent, func(l *locked) (Outcome, error) {
		machine, err := m.Observe(ctx, t.Plan.Target)
		if err != nil {
			return Outcome{}, fmt.Errorf("observe machine: %w", err)
		}
		begun := t.has(committingFile)
		if !t.Runs(m, machine.Running) || (!begun && machine.Profile != t.Plan.Recorded.Profile && machine.Profile != t.Plan.Target) {
			return l.superseded(ctx, machine)
		}
		if t.Plan.Mode == v1alpha1.ModeTest {
			return l.end(ctx, Outcome{Kind: Tested, Message: "The system runs and is confirmed; by its policy it is not made permanent."})
		}
		return l.commit(ctx)
	})
}

// RefusedError is a commit that cannot be finished.
type RefusedError struct{ Problem Problem }

// Error says why.
func (r *RefusedError) Error() string { return r.Problem.Message }

// commit is idempotent: from its marker on it is finished, or taken back.
func (l *locked) commit(ctx context.Context) (Outcome, error) {
	if err := l.mark(committingFile); err != nil {
		return Outcome{}, err
	}
	if p := l.makePermanent(ctx, l.Plan.Target); p != nil {
		if ctx.Err() != nil {
			return Outcome{}, context.Cause(ctx) //nolint:wrapcheck // the caller's own
		}
		return Outcome{}, errors.Join(&RefusedError{*p}, l.Blame(*p))
	}
	if err := l.mark(committedFile); err != nil {
		return Outcome{}, err
	}
	return l.end(ctx, Outcome{Kind: Committed, Message: "The system runs, is the profile's and the boot default."})
}

// makePermanent sets the profile and then runs stc boot: boot loader installers
// ignore a system that is in no profile, and exit with 0.
// What is so already is left alone.
func (l *locked) makePermanent(ctx context.Context, toplevel string) *Problem {
	machine, err := l.m.Observe(ctx, toplevel)
	if err == nil && machine.Profile == toplevel && machine.BootDefault == toplevel {
		return nil
	}
	if err == nil && machine.Profile == toplevel {
		return l.installBoot(ctx, toplevel, "boot")
	}
	if err := l.setProfile(ctx, toplevel, 0); err != nil {
		return &Problem{Reason: v1alpha1.ReasonProfileFailed, Message: "The system could not be made the profile's: " + err.Error(), Transient: true}
	}
	l.retain(ctx)
	return l.installBoot(ctx, toplevel, "boot")
}

// retain removes old generations, so that the boot loader's entries for them go
// with this very installation. What cannot be removed stays, for the next one.
func (l *locked) retain(ctx context.Context) {
	if l.Plan.Retain > 0 {
		_ = l.m.Retain(ctx, l.Plan.Retain, l.Plan.Back, l.Plan.Recorded.Profile, l.Plan.Recorded.Running, l.Plan.Recorded.BootDefault)
	}
}

// setProfile tries a few times: a locked database is no reason to take a
// confirmed system back.
func (l *locked) setProfile(ctx context.Context, toplevel string, generation int64) (err error) {
	for range maxRuns {
		if err = l.m.SetProfile(ctx, toplevel, generation); err == nil {
			return nil
		}
		select {
		case <-ctx.Done():
			return err
		case <-time.After(rollbackPause):
		}
	}
	return err
}

// installBoot makes a system of the profile the boot default.
func (l *locked) installBoot(ctx context.Context, toplevel, run string) *Problem {
	result, err := l.boot(ctx, run, toplevel)
	failed := func(message string) *Problem {
		return &Problem{Reason: v1alpha1.ReasonBootLoaderFailed, Message: message, Transient: diskFull(message) || l.m.BootFull(toplevel)}
	}
	switch {
	case err != nil: // it could not even be run
		return &Problem{Reason: v1alpha1.ReasonBootLoaderFailed, Message: "The system could not be made the boot default: " + err.Error(), Transient: true}
	case !result.Done():
		return failed("The system could not be made the boot default: " + describe(result))
	}
	machine, err := l.m.Observe(ctx, toplevel)
	switch {
	case err != nil:
		return failed("The machine could not be observed: " + err.Error())
	case machine.Profile != toplevel:
		return &Problem{Reason: v1alpha1.ReasonProfileFailed, Message: fmt.Sprintf("The profile is %q after it was set to %s.", machine.Profile, toplevel)}
	case machine.BootDefault != toplevel && machine.BootDefault != nixos.Unknown:
		return failed(fmt.Sprintf("The boot loader's installer ended well, but the boot default is %q instead of %s.", machine.BootDefault, toplevel))
	}
	return nil
}

// boot runs stc boot. A run that a killed process left is waited for and
// counts; where it was lost, or found stc's lock held, another is made.
func (l *locked) boot(ctx context.Context, what, toplevel string) (result nixos.Result, err error) {
	for n := 1; n <= maxRuns; n++ {
		result, err = l.runOnce(ctx, fmt.Sprintf("%s-%d", what, n), nixos.Activation{
			Toplevel: toplevel, Action: nixos.ActionBoot, Unchecked: what == backRun,
		})
		held := result.Exited && result.ExitCode == exitLockHeld
		if err == nil && result.Exited && !held {
			return result, nil
		}
		if err != nil || held {
			select {
			case <-ctx.Done():
				return result, context.Cause(ctx) //nolint:wrapcheck // the caller's own
			case <-time.After(rollbackPause):
			}
		}
	}
	return result, err
}

func (l *locked) runOnce(ctx context.Context, what string, a nixos.Activation) (nixos.Result, error) {
	id := l.RunID(what)
	a.ID, a.Limit = id, l.Plan.ActivateLimit
	err := l.m.Start(ctx, a)
	if err != nil && !errors.Is(err, nixos.ErrRunExists) {
		return nixos.Result{}, err
	}
	return l.await(ctx, id)
}

// await tries a few times: a run that goes on unseen is worse than one that is
// waited for again.
func (l *locked) await(ctx context.Context, id string) (result nixos.Result, err error) {
	for range maxRuns {
		if result, err = l.m.Await(ctx, id); err == nil {
			return result, nil
		}
		select {
		case <-ctx.Done():
			return result, err
		case <-time.After(rollbackPause):
		}
	}
	return result, err
}

// superseded leaves everything to the person who took over.
func (l *locked) superseded(ctx context.Context, machine nixos.Machine) (Outcome, error) {
	message := fmt.Sprintf("Somebody else changed the host meanwhile: it runs %s, its profile is %s. Nothing was changed by the transaction since.",
		orNone(machine.Running), orNone(machine.Profile))
	return l.end(ctx, Outcome{Kind: Superseded, Problem: Problem{Reason: v1alpha1.ReasonSuperseded}, Message: message})
}

func orNone(path string) string {
	if path == "" {
		return "no known system"
	}
	return path
}

// describe says how a run of stc ended.
func describe(r nixos.Result) string {
	how := r.How
	if r.Exited {
		how = fmt.Sprintf("exit code %d", r.ExitCode)
	}
	if out := strings.TrimSpace(r.Output); out != "" {
		how += ". Output: " + meta.CutFront(out, maxTail)
	}
	return Sentence(how)
}

// Sentence ends a text with a full stop, unless it ends with one.
func Sentence(text string) string {
	text = strings.TrimSpace(text)
	if text == "" || strings.HasSuffix(text, ".") {
		return text
	}
	return text + "."
}

// diskFull recognises what programs print when there is no space.
func diskFull(text string) bool {
	text = strings.ToLower(text)
	return strings.Contains(text, "no space left on device") || strings.Contains(text, "disk quota exceeded")
}

func isRefused(err error) bool {
	_, refused := errors.AsType[*RefusedError](err)
	return refused
}
