package plan

import (
	"time"

	"github.com/npcnix/npcnix/apis/v1alpha1"
	"github.com/npcnix/npcnix/nixos"
)

// MostAsked is how often a machine is told to reboot for one reason.
const MostAsked = 3

// staleAnnouncement is how long after its time an announced reboot may be made
// without another word: a window may have closed in between.
const staleAnnouncement = 10 * time.Minute

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
	if settled := d.Ready || d.Reason == v1alpha1.ReasonRebootPending; !settled || in.forbidsReboot() {
		return false
	}
	required, known := RebootRequired(in)
	switch in.Spec.RebuildPolicy.Reboot.When {
	case v1alpha1.RebootIfRequired: // what a reboot of the same system did not change, another one does not
		return required && known && in.bootedAnother()
	case v1alpha1.RebootAlways:
		return in.bootedAnother()
	default:
		return false
	}
}

// forbidsReboot reports whether anything stands against a reboot: documents
// that may be old, a person, a target that was taken back, or a mode in which
// what runs is not what would boot, or not ours.
func (in Input) forbidsReboot() bool {
	unsure := in.StoreProblem != nil || in.SpecProblem != nil || in.RemoteProblem != nil
	mode := in.Spec.RebuildPolicy.Mode
	return unsure || in.Suspended != nil || in.BootedOther != "" || in.Quarantined != "" || (mode != v1alpha1.ModeSwitch && mode != v1alpha1.ModeBoot)
}

// bootedAnother reports whether the machine was booted with another system than
// the desired one, which runs by now.
func (in Input) bootedAnother() bool {
	booted := in.Machine.Booted
	return booted != "" && booted != nixos.Unknown && booted != in.Desired && in.Machine.BootedSpecialisation == ""
}

// RebootDue reports whether a reboot is wanted, or under way, and whether the
// window allows to begin with it, so that the caller can remember since when.
func RebootDue(in Input) (wanted, allowed bool) {
	switch {
	case in.Spec == nil || in.Remote == nil:
		return false, false
	case in.rebootUnderWay():
		return true, true
	case !in.wantsReboot(in.judge()):
		return false, false
	}
	return true, in.window(Decision{Action: in.rebootStep()}).Action != None
}

// rebootUnderWay reports whether the machine was told to reboot, and has time to.
// Nothing is begun meanwhile: it would be cut off, or take back what is booted.
func (in Input) rebootUnderWay() bool {
	since := in.Now.Sub(in.Reboots.AskedAt)
	return !in.Reboots.AskedAt.IsZero() && since >= 0 && since < in.Spec.RebuildPolicy.Timeouts.Reboot.Duration
}

func (in Input) underWay() Decision {
	until := in.Reboots.AskedAt.Add(in.Spec.RebuildPolicy.Timeouts.Reboot.Duration)
	return Decision{Action: None, Waiting: true, Reason: v1alpha1.ReasonRebooting, Message: in.rebooting(until), NextAt: until}
}

// rebootStep is the next step of a reboot: to announce it, or to make it.
func (in Input) rebootStep() Action {
	r, delay := in.Reboots, in.Spec.RebuildPolicy.Reboot.Delay.Duration
	since := in.Now.Sub(r.Announced)
	switch {
	case r.Announced.IsZero() || since < 0: // the latter by a clock that was wrong
		return Announce
	case since < delay+staleAnnouncement || r.Asked > 0:
		return Reboot
	default:
		return Announce
	}
}

// reboot decides about a reboot that is wanted: it waits for the window and for
// who is logged in, is announced, and made after its delay.
func (in Input) reboot(d Decision) Decision {
	policy, r := in.Spec.RebuildPolicy.Reboot, in.Reboots
	if r.Asked >= MostAsked {
		return Decision{Action: None, Stalled: true, Reason: v1alpha1.ReasonRebootFailed, Message: in.rebootFailed()}
	}
	step := in.rebootStep()
	if held := in.window(Decision{Action: step}); held.Action == None {
		return in.untilReboot(d, held.Message, held.NextAt)
	}
	if step == Announce {
		if until := r.AllowedSince.Add(policy.Sessions.Postpone.Duration); len(r.Sessions) > 0 && in.Now.Before(until) {
			return in.untilReboot(d, in.sessions(until), earliest(until, in.Now.Add(sessionsPause)))
		}
		return Decision{Action: Announce, Reason: v1alpha1.ReasonProgressing, Message: in.announcing()}
	}
	if due := r.Announced.Add(policy.Delay.Duration); in.Now.Before(due) {
		return in.untilReboot(d, "It reboots at "+in.local(due)+".", due)
	}
	return Decision{Action: Reboot, Reason: v1alpha1.ReasonProgressing, Message: "Rebooting into " + in.name() + "."}
}

// untilReboot is what is said until a reboot: a host that is Ready stays so.
func (in Input) untilReboot(d Decision, message string, next time.Time) Decision {
	d.NextAt = next
	if d.Ready {
		d.Message += " " + message
	} else { // it is not only for a person that it waits
		d.Message = capital(in.name()) + " is the boot default. " + message
	}
	return d
}

func earliest(a, b time.Time) time.Time {
	if a.Before(b) {
		return a
	}
	return b
}
