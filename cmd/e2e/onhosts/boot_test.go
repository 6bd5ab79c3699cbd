package onhosts_test

import (
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
