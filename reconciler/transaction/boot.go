package transaction

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/npcnix/npcnix/apis/v1alpha1"
	"github.com/npcnix/npcnix/reconciler/statefile"
)

// bootPoll is how often the guard of a boot looks whether the agent confirmed.
const bootPoll = time.Second

// Stage makes the target the profile's and the boot default without activating
// it. staged is true when it waits for a reboot now; otherwise the transaction
// has ended, with profile and boot default as before.
func (t *Transaction) Stage(ctx context.Context, m Machine, now func() time.Time) (o Outcome, staged bool, err error) {
	o, err = t.under(ctx, m, now, Agent, func(l *locked) (Outcome, error) {
		machine, err := m.Observe(ctx, t.Plan.Target)
		if err != nil {
			return Outcome{}, fmt.Errorf("observe machine: %w", err)
		}
		if machine.Profile != t.Plan.Recorded.Profile && machine.Profile != t.Plan.Target {
			return l.superseded(ctx, machine)
		}
		// The latter before the boot loader knows of the target: whoever boots it
		// finds its guard.
		for _, marker := range []string{committingFile, rebootingFile} {
			if err := l.mark(marker); err != nil {
				return Outcome{}, err
			}
		}
		if p := l.makePermanent(ctx, t.Plan.Target); p != nil {
			return l.unstage(ctx, *p)
		}
		staged = true
		return Outcome{}, l.mark(stagedFile)
	})
	return o, staged && err == nil, err
}

// unstage brings profile and boot default back.
func (l *locked) unstage(ctx context.Context, problem Problem) (Outcome, error) {
	if l.Plan.Committed { // it was confirmed, and runs: only its boot is not prepared
		return l.end(ctx, Outcome{Kind: Failed, Problem: problem, Message: "The host was not rebooted; what runs stays the profile's."})
	}
	uncertain, err := l.restore(ctx)
	if err != nil {
		return Outcome{}, err
	}
	message := "Nothing was activated; profile and boot default are as before."
	if uncertain != "" {
		message = "Nothing was activated. " + uncertain
	}
	return l.end(ctx, Outcome{Kind: Failed, Problem: problem, Message: message, BootDefaultUncertain: uncertain != ""})
}

// ErrNotBroughtBack is returned where the profile names a system still that was
// not confirmed.
var ErrNotBroughtBack = errors.New("the profile could not be brought back")

// restore brings profile and boot default back without activating anything;
// uncertain says what could not be of the boot default. An error is an
// ErrNotBroughtBack.
func (l *locked) restore(ctx context.Context) (uncertain string, err error) {
	back, _ := l.Plan.GoesBack()
	if back == "" {
		return "There is no earlier profile to go back to.", nil
	}
	if err := l.profileBack(ctx); err != nil {
		return "", err
	}
	if p := l.installBoot(ctx, back, backRun); p != nil {
		return "The boot default could not be brought back for sure: " + p.Message, nil
	}
	return "", nil
}

// profileBack sets the profile to what it was before the transaction. An error is
// an ErrNotBroughtBack.
func (l *locked) profileBack(ctx context.Context) error {
	back, generation := l.Plan.GoesBack()
	machine, err := l.m.Observe(ctx, back)
	if err != nil || machine.Profile != back {
		err = l.setProfile(ctx, back, generation)
	}
	if err != nil {
		return fmt.Errorf("%w: %w", ErrNotBroughtBack, err)
	}
	return nil
}

// Booted ends a staged transaction whose target was booted and confirmed.
func (t *Transaction) Booted(ctx context.Context, m Machine, now func() time.Time) (Outcome, error) {
	return t.under(ctx, m, now, Agent, func(l *locked) (Outcome, error) {
		machine, err := m.Observe(ctx, t.Plan.Target)
		if err != nil {
			return Outcome{}, fmt.Errorf("observe machine: %w", err)
		}
		if !t.Runs(m, machine.Running) || machine.Profile != t.Plan.Target {
			return l.superseded(ctx, machine)
		}
		if err := l.mark(committedFile); err != nil {
			return Outcome{}, err
		}
		return l.end(ctx, Outcome{Kind: Committed, Message: "The system was booted and is confirmed."})
	})
}

// Abandon ends a transaction that changed nothing, or whose change is another's
// now. One that has ended stays as it is.
func (t *Transaction) Abandon(ctx context.Context, m Machine, now func() time.Time, kind Kind, p Problem, message string) (Outcome, error) {
	return t.under(ctx, m, now, Agent, func(l *locked) (Outcome, error) { return l.end(ctx, Outcome{Kind: kind, Problem: p, Message: message}) })
}

// Undo brings profile and boot default back, where the target does not run, and
// ends the transaction. With an ErrNotBroughtBack it goes on, and is to be undone
// again: until then its guard watches who boots the target.
func (t *Transaction) Undo(ctx context.Context, m Machine, now func() time.Time, kind Kind, p Problem, message string) (Outcome, error) {
	return t.under(ctx, m, now, Agent, func(l *locked) (Outcome, error) {
		machine, err := m.Observe(ctx, t.Plan.Target)
		if err != nil {
			return Outcome{}, fmt.Errorf("observe machine: %w", err)
		}
		uncertain := ""
		switch {
		case l.has(committingFile) && !l.known(machine.Profile):
			return l.superseded(ctx, machine)
		case l.has(committingFile):
			if uncertain, err = l.restore(ctx); err != nil {
				return Outcome{}, err
			}
		}
		if uncertain != "" {
			message += " " + uncertain
		}
		return l.end(ctx, Outcome{Kind: kind, Problem: p, Message: message, BootDefaultUncertain: uncertain != ""})
	})
}

// Staged reports whether the transaction waits for a reboot into its target.
func (t *Transaction) Staged() bool {
	_, ended, err := t.Outcome()
	return err == nil && !ended && t.has(rebootingFile)
}

// AwaitedBoot reports whether the transaction waits for a reboot into its target,
// or did before it ended.
func (t *Transaction) AwaitedBoot() bool { return t.has(rebootingFile) }

// RunBootGuard waits for the agent of a freshly booted target to confirm it. If
// none does, it brings profile and boot default back and reboots, once.
func (t *Transaction) RunBootGuard(ctx context.Context, m Machine, now func() time.Time) (Outcome, error) {
	if o, ended, err := t.Outcome(); ended || err != nil {
		return o, errors.Join(err, o.reboot(ctx, m))
	}
	bootID, err := m.BootID(ctx)
	if err != nil {
		return Outcome{}, err
	}
	machine, err := m.Observe(ctx, t.Plan.Target)
	if err != nil {
		return Outcome{}, fmt.Errorf("observe machine: %w", err)
	}
	if !t.Staged() || bootID == t.Plan.Recorded.BootID || !t.Runs(m, machine.Booted) {
		return Outcome{}, nil // it was not this target that was booted
	}
	if err := t.awaitOutcome(ctx, t.Plan.HealthChecks.Settle.Duration+t.Plan.ConfirmLimit+Slack); err != nil {
		return Outcome{}, err
	}
	o, err := t.under(ctx, m, now, Guard, func(l *locked) (Outcome, error) { return l.takeBootBack(ctx, bootID) })
	if err != nil {
		return o, err
	}
	return o, o.reboot(ctx, m)
}

// takeBootBack brings profile and boot default back, unless somebody else took
// over, or the policy is to keep the new system. The host is to leave this boot
// for them.
func (l *locked) takeBootBack(ctx context.Context, bootID string) (Outcome, error) {
	machine, err := l.m.Observe(ctx, l.Plan.Target)
	if err != nil {
		return Outcome{}, fmt.Errorf("observe machine: %w", err)
	}
	problem := l.problem(ctx)
	switch {
	case !l.Runs(l.m, machine.Running) || !l.known(machine.Profile):
		return l.superseded(ctx, machine)
	case l.Plan.Rollback.OnFailure == v1alpha1.RollbackKeep:
		return l.end(ctx, Outcome{Kind: Kept, Problem: problem, Message: "The booted system is kept, as rollback.onFailure says."})
	}
	uncertain, err := l.restore(ctx)
	if err != nil {
		return Outcome{}, err
	}
	if uncertain != "" { // a reboot could start the same again
		return l.end(ctx, Outcome{Kind: RollbackFailed, Problem: problem, Message: uncertain, BootDefaultUncertain: true})
	}
	back, _ := l.Plan.GoesBack()
	return l.end(ctx, Outcome{Kind: RolledBack, Problem: problem, Message: "The host reboots into " + back + ".", RebootFrom: bootID})
}

// reboot asks for the reboot that an outcome wants, unless it was made.
func (o Outcome) reboot(ctx context.Context, m Machine) error {
	if o.RebootFrom == "" {
		return nil
	}
	bootID, err := m.BootID(ctx)
	if err != nil || bootID != o.RebootFrom {
		return err
	}
	return m.Reboot(ctx, "npcnix: the new system did not prove itself; rebooting into the earlier one")
}

// known reports whether a profile is what the transaction found, or made.
func (l *locked) known(profile string) bool {
	back, _ := l.Plan.GoesBack()
	return profile == l.Plan.Target || profile == l.Plan.Recorded.Profile || profile == back
}

// awaitOutcome waits until the transaction has ended, was blamed, or the time is up.
func (t *Transaction) awaitOutcome(ctx context.Context, limit time.Duration) error {
	limited, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	for {
		_, ended, err := t.Outcome()
		_, blamed := t.Blamed()
		if ended || blamed || (err != nil && !errors.Is(err, statefile.ErrUnusable)) {
			return err
		}
		select {
		case <-ctx.Done():
			return context.Cause(ctx) //nolint:wrapcheck // the caller's own
		case <-limited.Done():
			return nil
		case <-time.After(bootPoll):
		}
	}
}
