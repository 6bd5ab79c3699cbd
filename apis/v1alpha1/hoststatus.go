package v1alpha1

import (
	"time"

	"github.com/npcnix/npcnix/apis/meta"
)

// HostStatus is what a host says of itself. Only that host writes it.
//
// Nothing in it changes with mere time: a heartbeat puts the same bytes again
// and moves the object's Last-Modified alone.
type HostStatus struct {
	meta.TypeMeta

	Metadata meta.ObjectMeta  `json:"metadata"`
	Status   HostStatusStatus `json:"status"`
}

// Limits of a HostStatus.
const (
	// MaxStatusSize is the greatest length of an encoded HostStatus in bytes.
	MaxStatusSize = 32 * 1024
	// MaxStatusList is the greatest number of entries in any of its lists.
	MaxStatusList = 50
	// MaxStatusHistory is the number of attempts that History keeps.
	MaxStatusHistory = 10
	// LogSlots is the number of logs that a host's ring holds.
	LogSlots = 10
)

// HostStatusStatus is the state of a host as its agent last saw it.
type HostStatusStatus struct {
	// Observed says which documents the rest of the status is about.
	Observed Observed `json:"observed"`
	Desired  *Desired `json:"desired,omitempty"`
	System   *System  `json:"system,omitempty"`
	// LastAttempt is the newest attempt to bring a system into force.
	LastAttempt *Attempt `json:"lastAttempt,omitempty"`
	// History holds the attempts before it, newest first.
	History []Attempt `json:"history,omitempty"`
	// ReadySince is when Ready became True on this remote generation.
	ReadySince *meta.Time    `json:"readySince,omitempty"`
	Window     *WindowStatus `json:"window,omitempty"`
	// NextAttemptAt is when a failed step is tried again.
	NextAttemptAt *meta.Time `json:"nextAttemptAt,omitempty"`
	Handled       *Handled   `json:"handled,omitempty"`
	// LocalSuspension is a suspension by a person on the host.
	LocalSuspension *Suspend         `json:"localSuspension,omitempty"`
	Conditions      []meta.Condition `json:"conditions"`
	Agent           Agent            `json:"agent"`
}

// Observed names the documents that were last read.
type Observed struct {
	Spec     *ObservedDocument `json:"spec,omitempty"`
	Override *ObservedDocument `json:"override,omitempty"`
	Remote   *ObservedRemote   `json:"remote,omitempty"`
}

// ObservedDocument is one version of a document.
type ObservedDocument struct {
	ETag string `json:"etag"`
	// Digest is sha256:<hex> of the document's spec as written.
	Digest string `json:"digest"`
}

// ObservedRemote is one publication of a remote.
type ObservedRemote struct {
	Name       string `json:"name"`
	ETag       string `json:"etag"`
	Generation int64  `json:"generation"`
	Digest     string `json:"digest"`
	Revision   string `json:"revision,omitempty"`
	Dirty      bool   `json:"dirty,omitempty"`
}

// Desired is the system that the newest accepted documents ask for.
type Desired struct {
	Toplevel       string `json:"toplevel,omitempty"`
	Origin         Origin `json:"origin"`
	FlakeAttribute string `json:"flakeAttribute"`
}

// System is what the machine itself says. Paths are store paths; empty means
// none, "Unknown" that it cannot be read.
type System struct {
	// Generation is the profile's generation number if the profile's path is
	// what runs.
	Generation     int64  `json:"generation,omitempty"`
	Current        string `json:"current,omitempty"`
	Profile        string `json:"profile,omitempty"`
	Booted         string `json:"booted,omitempty"`
	BootDefault    string `json:"bootDefault,omitempty"`
	Specialisation string `json:"specialisation,omitempty"`
	NixOSVersion   string `json:"nixosVersion,omitempty"`
	Kernel         string `json:"kernel,omitempty"`
}

// Outcome is how an attempt ended.
type Outcome string

// The outcomes of attempts.
const (
	// OutcomeRunning says that the attempt has not ended.
	OutcomeRunning Outcome = "Running"
	// OutcomeCommitted says that the system runs and is the profile's and the boot default.
	OutcomeCommitted Outcome = "Committed"
	// OutcomeTested says that the system runs and is confirmed, and that the
	// policy makes nothing permanent.
	OutcomeTested Outcome = "Tested"
	// OutcomeStaged says that the system is the profile's and the boot default,
	// and waits for a reboot.
	OutcomeStaged Outcome = "Staged"
	// OutcomeBuilt says that the system is built, and that the policy activates
	// nothing, or something holds it back.
	OutcomeBuilt Outcome = "Built"
	// OutcomeRolledBack says that the earlier system was brought back.
	OutcomeRolledBack Outcome = "RolledBack"
	// OutcomeRollbackFailed says that it could not be.
	OutcomeRollbackFailed Outcome = "RollbackFailed"
	// OutcomeKept says that the system runs although it is not confirmed.
	OutcomeKept Outcome = "Kept"
	// OutcomeSuperseded says that a person took over.
	OutcomeSuperseded Outcome = "Superseded"
	// OutcomeInconclusive says that the earlier system was brought back, and
	// that the fault was not the target's.
	OutcomeInconclusive Outcome = "Inconclusive"
	// OutcomeFailed says that the system is not in force.
	OutcomeFailed Outcome = "Failed"
)

// Attempt is one try at bringing a system into force.
type Attempt struct {
	ID string `json:"id"`
	// Target is the toplevel, once it is known.
	Target string `json:"target,omitempty"`
	// Remote is the remote whose generation RemoteGeneration is.
	Remote           string      `json:"remote,omitempty"`
	RemoteGeneration int64       `json:"remoteGeneration"`
	Revision         string      `json:"revision,omitempty"`
	StartedAt        meta.Time   `json:"startedAt"`
	FinishedAt       *meta.Time  `json:"finishedAt,omitempty"`
	Outcome          Outcome     `json:"outcome"`
	Reason           string      `json:"reason,omitempty"`
	Message          string      `json:"message,omitempty"`
	ExitCode         *int        `json:"exitCode,omitempty"`
	Attempt          int32       `json:"attempt"`
	NewlyFailedUnits []string    `json:"newlyFailedUnits,omitempty"`
	Changes          []string    `json:"changes,omitempty"`
	Log              *AttemptLog `json:"log,omitempty"`
	// BootDefaultUncertain says that the earlier boot default could not be
	// brought back for sure: look at it before the host is rebooted.
	BootDefaultUncertain bool `json:"bootDefaultUncertain,omitempty"`
}

// InForce reports whether the attempt brought its target into force.
func (a Attempt) InForce() bool {
	return a.Outcome == OutcomeCommitted || a.Outcome == OutcomeTested
}

// AttemptLog names the log of an attempt in the store.
type AttemptLog struct {
	Slot   int    `json:"slot"`
	Digest string `json:"digest"`
}

// WindowStatus is the maintenance window as the planner judged it.
type WindowStatus struct {
	State       string     `json:"state"`
	Reason      string     `json:"reason"`
	ClosesAt    *meta.Time `json:"closesAt"`
	NextOpensAt *meta.Time `json:"nextOpensAt"`
}

// ChangesAt is when the window closes or opens next, nil if that is not known.
func (w WindowStatus) ChangesAt() *meta.Time {
	if w.ClosesAt != nil {
		return w.ClosesAt
	}
	return w.NextOpensAt
}

// String says what the window is, and until when.
func (w WindowStatus) String() string {
	text := w.State + " (" + w.Reason + ")"
	switch {
	case w.ClosesAt != nil:
		text += ", closes " + w.ClosesAt.UTC().Format(time.RFC3339)
	case w.NextOpensAt != nil:
		text += ", opens " + w.NextOpensAt.UTC().Format(time.RFC3339)
	}
	return text
}

// Handled holds the requests of the override that were carried out.
type Handled struct {
	ReconcileRequestedAt *meta.Time `json:"reconcileRequestedAt,omitempty"`
	RetryRequestedAt     *meta.Time `json:"retryRequestedAt,omitempty"`
}

// Agent describes the reconciler that wrote the status.
type Agent struct {
	Version   string    `json:"version"`
	StartedAt meta.Time `json:"startedAt"`
	BootID    string    `json:"bootID,omitempty"`
	// MachineID is a keyed hash of the machine's id; it tells a host from its clone.
	MachineID string `json:"machineID"`
	// Warnings say what this machine does not offer for its own safety.
	Warnings   []string `json:"warnings,omitempty"`
	NixVersion string   `json:"nixVersion,omitempty"`
}
