package plan

import (
	"time"

	"github.com/npcnix/npcnix/apis/v1alpha1"
	"github.com/npcnix/npcnix/nixos"
	"github.com/npcnix/npcnix/reconciler/window"
)

// Action is the next act of a host.
type Action string

// The acts, in the order in which a new generation needs them.
const (
	// None: nothing can or may be done now.
	None Action = "None"
	// Build: fetch the archive and build the toplevel.
	Build Action = "Build"
	// Activate: switch the running system to the toplevel, confirm and commit it.
	Activate Action = "Activate"
	// Stage: make the toplevel the boot default, to come into force with a reboot.
	Stage Action = "Stage"
	// Commit: make the running system the profile's and the boot default.
	Commit Action = "Commit"
	// DryActivate: ask what activating the toplevel would do.
	DryActivate Action = "DryActivate"
	// CollectGarbage: remove what nothing needs from the Nix store.
	CollectGarbage Action = "CollectGarbage"
	// Prune: remove the generations beyond retention, and what /boot keeps for them.
	Prune Action = "Prune"
	// Announce: tell who is logged in that the host reboots.
	Announce Action = "Announce"
	// Reboot: reboot into the toplevel.
	Reboot Action = "Reboot"
)

// Class says what kind of failure it was, which decides whether it is tried again.
type Class string

// The classes of failures.
const (
	// Transient: store, network, an input that cannot be fetched. Tried for ever, not counted.
	Transient Class = "Transient"
	// BuildClass: a builder failed. Counted.
	BuildClass Class = "Build"
	// ActivationClass: the switch failed. Counted.
	ActivationClass Class = "Activation"
	// Permanent: the same content fails again. Not tried until it changes.
	Permanent Class = "Permanent"
	// Inconclusive: the fault was not the target's. Tried again, not counted.
	Inconclusive Class = "Inconclusive"
)

// Failure is how the last attempt at the target ended.
type Failure struct {
	Class   Class  `json:"class"`
	Reason  string `json:"reason"`
	Message string `json:"message"`
	// Content names the content of spec and remote that failed.
	Content string `json:"content"`
	// NextAt is when it may be tried again.
	NextAt time.Time `json:"nextAt"`
	// Reboot says that a reboot into what is in force failed, which is no failure
	// of its activation.
	Reboot bool `json:"reboot,omitempty"`
}

// Problem is why a document is not in force.
type Problem struct {
	Reason, Message string
	// Stalled says that it stays so until a person does something.
	Stalled bool
}

// Gates are what may hold an activation back at the last moment.
type Gates struct {
	// OtherSwitch says what else switches the machine; empty if nothing does.
	OtherSwitch string
	// AgentRemoved: Desired does not start the agent, and the policy does not
	// allow that for this host.
	AgentRemoved bool
	// BootFull: the boot loader could not be installed, so nothing is begun. With
	// Pruned, room was made lately, and did not help.
	BootFull, Pruned bool
}

// Suspension is why nothing new may be started.
type Suspension struct {
	// By says who suspended the host: "by its HostSpec".
	By     string
	Reason string
	Until  time.Time // zero: until it is lifted
}

// Disk is the room for a build.
type Disk struct {
	// Free is what is free on the Nix store's file system, in bytes.
	Free int64
	// Collected says that garbage was collected lately, and did not help.
	Collected bool
}

// Reboots is what is known of a reboot that is wanted; the zero value is nothing.
type Reboots struct {
	// Target is the system that the host is to reboot into.
	Target string `json:"target,omitempty"`
	// AllowedSince is when the window first allowed to begin with it, Announced
	// when those who are logged in were told; zero if they were not.
	AllowedSince time.Time `json:"allowedSince,omitzero"`
	Announced    time.Time `json:"announced,omitzero"`
	// Asked counts how often this machine was told to reboot, at AskedAt last,
	// and Within how long it has for that, in nanoseconds.
	Asked   int32         `json:"asked,omitempty"`
	AskedAt time.Time     `json:"askedAt,omitzero"`
	Within  time.Duration `json:"within,omitempty"`
	// Sessions are those who are logged in.
	Sessions []string `json:"-"`
}

// Input is everything that a decision depends on.
type Input struct {
	Now time.Time

	// StoreProblem says why the store could not be asked. What is known of it is
	// for judging only.
	StoreProblem *Problem
	// Spec is the declaration in force, with defaults; nil if there is none.
	// SpecProblem says why the newest one is not in force.
	Spec        *v1alpha1.HostSpecSpec
	SpecProblem *Problem
	// Remote is the publication in force; nil if there is none. With a
	// RemoteProblem it is the last good one, for judging only.
	Remote        *v1alpha1.Remote
	RemoteProblem *Problem
	Suspended     *Suspension
	// Window says when what is gated may start; nil is always. ClockSkewed says
	// that this machine's clock cannot be trusted with that.
	Window      *window.Calendar
	ClockSkewed bool

	// Desired is the toplevel of the target, once it is built.
	Desired string
	Machine nixos.Machine

	// Content names the content of spec and remote together.
	Content string
	// Attempts is how often the target failed in a counted way.
	Attempts int32
	// Failure is how the last attempt at the target ended, nil if well.
	Failure *Failure
	// Committed is the toplevel that was last committed.
	Committed string
	// Staged is the toplevel that waits for a reboot; RebootNeeded says that
	// nothing else can start it.
	Staged       string
	RebootNeeded bool
	// Dry is the toplevel that dry-activate was asked about last.
	Dry string
	// Quarantined says why Desired may not be tried again, with this policy;
	// empty if it may.
	Quarantined string
	// BootedOther says that the host booted something else than Committed;
	// empty if it did not.
	BootedOther string
	// Unhealthy is what the last health checks of what runs said; empty if they
	// succeeded, or there were none.
	Unhealthy string
	// Disk is the room for a build; nil where it is not known.
	Disk *Disk
	// Reboots is what is known of a reboot.
	Reboots Reboots
	// VainBoots is how often Desired was booted and taken back with this policy
	// although nobody knows whose fault it was.
	VainBoots int32
	// Gates are what is looked at immediately before an activation; nil before
	// one is decided.
	Gates *Gates
	// Unproven is a toplevel whose activation began and did not end well: that
	// it runs says nothing.
	Unproven string
	// DriftSince is when the machine was first seen to differ from Committed.
	DriftSince time.Time

	// Asked says that a person waits for the outcome: back-off is not observed.
	Asked bool
	// Attempted says that an attempt failed in this call already.
	Attempted bool
}

// Decision is what to do and what to say.
type Decision struct {
	Action Action
	// Ready says that the desired system runs and is committed and healthy.
	Ready bool
	// Reason and Message say why: a condition's reason and a sentence.
	Reason, Message string
	// Stalled says that nothing more happens until a person changes something.
	Stalled bool
	// Waiting says that policy, not a failure, is why nothing happens.
	Waiting bool
	// NextAt is when the answer may change by itself; zero if only a change helps.
	NextAt time.Time
}

// Decide returns the next act, or the reason for none.
func Decide(in Input) Decision {
	switch {
	case in.StoreProblem != nil:
		return in.unreachable()
	case in.Spec == nil:
		return in.problem(in.SpecProblem)
	}
	d := in.target()
	if in.SpecProblem != nil && d.Action == None { // the last good spec is followed, and that is not enough
		return in.problem(in.SpecProblem)
	}
	return d
}

// unreachable judges what runs by the last good documents. Nothing new is
// started by them, and nobody knows whether they are the newest.
func (in Input) unreachable() Decision {
	d := in.problem(in.StoreProblem)
	if in.Spec != nil && in.Remote != nil {
		d.Message += " " + in.lastKnown(in.judge())
	}
	return d
}

func (in Input) problem(p *Problem) Decision {
	return Decision{Action: None, Reason: p.Reason, Message: p.Message, Stalled: p.Stalled}
}

// target decides for the spec in force.
func (in Input) target() Decision {
	if in.Reboots.UnderWay(in.Now) {
		return in.underWay()
	}
	d := in.judge()
	if d.Action == None {
		return in.rest(d)
	}
	switch {
	case in.RemoteProblem != nil:
		return in.problem(in.RemoteProblem)
	case in.Suspended != nil:
		return in.suspended()
	case in.BootedOther != "":
		return Decision{Action: None, Stalled: true, Reason: v1alpha1.ReasonBootedOther, Message: in.BootedOther}
	case in.Quarantined != "" && d.activates():
		return Decision{Action: None, Stalled: true, Reason: v1alpha1.ReasonQuarantined, Message: in.quarantine()}
	case in.drifted(d):
		d = in.drift(d)
	default:
		d = in.gate(d)
	}
	return in.lastGates(in.disk(in.window(d)))
}

// rest decides for a host on which nothing is left to do but a reboot.
func (in Input) rest(d Decision) Decision {
	pending := d.Reason == v1alpha1.ReasonRebootPending
	switch {
	case pending && in.RemoteProblem != nil:
		return in.problem(in.RemoteProblem)
	case (pending || d.Ready) && in.Suspended != nil:
		d.Message += " " + in.Suspended.String() + "."
		return d
	case !in.wantsReboot(d):
		return d
	case in.VainBoots >= MostVainBoots:
		return in.onlyByHand(d)
	case in.forbidsReboot():
		return d
	default:
		return in.reboot(d)
	}
}

// activates reports whether the act changes what runs or what will boot.
func (d Decision) activates() bool {
	return d.Action == Activate || d.Action == Stage || d.Action == Commit
}

// judge compares what is desired with what runs, policy aside.
func (in Input) judge() Decision {
	switch {
	case in.Remote == nil:
		return in.problem(in.RemoteProblem)
	case in.Desired == "":
		return in.progress(Build, "Building")
	}
	switch in.Spec.RebuildPolicy.Mode {
	case v1alpha1.ModeBuild:
		return in.settled(true)
	case v1alpha1.ModeDryActivate:
		if in.Dry != in.Desired {
			return in.progress(DryActivate, asking)
		}
		return in.settled(true)
	case v1alpha1.ModeBoot:
		return in.judgeRunning(Stage, "Staging")
	default:
		return in.judgeRunning(Activate, "Activating")
	}
}

// judgeRunning is judge for the modes that bring a system into force, by act.
func (in Input) judgeRunning(act Action, doing string) Decision {
	test := in.Spec.RebuildPolicy.Mode == v1alpha1.ModeTest
	runs := in.Machine.Runs(in.Desired) && in.Unproven != in.Desired
	permanent := in.permanent()
	waits := in.Staged == in.Desired && (in.RebootNeeded || act == Stage)
	switch {
	case !runs && waits && permanent:
		return Decision{Action: None, Waiting: true, Reason: v1alpha1.ReasonRebootPending, Message: in.rebootPending()}
	case !runs:
		return in.progress(act, doing)
	case !permanent && !test:
		return in.progress(Commit, "Committing")
	default:
		return in.settled(false)
	}
}

// permanent reports whether the desired system is the profile's and, as far as
// one can tell, the boot default.
func (in Input) permanent() bool {
	m := in.Machine
	return m.Profile == in.Desired && (m.BootDefault == in.Desired || m.BootDefault == nixos.Unknown)
}

func (in Input) progress(act Action, doing string) Decision {
	return Decision{Action: act, Reason: v1alpha1.ReasonProgressing, Message: in.doing(doing)}
}

// settled judges a host on which nothing is left to do. built says that its
// policy activates nothing.
func (in Input) settled(built bool) Decision {
	switch {
	case in.RemoteProblem != nil:
		return in.problem(in.RemoteProblem)
	case in.Unhealthy != "":
		return Decision{Action: None, Stalled: true, Reason: v1alpha1.ReasonHealthCheckFailed, Message: in.unhealthy()}
	case built && (!in.Machine.Runs(in.Desired) || !in.permanent()):
		return Decision{Action: None, Ready: true, Reason: v1alpha1.ReasonBuiltOnly, Message: in.builtOnly()}
	case in.Spec.RebuildPolicy.Mode == v1alpha1.ModeTest:
		return Decision{Action: None, Ready: true, Reason: v1alpha1.ReasonTested, Message: in.tested()}
	default:
		return Decision{Action: None, Ready: true, Reason: v1alpha1.ReasonUpToDate, Message: in.upToDate()}
	}
}

// failureOf is how the last attempt at an act ended: that a reboot failed says
// nothing of anything else.
func (in Input) failureOf(act Action) *Failure {
	if f := in.Failure; f == nil || (f.Reboot && act != Reboot) {
		return nil
	}
	return in.Failure
}

// gate holds an act back while its target may not be tried again.
func (in Input) gate(d Decision) Decision {
	f := in.failureOf(d.Action)
	if f == nil {
		return d
	}
	held := Decision{Action: None, Reason: f.Reason, Message: f.Message}
	counted := f.Class == BuildClass || f.Class == ActivationClass
	switch most := *in.Spec.RebuildPolicy.Retry.MaxAttempts; {
	case f.Class == Permanent && f.Content == in.Content:
		held.Stalled = true
		held.Message += "\n" + notAgain()
		return held
	case f.Class == Permanent:
		return d
	case counted && in.Attempts >= most:
		held.Stalled = true
		held.Reason = v1alpha1.ReasonRetriesExhausted
		held.Message = in.exhausted(most)
		return held
	case in.Attempted, in.backsOff(f) && !in.Asked:
		held.NextAt = f.NextAt
		held.Message = in.retrying(most, counted)
		return held
	default:
		return d
	}
}

// backsOff reports whether a failure's delay is not over. One that is longer than
// any delay comes from a clock that was wrong.
func (in Input) backsOff(f *Failure) bool {
	left := f.NextAt.Sub(in.Now)
	return left > 0 && left <= in.Spec.RebuildPolicy.Retry.MaxBackoff.Duration
}

func (in Input) suspended() Decision {
	return Decision{
		Action: None, Waiting: true, NextAt: in.Suspended.Until,
		Reason: v1alpha1.ReasonSuspended, Message: in.suspendedMessage(),
	}
}

// drifted reports whether an act is to correct a machine that was changed away
// from what was committed.
func (in Input) drifted(d Decision) bool {
	return d.activates() && in.Committed != "" && in.Committed == in.Desired && in.Unproven != in.Desired
}

// drift decides about a machine that was changed by hand.
func (in Input) drift(d Decision) Decision {
	policy := in.Spec.RebuildPolicy.Drift
	held := Decision{Action: None, Waiting: true, Reason: v1alpha1.ReasonDrifted}
	if policy.Action == v1alpha1.DriftReport {
		held.Message = in.drifting(time.Time{})
		return held
	}
	since := in.DriftSince
	if since.IsZero() {
		since = in.Now
	}
	if due := since.Add(policy.Grace.Duration); in.Now.Before(due) {
		held.NextAt = due
		held.Message = in.drifting(due)
		return held
	}
	return in.gate(d)
}

// Drifted reports whether the machine differs from the system that was
// committed, so that the caller can remember since when.
func Drifted(in Input) bool {
	return in.Remote != nil && in.drifted(in.judge())
}

// Backoff is the delay after the nth counted or uncounted failure in a row; n counts from 1.
func Backoff(policy *v1alpha1.RetryPolicy, n int32) time.Duration {
	delay := policy.MinBackoff.Duration
	for range n - 1 {
		if delay *= 2; delay >= policy.MaxBackoff.Duration {
			return policy.MaxBackoff.Duration
		}
	}
	return delay
}

// Poll is the time until the next look at the store: a tenth of the age of the
// newest document, within the spec's bounds.
func Poll(interval *v1alpha1.PollInterval, age time.Duration) time.Duration {
	return min(max(age/10, interval.Min.Duration), interval.Max.Duration)
}
