// Package onhosts_test shows the agent on real systemd hosts with real Nix. What
// a host came to is judged from outside: by store paths, links, boots and units,
// never by the agent's word alone.
package onhosts_test

import (
	"strings"
	"testing"
	"time"
)

// scenario is one thing that a host goes through, from a converged state to
// one. Each leaves the host Ready.
type scenario struct {
	name string
	run  func(h *machine)
}

// TestOnHosts: three hosts at a time, with old and new Nix, with and without
// its daemon.
func TestOnHosts(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		suite     string
		daemon    bool
		scenarios []scenario
	}{
		"old":    {"bookworm", false, []scenario{mainJob, unitFails, activationFails, checkRefuses, bootLoaderFails, cableCut, networkCut, powerCuts, powerCutsOnTheWayBack, rebootsItself, rebootsLater}},
		"new":    {"trixie", false, []scenario{mainJob, updatesItself, newAgentCrashes, agentRemoved, fullBoot, smallBoot, heldLock, hangingAgent, exit100, rebootIsIgnored, bootsAnother}},
		"daemon": {"trixie", true, []scenario{mainJob, autoRestarts, killedAgent, killedGuard, killedSwitch, byHand, drift, specialisation, modes, controlSocket, badChecks, collected, window, overrides}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			h := newMachine(t, name, c.suite, c.daemon)
			h.spec("", checks)
			h.npcnix("push", h.dir+"/flake", "--remote", h.remote)
			h.ready("True", "UpToDate") // the hand-made host is adopted
			for _, s := range c.scenarios {
				if !t.Run(s.name, func(t *testing.T) { h.t = t; s.run(h) }) {
					h.t = t
					t.FailNow() // the next ones would begin from nowhere
				}
				h.t = t
			}
		})
	}
}

// Two hosts that follow one remote: what one cannot run is taken back there
// alone.
func TestOnHostsTogether(t *testing.T) {
	t.Parallel()
	east := newMachine(t, "east", "trixie", false)
	west := east.neighbour("west")
	both := []*machine{east, west}
	for _, h := range both {
		h.spec("", checks)
	}
	east.npcnix("push", east.dir+"/flake", "--remote", east.remote)
	for _, h := range both {
		h.ready("True", "UpToDate")
	}
	next := []string{east.describe("_: { }"), west.describe("_: { }")}
	east.npcnix("push", east.dir+"/flake", "--remote", east.remote)
	for i, h := range both {
		h.eventually(next[i], next[i], next[i])
		h.ready("True", "UpToDate")
	}
	west.describe(`_: { activation = "exit 1"; }`)
	release := east.publish("_: { }")
	east.eventually(release, release, release)
	east.ready("True", "UpToDate")
	west.ready("False", "Quarantined")
	west.eventually(next[1], next[1], next[1])
}

// good publishes a generation in which nothing is wrong, and waits until it is in force.
func (h *machine) good(extra string) string {
	h.t.Helper()
	release := h.publish(extra)
	h.eventually(release, release, release)
	h.ready("True", "UpToDate")
	return release
}

// taken publishes a generation that does not prove itself, and wants the host
// back at the earlier one.
func (h *machine) takenBack(extra string) {
	h.t.Helper()
	before := h.state()
	h.publish(extra)
	h.ready("False", "Quarantined")
	h.wait("the earlier system is back", 10*time.Second, func() bool { return h.state() == before })
	h.noGuard()
}

// noGuard wants that nothing of a transaction is left over.
func (h *machine) noGuard() {
	h.t.Helper()
	h.wait("guard and switch are gone", 10*time.Second, func() bool {
		out, err := h.try("systemctl list-units --all --plain --no-legend 'npcnix-guard-*' 'npcnix-switch-*' | wc -l")
		return err == nil && out == "0"
	})
}

func (h *machine) hello() string {
	return h.sh("journalctl --no-pager -o cat -u hello | grep '^hello' | tail -1; systemctl is-active hello")
}

var mainJob = scenario{"publish, build and switch", func(h *machine) {
	release := h.good("_: { }")
	h.wait("hello says so", 10*time.Second, func() bool { return strings.HasPrefix(h.hello(), "hello "+release) })
	h.noGuard()
	if out := h.sh("readlink -f /run/current-system; readlink -f /nix/var/nix/profiles/system"); strings.Count(out, "/nix/store/") != 2 {
		h.t.Errorf("links are %s", out)
	}
	if out := h.npcnix("describe", "host", h.name); strings.Contains(out, "Warning") {
		h.t.Errorf("a host with systemd and a disk is warned about:\n%s", out)
	}
}}
