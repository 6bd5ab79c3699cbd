package v1alpha1

import "github.com/npcnix/npcnix/apis/meta"

// RebuildPolicy says how a new system is brought into force.
type RebuildPolicy struct {
	Mode        Mode             `json:"mode,omitempty"`
	Drift       *DriftPolicy     `json:"drift,omitempty"`
	Reboot      *RebootPolicy    `json:"reboot,omitempty"`
	Retry       *RetryPolicy     `json:"retry,omitempty"`
	Timeouts    *Timeouts        `json:"timeouts,omitempty"`
	Rollback    *RollbackPolicy  `json:"rollback,omitempty"`
	DiskFull    DiskFullAction   `json:"diskFull,omitempty"`
	MinFreeDisk *meta.ByteSize   `json:"minFreeDisk,omitempty"`
	Retention   *RetentionPolicy `json:"retention,omitempty"`
	// AllowAgentRemoval is the host's own name where a configuration without
	// npcnix may be activated.
	AllowAgentRemoval string `json:"allowAgentRemoval,omitempty"`
}

// Mode is what is done with a built system.
type Mode string

// The modes, as nixos-rebuild knows them.
const (
	ModeSwitch      Mode = "Switch"
	ModeBoot        Mode = "Boot"
	ModeTest        Mode = "Test"
	ModeBuild       Mode = "Build"
	ModeDryActivate Mode = "DryActivate"
)

// DriftPolicy says what happens when a host was changed by hand.
type DriftPolicy struct {
	Action DriftAction `json:"action,omitempty"`
	// Grace is the time before a drift is corrected; an explicit 0s corrects at once.
	Grace *meta.Duration `json:"grace,omitempty"`
}

// DriftAction is Correct or Report.
type DriftAction string

// Correct brings the declared system back, Report only says that another one runs.
const (
	DriftCorrect DriftAction = "Correct"
	DriftReport  DriftAction = "Report"
)

// RebootPolicy says whether and when the host reboots itself.
type RebootPolicy struct {
	When     RebootWhen      `json:"when,omitempty"`
	Delay    *meta.Duration  `json:"delay,omitempty"`
	Sessions *RebootSessions `json:"sessions,omitempty"`
}

// RebootWhen is Never, IfRequired or Always.
type RebootWhen string

// Never leaves reboots to people, IfRequired reboots for a new kernel and the
// like, Always after each new system.
const (
	RebootNever      RebootWhen = "Never"
	RebootIfRequired RebootWhen = "IfRequired"
	RebootAlways     RebootWhen = "Always"
)

// RebootSessions says how long logged-in users hold a reboot off.
type RebootSessions struct {
	Postpone *meta.Duration `json:"postpone,omitempty"`
}

// RetryPolicy bounds the attempts at one target.
type RetryPolicy struct {
	MaxAttempts *int32         `json:"maxAttempts,omitempty"`
	MinBackoff  *meta.Duration `json:"minBackoff,omitempty"`
	MaxBackoff  *meta.Duration `json:"maxBackoff,omitempty"`
}

// Timeouts bound the steps of a rebuild.
type Timeouts struct {
	Build    *meta.Duration `json:"build,omitempty"`
	Activate *meta.Duration `json:"activate,omitempty"`
	Confirm  *meta.Duration `json:"confirm,omitempty"`
	Reboot   *meta.Duration `json:"reboot,omitempty"`
}

// RollbackPolicy says when the previous system is brought back.
type RollbackPolicy struct {
	OnFailure   RollbackAction `json:"onFailure,omitempty"`
	OnStoreLost RollbackAction `json:"onStoreLost,omitempty"`
	LastResort  LastResort     `json:"lastResort,omitempty"`
}

// RollbackAction is Rollback or Keep.
type RollbackAction string

// Rollback brings the previous system back, Keep leaves the new one.
const (
	RollbackRollback RollbackAction = "Rollback"
	RollbackKeep     RollbackAction = "Keep"
)

// LastResort is what is done when even the rollback failed.
type LastResort string

// None leaves the host as it is, Reboot reboots it once into the boot default.
const (
	LastResortNone   LastResort = "None"
	LastResortReboot LastResort = "Reboot"
)

// DiskFullAction is Report or GarbageCollect.
type DiskFullAction string

// Report only says that the disk is full, GarbageCollect frees space first.
const (
	DiskFullReport         DiskFullAction = "Report"
	DiskFullGarbageCollect DiskFullAction = "GarbageCollect"
)

// RetentionPolicy says what is kept for going back.
type RetentionPolicy struct {
	// Generations is the number of system generations that stay in the profile.
	Generations *int32 `json:"generations,omitempty"`
}
