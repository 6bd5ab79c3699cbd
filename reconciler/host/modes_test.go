package host_test

import (
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/npcnix/npcnix/apis/meta"
	"github.com/npcnix/npcnix/apis/v1alpha1"
	"github.com/npcnix/npcnix/nixos"
)

func TestOtherModes(t *testing.T) {
	t.Parallel()
	w := converged(t)
	old := w.machine.State().Running
	w.policy("mode: DryActivate") // of what runs already, once
	for range 3 {
		w.pass()
		w.want("Ready", meta.True, "UpToDate", "Runs generation 1")
		w.now = w.now.Add(time.Hour)
	}
	w.wantCalls("build", "test", "profile", "boot", "dry-activate")
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

// A staged system is taken back within the window alone, and while nobody else
// switches, whatever the new policy is.
func TestStagedSystemIsTakenBackWhereItMay(t *testing.T) {
	t.Parallel()
	const mode = "  rebuildPolicy: {mode: %s, timeouts: {activate: 1s, confirm: 1s, reboot: 10m}}\n"
	for _, next := range []string{"DryActivate", "Build"} {
		w := converged(t)
		w.spec(strings.Replace(mode, "%s", "Boot", 1))
		w.publish("web 2")
		w.pass()
		w.want("Ready", meta.False, "RebootPending", "")
		staged := w.machine.State().BootDefault
		w.machine.Other = "nixos-rebuild"
		w.publish("web 3")
		w.spec(strings.Replace(mode, "%s", next, 1))
		w.pass()
		w.want("Ready", meta.False, "SwitchActive", "")
		w.machine.Other = ""
		w.spec(strings.Replace(mode, "%s", next, 1) + mondays)
		w.pass()
		w.want("Ready", meta.False, "WaitingForWindow", "")
		if got := w.machine.State().BootDefault; got != staged {
			t.Errorf("%s: the boot default is %s", next, got)
		}
		w.spec(strings.Replace(mode, "%s", next, 1))
		w.pass()
		w.want("Ready", meta.True, "BuiltOnly", "")
		if got := w.machine.State().BootDefault; got == staged {
			t.Errorf("%s: still boots %s", next, got)
		}
	}
}

// A staged system whose profile cannot be taken back stays what is watched at its
// boot: nothing else is begun until it is.
func TestStagedSystemIsTakenBackBeforeAnythingElse(t *testing.T) {
	t.Parallel()
	w := converged(t)
	old := w.runs()
	w.spec("  rebuildPolicy: {mode: Boot, timeouts: {activate: 1s, confirm: 1s, reboot: 10m}}\n")
	w.publish("web 2")
	w.pass()
	staged := w.machine.State().Profile
	broken := true
	w.machine.OnSetProfile = func(string) error {
		if broken {
			return errors.New("database is locked")
		}
		return nil
	}
	w.publish("web 3")
	for range 2 {
		if _, err := w.r.Reconcile(t.Context(), "web"); err == nil {
			t.Error("it ended well")
		}
		w.want("Ready", meta.False, "ProfileFailed", "What waits for a reboot is not taken back yet, and nothing else is begun before: the profile could not be brought back: database is locked.")
		w.wantState(old, staged, staged)
	}
	broken = false
	w.pass()
	w.want("Ready", meta.False, "RebootPending", "Generation 3")
	if m := w.machine.State(); m.Running != old || m.Profile == staged || m.BootDefault == staged {
		t.Errorf("%+v", m)
	}
}

const bootMode = "  rebuildPolicy: {mode: Boot, timeouts: {activate: 1s, confirm: 1s, reboot: 10m}}\n"

// Where neither the boot loader nor the earlier profile can be written, staging is
// not over: the profile that names the target is none to go back to.
func TestStagingOnAFullDiskIsUndone(t *testing.T) {
	t.Parallel()
	w := converged(t)
	old, full := w.runs(), true
	w.spec(bootMode)
	w.machine.OnStart = func(a nixos.Activation) (nixos.Result, bool) {
		if a.Action == nixos.ActionBoot && full {
			return nixos.Result{Exited: true, ExitCode: 1, Output: "no space left on device"}, false
		}
		return nixos.Result{Exited: true}, true
	}
	w.machine.OnSetProfile = func(toplevel string) error {
		if full && toplevel == old {
			return errors.New("no space left on device")
		}
		return nil
	}
	w.publish("web 2 fails:x.service")
	for range 2 {
		if _, err := w.r.Reconcile(t.Context(), "web"); err == nil {
			t.Error("it ended well")
		}
		w.want("Ready", meta.False, "ProfileFailed", "no space left on device")
		w.now = w.now.Add(time.Hour)
	}
	full = false
	w.pass()
	w.want("Ready", meta.False, "BootLoaderFailed", "Nothing was activated; profile and boot default are as before.")
	w.wantState(old, old, old)
	w.now = w.now.Add(time.Hour)
	w.pass()
	w.bootedAndTakenBack(old)
}

// So it is where a person has set the profile to the target before.
func TestProfileThatNamesTheTargetIsNoneToGoBackTo(t *testing.T) {
	t.Parallel()
	w := converged(t)
	old := w.runs()
	w.policy("mode: Build")
	w.publish("web 2 fails:x.service")
	w.pass()
	target := w.status().Status.Desired.Toplevel
	if err := w.machine.SetProfile(t.Context(), target, 0); err != nil { // as nixos-rebuild boot begins
		t.Fatal(err)
	}
	w.spec(bootMode)
	w.pass()
	w.wantState(old, target, target)
	w.bootedAndTakenBack(old)
}

// bootedAndTakenBack boots what is staged, which fails, and wants the earlier system.
func (w *world) bootedAndTakenBack(old string) {
	w.t.Helper()
	w.want("Ready", meta.False, "RebootPending", "")
	w.machine.PowerCut()
	for range 4 {
		w.restart()
		w.pass()
		w.now = w.now.Add(time.Minute)
	}
	w.want("Ready", meta.False, "Quarantined", "x.service")
	w.wantState(old, old, old)
}
