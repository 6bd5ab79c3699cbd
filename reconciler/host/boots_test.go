package host_test

import (
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/npcnix/npcnix/apis/meta"
	"github.com/npcnix/npcnix/nixos"
)

// bootsBadly is a host whose reboot is due, into a system that is not healthy once
// it is booted.
func bootsBadly(t *testing.T) (w *world, old, bad string) {
	t.Helper()
	w = rebooting(t, "IfRequired")
	old = w.runs()
	w.check()
	w.machine.OnProbe = func(string) error {
		if m := w.machine.State(); m.Running == m.Booted && m.Running == bad {
			return errors.New("no driver")
		}
		return nil
	}
	w.announced()
	bad = w.runs()
	return w, old, bad
}

func TestRebootThatGoesWrong(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		wrong  func(w *world, old string)
		reason string
	}{
		"unhealthy": {func(w *world, old string) {
			w.machine.OnProbe = func(string) error {
				if m := w.machine.State(); m.Running == m.Booted && m.Running != old {
					return errors.New("no driver")
				}
				return nil
			}
		}, "Quarantined"},
		"another one": {func(w *world, old string) {
			w.machine.OnPower = func() error {
				w.machine.Change(func(m *nixos.Machine) { m.BootDefault = old }) // a boot counter
				w.machine.PowerCut()
				return nil
			}
		}, "Quarantined"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := rebooting(t, "IfRequired")
			old := w.runs()
			w.check()
			c.wrong(w, old)
			w.announced()
			for range 4 {
				w.pass()
				w.restart()
			}
			w.want("Ready", meta.False, c.reason, "")
			w.wantState(old, old, old)
			if m := w.machine.State(); m.Booted != old {
				t.Errorf("machine %+v", m)
			}
		})
	}
}

func TestBootsInVainEnd(t *testing.T) {
	t.Parallel()
	w := rebooting(t, "IfRequired")
	away := 0
	w.machine.OnPower = func() error { // the network takes long after each boot
		away = 3
		w.machine.PowerCut()
		return nil
	}
	w.publish("web kernel:2")
	day := func() {
		for range 12 {
			w.store.Follow(nil)
			if away > 0 {
				away--
				w.store.Follow(down())
			}
			w.restart()
			_, _ = w.r.Reconcile(t.Context(), "web")
			w.now = w.now.Add(2 * time.Minute)
		}
		w.now = w.now.Add(24 * time.Hour)
	}
	for range 5 {
		day()
	}
	w.pass()
	w.want("Ready", meta.True, "UpToDate", "It was booted 2 times and taken back without a verdict: the store could not be reached from the earlier system either, or the disk was full. The host does not reboot into it by itself any more")
	if n := strings.Count(strings.Join(w.machine.Calls(), "\n"), "reboot npcnix:_rebooting_into"); n != 2 {
		t.Errorf("%d reboots into it: %q", n, w.machine.Calls())
	}
	w.machine.OnPower = nil // it was mended
	w.override(`{retryRequestedAt: "2026-11-22T10:02:00Z"}`)
	day()
	w.pass()
	w.want("Ready", meta.True, "UpToDate", "Runs generation 2 of prod (abababababab).")
	if m := w.machine.State(); m.Booted != m.Running {
		t.Errorf("machine %+v", m)
	}
}

func TestStagedSystemThatWasBootedOnce(t *testing.T) {
	t.Parallel()
	w := rebooting(t, "Never")
	booted := w.runs()
	w.publish("web kernel:1 more")
	w.pass()
	w.spec(strings.NewReplacer("%s", "IfRequired", "{reboot:", "{mode: Boot, reboot:").Replace(reboots))
	w.publish("web kernel:1")
	w.pass()
	w.want("Ready", meta.False, "RebootPending", "It reboots at 2026-11-22T10:02:00Z.")
	w.now = w.now.Add(2 * time.Minute)
	w.pass()
	w.restart()
	w.pass()
	w.want("Ready", meta.True, "UpToDate", "generation 3")
	w.wantState(booted, booted, booted)
}

func TestBootsThatAreCutOffEnd(t *testing.T) {
	t.Parallel()
	w := rebooting(t, "IfRequired")
	old := w.runs()
	w.check()
	panics := func() (out bool) {
		m := w.machine.State()
		return m.Running == m.Booted && m.Running != old
	}
	w.announced()
	w.machine.OnProbe = func(string) error {
		if panics() {
			w.machine.PowerCut()
			panic("power cut")
		}
		return nil
	}
	for range 8 {
		func() {
			defer func() { _ = recover() }()
			_, _ = w.r.Reconcile(t.Context(), "web")
		}()
		w.restart()
		w.now = w.now.Add(time.Minute)
	}
	w.pass()
	w.want("Ready", meta.False, "Quarantined", "The host rebooted 2 times before the new system was confirmed.")
	w.wantState(old, old, old)
}

func TestBootThatIsNotLeft(t *testing.T) {
	t.Parallel()
	w, _, _ := bootsBadly(t)
	w.machine.OnPower = func() error {
		w.machine.OnPower = func() error { return nil } // it hangs from then on
		w.machine.PowerCut()
		return nil
	}
	for range 60 {
		w.now = w.now.Add(2 * time.Minute)
		_, _ = w.r.Reconcile(t.Context(), "web")
		w.restart()
	}
	w.pass()
	w.want("Ready", meta.False, "Quarantined", "The host was told 3 times to reboot into the earlier system, and did not")
	if n := strings.Count(strings.Join(w.machine.Calls(), "\n"), "did_not_prove_itself"); n < 3 || n > 4 { // and once by the guard
		t.Errorf("%d reboots", n)
	}
	w.publish("web kernel:3")
	w.pass()
	w.want("Ready", meta.True, "UpToDate", "generation 3")
}

func TestBootThatCannotBeLeft(t *testing.T) {
	t.Parallel()
	w, old, bad := bootsBadly(t)
	w.machine.OnPower = func() error {
		w.machine.OnPower = func() error { return errors.New("no bus") }
		w.machine.PowerCut()
		return nil
	}
	for range 20 {
		w.now = w.now.Add(2 * time.Minute)
		_, _ = w.r.Reconcile(t.Context(), "web")
		w.restart()
	}
	if w.runs() != bad {
		t.Fatal("it left the boot without a bus")
	}
	w.machine.OnPower = nil
	for range 3 {
		w.now = w.now.Add(2 * time.Minute)
		_, _ = w.r.Reconcile(t.Context(), "web")
		w.restart()
	}
	w.pass()
	w.want("Ready", meta.False, "Quarantined", "no driver")
	w.wantState(old, old, old)
}
