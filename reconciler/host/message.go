package host

import (
	"errors"
	"fmt"
	"strings"
	"syscall"
	"time"

	"github.com/npcnix/npcnix/apis/meta"
	"github.com/npcnix/npcnix/apis/v1alpha1"
	"github.com/npcnix/npcnix/nixos"
	"github.com/npcnix/npcnix/reconciler/plan"
	"github.com/npcnix/npcnix/reconciler/transaction"
	"github.com/npcnix/npcnix/store"
	"github.com/npcnix/npcnix/store/archive"
)

// The sentences of a status that are not the planner's: what is in the way of a
// decision, how an act failed and how an attempt ended. Those of the conditions
// are in conditions.go.

// maxTail is how much of a program's output a message quotes, in bytes.
const maxTail = 400

// maxWhy is how much of a message says why something failed, in bytes: what
// comes of that follows, and is not to be cut off.
const maxWhy = meta.MaxMessage - 300

// told is a sentence about an error: what does not work, and why.
func told(what string, err error) string { return transaction.Sentence(what + ": " + err.Error()) }

func newTime(t time.Time) meta.Time { return meta.NewTime(t) }

// How an attempt ended, or why its transaction did.
const (
	activatesNothing = "By its policy this host activates nothing."
	ranAlready       = "The system ran already; nothing was activated."
	otherGeneration  = "Another generation took its place."
	otherTarget      = "Another target took its place."
	rebootNotWanted  = "The reboot is not wanted any more."
	agentStopped     = "The agent was stopped; the next one goes on."
	olderAgentEnded  = "An agent of an earlier version ended during this attempt."
	endedBefore      = "The agent ended before the switch began."
	nothingChanged   = "Nothing was changed."
	whatRunsStays    = "What runs was not changed."
	asBefore         = "Profile and boot default are as before."
	notConfirmed     = "No agent confirmed the new system in time."
	lostMeanwhile    = "The journal was lost during this transaction."
	isStaged         = "The system is the profile's and the boot default; it comes into force with a reboot."
	notInModeTest    = "Only a reboot can bring this system into force, and mode Test makes nothing permanent."
	lastWord         = "It does not start npcnix-reconciler, as rebuildPolicy.allowAgentRemoval says. " +
		"Its guard confirms it by its health checks; this is the agent's last word."
)

const journalTooNew = "the journal was written by a newer agent; nothing is changed until that agent is back. " +
	"To go on without it: systemctl stop npcnix-reconciler, move the journal away, systemctl start npcnix-reconciler"

// duplicate says whose status it is, and when it is taken over.
func duplicate(key string, written time.Time, theirs, own string) string {
	return fmt.Sprintf("%s was written at %s by a machine with the id %s, this one has %s; stop one of the two. If the other is gone, this one takes over at %s",
		key, stamp(written), theirs, own, stamp(written.Add(3*Heartbeat)))
}

func endedInPhase(ph phase) string {
	return fmt.Sprintf("The agent ended during this attempt, in phase %s.", ph)
}

func goingOn(target string, ph phase) string {
	return fmt.Sprintf("Going on with %s, in phase %s.", target, ph)
}

func journalLost(why error) string {
	return "What was known of earlier attempts is lost: the journal " + why.Error() + "."
}

func transactionLost(why error) string {
	return "What was known of this attempt is lost: a file of its transaction " + why.Error() + "."
}

func rebootedInPhase(ph phase, booted string) string {
	return fmt.Sprintf("The host rebooted in phase %s of this attempt, into %s.", ph, orNone(booted))
}

func rebootedOften() string {
	return fmt.Sprintf("The host rebooted %d times before the new system was confirmed.", maxInterrupted)
}

func rebootedInRollback(booted, before string) string {
	message := fmt.Sprintf("The host rebooted during the rollback, into %s.", orNone(booted))
	if booted != before {
		message += fmt.Sprintf(" %s, which ran before and was not the boot default, is gone with that.", before)
	}
	return message
}

func bootedOtherThan(target, booted string) string {
	return fmt.Sprintf("The host was to boot %s, and booted %s.", target, orNone(booted))
}

func bootedInstead(b *bootedOther) string {
	return fmt.Sprintf("The host booted %s instead of %s, which was committed last: a person or a boot counter wanted that. "+
		"Nothing is corrected until the spec or the remote changes, or until %s.", b.Booted, b.Committed, plan.ByWord)
}

func stayedInBoot() string {
	return fmt.Sprintf("The host was told %d times to reboot into the earlier system, and did not: look at it with systemctl list-jobs, and reboot it by hand.", plan.MostAsked)
}

func storeLost(within time.Duration, err error) string {
	return fmt.Sprintf("The store could not be reached from the new system within %s: %s", within, err)
}

func agentOutdated(why string) string {
	return "The agent that the new system defines does not run: " + why + "."
}

func confirming(target string, until time.Time, exitCode *int) string {
	message := fmt.Sprintf("Confirming %s; it is taken back unless its checks succeed and it reaches the store by %s.", target, stamp(until))
	if exitCode != nil && *exitCode != 0 {
		message += fmt.Sprintf(" The switch ended with exit code %d.", *exitCode)
	}
	return message
}

func endedUntouched(result nixos.Result) string {
	return "The switch ended before it changed anything: " + howEnded(result)
}

func alsoSwitches(other string) string { return ". Something else switches this host: " + other }

// activationMessage says how the switch ended and what runs now.
func activationMessage(result nixos.Result, machine nixos.Machine, t *transaction.Transaction) string {
	how := howEnded(result)
	if result.Switched() {
		how += ", but /run/current-system does not name it"
	}
	return strings.TrimSpace(fmt.Sprintf("Switching to %s failed: %s. /run/current-system was then %s. %s", t.Plan.Activate, how, orNone(machine.Running), tailOf(result)))
}

func orNone(path string) string {
	if path == "" {
		return "no known system"
	}
	return path
}

// howEnded says how a run of stc ended.
func howEnded(result nixos.Result) string {
	switch {
	case !result.Exited:
		return result.How
	case result.ExitCode == nixos.ExitActivationFailed:
		return "exit code 2, the activation script failed"
	case result.ExitCode == nixos.ExitUnitsFailed:
		return "exit code 4, some unit failed"
	default:
		return fmt.Sprintf("exit code %d", result.ExitCode)
	}
}

// tailOf quotes the end of what stc printed.
func tailOf(result nixos.Result) string {
	if out := strings.TrimSpace(result.Output); out != "" {
		return "Output: " + meta.CutFront(out, maxTail)
	}
	return ""
}

// What is said at the terminals of who is logged in: wall(1) breaks lines at their
// 79th column, wherever that is.
const (
	rebootNotMade   = "npcnix: the reboot that was announced was not made."
	rebootCancelled = "npcnix: the reboot that was announced is cancelled."
	rebootDidFail   = "npcnix: the reboot that was announced failed."
	toStop          = "\nTo stop that: npcnix-reconciler suspend --for 2h --reason WHY"
)

func rebootsIn(delay time.Duration) string {
	return "npcnix: this host reboots in " + meta.Short(delay) + ", as its HostSpec says." + toStop
}

func correctsIn(delay time.Duration) string {
	return "npcnix: this host differs from what is declared, and is corrected in " + meta.Short(delay) + "." + toStop
}

// failure is how an act failed: what is done about it, and what is said.
type failure struct {
	class           plan.Class
	reason, message string
}

func notActivatable(reason, toplevel string, err error) failure {
	return failure{plan.Permanent, reason, told(toplevel+" cannot be activated", err)}
}

func noRoundTrip(err error) failure {
	return failure{plan.Transient, v1alpha1.ReasonStoreUnavailable, "Nothing was changed: what the new system must be able to do did not work before it. " + err.Error()}
}

func notPrepared(err error) failure {
	return failure{plan.Transient, v1alpha1.ReasonActivationFailed, "Nothing was activated: the switch could not be prepared. " + err.Error()}
}

func notChanged(reason string, err error) failure {
	return failure{plan.Transient, reason, "Nothing was changed: " + err.Error()}
}

func onlyByReboot(why string) failure {
	return failure{plan.Permanent, v1alpha1.ReasonRebootRequired, "Only a reboot can bring this system into force, as " + why + "."}
}

func notAsked(err error) failure {
	return failure{plan.ActivationClass, v1alpha1.ReasonActivationFailed, told("What activating does could not be asked", err)}
}

func notTold(err error) failure {
	return failure{plan.Transient, v1alpha1.ReasonRebootFailed, "The host could not be told to reboot: " + err.Error()}
}

func notRebooted(err error) failure {
	return failure{plan.Transient, v1alpha1.ReasonRebootFailed, "The host was not rebooted: " + err.Error()}
}

// sourceFailure is a fetch that failed.
func sourceFailure(err error) failure {
	const notFetched = "The archive could not be fetched"
	switch {
	case errors.Is(err, archive.ErrInvalid):
		return failure{plan.Permanent, v1alpha1.ReasonArchiveInvalid, told("The archive is refused", err)}
	case errors.Is(err, store.ErrNotFound):
		return failure{plan.Transient, v1alpha1.ReasonArchiveNotFound, told("The archive is not in the store; push it again", err)}
	case isDiskFull(err):
		return failure{plan.Transient, v1alpha1.ReasonDiskFull, told(notFetched, err)}
	case errors.Is(err, store.ErrAccessDenied), errors.Is(err, store.ErrUnauthorized):
		return failure{plan.Transient, v1alpha1.ReasonAccessDenied, told(notFetched, err)}
	default:
		return failure{plan.Transient, v1alpha1.ReasonStoreUnavailable, told(notFetched, err)}
	}
}

// buildFailure is a build of that flake attribute that failed.
func buildFailure(attribute string, err error) failure {
	failed, ok := errors.AsType[*nixos.BuildError](err)
	if !ok {
		return failure{plan.Transient, v1alpha1.ReasonNixUnavailable, told("Nix could not be asked to build", err)}
	}
	switch failed.Failure {
	case nixos.AttributeMissing:
		return failure{plan.Permanent, v1alpha1.ReasonAttributeNotFound, fmt.Sprintf("The flake has no nixosConfigurations.%q: %s", attribute, failed.Message)}
	case nixos.EvaluationFailure:
		return failure{plan.Permanent, v1alpha1.ReasonEvaluationFailed, "The flake could not be evaluated: " + failed.Message}
	case nixos.InputUnavailable:
		return failure{plan.Transient, v1alpha1.ReasonInputUnavailable, "An input of the flake could not be fetched: " + failed.Message}
	case nixos.DiskFull:
		return failure{plan.Transient, v1alpha1.ReasonDiskFull, "The build ran out of room: " + failed.Message}
	case nixos.NixUnavailable:
		return failure{plan.Transient, v1alpha1.ReasonNixUnavailable, "Nix does not work: " + failed.Message}
	default:
		return failure{plan.BuildClass, v1alpha1.ReasonBuildFailed, "The build failed: " + failed.Message}
	}
}

// isDiskFull reports whether a write failed for lack of space or quota.
func isDiskFull(err error) bool {
	return errors.Is(err, syscall.ENOSPC) || errors.Is(err, syscall.EDQUOT)
}

func specUnreadable() *plan.Problem {
	return &plan.Problem{
		Reason: v1alpha1.ReasonSpecNotFound, Stalled: true,
		Message: "There is no HostSpec for this host, or its credentials do not allow to read it. The agent's log says more.",
	}
}

func specMissing(key string) *plan.Problem {
	return &plan.Problem{
		Reason: v1alpha1.ReasonSpecNotFound, Stalled: true,
		Message: fmt.Sprintf("There is no %s in the store. The host keeps what it runs; apply a HostSpec to go on.", key),
	}
}

func notAdopted(kind string, err error) *plan.Problem {
	return &plan.Problem{Reason: v1alpha1.ReasonSpecInvalid, Message: told("The "+kind+" is not adopted", err), Stalled: true}
}

func unsupportedFields(fields []string) *plan.Problem {
	return &plan.Problem{
		Reason: v1alpha1.ReasonNotSupported, Stalled: true,
		Message: fmt.Sprintf("This version of npcnix does not support: %s. Nothing is changed on the host until they are removed or the agent is newer.", strings.Join(fields, ", ")),
	}
}

func remoteUnreadable(name string) *plan.Problem {
	return &plan.Problem{Reason: v1alpha1.ReasonRemoteNotFound, Message: "The host's credentials do not allow to read remote " + name + ". The agent's log says more."}
}

func remoteMissing(name string) *plan.Problem {
	return &plan.Problem{
		Reason: v1alpha1.ReasonRemoteNotFound, Stalled: true,
		Message: fmt.Sprintf("Remote %s is not in the store. Publish it with npcnix push --remote %s.", name, name),
	}
}

func remoteInvalid(err error) *plan.Problem {
	return &plan.Problem{Reason: v1alpha1.ReasonRemoteInvalid, Message: told("The Remote cannot be understood", err), Stalled: true}
}

func noNix(err error) plan.Decision {
	return plan.Decision{Action: plan.None, Reason: v1alpha1.ReasonNixUnavailable, Message: told("Nix does not answer", err)}
}

// stopped is what is said of an error that stops a pass.
func stopped(step string, err error) plan.Decision {
	d := plan.Decision{Action: plan.None}
	switch {
	case errors.Is(err, errDuplicateHost):
		d.Reason, d.Message, d.Stalled = v1alpha1.ReasonDuplicateHost, told("Nothing is done", err), true
	case errors.Is(err, errJournalTooNew):
		d.Reason, d.Message, d.Stalled = v1alpha1.ReasonJournalTooNew, told("Nothing is done", err), true
	case errors.Is(err, errLeaving):
		d.Reason, d.Message = v1alpha1.ReasonRebooting, "The new system did not prove itself; the host reboots into the earlier one."
	case errors.Is(err, errStateNotWritable):
		d.Reason, d.Message = v1alpha1.ReasonStateNotWritable, notWritable(err)
	case errors.Is(err, transaction.ErrNotBroughtBack):
		d.Reason, d.Message = v1alpha1.ReasonProfileFailed, told("What waits for a reboot is not taken back yet, and nothing else is begun before", err)
	default:
		d.Reason, d.Message = v1alpha1.ReasonInternalError, told("The agent itself failed, and tries again: "+step, err)
	}
	return d
}

// storeProblem is what is reported, if it can be, of a store that cannot be
// read. Why is in the log: it names each request anew, and a status must not
// change with mere time.
func storeProblem(step string, err error) *plan.Problem {
	switch {
	case errors.Is(err, store.ErrAccessDenied), errors.Is(err, store.ErrUnauthorized):
		return &plan.Problem{Reason: v1alpha1.ReasonAccessDenied, Message: "The store refuses the host's credentials: " + step + " failed."}
	case errors.Is(err, store.ErrBucketNotFound):
		return &plan.Problem{Reason: v1alpha1.ReasonBucketNotFound, Message: "The store's bucket or directory does not exist."}
	default:
		return &plan.Problem{Reason: v1alpha1.ReasonStoreUnavailable, Message: "The store does not answer: " + step + " failed. The agent's log says why."}
	}
}

// notWritable names the cause alone: each try has another temporary file.
func notWritable(err error) string {
	cause := "its file system refuses it"
	if errno, ok := errors.AsType[syscall.Errno](err); ok {
		cause = errno.Error()
	}
	return "The agent's state directory cannot be written (" + cause + "): nothing is begun that could not be remembered. It is tried again at each look."
}
