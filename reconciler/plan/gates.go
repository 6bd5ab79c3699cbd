package plan

import (
	"time"

	"github.com/npcnix/npcnix/apis/v1alpha1"
	"github.com/npcnix/npcnix/reconciler/window"
)

// gated returns what an act waits for, and how long it may take: it starts only
// with that much of the window left. What has no gate has no limit.
func (in Input) gated(act Action) (gate v1alpha1.Gate, limit time.Duration) {
	switch act {
	case Build:
		gate = v1alpha1.GateBuild
	case Activate, Stage, Commit: // writing the boot loader is an activation too
		gate = v1alpha1.GateActivate
	case Announce, Reboot:
		gate = v1alpha1.GateReboot
	case None, DryActivate, CollectGarbage, Prune:
		return "", 0
	}
	limit = window.Limits(*in.Spec)[gate]
	if act == Announce { // its delay is a part of the window too
		limit += in.Spec.RebuildPolicy.Reboot.Delay.Duration
	}
	return gate, limit
}

// window holds an act back until the window is open, with enough of it left and
// at the host's own part of it.
func (in Input) window(d Decision) Decision {
	if in.Window == nil {
		return d
	}
	gate, limit := in.gated(d.Action)
	if in.unstages(d.Action) && (gate == "" || !in.Window.Gated(gate)) {
		gate, limit = in.gated(Activate)
	}
	if gate == "" || !in.Window.Gated(gate) {
		return d
	}
	if in.ClockSkewed {
		return Decision{Action: None, Waiting: true, Reason: v1alpha1.ReasonClockSkewed, Message: in.skewed()}
	}
	spread := limit
	if d.Action == Reboot { // at the same part of the window as it was announced
		_, spread = in.gated(Announce)
	}
	next, open := in.start(limit, spread)
	if open {
		return d
	}
	if next.StartsAt.IsZero() {
		return Decision{Action: None, Stalled: true, Reason: v1alpha1.ReasonNoWindow, Message: in.noWindow(d.Action, limit)}
	}
	return Decision{
		Action: None, Waiting: true, NextAt: next.StartsAt, Reason: v1alpha1.ReasonWaitingForWindow,
		Message: in.waitingForWindow(next, d.Action, limit),
	}
}

// unstages reports whether an act takes back what waits for a reboot, which is
// an activation whatever the act itself is.
func (in Input) unstages(act Action) bool {
	return in.Staged != "" && (act == Build || act == DryActivate)
}

// Last reports whether there are gates of the last moment for the act.
func (in Input) Last(act Action) bool {
	return Decision{Action: act}.activates() || in.unstages(act) || act == Announce || act == Reboot
}

// start returns the opening in which what takes limit may start, and whether
// that is now. It is zero if there is none within the horizon. The host's part of
// an opening is that of what takes spread.
func (in Input) start(limit, spread time.Duration) (next window.Opening, now bool) {
	for at, end := in.Now, in.Now.Add(window.Horizon); at.Before(end); {
		list := in.Window.Openings(at, 1, spread)
		if len(list) == 0 {
			break
		}
		o := list[0]
		enough := o.ClosesAt.IsZero() || !in.Now.Add(limit).After(o.ClosesAt)
		switch {
		case o.OpensAt.IsZero() && enough: // it is open since ever
			return o, true
		case !o.StartsAt.IsZero() && enough:
			return o, !in.Now.Before(o.StartsAt)
		case o.ClosesAt.IsZero():
			return window.Opening{}, false
		}
		at = o.ClosesAt
	}
	return window.Opening{}, false
}

// diskPause is when a disk that is full is looked at again.
const diskPause = 10 * time.Minute

// leastToActivate is what an activation needs on the Nix store's file system for
// itself, in bytes: roots, and a generation.
const leastToActivate = 16 << 20

// disk holds back what there is no room for.
func (in Input) disk(d Decision) Decision {
	least := int64(*in.Spec.RebuildPolicy.MinFreeDisk)
	switch d.Action {
	case Build:
	case Activate, Stage:
		least = min(least, leastToActivate)
	default:
		return d
	}
	if in.Disk == nil || in.Disk.Free >= least {
		return d
	}
	if in.Spec.RebuildPolicy.DiskFull == v1alpha1.DiskFullGarbageCollect && !in.Disk.Collected {
		return Decision{Action: CollectGarbage, Reason: v1alpha1.ReasonProgressing, Message: in.collecting()}
	}
	return Decision{Action: None, Waiting: true, NextAt: in.Now.Add(diskPause), Reason: v1alpha1.ReasonDiskFull, Message: in.diskFull()}
}

// otherSwitchPause is when a machine that somebody switches is looked at again.
const otherSwitchPause = 10 * time.Second

// lastGates holds an activation back for what is seen immediately before it.
func (in Input) lastGates(d Decision) Decision {
	switch g := in.Gates; {
	case g == nil || d.Action == None:
		return d
	case g.AgentRemoved && d.activates():
		return Decision{Action: None, Stalled: true, Reason: v1alpha1.ReasonAgentRemoved, Message: in.agentRemoved()}
	case g.OtherSwitch != "":
		return Decision{
			Action: None, Waiting: true, NextAt: in.Now.Add(otherSwitchPause), Reason: v1alpha1.ReasonSwitchActive,
			Message: in.otherSwitch(),
		}
	case g.BootFull && d.activates() && !g.Pruned:
		return Decision{Action: Prune, Reason: v1alpha1.ReasonProgressing, Message: in.pruning()}
	case g.BootFull && d.activates():
		return Decision{
			Action: None, Waiting: true, NextAt: in.Now.Add(in.Spec.RebuildPolicy.Retry.MinBackoff.Duration), Reason: v1alpha1.ReasonDiskFull,
			Message: in.bootFull(),
		}
	default:
		return d
	}
}
