package onhosts_test

import (
	"strings"
	"time"
)

var unitFails = scenario{"a unit fails", func(h *machine) {
	h.takenBack(`base: { units = base.units // { "bad.service" = { wantedBy = [ "multi-user.target" ]; text = "[Service]\nType=oneshot\nExecStart=/bin/false\n"; }; }; }`)
	if out := h.npcnix("describe", "host", h.name); !strings.Contains(out, "bad.service") {
		h.t.Errorf("describe does not name the unit:\n%s", out)
	}
	if out, _ := h.try("systemctl is-active bad"); out != "inactive" {
		h.t.Errorf("bad.service is %s", out)
	}
	h.wait("its log is in the store", 20*time.Second, func() bool {
		return strings.Contains(h.npcnix("logs", h.name), "the following units failed: bad.service")
	})
	h.good("_: { }")
}}

var autoRestarts = scenario{"a unit restarts again and again", func(h *machine) {
	h.spec("", "  healthChecks: {settle: 3s}\n")
	h.takenBack(`base: { units = base.units // { "flaps.service" = { wantedBy = [ "multi-user.target" ]; text = "[Unit]\nStartLimitIntervalSec=0\n[Service]\nRestart=always\nRestartSec=1\nExecStart=/bin/sh -c 'sleep 1; exit 1'\n"; }; }; }`)
	h.spec("", checks)
	h.good("_: { }")
}}

var activationFails = scenario{"the activation script fails", func(h *machine) {
	h.takenBack(`_: { activation = "echo cannot mount >&2; exit 1"; }`)
	h.takenBack(`_: { aborts = "echo aborted >&2; exit 1"; }`)
	h.good("_: { }")
}}

var checkRefuses = scenario{"a pre-switch check refuses", func(h *machine) {
	before := h.state()
	h.publish(`_: { check = "echo not on my watch >&2; exit 1"; }`)
	h.ready("False", "RetriesExhausted")
	if got := h.state(); got != before {
		h.t.Errorf("the host is in the state %s, was %s", got, before)
	}
	if out := h.npcnix("describe", "host", h.name); !strings.Contains(out, "not on my watch") || !strings.Contains(out, "Nothing was changed.") {
		h.t.Errorf("describe says:\n%s", out)
	}
	h.noGuard()
	h.good("_: { }")
}}

var bootLoaderFails = scenario{"the boot loader cannot be installed", func(h *machine) {
	h.takenBack(`_: { bootLoader = "exit 1"; }`)
	if out := h.npcnix("describe", "host", h.name); !strings.Contains(out, "BootLoaderFailed") {
		h.t.Errorf("describe does not say BootLoaderFailed:\n%s", out)
	}
	h.good("_: { }")
}}

// The system that is gone back to finds its own lock held, and fails at once or
// waits, as its program does.
var heldLock = scenario{"a rollback meets a held lock", func(h *machine) {
	for _, habit := range []string{"wait", "fail"} {
		h.good(`_: { lock = "` + habit + `"; }`)
		h.takenBack(`base: { activation = base.activation + "; systemd-run --no-block --collect --quiet flock /run/nixos/switch-to-configuration.lock sleep 12";
  units = base.units // { "bad.service" = { wantedBy = [ "multi-user.target" ]; text = "[Service]\nType=oneshot\nExecStart=/bin/false\n"; }; }; }`)
	}
	h.good("_: { }")
}}

var networkCut = scenario{"the new configuration cuts the network", func(h *machine) {
	h.takenBack(`_: { activation = "ip link set host0 down"; }`)
	if out := h.npcnix("describe", "host", h.name); !strings.Contains(out, "StoreLost") {
		h.t.Errorf("describe does not say StoreLost:\n%s", out)
	}
	h.good("_: { }")
}}

var cableCut = scenario{"the cable is pulled while it confirms", func(h *machine) {
	before := strings.Fields(h.state())
	release := h.publish(`base: { activation = base.activation + "; sleep 1"; }`)
	h.wait("the switch runs", 60*time.Second, func() bool {
		out, _ := h.try("systemctl list-units --plain --no-legend 'npcnix-switch-*' | wc -l")
		return out != "0"
	})
	h.lifecycle("cut", h.name)
	h.wait("the new system runs", 30*time.Second, func() bool { return strings.HasPrefix(h.state(), release+" ") })
	h.eventually(before[0], before[1], before[2])
	h.wait("it is inconclusive", 60*time.Second, func() bool {
		return strings.Contains(h.sh("cat /var/lib/npcnix/journal.json"), `"Inconclusive"`)
	})
	h.lifecycle("join", h.name)
	h.eventually(release, release, release)
	h.ready("True", "UpToDate")
}}

var fullBoot = scenario{"the boot partition is full at the commit", func(h *machine) {
	before := h.state()
	release := h.publish(`base: { activation = base.activation + "; [ -e /etc/filled ] || { touch /etc/filled; head -c 4m /dev/zero > /boot/filler || true; }"; kernel = "6.12.31"; payload = "` + strings.Repeat("x", 20000) + `"; }`)
	h.wait("the boot loader cannot be installed", 60*time.Second, func() bool { return strings.Contains(h.npcnix("describe", "host", h.name), "BootLoaderFailed") })
	h.wait("the earlier system is back", 20*time.Second, func() bool { return h.state() == before })
	h.ready("False", "DiskFull") // nothing is begun while it is full
	h.sh("rm /boot/filler")
	h.eventually(release, release, release) // a full disk is no quarantine
	h.ready("True", "UpToDate")
}}

var smallBoot = scenario{"no room on the boot partition for one more generation", func(h *machine) {
	kernel := func(name string) string {
		return `base: { kernel = "6.14.` + name + `"; payload = "` + strings.Repeat(name, 100000) + `"; }`
	}
	h.good(kernel("1"))
	h.good(kernel("2"))
	h.sh("head -c $(($(stat -f -c '%a * %S' /boot) - 60000)) /dev/zero > /boot/filler")
	before := h.state()
	release := h.publish(kernel("3"))
	h.ready("False", "DiskFull")
	if got := h.state(); got != before {
		h.t.Errorf("the host is in the state %s, was %s", got, before)
	}
	h.spec("    retention: {generations: 1}", checks) // which is all that an operator far away can do
	h.eventually(release, release, release)
	h.ready("True", "UpToDate")
	h.sh("rm /boot/filler")
	h.spec("", checks)
	h.good("_: { }")
}}

var badChecks = scenario{"checks that hang and fork", func(h *machine) {
	for _, check := range []string{"hang", "fork"} {
		before := h.state()
		h.spec("", "  healthChecks: {settle: 0s, checks: [{name: x, exec: {check: "+check+"}, timeout: 1s, interval: 1s}]}\n")
		h.publish("_: { }")
		h.ready("False", "Quarantined")
		if got := h.state(); got != before {
			h.t.Errorf("the host is in the state %s, was %s", got, before)
		}
		if out := h.sh("pgrep -f '^sleep 600' | wc -l"); out != "0" {
			h.t.Errorf("%s processes of the check are left", out)
		}
	}
	h.spec("", checks)
	h.good("_: { }")
}}

var collected = scenario{"garbage is collected in between", func(h *machine) {
	before := h.state()
	h.spec("", "  healthChecks: {settle: 4s}\n")
	h.publish(`base: { units = base.units // { "bad.service" = { wantedBy = [ "multi-user.target" ]; text = "[Service]\nType=oneshot\nExecStart=/bin/false\n"; }; }; }`)
	h.wait("it confirms", 60*time.Second, func() bool { _, err := h.try(phases[2].begun); return err == nil })
	h.sh("nix-env -p /nix/var/nix/profiles/system --delete-generations old && nix-collect-garbage >/dev/null 2>&1")
	h.ready("False", "Quarantined")
	h.wait("the earlier system is back", 20*time.Second, func() bool { return h.state() == before })
	h.spec("", checks)
	h.good("_: { }")
}}
