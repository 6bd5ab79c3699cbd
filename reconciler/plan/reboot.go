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

// MostVainBoots is how many boots of a system may end without a verdict, each of
// which costs two reboots, before the host is not rebooted into it by itself.
const MostVainBoots = 2

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
// nothing else is left to do.
func (in Input) wantsReboot(d Decision) bool {
	settled := d.Ready || d.Reason == v1alpha1.ReasonRebootPending
	return settled && in.policyWantsReboot()
}

// RebootOutlives reports whether a reboot that is not wanted now is wanted again
// once what has come up meanwhile is done: who was waited for is not waited for anew.
func RebootOutlives(in Input) bool {
	return in.Spec != nil && in.Remote != nil && !in.forbidsReboot() && in.policyWantsReboot()
}

func (in Input) policyWantsReboot() bool {
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

// Unsure reports whether what is declared may be old, or is not in force.
func (in Input) Unsure() bool {
	return in.StoreProblem != nil || in.SpecProblem != nil || in.RemoteProblem != nil
}

// forbidsReboot reports whether anything stands against a reboot: documents
// that may be old, a person, a target that was taken back, or a mode in which
// what runs is not what would boot, or not ours.
func (in Input) forbidsReboot() bool {
	mode := in.Spec.RebuildPolicy.Mode
	return in.Unsure() || in.Suspended != nil || in.BootedOther != "" || in.Quarantined != "" || in.VainBoots >= MostVainBoots ||
		(mode != v1alpha1.ModeSwitch && mode != v1alpha1.ModeBoot)
}

// bootedAnother reports whether a reboot would bring another system than the one
// that was booted, or than the one that runs.
func (in Input) bootedAnother() bool {
	booted := in.Machine.Booted
	return !in.Machine.Runs(in.Desired) || booted != "" && booted != nixos.Unknown && booted != in.Desired && in.Machine.BootedSpecialisation == ""
}

// RebootDue reports whether a reboot is wanted, or under way, and whether the
// window allows to begin with it, so that the caller can remember since when.
func RebootDue(in Input) (wanted, allowed bool) {
	switch {
	case in.Spec == nil || in.Remote == nil:
		return false, false
	case in.Reboots.UnderWay(in.Now):
		return true, true
	case !in.wantsReboot(in.judge()) || in.forbidsReboot():
		return false, false
	}
	return true, in.window(Decision{Action: in.rebootStep()}).Action != None
}

// UnderWay reports whether the machine was told to reboot, and has time to.
// Nothing is begun meanwhile: it would be cut off, or take back what is booted. A
// clock that was set a little does not end that.
func (r Reboots) UnderWay(now time.Time) bool {
	return !r.AskedAt.IsZero() && now.Sub(r.AskedAt).Abs() < r.Within
}

func (in Input) underWay() Decision {
	until := in.Reboots.AskedAt.Add(in.Reboots.Within)
	return Decision{Action: None, Waiting: true, Reason: v1alpha1.ReasonRebooting, Message: in.rebooting(until), NextAt: until}
}

// Renew forgets an announcement that is too old to be acted upon, or of a clock
// that was wrong: whoever is logged in then is waited for and told anew. A
// machine that was told and did not reboot is told again soon after.
func (r Reboots) Renew(now time.Time, delay time.Duration) Reboots {
	fresh := func(since time.Time, limit time.Duration) bool {
		age := now.Sub(since)
		return !since.IsZero() && age >= 0 && age < limit+staleAnnouncement
	}
	if !fresh(r.Announced, delay) && !fresh(r.AskedAt, r.Within) && !r.Announced.IsZero() {
		r.AllowedSince, r.Announced = time.Time{}, time.Time{}
	}
	return r
}

// rebootStep is the next step of a reboot: to announce it, or to make it.
func (in Input) rebootStep() Action {
	if in.Reboots.Announced.IsZero() {
		return Announce
	}
	return Reboot
}

// reboot decides about a reboot that is wanted: it waits for the window and for
// who is logged in, is announced, and made after its delay.
func (in Input) reboot(d Decision) Decision {
	policy, r := in.Spec.RebuildPolicy.Reboot, in.Reboots
	if r.Asked >= MostAsked {
		return Decision{Action: None, Stalled: true, Reason: v1alpha1.ReasonRebootFailed, Message: in.rebootFailed()}
	}
	if f := in.Failure; f != nil && f.Reboot { // nobody is told of what may not be tried
		if held := in.gate(Decision{Action: Reboot}); held.Action == None {
			return held
		}
	}
	step := in.rebootStep()
	if held := in.lastGates(in.window(Decision{Action: step})); held.Action == None {
		return in.untilReboot(d, held.Message, held.NextAt)
	}
	if step == Announce {
		if until := r.AllowedSince.Add(policy.Sessions.Postpone.Duration); len(r.Sessions) > 0 && in.Now.Before(until) {
			return in.untilReboot(d, in.sessions(until), earliest(until, in.Now.Add(sessionsPause)))
		}
		d.Action = Announce // which changes nothing
		return in.untilReboot(d, in.announcing(), time.Time{})
	}
	if due := r.Announced.Add(policy.Delay.Duration); in.Now.Before(due) {
		return in.untilReboot(d, in.rebootsAt(due), due)
	}
	return Decision{Action: Reboot, Reason: v1alpha1.ReasonProgressing, Message: in.doing(rebooting)}
}

// onlyByHand is said of a system that was booted in vain too often.
func (in Input) onlyByHand(d Decision) Decision {
	if d = in.untilReboot(d, in.vainBoots(), time.Time{}); !d.Ready {
		d.Waiting, d.Stalled, d.Reason = false, true, v1alpha1.ReasonRebootFailed
	}
	return d
}

// untilReboot is what is said until a reboot: a host that is Ready stays so.
func (in Input) untilReboot(d Decision, message string, next time.Time) Decision {
	d.NextAt = next
	if d.Ready {
		d.Message += " " + message
	} else { // it is not only for a person that it waits
		d.Message = in.isBootDefault() + " " + message
	}
	return d
}

func earliest(a, b time.Time) time.Time {
	if a.Before(b) {
		return a
	}
	return b
}
