package onhosts_test

import (
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
	h.good("_: { }")
}}
