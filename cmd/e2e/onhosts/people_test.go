package onhosts_test

import (
	"fmt"
	"strings"
	"time"
)

var byHand = scenario{"somebody switches at the same moment", func(h *machine) {
	other := h.sh("readlink -f $(ls -d /nix/var/nix/profiles/system-*-link | sort -V | head -2 | tail -1)")
	release := h.inPhase(phases[1].begun)
	h.sh("nix-env -p /nix/var/nix/profiles/system --set " + other) // as nixos-rebuild does first
	h.wait("ours has ended", 20*time.Second, func() bool {
		_, err := h.try("systemd-run --wait --collect --quiet " + other + "/bin/switch-to-configuration switch")
		return err == nil
	})
	h.wait("the transaction is superseded", 60*time.Second, func() bool {
		out, _ := h.try("cat /var/lib/npcnix/transactions/*/outcome.json /var/lib/npcnix/journal.json") // the former is written in the end alone
		return strings.Contains(out, `"Superseded"`)
	})
	h.eventually(release, release, release) // as drift, after its grace
	h.ready("True", "UpToDate")
	// One that holds stc's lock is waited for, whatever its unit is called; and
	// so is nixos-rebuild's unit.
	for _, unit := range []string{"--unit=nixos-rebuild-switch-to-configuration sleep 5", "flock /run/nixos/switch-to-configuration.lock sleep 5"} {
		h.sh("systemd-run --collect --quiet " + unit)
		release = h.publish("_: { }")
		h.ready("False", "SwitchActive")
		h.eventually(release, release, release)
		h.ready("True", "UpToDate")
	}
}}

var drift = scenario{"drift by hand", func(h *machine) {
	release := h.good("_: { }")
	other := h.sh("readlink -f $(ls -d /nix/var/nix/profiles/system-*-link | sort -V | head -2 | tail -1)")
	h.sh("nix-env -p /nix/var/nix/profiles/system --set " + other + " && systemd-run --wait --collect --quiet " + other + "/bin/switch-to-configuration switch")
	h.eventually(release, release, release)
	h.ready("True", "UpToDate")
}}

var specialisation = scenario{"a specialisation runs", func(h *machine) {
	const with = `_: { specialisation.quiet = { params = "quiet"; }; }`
	h.good(with)
	h.sh("systemd-run --wait --collect --quiet /run/current-system/specialisation/quiet/bin/switch-to-configuration test")
	h.ready("True", "UpToDate")
	h.publish(with)
	h.ready("True", "UpToDate")
	if out := h.sh("cat /run/current-system/kernel-params"); out != "quiet" {
		h.t.Errorf("the switch left the specialisation: %s", out)
	}
	h.good("_: { }")
}}

// What is gated waits for its window, which an operator opens for once.
var window = scenario{"the window is closed", func(h *machine) {
	const closed = "  maintenanceWindow: {timeZone: UTC, allow: [{name: once, from: \"2001-01-01T00:00:00\", until: \"2001-01-02T00:00:00\"}]}\n"
	h.spec("", checks+closed)
	before := h.state()
	release := h.publish("_: { }")
	h.ready("False", "NoWindow")
	if got := h.state(); got != before {
		h.t.Errorf("outside its window the host went from %s to %s", before, got)
	}
	h.npcnix("reconcile", h.name, "--open-window-until", time.Now().Add(time.Hour).UTC().Format(time.RFC3339))
	h.eventually(release, release, release)
	h.ready("True", "UpToDate")
	h.spec("", checks)
}}

// What operators ask of a host through the store.
var overrides = scenario{"operators ask through the store", func(h *machine) {
	h.npcnix("suspend", h.name, "--reason", "INC-42")
	before := h.state()
	release := h.publish("_: { }")
	h.ready("False", "Suspended")
	if got := h.state(); got != before {
		h.t.Errorf("a suspended host went from %s to %s", before, got)
	}
	h.npcnix("resume", h.name)
	h.eventually(release, release, release)
	h.ready("True", "UpToDate")
	h.takenBack(`_: { activation = "[ -e /etc/asked ]"; }`)
	h.sh("touch /etc/asked")
	h.npcnix("reconcile", h.name, "--retry")
	release = fmt.Sprintf("g%d", h.gen)
	h.eventually(release, release, release)
	h.ready("True", "UpToDate")
}}

var controlSocket = scenario{"people on the host ask the agent", func(h *machine) {
	const agent = "/proc/$(systemctl show -P MainPID npcnix-reconciler)/exe "
	h.sh(agent + "suspend --for 2h --reason testing")
	before := h.state()
	h.publish("_: { }")
	h.ready("False", "Suspended")
	if got := h.state(); got != before {
		h.t.Errorf("a suspended host went from %s to %s", before, got)
	}
	h.lifecycle("cut", h.name) // it answers without the store too
	if out := h.sh(agent + "status -o json"); !strings.Contains(out, `"reason": "testing"`) {
		h.t.Errorf("status says %s", out)
	}
	h.lifecycle("join", h.name)
	h.sh(agent + "resume")
	release := fmt.Sprintf("g%d", h.gen)
	h.eventually(release, release, release)
	h.ready("True", "UpToDate")
	if out := h.sh("stat -c '%a %U' /run/npcnix /run/npcnix/control.sock /var/lib/npcnix"); out != "700 root\n600 root\n700 root" {
		h.t.Errorf("modes are %s", out)
	}
	// What was given up is tried again at an operator's word.
	h.takenBack(`_: { activation = "[ -e /etc/allowed ]"; }`)
	h.sh("touch /etc/allowed; " + agent + "retry")
	release = fmt.Sprintf("g%d", h.gen)
	h.eventually(release, release, release)
	h.ready("True", "UpToDate")
}}
