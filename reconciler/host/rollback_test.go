package host_test

import (
	"errors"
	"os"
	"path/filepath"
	"strconv"
	"strings"
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
	w.policy("rollback: {onFailure: Rollback}") // what failed in it is still no unit that had failed before
	w.machine.OnBuild = func(nixos.BuildRequest) error {
		return &nixos.BuildError{Failure: nixos.BuilderFailure, Message: "builder failed", ExitCode: 1}
	}
	for i := range 12 { // however many attempts later
		w.publish("web unbuildable " + strconv.Itoa(i))
		w.pass()
	}
	w.machine.OnBuild = nil
	w.publish("web fails:x.service")
	w.pass()
	w.want("Ready", meta.False, "HealthCheckFailed", "x.service")
	if got := w.machine.State(); got.Running != m.Running || got.Profile != old || got.BootDefault != old {
		t.Errorf("machine %+v", got)
	}
}

// What had failed before a system that is kept is held against no later one.
func TestWhatFailedForOtherReasonsIsHeldAgainstNobody(t *testing.T) {
	t.Parallel()
	w := converged(t)
	w.machine.OnUnits = func(units nixos.Units) nixos.Units {
		return append(units, nixos.Unit{Name: "other.service", Failed: true})
	}
	w.policy("rollback: {onFailure: Keep}")
	w.publish("web fails:x.service")
	w.pass()
	w.want("Ready", meta.False, "Quarantined", "failed: x.service")
	w.publish("web 2")
	w.pass()
	w.want("Ready", meta.True, "UpToDate", "generation 3")
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

func TestLoggedInUsersAreToldOfACorrection(t *testing.T) {
	t.Parallel()
	w := converged(t)
	w.machine.Change(func(m *nixos.Machine) { m.Running = "/nix/store/by-hand" })
	w.pass()
	w.pass()
	if walls := w.machine.Walls(); len(walls) != 1 || !strings.Contains(walls[0], "corrected in 15m.\nTo stop that: npcnix-reconciler suspend") {
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
		decoder, err := zstd.NewReader(nil)
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
