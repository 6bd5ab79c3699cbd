package host_test

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/klauspost/compress/zstd"

	"github.com/npcnix/npcnix/apis/codec"
	"github.com/npcnix/npcnix/apis/meta"
	"github.com/npcnix/npcnix/apis/v1alpha1"
	"github.com/npcnix/npcnix/nixos"
	"github.com/npcnix/npcnix/store"
	"github.com/npcnix/npcnix/store/document"
	"github.com/npcnix/npcnix/store/fault"
)

// policy applies the spec with a rebuildPolicy whose limits suit a test.
func (w *world) policy(fields string) {
	w.t.Helper()
	if fields != "" {
		fields = ", " + fields
	}
	w.put("hosts/web.yaml", hostSpec+"  rebuildPolicy: {timeouts: {activate: 1s, confirm: 1s}"+fields+"}\n")
}

// wantState wants what runs, is the profile's and boots next.
func (w *world) wantState(running, profile, boot string) {
	w.t.Helper()
	if m := w.machine.State(); m.Running != running || m.Profile != profile || m.BootDefault != boot {
		w.t.Errorf("machine is %+v, want %s %s %s", m, running, profile, boot)
	}
}

func (w *world) lastAttempt() *v1alpha1.Attempt {
	w.t.Helper()
	return w.status().Status.LastAttempt
}

func TestUnitThatFailsIsRolledBackAndQuarantined(t *testing.T) {
	t.Parallel()
	w := converged(t)
	w.policy("")
	w.pass()
	old := w.machine.State().Running
	w.publish("web fails:nginx.service")
	w.pass()
	w.wantState(old, old, old)
	w.want("Ready", meta.False, "Quarantined", "failed: nginx.service")
	w.want("Stalled", meta.True, "Quarantined", "")
	if a := w.lastAttempt(); a.Outcome != v1alpha1.OutcomeRolledBack || a.Reason != "HealthCheckFailed" || len(a.NewlyFailedUnits) != 1 || a.NewlyFailedUnits[0] != "nginx.service" {
		t.Errorf("attempt %+v", a)
	}
	for name, says := range map[string]string{"plan.json": `"running": "` + old + `"`, "outcome.json": `"kind": "RolledBack"`} {
		data, err := os.ReadFile(filepath.Join(w.state, "transactions", w.lastAttempt().ID, name))
		if err != nil || !strings.Contains(string(data), says) {
			t.Errorf("%s is %s, %v", name, data, err)
		}
	}
	calls := len(w.machine.Calls())
	w.now = w.now.Add(24 * time.Hour)
	w.pass()
	w.restart()
	w.pass()
	if n := len(w.machine.Calls()); n != calls {
		t.Errorf("it was tried again: %v", w.machine.Calls()[calls:])
	}
	if roots := w.machine.Roots(); len(roots) != 0 {
		t.Errorf("roots are left: %v", roots)
	}
	w.policy("retry: {maxAttempts: 2}") // another policy: tried again
	w.pass()
	w.r.Ask(true) // and at an operator's word
	w.pass()
	tests := 0
	for _, call := range w.machine.Calls()[calls:] {
		if strings.HasPrefix(call, "test ") {
			tests++
		}
	}
	if tests != 4 { // each forth and back
		t.Errorf("calls %v", w.machine.Calls()[calls:])
	}
}

func TestRollbackThatFails(t *testing.T) {
	t.Parallel()
	for _, resort := range []v1alpha1.LastResort{v1alpha1.LastResortNone, v1alpha1.LastResortReboot} {
		w := converged(t)
		old := w.machine.State().Running
		w.policy("rollback: {lastResort: " + string(resort) + "}")
		w.machine.OnStart = func(a nixos.Activation) (nixos.Result, bool) {
			if a.Toplevel == old && a.Action == nixos.ActionTest {
				return nixos.Result{Exited: true, ExitCode: 1, Output: "cannot"}, false
			}
			return nixos.Result{Exited: true}, true
		}
		w.publish("web fails:x.service")
		w.pass()
		if a := w.lastAttempt(); a.Outcome != v1alpha1.OutcomeRollbackFailed || !strings.Contains(a.Message, "By hand: "+old+"/bin/switch-to-configuration test") {
			t.Errorf("attempt %+v", a)
		}
		w.want("Ready", meta.False, "Quarantined", "By hand: ")
		calls := strings.Join(w.machine.Calls(), "\n")
		if reboots := strings.Count(calls, "reboot "); (resort == v1alpha1.LastResortReboot) != (reboots == 1) {
			t.Errorf("%s: %d reboots", resort, reboots)
		}
		if resort == v1alpha1.LastResortReboot {
			w.wantState(old, old, old)
		}
	}
}

func TestKeepLeavesTheNewSystem(t *testing.T) {
	t.Parallel()
	w := converged(t)
	old := w.machine.State().Running
	w.policy("rollback: {onFailure: Keep}")
	w.publish("web fails:x.service")
	w.pass()
	if a := w.lastAttempt(); a.Outcome != v1alpha1.OutcomeKept {
		t.Errorf("attempt %+v", a)
	}
	m := w.machine.State()
	if m.Running == old || m.Profile != old || m.BootDefault != old {
		t.Errorf("machine %+v", m)
	}
	w.want("Ready", meta.False, "Quarantined", "is kept")
}

// The store is lost on the new system alone, or on both.
func TestStoreThatIsLost(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		onStoreLost, reason string
		outcome             v1alpha1.Outcome
		both, kept          bool
	}{
		"from the new system": {"Rollback", "Quarantined", v1alpha1.OutcomeRolledBack, false, false},
		"from both":           {"Rollback", "Inconclusive", v1alpha1.OutcomeInconclusive, true, false},
		"and that is fine":    {"Keep", "UpToDate", v1alpha1.OutcomeCommitted, false, true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := converged(t)
			old := w.machine.State().Running
			w.policy("rollback: {onStoreLost: " + c.onStoreLost + "}, retry: {maxBackoff: 1m}")
			w.publish("web 2")
			lost := true
			w.store.Follow(func(fault.Request) fault.Fault {
				if running := w.machine.State().Running; (running != old || (c.both && len(w.machine.Calls()) > 5)) && lost {
					return fault.Fault{Err: errors.New("no route to host")}
				}
				return fault.Fault{}
			})
			_, _ = w.r.Reconcile(t.Context(), "web") // that it could not report is its error
			lost = false
			if running := w.machine.State().Running; (running != old) != c.kept {
				t.Errorf("%s runs, before it was %s", running, old)
			}
			w.now = w.now.Add(10 * time.Second)
			w.pass()
			w.want("Ready", map[bool]meta.ConditionStatus{true: meta.True, false: meta.False}[c.kept], c.reason, "")
			if a := w.lastAttempt(); a.Outcome != c.outcome {
				t.Errorf("attempt %+v", a)
			}
			if !c.both {
				return
			}
			w.now = w.now.Add(time.Minute) // what was nobody's fault is tried again
			w.pass()
			w.want("Ready", meta.True, "UpToDate", "generation 2")
		})
	}
}

// A target that does not start the agent is refused; where it is allowed, the
// guard confirms it by its health checks alone.
func TestAgentRemoval(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		allow, flake, reason string
		inForce              bool
	}{
		"refused":             {"", "web no-agent", "AgentRemoved", false},
		"allowed":             {"allowAgentRemoval: web", "web no-agent", "UpToDate", true},
		"allowed, but broken": {"allowAgentRemoval: web", "web no-agent fails:x.service", "Quarantined", false},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := converged(t)
			old := w.machine.State().Running
			w.policy(c.allow)
			w.publish(c.flake)
			w.pass()
			w.want("Ready", map[bool]meta.ConditionStatus{true: meta.True, false: meta.False}[c.inForce], c.reason, "")
			if m := w.machine.State(); (m.Running == old) == c.inForce || m.Running != m.Profile || m.Profile != m.BootDefault {
				t.Errorf("machine %+v, before %s", m, old)
			}
		})
	}
}

func TestOtherModes(t *testing.T) {
	t.Parallel()
	w := converged(t)
	old := w.machine.State().Running
	w.policy("mode: Build")
	w.publish("web 2")
	w.pass()
	w.want("Ready", meta.True, "BuiltOnly", "Generation 2 of prod (abababababab) is built; with mode Build nothing is activated. Runs "+old)
	w.want("Built", meta.True, "BuildSucceeded", "")
	w.wantState(old, old, old)

	w.machine.OnStart = func(a nixos.Activation) (nixos.Result, bool) {
		return nixos.Result{Exited: true, Output: "would stop the following units: a.service\nwould activate the configuration...\nnoise"}, a.Action != nixos.ActionDry
	}
	w.policy("mode: DryActivate")
	w.publish("web 3")
	w.pass()
	w.want("Ready", meta.True, "BuiltOnly", "with mode DryActivate nothing is activated")
	if a := w.lastAttempt(); len(a.Changes) != 2 || a.Changes[0] != "would stop the following units: a.service" || a.Outcome != v1alpha1.OutcomeBuilt {
		t.Errorf("attempt %+v", a)
	}
	w.wantState(old, old, old)

	w.machine.OnStart = nil
	w.policy("mode: Test")
	w.pass()
	tested := w.machine.State().Running
	w.wantState(tested, old, old)
	w.want("Ready", meta.True, "Tested", "generation 3")
	if a := w.lastAttempt(); a.Outcome != v1alpha1.OutcomeTested {
		t.Errorf("attempt %+v", a)
	}
	w.machine.PowerCut()
	w.restart()
	w.pass() // after a reboot it is tried again
	w.wantState(tested, old, old)

	w.policy("mode: Switch")
	w.pass()
	w.wantState(tested, tested, tested)
	if before := len(w.machine.Calls()); before != 0 && strings.Count(strings.Join(w.machine.Calls(), " "), "test "+tested) != 2 {
		t.Errorf("a tested system is activated once more: %v", w.machine.Calls())
	}
}

// The boot path: staged, booted, confirmed; or booted and taken back; or
// another system booted.
func TestBootPath(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		flake  string
		before func(w *world)
		reason string
		back   bool
	}{
		"confirmed":      {"web 2", func(*world) {}, "UpToDate", false},
		"sick":           {"web 2 fails:x.service", func(*world) {}, "Quarantined", true},
		"another booted": {"web 2", func(w *world) { w.machine.Change(func(m *nixos.Machine) { m.BootDefault = "/nix/store/other" }) }, "Quarantined", true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := converged(t)
			old := w.machine.State().Running
			w.policy("mode: Boot")
			w.publish(c.flake)
			w.pass()
			w.want("Ready", meta.False, "RebootPending", "Generation 2 of prod (abababababab) is the boot default and comes into force with a reboot. rebuildPolicy.reboot.when is Never")
			w.want("Staged", meta.True, "Running", "")
			if m := w.machine.State(); m.Running != old || m.BootDefault == old || m.Profile == old {
				t.Errorf("machine %+v", m)
			}
			c.before(w)
			w.machine.PowerCut()
			for range 3 { // the boot guard may reboot the host
				w.restart()
				w.pass()
			}
			w.want("Ready", map[bool]meta.ConditionStatus{true: meta.False, false: meta.True}[c.back], c.reason, "")
			if m := w.machine.State(); c.back && (m.Profile != old || m.BootDefault != old) {
				t.Errorf("machine %+v, want %s", m, old)
			}
			if a := w.lastAttempt(); !c.back && a.Outcome != v1alpha1.OutcomeCommitted {
				t.Errorf("attempt %+v", a)
			}
		})
	}
}

func TestInhibitorsAreNotEvenTried(t *testing.T) {
	t.Parallel()
	w := converged(t)
	w.publish("web inhibits:1")
	w.pass()
	w.machine.OnStart = func(a nixos.Activation) (nixos.Result, bool) {
		if a.Action == nixos.ActionTest {
			t.Error("it was activated")
		}
		return nixos.Result{Exited: true}, true
	}
	w.publish("web inhibits:2")
	w.pass()
	w.want("Ready", meta.False, "RebootPending", "")
	if a := w.lastAttempt(); len(a.Changes) != 1 || a.Changes[0] != "critical components differ: component" {
		t.Errorf("attempt %+v", a)
	}
}

func TestBootedOther(t *testing.T) {
	t.Parallel()
	w := converged(t)
	w.publish("web 2")
	w.pass()
	w.machine.Change(func(m *nixos.Machine) { m.BootDefault = "/nix/store/older" }) // chosen in the boot menu
	w.machine.PowerCut()
	w.machine.Change(func(m *nixos.Machine) { m.BootDefault = m.Profile })
	calls := len(w.machine.Calls())
	w.restart()
	w.pass()
	w.now = w.now.Add(24 * time.Hour)
	w.pass()
	w.want("Ready", meta.False, "BootedOther", "The host booted /nix/store/older instead of ")
	if n := len(w.machine.Calls()); n != calls {
		t.Errorf("it was corrected: %v", w.machine.Calls()[calls:])
	}
	w.r.Ask(true)
	w.pass()
	w.now = w.now.Add(15 * time.Minute)
	w.pass()
	w.want("Ready", meta.True, "UpToDate", "")
}

func TestSpecialisationIsKept(t *testing.T) {
	t.Parallel()
	w := converged(t)
	w.publish("web 2 special:quiet")
	w.pass()
	base := w.machine.State().Running
	w.machine.Change(func(m *nixos.Machine) { m.Running = base + "-specialisation-quiet" })
	w.publish("web 3 special:quiet")
	w.pass()
	m := w.machine.State()
	if m.Running != m.Profile+"-specialisation-quiet" || m.Profile == base || m.BootDefault != m.Profile {
		t.Errorf("machine %+v", m)
	}
	w.want("Ready", meta.True, "UpToDate", "")
	w.publish("web 4")
	w.pass()
	if m := w.machine.State(); m.Running != m.Profile {
		t.Errorf("machine %+v", m)
	}
	if a := w.lastAttempt(); len(a.Changes) != 1 || !strings.Contains(a.Changes[0], "specialisation quiet ran") {
		t.Errorf("attempt %+v", a)
	}
}

func TestLoggedInUsersAreToldOfACorrection(t *testing.T) {
	t.Parallel()
	w := converged(t)
	w.machine.Change(func(m *nixos.Machine) { m.Running = "/nix/store/by-hand" })
	w.pass()
	w.pass()
	if walls := w.machine.Walls(); len(walls) != 1 || !strings.Contains(walls[0], "corrected in 15m0s. To stop that: npcnix-reconciler suspend") {
		t.Errorf("said %q", walls)
	}
}

func TestSystemWithoutSwitch(t *testing.T) {
	t.Parallel()
	w := converged(t)
	old := w.machine.State().Running
	w.publish("web no-stc")
	w.pass()
	w.want("Stalled", meta.True, "NoSwitch", "no bin/switch-to-configuration")
	w.wantState(old, old, old)
}

func TestCollectedSystemIsBuiltAgain(t *testing.T) {
	t.Parallel()
	w := converged(t)
	if err := os.RemoveAll(filepath.Join(w.state, "gcroots")); err != nil {
		t.Fatal(err)
	}
	w.pass()
	w.wantCalls("build", "test", "profile", "boot", "build")
	w.want("Ready", meta.True, "UpToDate", "")
}

func TestUnhealthyHostIsNotReadyAndNotRolledBack(t *testing.T) {
	t.Parallel()
	w := converged(t)
	old := w.machine.State().Running
	broken := true
	w.machine.OnProbe = func(string) error {
		if broken {
			return errors.New("connection refused")
		}
		return nil
	}
	w.put("hosts/web.yaml", hostSpec[:strings.Index(hostSpec, "  healthChecks")]+`  healthChecks: {settle: 0s, checks: [{name: ssh, tcp: {address: "127.0.0.1:22"}}]}`+"\n")
	w.pass()
	w.want("Healthy", meta.False, "HealthCheckFailed", "check ssh: connection refused")
	w.want("Ready", meta.False, "HealthCheckFailed", "What runs is not healthy: check ssh: connection refused")
	w.wantState(old, old, old)
	broken = false
	w.pass()
	w.want("Ready", meta.False, "HealthCheckFailed", "") // once a heartbeat
	w.now = w.now.Add(5 * time.Minute)
	w.pass()
	w.want("Healthy", meta.True, "HealthChecksPassed", "")
	w.want("Ready", meta.True, "UpToDate", "")
}

func TestLocalSuspension(t *testing.T) {
	t.Parallel()
	w := converged(t)
	if _, err := w.r.Suspend("INC-7", 2*time.Hour); err != nil {
		t.Fatal(err)
	}
	w.publish("web 2")
	w.pass()
	w.want("Ready", meta.False, "Suspended", "Suspended on the host (INC-7) until 2026-11-22T12:00:00Z; generation 2")
	w.want("Suspended", meta.True, "Suspended", "INC-7")
	w.restart() // it outlives the agent
	w.pass()
	w.want("Ready", meta.False, "Suspended", "INC-7")
	w.now = w.now.Add(2 * time.Hour)
	w.pass()
	w.want("Ready", meta.True, "UpToDate", "generation 2")
	if _, err := w.r.Suspend("INC-8", 0); err != nil {
		t.Fatal(err)
	}
	w.publish("web 3")
	w.pass()
	w.want("Ready", meta.False, "Suspended", "INC-8")
	if was, err := w.r.Resume(); !was || err != nil {
		t.Errorf("%v %v", was, err)
	}
	w.pass()
	w.want("Ready", meta.True, "UpToDate", "generation 3")
	if err := os.WriteFile(filepath.Join(w.state, "suspension.json"), []byte("{"), 0o600); err != nil {
		t.Fatal(err)
	}
	w.restart() // somebody wanted it: that is all that can be read
	w.publish("web 4")
	w.pass()
	w.want("Ready", meta.False, "Suspended", "cannot be read")
}

func TestLogOfAnAttempt(t *testing.T) {
	t.Parallel()
	w := converged(t)
	w.machine.OnBuild = func(req nixos.BuildRequest) error {
		return errors.Join(os.MkdirAll(filepath.Dir(req.Log), 0o700),
			os.WriteFile(req.Log, []byte("fetching https://user:hunter22@example.org/x\nand the very-secret-word\n"), 0o600))
	}
	w.machine.OnStart = func(a nixos.Activation) (nixos.Result, bool) {
		return nixos.Result{Exited: true, Output: "activating the configuration... " + string(a.Action)}, true
	}
	for i, motd := range strings.Fields("a b c d e f g h i j k") {
		w.publish("web " + motd)
		w.pass()
		log := w.lastAttempt().Log
		if log == nil || log.Slot != i%10 {
			t.Fatalf("attempt %d: log %+v", i, log)
		}
		raw, err := document.Read(t.Context(), w.store.Store, store.LogKey("web", log.Slot), "")
		if err != nil || codec.Digest(raw.Data) != log.Digest {
			t.Fatalf("%v, digest %s", err, log.Digest)
		}
		decoder, err := zstd.NewReader(bytes.NewReader(raw.Data))
		if err != nil {
			t.Fatal(err)
		}
		text, err := decoder.DecodeAll(raw.Data, nil)
		decoder.Close()
		want := "== build\nfetching https://[redacted]@example.org/x\nand the [redacted]\n== test\nactivating the configuration... test\n== boot-1\nactivating the configuration... boot\n"
		if err != nil || string(text) != want {
			t.Errorf("log is %q, %v", text, err)
		}
	}
}

// A disk that is full where the agent keeps its state: nothing is begun that
// could not be remembered, and it goes on when there is room.
func TestFullDisk(t *testing.T) {
	t.Parallel()
	w := converged(t)
	old := w.machine.State().Running
	if err := syscall.Mount("tmpfs", w.state, "tmpfs", 0, "size=1m"); err != nil {
		t.Fatalf("a small disk cannot be mounted, which this test needs root for: %v", err)
	}
	t.Cleanup(func() { _ = syscall.Unmount(w.state, syscall.MNT_DETACH) })
	filler := filepath.Join(w.state, "filler")
	w.restart()
	w.pass()
	fill := func() {
		f, err := os.Create(filler)
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = f.Close() }()
		for block := make([]byte, 4096); ; {
			if _, err := f.Write(block); err != nil {
				return
			}
		}
	}
	fill()
	w.publish("web 2")
	_, err := w.r.Reconcile(t.Context(), "web")
	if m := w.machine.State(); m.Running != old || m.Profile != old {
		t.Errorf("machine %+v, %v", m, err)
	}
	if c := meta.FindCondition(w.status().Status.Conditions, "Ready"); c.Status == meta.True && strings.Contains(c.Message, "generation 2") {
		t.Errorf("Ready is %+v", c)
	}
	if err := os.Remove(filler); err != nil {
		t.Fatal(err)
	}
	w.now = w.now.Add(time.Hour)
	w.pass()
	w.want("Ready", meta.True, "UpToDate", "generation 2")
}
