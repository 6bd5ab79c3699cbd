package nixos

import (
	"context"
	"errors"
	"time"
)

// Unknown stands for a fact that cannot be read on this machine. It is never
// taken for a difference.
const Unknown = "Unknown"

// ErrRootNotSupported is returned for a toplevel without the marker that allows
// it to be activated below another root than /.
var ErrRootNotSupported = errors.New("the system does not contain the file npcnix-root, so it is not activated below --root")

// Machine is what a machine says of itself. Paths are store paths; empty means
// that there is none.
type Machine struct {
	// Running is what /run/current-system points at.
	Running string
	// Specialisation is set if Running is that specialisation of the desired toplevel.
	Specialisation string
	// Booted is what /run/booted-system points at.
	Booted string
	// Profile is the path of the system profile, ProfileGeneration its number.
	Profile           string
	ProfileGeneration int64
	// BootDefault is what the boot loader starts next, or Unknown.
	BootDefault string
	// NixOSVersion and Kernel describe Running.
	NixOSVersion, Kernel string
}

// Runs reports whether the toplevel, which Observe was asked about, or one of
// its specialisations is running.
func (m Machine) Runs(desired string) bool {
	return desired != "" && (m.Running == desired || m.Specialisation != "")
}

// Observer looks at the machine and changes nothing.
type Observer interface {
	// Observe describes the machine. desired, a toplevel or empty, is what
	// Specialisation is judged against.
	Observe(ctx context.Context, desired string) (Machine, error)
	// NixVersion returns the version of Nix, such as 2.8.0.
	NixVersion(ctx context.Context) (string, error)
	// BootID tells one boot of the machine from another.
	BootID(ctx context.Context) (string, error)
}

// BuildRequest names a system to build.
type BuildRequest struct {
	// Dir holds the flake; Attribute is the name below its nixosConfigurations.
	Dir, Attribute string
	// OutLink becomes the garbage collector's root of the result.
	OutLink string
	// Limit bounds the whole build.
	Limit time.Duration
}

// Builder builds systems.
type Builder interface {
	// Build builds a toplevel and returns its store path. What Nix says to be
	// wrong is a *BuildError.
	Build(ctx context.Context, req BuildRequest) (toplevel string, err error)
	// Built reports whether the toplevel that out link roots is still there.
	Built(ctx context.Context, outLink, toplevel string) bool
}

// BuildFailure says what kind of thing made a build fail.
type BuildFailure string

// The kinds of build failures.
const (
	// AttributeMissing: the flake has no such attribute.
	AttributeMissing BuildFailure = "AttributeMissing"
	// EvaluationFailure: the flake cannot be evaluated; the same source fails again.
	EvaluationFailure BuildFailure = "EvaluationFailure"
	// InputUnavailable: something could not be fetched.
	InputUnavailable BuildFailure = "InputUnavailable"
	// BuilderFailure: a builder failed, or ran into the limit.
	BuilderFailure BuildFailure = "BuilderFailure"
	// DiskFull: there is no space left.
	DiskFull BuildFailure = "DiskFull"
	// NixUnavailable: Nix itself does not work: no daemon, a locked database, no memory.
	NixUnavailable BuildFailure = "NixUnavailable"
)

// BuildError is a failed build.
type BuildError struct {
	Failure BuildFailure
	// Message is the decisive part of what Nix printed, at most 1 KiB.
	Message string
	// ExitCode is Nix's, or -1 if it was killed.
	ExitCode int
}

// Error returns the message.
func (e *BuildError) Error() string { return e.Message }

// Action is what stc is asked to do.
type Action string

// The actions of stc that are used. Switch is test and boot in one; they are
// separate acts here, so that nothing is made permanent that has not run.
const (
	// ActionTest activates the system without making it the boot default.
	ActionTest Action = "test"
	// ActionBoot makes the system the boot default without activating it.
	ActionBoot Action = "boot"
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
	// Check returns ErrRootNotSupported for a toplevel that must not be activated here.
	Check(ctx context.Context, toplevel string) error
	// Start starts a run of stc and returns when it is under way.
	Start(ctx context.Context, a Activation) error
	// Await returns the result of the run with that ID. It also works after
	// the agent that started the run was killed; a run that never started, or
	// whose result was lost with the agent, has a Result that says so.
	Await(ctx context.Context, id string) (Result, error)
	// SetProfile makes the toplevel the newest generation of the system profile.
	SetProfile(ctx context.Context, toplevel string) error
}
