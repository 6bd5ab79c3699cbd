package onhosts_test

import (
	"strings"
	"time"
)

// terminal logs somebody in at a terminal of the host, and returns the file that
// shows what appears there.
func (h *machine) terminal() (shown string) {
	h.t.Helper()
	const path = "/root/terminal"
	h.sh(`systemd-run --quiet --unit=lab-terminal script --quiet --flush --return --command 'sleep infinity' ` + path + `
for i in $(seq 100); do pts=$(find /dev/pts -name '[0-9]*' -printf %f -quit); [ -n "$pts" ] && break; sleep 0.1; done
printf '[7] [00001] [ts/0] [%-8s] [%-12s] [%-20s] [%-15s] [2026-01-01T00:00:00,000000+00:00]\n' anna "pts/$pts" '' 0.0.0.0 | utmpdump -r > /run/utmp 2>/dev/null`)
	return path
}

// A reboot waits for its window, is told to who is logged in, and is not made
// where what is declared wants none any more.
var rebootsLater = scenario{"a reboot waits, is announced and is cancelled", func(h *machine) {
	const policy = "    reboot: {when: IfRequired, delay: 10m, sessions: {postpone: 0s}}\n"
	const closed = "  maintenanceWindow: {timeZone: UTC, gates: [Reboot], allow: [{name: once, from: \"2001-01-01T00:00:00\", until: \"2001-01-02T00:00:00\"}]}\n"
	shows, booted := h.terminal(), h.sh("awk 'NR == 1 {print $2}' /run/booted-system/kernel")
	h.spec(policy, checks+closed)
	boots := h.boots()
	release := h.publish(`_: { kernel = "6.12.200"; }`)
	h.eventually(release, release, release)
	h.describes("The reboot is due, and no window within 370 days leaves")
	h.ready("True", "UpToDate")
	h.npcnix("reconcile", h.name, "--open-window-until", time.Now().Add(2*time.Hour).UTC().Format(time.RFC3339))
	h.describes("It reboots at ")
	h.shows(shows, "npcnix: this host reboots in 10m, as its HostSpec says.\nTo stop that: npcnix-reconciler suspend --for 2h --reason WHY")
	release = h.publish(`_: { kernel = "` + booted + `"; }`)
	h.eventually(release, release, release)
	h.shows(shows, "npcnix: the reboot that was announced is cancelled.")
	h.ready("True", "UpToDate")
	if out := h.npcnix("describe", "host", h.name); strings.Contains(out, "It reboots at") || h.boots() != boots {
		h.t.Errorf("it booted %s times, and was to %s:\n%s", h.boots(), boots, out)
	}
	h.sh("systemctl stop lab-terminal; rm -f " + shows)
	h.spec("", checks)
	h.good("_: { }")
}}

// A machine that is told to reboot and does not is told three times, and goes on
// at an operator's word.
var rebootIsIgnored = scenario{"a reboot that does not come", func(h *machine) {
	h.limits = "activate: 20s, confirm: 6s, reboot: 5s"
	h.spec("    reboot: {when: IfRequired, delay: 1s, sessions: {postpone: 0s}}\n", checks)
	h.sh(`mkdir -p /run/systemd/system.control && printf '[Unit]\nDefaultDependencies=no\n' > /run/systemd/system.control/reboot.target && systemctl daemon-reload`)
	boots := h.boots()
	release := h.publish(`_: { kernel = "6.12.300"; }`)
	h.describes("The host was told 3 times to reboot into generation")
	if h.boots() != boots {
		h.t.Errorf("it booted %s times, and was to %s", h.boots(), boots)
	}
	h.sh("systemctl stop reboot.target && rm /run/systemd/system.control/reboot.target && systemctl daemon-reload")
	h.npcnix("reconcile", h.name, "--retry")
	h.wait("the host reboots into it", 180*time.Second, func() bool { return h.boots() > boots && h.state() == release+" "+release+" "+release })
	h.ready("True", "UpToDate")
	h.limits = ""
	h.spec("", checks)
	h.good("_: { }")
}}

// Somebody boots another system than the committed one: nothing is corrected until
// an operator says so.
var bootsAnother = scenario{"another system is booted", func(h *machine) {
	release := h.good("_: { }")
	entry := h.sh(`sed -n 's/^default //p' /boot/loader/loader.conf`)
	older := h.sh(`ls /boot/loader/entries | grep -vxF '` + entry + `' | sort -V | tail -1`)
	h.sh("sed -i 's/^default .*/default " + older + "/' /boot/loader/loader.conf")
	h.reboot()
	h.sh("sed -i 's/^default .*/default " + entry + "/' /boot/loader/loader.conf") // it was for this boot alone
	h.ready("False", "BootedOther")
	h.describes("which was committed last: a person or a boot counter wanted that")
	if got := strings.Fields(h.state()); got[0] == release || got[1] != release || got[2] != release {
		h.t.Errorf("the host is in the state %v", got)
	}
	h.npcnix("reconcile", h.name, "--retry")
	h.eventually(release, release, release)
	h.ready("True", "UpToDate")
}}

// describes waits until describe says so.
func (h *machine) describes(what string) {
	h.t.Helper()
	h.wait("describe says "+what, 90*time.Second, func() bool { return strings.Contains(h.npcnix("describe", "host", h.name), what) })
}

// shows waits until a terminal shows a message, of lines that are not folded.
func (h *machine) shows(terminal, what string) {
	h.t.Helper()
	h.wait("a terminal shows "+what, 30*time.Second, func() bool {
		out, _ := h.try("tr -d '\\r' < " + terminal + " | sed 's/ *$//'") // it clears the ends of its lines
		return strings.Contains(out, what)
	})
}
