package plan

import (
	"time"

	"github.com/npcnix/npcnix/apis/v1alpha1"
	"github.com/npcnix/npcnix/nixos"
)

// MostAsked is how often a machine is told to reboot for one reason.
const MostAsked = 3

// sessionsPause is when it is looked again whether somebody is logged in.
const sessionsPause = time.Minute

// RebootRequired reports whether only a reboot brings into force what is
// declared: what runs has another kernel and the like than what was booted, or
// the desired system is staged. known is false where that cannot be told.
func RebootRequired(in Input) (required, known bool) {
	if in.Desired != "" && in.Staged == in.Desired && !in.Machine.Runs(in.Desired) {
		return true, true
	}
	return in.Machine.Reboot.Changed != "", in.Machine.Reboot.Known
}

// wantsReboot reports whether the policy wants a reboot of a host with which
// nothing else is left to do, and nothing stands against it.
func (in Input) wantsReboot(d Decision) bool {
	settled := d.Ready || d.Reason == v1alpha1.ReasonRebootPending
	if !settled || in.StoreProblem != nil || in.SpecProblem != nil || in.RemoteProblem != nil || in.Suspended != nil || in.BootedOther != "" || in.Quarantined != "" {
		return false
	}
	switch in.Spec.RebuildPolicy.Mode {
	case v1alpha1.ModeTest, v1alpha1.ModeBuild, v1alpha1.ModeDryActivate: // what runs is not what would boot, or not ours
		return false
	case v1alpha1.ModeSwitch, v1alpha1.ModeBoot:
	}
	required, known := RebootRequired(in)
	switch in.Spec.RebuildPolicy.Reboot.When {
	case v1alpha1.RebootIfRequired:
		return required && known
	case v1alpha1.RebootAlways:
		return (required && known) || in.bootedAnother()
	default:
		return false
	}
}

// bootedAnother reports whether the machine was booted with another system than
// the desired one, which runs by now.
func (in Input) bootedAnother() bool {
	booted := in.Machine.Booted
	return booted != "" && booted != nixos.Unknown && booted != in.Desired && in.Machine.BootedSpecialisation == ""
}

// WantsReboot reports whether a reboot is wanted, so that the caller can
// remember since when.
func WantsReboot(in Input) bool {
	return in.Spec != nil && in.Remote != nil && in.wantsReboot(in.judge())
}

// reboot decides about a reboot that is wanted. A host that is Ready stays so
// while it waits for it.
func (in Input) reboot(d Decision) Decision {
	policy, r := in.Spec.RebuildPolicy.Reboot, in.Reboots
	wait := func(message string, next time.Time) Decision {
		held := d
		held.Message, held.NextAt = held.Message+" "+message, next
		if !held.Ready { // it is not only for a person that it waits
			held.Message = capital(in.name()) + " is the boot default. " + message
		}
		return held
	}
	switch limit := in.Spec.RebuildPolicy.Timeouts.Reboot.Duration; {
	case r.Asked > 0 && in.Now.Before(r.AskedAt.Add(limit)) && !in.Now.Before(r.AskedAt):
		return Decision{Action: None, Waiting: true, Reason: v1alpha1.ReasonRebooting, Message: in.rebooting(), NextAt: r.AskedAt.Add(limit)}
	case r.Asked >= MostAsked:
		return Decision{Action: None, Stalled: true, Reason: v1alpha1.ReasonRebootFailed, Message: in.rebootFailed()}
	}
	if held := in.window(Decision{Action: Reboot}); held.Action == None {
		return wait(held.Message, held.NextAt)
	}
	if until := r.Since.Add(policy.Sessions.Postpone.Duration); len(r.Sessions) > 0 && r.Announced.IsZero() && in.Now.Before(until) && !r.Since.IsZero() {
		return wait(in.sessions(until), earliest(until, in.Now.Add(sessionsPause)))
	}
	if r.Announced.IsZero() || r.Announced.After(in.Now) { // the latter by a clock that was wrong
		return Decision{Action: Announce, Reason: v1alpha1.ReasonProgressing, Message: in.announcing()}
	}
	if due := r.Announced.Add(policy.Delay.Duration); in.Now.Before(due) {
		return wait("It reboots at "+in.local(due)+".", due)
	}
	return Decision{Action: Reboot, Reason: v1alpha1.ReasonProgressing, Message: "Rebooting into " + in.name() + "."}
}

func earliest(a, b time.Time) time.Time {
	if a.Before(b) {
		return a
	}
	return b
}
