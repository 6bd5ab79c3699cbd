package nixos

import (
	"context"
	"time"
)

// BuildRequest names a system to build.
type BuildRequest struct {
	// Dir holds the flake; Attribute is the name below its nixosConfigurations.
	Dir, Attribute string
	// OutLink becomes the garbage collector's root of the result.
	OutLink string
	// Log, if set, becomes a file with the end of what Nix printed.
	Log string
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
	// CollectGarbage removes from the Nix store what no root keeps.
	CollectGarbage(ctx context.Context, limit time.Duration) error
	// Sweep ends the builds that an earlier agent left.
	Sweep(ctx context.Context) error
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
