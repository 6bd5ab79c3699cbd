package nixos

import (
	"context"
	"errors"
	"time"
)

// Action is what stc is asked to do.
type Action string

// The actions of stc that are used. Switch is test and boot in one; they are
// separate acts here, so that nothing is made permanent that has not run.
const (
	// ActionTest activates the system without making it the boot default.
	ActionTest Action = "test"
	// ActionBoot makes the system the boot default without activating it.
	ActionBoot Action = "boot"
	// ActionDry says what a test would do, and does nothing.
	ActionDry Action = "dry-activate"
)

// Activation is one run of stc.
type Activation struct {
	// ID names the run, so that it can be awaited by another process than the
	// one that started it: a switch outlives its agent.
	ID       string
	Toplevel string
	Action   Action
	// Limit bounds the run.
	Limit time.Duration
	// Unchecked leaves the pre-switch checks out: nothing holds up a rollback.
	// Source: NIXOS_NO_CHECK of NixOS' own program.
	Unchecked bool
}

// Result is how a run of stc ended.
type Result struct {
	// Exited says that stc ended by itself, with ExitCode.
	Exited   bool
	ExitCode int
	// How says how a run ended that did not exit: a signal, the time limit,
	// or a result that nobody was there to take.
	How string
	// Output is the end of what stc printed.
	Output string
	// Touched says that stc began to change the machine, as far as what it
	// printed tells.
	Touched bool
	// Lost says that stc was started and nobody knows how it ended.
	Lost bool
}

// NeverStarted is Result.How of a run that never started.
const NeverStarted = "it never started"

// Done reports whether stc exited with 0.
func (r Result) Done() bool { return r.Exited && r.ExitCode == ExitDone }

// Switched reports whether stc says that the system runs, some units of it
// perhaps failed.
func (r Result) Switched() bool {
	return r.Exited && (r.ExitCode == ExitDone || r.ExitCode == ExitUnitsFailed)
}

// Untouched reports whether stc certainly changed nothing: it never started, or
// it refused and said something else than that it begins. One that was cut off,
// or whose words are lost, may have begun.
func (r Result) Untouched() bool {
	refused := r.Exited && !r.Switched() && !r.Touched && r.Output != ""
	return refused || r.How == NeverStarted
}

// The exit codes of stc that mean something. Any other says nothing of what happened.
const (
	// ExitDone: everything was done.
	ExitDone = 0
	// ExitActivationFailed: the activation script failed; units were handled.
	ExitActivationFailed = 2
	// ExitUnitsFailed: the system runs, but some unit failed.
	ExitUnitsFailed = 4
	// ExitRebootRequired: nothing was activated, only a reboot can.
	ExitRebootRequired = 100
)

// Activator changes what the machine runs and what it will boot. Its acts are
// apart from each other so that a caller can look at the machine in between.
type Activator interface {
	// Check returns ErrRootNotSupported for a toplevel that must not be
	// activated here, and ErrNoSwitch for one that cannot be.
	Check(ctx context.Context, toplevel string) error
	// Start starts a run of stc and returns when it is under way. It outlives
	// this process and is not part of it. ErrRunExists is returned for an ID
	// that was started before.
	Start(ctx context.Context, a Activation) error
	// Await returns the result of the run with that ID, whoever started it; a
	// run that never started, or whose result is lost, has a Result that says so.
	Await(ctx context.Context, id string) (Result, error)
	// Stop stops a run and returns when nothing of it is left. A run that is
	// not under way is no error.
	Stop(ctx context.Context, id string) error
	// Output returns the end of what a run printed, at most limit bytes.
	Output(id string, limit int64) []byte
	// SetProfile makes the toplevel the system profile's present generation:
	// the given one if it still names the toplevel, else a new one. 0 is no generation.
	SetProfile(ctx context.Context, toplevel string, generation int64) error
	// Retain removes the oldest generations of the profile, so that the newest
	// keep of them are left, and those that name one of the protected paths: the
	// booted, the running and the present one are protected by themselves.
	Retain(ctx context.Context, keep int32, protected ...string) error
	// Root keeps store paths from being collected until Unroot of that name.
	// What is no store path is left out.
	Root(ctx context.Context, name string, paths ...string) error
	Unroot(name string) error
}

// Errors of an Activator.
var (
	// ErrRunExists: a run with that ID was started before.
	ErrRunExists = errors.New("this run was started before")
	// ErrNoSwitch: the toplevel has no bin/switch-to-configuration.
	ErrNoSwitch = errors.New("the system has no bin/switch-to-configuration")
)
