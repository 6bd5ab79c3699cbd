package host

import (
	"fmt"
	"strings"
	"time"

	"github.com/npcnix/npcnix/apis/meta"
	"github.com/npcnix/npcnix/nixos"
)

// maxTail is how much of a program's output a message quotes, in bytes.
const maxTail = 400

func newTime(t time.Time) meta.Time { return meta.NewTime(t) }

// tailOf quotes the end of what stc printed.
func tailOf(result nixos.Result) string {
	if out := strings.TrimSpace(result.Output); out != "" {
		return "Output: " + meta.CutFront(out, maxTail)
	}
	return ""
}

// activationMessage says how the switch ended and what runs now.
func activationMessage(result nixos.Result, machine nixos.Machine, target string) string {
	how := result.How
	if result.Exited {
		how = fmt.Sprintf("exit code %d", result.ExitCode)
		if result.ExitCode == nixos.ExitActivationFailed {
			how += ", the activation script failed"
		}
	}
	if switched(result) {
		how += ", but /run/current-system does not name it"
	}
	runs := "no system"
	switch {
	case machine.Runs(target):
		runs = "the new system, perhaps not completely"
	case machine.Running != "":
		runs = machine.Running
	}
	return strings.TrimSpace(fmt.Sprintf("Switching to %s failed: %s. What runs now: %s. Nothing was rolled back; profile and boot default are as before. %s",
		target, how, runs, tailOf(result)))
}

// rebootMessage says how a person can do what the agent does not do yet.
func rebootMessage(target string, result nixos.Result) string {
	return strings.TrimSpace(fmt.Sprintf("The new system can only be started by a reboot, which this version does not do; nothing was activated. "+
		"By hand: nix-env --profile /nix/var/nix/profiles/system --set %s && %s/bin/switch-to-configuration boot && reboot. %s", target, target, tailOf(result)))
}

func bootMessage(result nixos.Result, err error) string {
	switch {
	case err != nil:
		return err.Error()
	case !result.Exited:
		return result.How + ". " + tailOf(result)
	default:
		return strings.TrimSpace(fmt.Sprintf("exit code %d. %s", result.ExitCode, tailOf(result)))
	}
}
