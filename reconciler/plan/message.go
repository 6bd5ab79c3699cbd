package plan

import (
	"fmt"
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
