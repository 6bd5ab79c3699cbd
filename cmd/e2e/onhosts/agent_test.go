package onhosts_test

import (
	"fmt"
	"strings"
	"time"
)

var updatesItself = scenario{"the agent updates itself in the switch", func(h *machine) {
	before := h.sh("systemctl show -P MainPID npcnix-reconciler; readlink /proc/$(systemctl show -P MainPID npcnix-reconciler)/exe")
	h.good(`_: { agent = "/opt/npcnix/v2"; }`)
	after := h.sh("systemctl show -P MainPID npcnix-reconciler; readlink /proc/$(systemctl show -P MainPID npcnix-reconciler)/exe")
	if strings.Fields(before)[1] == strings.Fields(after)[1] {
		h.t.Errorf("the agent is %s after %s", after, before)
	}
	h.good("_: { }")
}}

var newAgentCrashes = scenario{"the new agent crashes at its start", func(h *machine) {
	before := h.state()
	release := h.publish(`_: { agent = "/opt/npcnix/crashes"; }`)
	h.wait("the new system runs", 60*time.Second, func() bool { return strings.HasPrefix(h.state(), release+" ") })
	// Its timer outlives the service manager's own restart, and isolation.
	h.sh("systemctl daemon-reexec && systemctl isolate multi-user.target")
	h.wait("the guard takes it back", 120*time.Second, func() bool { return h.state() == before })
	h.ready("False", "Quarantined")
	if out := h.npcnix("describe", "host", h.name); !strings.Contains(out, "NotConfirmed") {
		h.t.Errorf("describe does not say NotConfirmed:\n%s", out)
	}
	h.good("_: { }")
}}

var agentRemoved = scenario{"a configuration without the agent", func(h *machine) {
	before := h.state()
	h.publish(`_: { agent = null; }`)
	h.ready("False", "AgentRemoved")
	if got := h.state(); got != before {
		h.t.Errorf("the host is in the state %s, was %s", got, before)
	}
	// Where the host is named, its guard brings it into force, and says so.
	h.spec("    allowAgentRemoval: "+h.name+"\n", checks)
	release := fmt.Sprintf("g%d", h.gen)
	h.eventually(release, release, release)
	h.noGuard()
	if out, _ := h.try("systemctl is-active npcnix-reconciler"); out == "active" {
		h.t.Error("the agent is still there")
	}
	if out := h.npcnix("describe", "host", h.name); !strings.Contains(out, "this is the agent's last word") {
		h.t.Errorf("describe does not say that the agent is gone:\n%s", out)
	}
	h.spec("", checks)
	release = h.publish("_: { }")
	older := h.sh("readlink -f $(ls -d /nix/var/nix/profiles/system-*-link | sort -V | tail -2 | head -1)")
	h.sh("nix-env -p /nix/var/nix/profiles/system --set " + older + " && systemd-run --wait --collect --quiet " + older + "/bin/switch-to-configuration switch")
	h.eventually(release, release, release)
	h.ready("True", "UpToDate")
}}

// An agent that does nothing is ended by the service manager, and the next one
// goes on.
var hangingAgent = scenario{"the agent hangs", func(h *machine) {
	const dropIn = "/run/systemd/system/npcnix-reconciler.service.d"
	h.sh("mkdir -p " + dropIn + " && printf '[Service]\nWatchdogSec=3s\n' > " + dropIn + "/watchdog.conf && systemctl daemon-reload && systemctl restart npcnix-reconciler")
	h.good("_: { }")
	pid := h.sh("systemctl show -P MainPID npcnix-reconciler")
	h.sh("kill -STOP " + pid)
	h.wait("another agent is started", 60*time.Second, func() bool {
		out, _ := h.try("systemctl show -P MainPID npcnix-reconciler")
		return out != pid && out != "0" && out != ""
	})
	h.sh("rm -r " + dropIn + " && systemctl daemon-reload && systemctl restart npcnix-reconciler")
	h.good("_: { }")
}}
