// Package onhosts_test shows the agent on real systemd hosts with real Nix. What
// a host came to is judged from outside: by store paths, links, boots and units,
// never by the agent's word alone.
package onhosts_test

import (
	"fmt"
	"math/rand/v2"
	"os"
	"strconv"
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
		"old":    {"bookworm", false, []scenario{mainJob, unitFails, activationFails, cableCut, networkCut, powerCuts}},
		"new":    {"trixie", false, []scenario{mainJob, updatesItself, newAgentCrashes, agentRemoved, fullBoot, exit100}},
		"daemon": {"trixie", true, []scenario{mainJob, autoRestarts, killedAgent, killedGuard, byHand, drift, specialisation, modes, controlSocket, badChecks, collected}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			h := newMachine(t, name, c.suite, c.daemon)
			h.spec("", checks)
			h.npcnix("push", h.dir+"/flake", "--remote", h.name)
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

var unitFails = scenario{"a unit fails", func(h *machine) {
	h.takenBack(`base: { units = base.units // { "bad.service" = { wantedBy = [ "multi-user.target" ]; text = "[Service]\nType=oneshot\nExecStart=/bin/false\n"; }; }; }`)
	if out := h.npcnix("describe", "host", h.name); !strings.Contains(out, "bad.service") {
		h.t.Errorf("describe does not name the unit:\n%s", out)
	}
	if out, _ := h.try("systemctl is-active bad"); out != "inactive" {
		h.t.Errorf("bad.service is %s", out)
	}
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

var fullBoot = scenario{"/boot is full at the commit", func(h *machine) {
	before := h.state()
	release := h.publish(`base: { activation = base.activation + "; [ -e /etc/filled ] || { touch /etc/filled; head -c 4m /dev/zero > /boot/filler || true; }"; kernel = "6.12.31"; payload = "` + strings.Repeat("x", 20000) + `"; }`)
	h.wait("the boot loader cannot be installed", 60*time.Second, func() bool { return strings.Contains(h.npcnix("describe", "host", h.name), "BootLoaderFailed") })
	h.wait("the earlier system is back", 20*time.Second, func() bool { return h.state() == before })
	h.ready("False", "DiskFull") // nothing is begun while it is full
	h.sh("rm /boot/filler")
	h.eventually(release, release, release) // a full disk is no quarantine
	h.ready("True", "UpToDate")
}}

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
	h.publish(`_: { initInterface = "systemd 4"; inhibitors = { systemd = "/usr/lib/systemd-257"; }; agent = "/opt/npcnix/crashes"; }`)
	h.ready("False", "RebootPending")
	boots := h.boots()
	h.reboot()
	h.wait("the boot guard reboots", 300*time.Second, func() bool { return h.boots() > boots && h.state() == good+" "+good+" "+good })
	h.ready("False", "Quarantined")
	release = h.publish(`_: { initInterface = "systemd 3"; inhibitors = { systemd = "/usr/lib/systemd-257"; }; }`)
	h.eventually(release, release, release)
	h.ready("True", "UpToDate")
}}

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

var powerCuts = scenario{"the power is cut", func(h *machine) {
	for _, phase := range phases {
		release := h.inPhase(phase.begun)
		h.powerCut()
		h.t.Logf("cut in %s", phase.name)
		h.eventually(release, release, release)
		h.ready("True", "UpToDate")
	}
}}

var byHand = scenario{"somebody switches at the same moment", func(h *machine) {
	mine := h.sh("readlink -f /run/current-system")
	release := h.inPhase(phases[2].begun)
	h.sh("systemd-run --wait --collect --quiet " + mine + "/bin/switch-to-configuration test")
	h.wait("the transaction is superseded", 60*time.Second, func() bool {
		return strings.Contains(h.sh("cat /var/lib/npcnix/transactions/*/outcome.json /var/lib/npcnix/journal.json"), `"Superseded"`)
	})
	h.eventually(release, release, release) // as drift, after its grace
	h.ready("True", "UpToDate")
	// One that holds stc's lock is waited for.
	h.sh("systemd-run --collect --quiet --unit=nixos-rebuild-switch-to-configuration flock /run/nixos/switch-to-configuration.lock sleep 5")
	release = h.publish("_: { }")
	h.ready("False", "SwitchActive")
	h.eventually(release, release, release)
	h.ready("True", "UpToDate")
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

// kills is how many moments are tried; make soak asks for more.
func kills() int {
	n, err := strconv.Atoi(os.Getenv("NPCNIX_SOAK"))
	if err != nil {
		return 20
	}
	return n
}

// The agent is killed at a seeded moment of bringing a new system into force,
// some of them sick; the next agent and the guard end what it began.
func TestOnHostsKilledAtRandom(t *testing.T) {
	t.Parallel()
	h := newMachine(t, "killed", "trixie", false)
	h.spec("", checks)
	good := h.good("_: { }")
	n, killed, converged := kills(), 0, 0
	for seed := 1; seed <= n; seed++ {
		random := rand.New(rand.NewPCG(uint64(seed), 0)) //nolint:gosec // seeded, to be repeated
		after := time.Duration(random.IntN(3500)) * time.Millisecond
		sick := random.IntN(4) == 0
		extra, want := `base: { activation = base.activation + "; sleep 0.3"; bootLoader = "sleep 0.3"; }`, "True UpToDate"
		if sick {
			extra, want = `base: { units = base.units // { "bad.service" = { wantedBy = [ "multi-user.target" ]; text = "[Service]\nType=oneshot\nExecStart=/bin/false\n"; }; }; }`, "False Quarantined"
		}
		release := h.publish(extra)
		if _, err := h.try(fmt.Sprintf("sleep %.3f; systemctl kill -s KILL npcnix-reconciler", after.Seconds())); err == nil {
			killed++
		}
		if !sick {
			good = release
		}
		status, reason, _ := strings.Cut(want, " ")
		h.ready(status, reason)
		h.eventually(good, good, good)
		h.noGuard()
		converged++
	}
	t.Logf("killed: %d of %d, converged: %d", killed, n, converged)
	if killed < n*9/10 {
		t.Errorf("only %d of %d agents were killed", killed, n)
	}
}
