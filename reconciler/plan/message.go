package plan

import (
	"fmt"
	"strings"
	"time"

	"github.com/npcnix/npcnix/apis/v1alpha1"
	"github.com/npcnix/npcnix/nixos"
)

// The sentences that people read, all in one place.

// name says what the target is: "generation 42 of prod (9f3c1a2b7e01)".
func (in Input) name() string {
	s := fmt.Sprintf("generation %d of %s", in.Remote.Metadata.Generation, in.Remote.Metadata.Name)
	if revision := in.Remote.Spec.Source.FullRevision(); revision != "" {
		s += " (" + v1alpha1.ShortRevision(revision) + ")"
	}
	return s
}

func stamp(t time.Time) string { return t.UTC().Format(time.RFC3339) }

// suspension says that and why nothing new is started: "Suspended (INC-42)".
func (in Input) suspension() string {
	s := "Suspended"
	if in.Suspended.Reason != "" {
		s += " (" + in.Suspended.Reason + ")"
	}
	if !in.Suspended.Until.IsZero() {
		s += " until " + stamp(in.Suspended.Until)
	}
	return s
}

func (in Input) suspendedMessage() string {
	return in.suspension() + "; " + in.name() + " is not in force."
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
	return fmt.Sprintf("The archive of %s failed %d of %d times with this flake attribute and rebuildPolicy, and is tried again when one of the three changes. Last: %s",
		in.name(), in.Attempts, most, in.Failure.Message)
}

func (in Input) retrying(most int32, counted bool) string {
	if counted {
		return fmt.Sprintf("%s\nAttempt %d of %d at %s failed; the next is due at %s.", in.Failure.Message, in.Attempts, most, in.name(), stamp(in.Failure.NextAt))
	}
	return fmt.Sprintf("%s\nThe next attempt is due at %s.", in.Failure.Message, stamp(in.Failure.NextAt))
}

func (in Input) quarantine() string {
	return in.Quarantined + "\nIt is not tried again until its content, rebuildPolicy or healthChecks change, or until npcnix-reconciler retry on the host."
}

func (in Input) rebootPending() string {
	return capital(in.name()) + " is the boot default and comes into force with a reboot. rebuildPolicy.reboot.when is " +
		string(in.Spec.RebuildPolicy.Reboot.When) + ": reboot the host when it suits."
}

func (in Input) unhealthy() string {
	return "What runs is not healthy: " + in.Unhealthy
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

func orNone(path string) string {
	if path == "" || path == nixos.Unknown {
		return "no known system"
	}
	return path
}
