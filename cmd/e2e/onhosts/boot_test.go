package onhosts_test

import (
	"strconv"
	"strings"
	"time"
)

var exit100 = scenario{"a system that only a reboot brings into force", func(h *machine) {
	before := strings.Fields(h.state())[0]
	release := h.publish(`_: { initInterface = "systemd 3"; }`)
	h.eventually(before, release, release)
	h.ready("False", "RebootPending")
	h.reboot()
	h.eventually(release, release, release)
	h.ready("True", "UpToDate")
	release = h.publish(`_: { initInterface = "systemd 3"; inhibitors = { systemd = "/usr/lib/systemd-257"; }; }`)
	h.ready("False", "RebootPending") // changed inhibitors are not even tried
	h.reboot()
	h.eventually(release, release, release)
	h.ready("True", "UpToDate")
	// One whose agent does not come up after the boot: the boot guard takes it back.
	good := release
	h.spec("    mode: Boot\n", checks)
	h.publish(`_: { initInterface = "systemd 4"; inhibitors = { systemd = "/usr/lib/systemd-257"; }; agent = "/opt/npcnix/crashes"; }`)
	h.ready("False", "RebootPending")
	boots := h.boots()
	h.reboot()
	h.wait("the boot guard reboots", 300*time.Second, func() bool { return h.boots() > boots && h.state() == good+" "+good+" "+good })
	h.ready("False", "Quarantined")
	h.spec("", checks)
	release = h.publish(`_: { initInterface = "systemd 3"; inhibitors = { systemd = "/usr/lib/systemd-257"; }; }`)
	h.eventually(release, release, release)
	h.ready("True", "UpToDate")
}}

// A host that its policy reboots, with a kernel that works, and with one that
// does not.
var rebootsItself = scenario{"the policy reboots the host", func(h *machine) {
	h.spec("    reboot: {when: IfRequired, delay: 1s, sessions: {postpone: 10m}}\n", checks)
	boots := h.boots()
	// Somebody is logged in, as logind has it.
	h.sh(`printf 'account required pam_permit.so\nsession required pam_systemd.so class=user\n' > /etc/pam.d/lab
systemd-run --quiet --unit=lab-login -p User=nobody -p PAMName=lab sleep infinity`)
	release := h.publish(`_: { kernel = "6.12.99"; }`)
	h.wait("the reboot waits for who is logged in", 60*time.Second, func() bool {
		return strings.Contains(h.npcnix("describe", "host", h.name), "The reboot waits for who is logged in (nobody), until")
	})
	if h.boots() != boots {
		h.t.Errorf("it rebooted %s times", h.boots())
	}
	h.sh("systemctl stop lab-login")
	h.wait("the host reboots into it", 180*time.Second, func() bool { return h.boots() > boots && h.state() == release+" "+release+" "+release })
	h.ready("True", "UpToDate")
	if out := h.sh("readlink -f /run/booted-system; readlink -f /run/current-system"); strings.Fields(out)[0] != strings.Fields(out)[1] {
		h.t.Errorf("booted and running are %s", out)
	}
	good, boots := h.state(), h.boots()
	h.publish(`base: { kernel = "6.12.100"; units = base.units // { "driver.service" = { wantedBy = [ "multi-user.target" ];
  text = "[Service]\nType=oneshot\nExecStart=/bin/sh -c '[ $(readlink -f /run/booted-system) != $(readlink -f /run/current-system) ]'\n"; }; }; }`)
	h.wait("it is booted, and taken back by another reboot", 240*time.Second, func() bool {
		n, before := strings.TrimSpace(h.boots()), strings.TrimSpace(boots)
		return number(n) >= number(before)+2 && h.state() == good
	})
	h.ready("False", "Quarantined")
	if out := h.npcnix("describe", "host", h.name); !strings.Contains(out, "driver.service") {
		h.t.Errorf("describe does not name the unit:\n%s", out)
	}
	h.spec("", checks)
	h.good("_: { }")
}}

func number(s string) int {
	n, _ := strconv.Atoi(s) // of lines
	return n
}

var modes = scenario{"other modes than Switch", func(h *machine) {
	before := strings.Fields(h.state())[0]
	h.spec("    mode: Build\n", checks)
	h.publish("_: { }")
	h.ready("True", "BuiltOnly")
	h.spec("    mode: DryActivate\n", checks)
	h.publish(`base: { units = base.units // { "more.service" = { wantedBy = [ "multi-user.target" ]; text = "[Service]\nExecStart=/bin/sleep infinity\n"; }; }; }`)
	h.wait("the plan is in the status", 60*time.Second, func() bool {
		return strings.Contains(h.npcnix("describe", "host", h.name), "would start the following units: more.service") ||
			strings.Contains(h.npcnix("get", "hosts", "-o", "json"), "more.service")
	})
	if got := strings.Fields(h.state())[0]; got != before {
		h.t.Errorf("%s runs, and not %s", got, before)
	}
	h.spec("    mode: Test\n", checks)
	release := h.publish("_: { }")
	h.eventually(release, before, before)
	h.ready("True", "Tested")
	h.spec("", checks)
	h.eventually(release, release, release)
	h.ready("True", "UpToDate")
}}
