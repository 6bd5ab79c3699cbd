package plan

import (
	"fmt"
	"strings"
	"time"

	"github.com/npcnix/npcnix/apis/meta"
	"github.com/npcnix/npcnix/apis/v1alpha1"
	"github.com/npcnix/npcnix/nixos"
	"github.com/npcnix/npcnix/reconciler/window"
)

// The sentences that people read, all in one place.

// ByWord is how an operator lifts what holds a target back.
const ByWord = "npcnix reconcile --retry, or npcnix-reconciler retry on the host"

// name says what the target is: "generation 42 of prod (9f3c1a2b7e01)".
func (in Input) name() string {
	s := fmt.Sprintf("generation %d of %s", in.Remote.Metadata.Generation, in.Remote.Metadata.Name)
	if revision := in.Remote.Spec.Source.FullRevision(); revision != "" {
		s += " (" + v1alpha1.ShortRevision(revision) + ")"
	}
	return s
}

func stamp(t time.Time) string { return t.UTC().Format(time.RFC3339) }

// local is a time as those who declared a window would write it: "Mon 2026-11-23
// 22:00 Europe/Berlin"; others read UTC.
func (in Input) local(t time.Time) string {
	if in.Window == nil || in.Window.Zone() == time.UTC {
		return stamp(t)
	}
	return t.In(in.Window.Zone()).Format("Mon 2006-01-02 15:04") + " " + in.Window.Zone().String()
}

// waits says what waits for a window.
func (in Input) waits(act Action) string {
	switch act {
	case Build:
		return capital(in.name()) + " is not built yet"
	case Commit:
		return capital(in.name()) + " runs, and is not the profile's and the boot default yet"
	case Announce, Reboot:
		return "The reboot is due"
	default:
		return capital(in.name()) + " is built"
	}
}

// waitingForWindow says what waits, for which window, until when.
func (in Input) waitingForWindow(next window.Opening, act Action, limit time.Duration) string {
	j := in.Window.At(in.Now)
	why := "the window is closed"
	switch {
	case j.Reason == window.ReasonDenied:
		why = "the window is closed by " + j.Name
	case j.State == window.Open && !next.OpensAt.IsZero() && !next.OpensAt.After(in.Now):
		why = "this host's part of the window has not begun"
	case j.State == window.Open:
		why = fmt.Sprintf("the window closes at %s, and %s are needed", in.local(j.ClosesAt), meta.Short(limit))
	}
	what := "window"
	if next.StartsAt.After(next.OpensAt) { // by the splay
		what = "its part of window"
	}
	if next.Name != "" {
		what += " " + next.Name
	}
	return fmt.Sprintf("%s, and waits for %s at %s: %s.", in.waits(act), what, in.local(next.StartsAt), why)
}

// noWindow says what would wait for ever.
func (in Input) noWindow(act Action, limit time.Duration) string {
	if j := in.Window.At(in.Now); j.Reason == window.ReasonZoneUnknown {
		return fmt.Sprintf("%s, and this machine does not know the time zone %s of its window.", in.waits(act), j.Name)
	}
	return fmt.Sprintf("%s, and no window within 370 days leaves the %s that it needs. Lengthen the window, or lower rebuildPolicy.timeouts.", in.waits(act), meta.Short(limit))
}

func (in Input) skewed() string {
	return capital(in.name()) + " waits: this machine's clock is more than two minutes off the store's, so that no window can be judged. Set the clock."
}

func (in Input) collecting() string {
	return "Collecting garbage, as " + in.room() + "."
}

// room says what is missing. How much is free changes all the time, and a
// status does not.
func (in Input) room() string {
	return fmt.Sprintf("less is free on /nix than rebuildPolicy.minFreeDisk, %s", in.Spec.RebuildPolicy.MinFreeDisk)
}

func (in Input) diskFull() string {
	what := " is not built: "
	if in.Desired != "" {
		what = " is built, and not activated: "
	}
	s := capital(in.name()) + what + in.room() + "."
	if in.Disk.Collected {
		return s + " Collecting garbage did not make enough room; make some."
	}
	return s + " nix-collect-garbage --delete-older-than 30d makes some, or rebuildPolicy.diskFull: GarbageCollect."
}

func (in Input) pruning() string {
	return fmt.Sprintf("Removing the generations beyond rebuildPolicy.retention, %d, as /boot has no room for %s.", *in.Spec.RebuildPolicy.Retention.Generations, in.name())
}

func (in Input) bootFull() string {
	return fmt.Sprintf("/boot has no room for %s, which waits for it, although no generations are left beyond rebuildPolicy.retention, %d. "+
		"Keep fewer, or make room by hand: nix-env --profile /nix/var/nix/profiles/system --delete-generations +3 and /nix/var/nix/profiles/system/bin/switch-to-configuration boot.",
		in.name(), *in.Spec.RebuildPolicy.Retention.Generations)
}

func (in Input) otherSwitch() string {
	return "Something else switches this host: " + in.Gates.OtherSwitch + ". " + capital(in.name()) + " waits for it."
}

// Why says what only a reboot brings into force.
func (in Input) Why() string {
	if changed := in.Machine.Reboot.Changed; changed != "" {
		return "another " + changed
	}
	if in.Staged == in.Desired && !in.Machine.Runs(in.Desired) {
		return "the staged system"
	}
	return "another system than the one that was booted"
}

func (in Input) sessions(until time.Time) string {
	return fmt.Sprintf("The reboot waits for who is logged in (%s), until %s at the latest.", strings.Join(in.Reboots.Sessions, ", "), in.local(until))
}

func (in Input) announcing() string {
	return fmt.Sprintf("Announcing a reboot in %s: %s.", meta.Short(in.Spec.RebuildPolicy.Reboot.Delay.Duration), in.Why())
}

func (in Input) rebootsAt(due time.Time) string { return "It reboots at " + in.local(due) + "." }

func (in Input) isBootDefault() string { return capital(in.name()) + " is the boot default." }

func (in Input) rebooting(until time.Time) string {
	return fmt.Sprintf("The host was told to reboot at %s (%d of %d), and has until %s. Nothing is begun meanwhile.", stamp(in.Reboots.AskedAt), max(1, in.Reboots.Asked), MostAsked, stamp(until))
}

func (in Input) rebootFailed() string {
	return fmt.Sprintf("The host was told %d times to reboot into %s, and did not. Look at it: systemctl list-jobs; reboot it by hand, or let it try again: %s.",
		in.Reboots.Asked, in.name(), ByWord)
}

func (in Input) vainBoots() string {
	return fmt.Sprintf("It was booted %d times and taken back without a verdict: the store could not be reached from the earlier system either, or the disk was full. "+
		"The host does not reboot into it by itself any more: reboot it by hand, or let it try again: %s.", in.VainBoots, ByWord)
}

// String says that, by whom and why nothing new is started: "Suspended by its
// HostSpec (INC-42)".
func (s Suspension) String() string {
	text := "Suspended"
	if s.By != "" {
		text += " " + s.By
	}
	if s.Reason != "" {
		text += " (" + s.Reason + ")"
	}
	if !s.Until.IsZero() {
		text += " until " + stamp(s.Until)
	}
	return text
}

func (in Input) suspendedMessage() string {
	return in.Suspended.String() + "; " + in.name() + " is not in force."
}

// lastKnown says how the host stands by the last good documents.
func (in Input) lastKnown(d Decision) string {
	switch {
	case d.Ready:
		return "By the last known documents, " + in.name() + " is what shall run, and it does."
	case d.Action == None:
		return "By the last known documents: " + d.Message
	default:
		return "By the last known documents, " + in.name() + " is not in force."
	}
}

func (in Input) exhausted(most int32) string {
	if in.Failure.Reboot {
		return fmt.Sprintf("The reboot into %s failed %d of %d times, and is tried again when what is declared changes, or by %s. Last: %s", in.name(), in.Attempts, most, ByWord, in.Failure.Message)
	}
	return fmt.Sprintf("The archive of %s failed %d of %d times with this flake attribute and rebuildPolicy, and is tried again when one of the three changes, or by %s. Last: %s",
		in.name(), in.Attempts, most, ByWord, in.Failure.Message)
}

func (in Input) retrying(most int32, counted bool) string {
	if counted && !in.Failure.Reboot {
		return fmt.Sprintf("%s\nAttempt %d of %d at %s failed; the next is due at %s.", in.Failure.Message, in.Attempts, most, in.name(), stamp(in.Failure.NextAt))
	}
	return fmt.Sprintf("%s\nThe next attempt is due at %s.", in.Failure.Message, stamp(in.Failure.NextAt))
}

func (in Input) quarantine() string {
	return in.Quarantined + "\nIt is not tried again until its content, rebuildPolicy or healthChecks change, or until " + ByWord + "."
}

func (in Input) rebootPending() string {
	s := capital(in.name()) + " is the boot default and comes into force with a reboot."
	if in.Spec.RebuildPolicy.Reboot.When == v1alpha1.RebootNever {
		s += " rebuildPolicy.reboot.when is Never: reboot the host when it suits."
	}
	return s
}

// What is under way, where that is more than a word.
const (
	asking    = "Asking what activating does:"
	rebooting = "Rebooting into"
)

// doing says what is under way with the target, such as building it.
func (in Input) doing(what string) string { return what + " " + in.name() + "." }

func (in Input) upToDate() string { return "Runs " + in.name() + "." }

func (in Input) tested() string {
	return "Runs " + in.name() + ", which mode Test does not make permanent: a reboot starts what is the boot default."
}

func notAgain() string {
	return "Not tried again until the spec or the remote changes, or until " + ByWord + "."
}

func (in Input) unhealthy() string {
	return "What runs is not healthy: " + strings.TrimSuffix(in.Unhealthy, ".") + "."
}

func (in Input) builtOnly() string {
	return fmt.Sprintf("%s is built; with mode %s nothing is activated. Runs %s.", capital(in.name()), in.Spec.RebuildPolicy.Mode, orNone(in.Machine.Running))
}

func (in Input) agentRemoved() string {
	return capital(in.name()) + " does not start npcnix-reconciler, so the host would not follow any declaration any more. " +
		"To want that, set rebuildPolicy.allowAgentRemoval to the host's name."
}

func capital(s string) string { return strings.ToUpper(s[:1]) + s[1:] }

// driftMessage says what differs from the committed system.
func (in Input) driftMessage() string {
	m := in.Machine
	switch {
	case !m.Runs(in.Desired):
		return fmt.Sprintf("The host was changed by hand: it runs %s instead of %s.", orNone(m.Running), in.Desired)
	case m.Profile != in.Desired:
		return fmt.Sprintf("The host was changed by hand: its profile is %s instead of %s.", orNone(m.Profile), in.Desired)
	default:
		return fmt.Sprintf("The host was changed by hand: it will boot %s instead of %s.", orNone(m.BootDefault), in.Desired)
	}
}

// drifting says what differs, and when it is corrected; zero is never.
func (in Input) drifting(due time.Time) string {
	if due.IsZero() {
		return in.driftMessage() + " The policy is to report it only."
	}
	return in.driftMessage() + " It will be corrected at " + stamp(due) + "."
}

func orNone(path string) string {
	if path == "" || path == nixos.Unknown {
		return "no known system"
	}
	return path
}
