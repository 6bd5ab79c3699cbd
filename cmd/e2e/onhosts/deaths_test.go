package onhosts_test

import (
	"fmt"
	"strconv"
	"strings"
	"time"
)

// phases are commands that succeed while a host is in a phase of a switch.
var phases = []struct{ name, begun string }{
	{"build", "systemctl list-units --plain --no-legend 'npcnix-build-*' | grep -q ."},
	{"switch", "systemctl list-units --plain --no-legend 'npcnix-switch-*-test.service' | grep -q ."},
	{"confirm", "grep -q '\"phase\": \"Confirming\"' /var/lib/npcnix/journal.json"},
	{"commit", "ls /var/lib/npcnix/transactions/*/committing >/dev/null && ! ls -d /var/lib/npcnix/transactions/*/committed >/dev/null 2>&1 || systemctl list-units --plain --no-legend 'npcnix-switch-*-boot-*' | grep -q ."},
}

// slow makes each phase last long enough to be met.
const slow = `base: { activation = base.activation + "; sleep 1"; bootLoader = "sleep 1"; payload = builtins.readFile (derivation { name = "slow"; system = "x86_64-linux"; builder = "/bin/sh"; args = [ "-c" "/bin/sleep 1; echo %s > $out" ]; }); }`

// inPhase publishes a slow generation and waits until the host is in a phase of it.
func (h *machine) inPhase(begun string) (release string) {
	h.t.Helper()
	h.sh("rm -rf /var/lib/npcnix/transactions/*/commit*") // of those that have ended
	release = h.publish(fmt.Sprintf(slow, h.name+strconv.Itoa(h.gen)))
	h.wait("the phase begins", 60*time.Second, func() bool { _, err := h.try(begun); return err == nil })
	return release
}

var killedAgent = scenario{"the agent is killed", func(h *machine) {
	for _, phase := range phases {
		release := h.inPhase(phase.begun)
		h.sh("systemctl kill -s KILL npcnix-reconciler")
		h.t.Logf("killed in %s", phase.name)
		h.eventually(release, release, release)
		h.ready("True", "UpToDate")
	}
}}

var killedGuard = scenario{"the guard is killed", func(h *machine) {
	before := h.state()
	h.publish(`base: { units = base.units // { "bad.service" = { wantedBy = [ "multi-user.target" ]; text = "[Service]\nType=oneshot\nExecStart=/bin/false\n"; }; }; }`)
	h.wait("the guard acts", 60*time.Second, func() bool {
		_, err := h.try("systemctl is-active 'npcnix-guard-*.service' | grep -q active && systemctl kill -s KILL 'npcnix-guard-*.service'")
		return err == nil
	})
	h.wait("the earlier system is back", 60*time.Second, func() bool { return h.state() == before })
	h.ready("False", "Quarantined")
	h.good("_: { }")
}}

// The switch itself dies, by whatever kills it: the machine may be anything, so
// it is taken back; the next one goes on from what the dead one left.
var killedSwitch = scenario{"the switch is killed", func(h *machine) {
	before := h.state()
	h.inPhase(phases[1].begun)
	h.sh("systemctl kill -s KILL --kill-who=main 'npcnix-switch-*-test.service'")
	h.ready("False", "Quarantined")
	h.wait("the earlier system is back", 20*time.Second, func() bool { return h.state() == before })
	if out := h.npcnix("describe", "host", h.name); !strings.Contains(out, "ActivationFailed") || !strings.Contains(out, "KILL") {
		h.t.Errorf("describe says:\n%s", out)
	}
	h.good("_: { }")
}}

// The power is cut while a rollback runs, and while a system is staged.
var powerCutsOnTheWayBack = scenario{"the power is cut on the way back, and while staging", func(h *machine) {
	h.good(`base: { activation = base.activation + "; sleep 1"; }`)
	before := h.state()
	h.publish(`base: { units = base.units // { "bad.service" = { wantedBy = [ "multi-user.target" ]; text = "[Service]\nType=oneshot\nExecStart=/bin/false\n"; }; }; }`)
	h.wait("the rollback begins", 60*time.Second, func() bool {
		_, err := h.try("systemctl list-units --plain --no-legend 'npcnix-switch-*-rollback-*' | grep -q .")
		return err == nil
	})
	h.powerCut()
	h.ready("False", "Quarantined")
	if got := h.state(); got != before {
		h.t.Errorf("the host is in the state %s, was %s", got, before)
	}
	h.spec("    mode: Boot\n", checks)
	running := strings.Fields(before)[0]
	release := h.inPhase("systemctl list-units --plain --no-legend 'npcnix-switch-*-boot-*' | grep -q .")
	h.powerCut()
	h.wait("it is staged, or was booted", 60*time.Second, func() bool {
		state := h.state()
		return state == running+" "+release+" "+release || state == release+" "+release+" "+release
	})
	if h.state() != release+" "+release+" "+release {
		h.ready("False", "RebootPending")
		h.reboot()
	}
	h.eventually(release, release, release)
	h.ready("True", "UpToDate")
	h.spec("", checks)
	h.good("_: { }")
}}

var powerCuts = scenario{"the power is cut", func(h *machine) {
	for _, phase := range phases {
		release := h.inPhase(phase.begun)
		h.powerCut()
		h.t.Logf("cut in %s", phase.name)
		h.eventually(release, release, release)
		h.ready("True", "UpToDate")
	}
}}
