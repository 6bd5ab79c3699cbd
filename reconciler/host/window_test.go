package host_test

import (
	"strings"
	"testing"
	"time"

	"github.com/npcnix/npcnix/apis/meta"
	"github.com/npcnix/npcnix/apis/v1alpha1"
	"github.com/npcnix/npcnix/nixos"
)

// It is Sunday, 10:00 UTC; the window opens on Mondays.
const mondays = `  maintenanceWindow: {timeZone: Europe/Berlin, allow: [{name: nights, days: [Mon], start: "22:00", duration: 6h}]}
`

// What is gated is built at once and waits for its window; the status says so,
// and when.
func TestActivationWaitsForItsWindow(t *testing.T) {
	t.Parallel()
	w := converged(t)
	old := w.runs()
	w.spec(mondays)
	w.publish("web 2")
	w.pass()
	const message = "Generation 2 of prod (abababababab) is built, and waits for window nights at Mon 2026-11-23 22:00 Europe/Berlin: the window is closed."
	w.want("Ready", meta.False, "WaitingForWindow", message)
	w.want("Built", meta.True, "BuildSucceeded", "")
	w.want("Stalled", meta.False, "WaitingForWindow", "")
	s := w.status().Status
	if s.Window == nil || s.Window.State != "Closed" || s.Window.Reason != "OutsideAllow" || s.Window.ClosesAt != nil || s.Window.NextOpensAt.Format(time.RFC3339) != "2026-11-23T21:00:00Z" {
		t.Errorf("window %+v", s.Window)
	}
	if s.NextAttemptAt != nil || s.LastAttempt.Outcome != v1alpha1.OutcomeBuilt {
		t.Errorf("next attempt %v, last %+v", s.NextAttemptAt, s.LastAttempt)
	}
	w.now = time.Date(2026, 11, 24, 2, 46, 0, 0, time.UTC) // 14 minutes are left, 15 are needed
	w.pass()
	w.want("Ready", meta.False, "WaitingForWindow", "waits for window nights at Mon 2026-11-30 22:00 Europe/Berlin: the window closes at Tue 2026-11-24 04:00 Europe/Berlin, and 15m are needed.")
	if w.runs() != old {
		t.Fatalf("%s runs", w.runs())
	}
	w.now = time.Date(2026, 11, 24, 2, 45, 0, 0, time.UTC)
	w.pass()
	w.want("Ready", meta.True, "UpToDate", "generation 2")
}

func TestBuildsAreGatedWhereTheSpecSaysSo(t *testing.T) {
	t.Parallel()
	w := converged(t)
	w.spec(strings.Replace(mondays, "timeZone", "gates: [Build, Activate], timeZone", 1))
	w.publish("web 2")
	w.pass()
	w.want("Ready", meta.False, "WaitingForWindow", "Generation 2 of prod (abababababab) is not built yet, and waits for window nights")
	w.wantCalls("build", "test", "profile", "boot")
}

// What no window is long enough for is not waited for in silence.
func TestWindowThatIsTooShort(t *testing.T) {
	t.Parallel()
	w := converged(t)
	w.spec(strings.Replace(mondays, "6h", "10m", 1))
	w.publish("web 2")
	w.pass()
	w.want("Ready", meta.False, "NoWindow", "Generation 2 of prod (abababababab) is built, and no window within 370 days leaves the 15m that it needs. Lengthen the window")
	w.want("Stalled", meta.True, "NoWindow", "")
}

// Drift is corrected in the window alone; its own part of the window is each host's.
func TestCorrectionsAndSplay(t *testing.T) {
	t.Parallel()
	w := converged(t)
	w.spec(strings.Replace(mondays, "timeZone", "splay: 30m, timeZone", 1))
	w.pass()
	w.machine.Change(func(m *nixos.Machine) { m.Running = "/nix/store/by-hand" })
	w.pass()
	w.want("Ready", meta.False, "Drifted", "corrected at")
	w.now = w.now.Add(time.Hour)
	w.pass()
	w.want("Ready", meta.False, "WaitingForWindow", "waits for its part of window nights at Mon 2026-11-23 22:")
	w.now = time.Date(2026, 11, 23, 21, 0, 0, 0, time.UTC)
	w.pass()
	w.want("Ready", meta.False, "WaitingForWindow", "this host's part of the window has not begun")
	w.now = w.now.Add(30 * time.Minute)
	w.pass()
	w.want("Ready", meta.True, "UpToDate", "")
}

func TestOverrideOpensTheWindow(t *testing.T) {
	t.Parallel()
	w := converged(t)
	w.spec(mondays)
	w.override(`{openWindowUntil: "2026-11-22T10:10:00Z"}`)
	w.publish("web 2")
	w.pass()
	w.want("Ready", meta.False, "WaitingForWindow", "the window closes at Sun 2026-11-22 11:10 Europe/Berlin, and 15m are needed")
	w.override(`{openWindowUntil: "2026-11-22T12:00:00Z"}`)
	w.pass()
	w.want("Ready", meta.True, "UpToDate", "generation 2")
	if s := w.status().Status; s.Window.State != "Open" || s.Window.Reason != "OpenedByOverride" || s.Window.ClosesAt.Format(time.RFC3339) != "2026-11-22T12:00:00Z" {
		t.Errorf("window %+v", s.Window)
	}
}

// A clock that is off closes every window, and ends no suspension.
func TestSkewedClock(t *testing.T) {
	t.Parallel()
	w := converged(t)
	w.spec(strings.Replace(mondays, "days: [Mon], ", "", 1))
	w.publish("web 2")
	w.now = time.Date(2026, 11, 22, 22, 0, 0, 0, time.UTC)
	w.store.Ahead(3 * time.Minute)
	w.pass()
	w.want("Ready", meta.False, "ClockSkewed", "Set the clock")
	w.want("ClockSkewed", meta.True, "ClockSkewed", "more than two minutes")
	if s := w.status().Status; s.Window.State != "Closed" || s.Window.Reason != "ClockSkewed" {
		t.Errorf("window %+v", s.Window)
	}
	w.spec(`  suspend: {reason: INC-1, until: "2026-11-22T21:00:00Z"}` + "\n")
	w.pass()
	w.want("Ready", meta.False, "Suspended", "INC-1")
	w.store.Ahead(-90 * time.Second)
	w.pass()
	w.want("ClockSkewed", meta.False, "ClockAgrees", "")
	w.want("Ready", meta.True, "UpToDate", "generation 2")
}

// What runs is never cut off, neither by the end of the window nor by who suspends
// the host meanwhile: what is well is committed, what is not is taken back.
func TestWhatRunsIsNotCutOff(t *testing.T) {
	t.Parallel()
	for flake, reason := range map[string]string{"web 2": "UpToDate", "web fails:x.service": "Quarantined"} {
		w := converged(t)
		old := w.runs()
		w.spec("  rebuildPolicy: {timeouts: {activate: 1s, confirm: 1s}}\n" + mondays)
		w.now = time.Date(2026, 11, 23, 22, 0, 0, 0, time.UTC)
		w.machine.OnStart = func(a nixos.Activation) (nixos.Result, bool) {
			if a.Action == nixos.ActionTest && a.Toplevel != old {
				w.now = time.Date(2026, 11, 24, 9, 0, 0, 0, time.UTC)
				if _, err := w.r.Suspend("wait", time.Hour); err != nil {
					t.Error(err)
				}
			}
			return nixos.Result{Exited: true}, true
		}
		w.publish(flake)
		w.pass()
		m := w.machine.State()
		if committed := m.Running == m.Profile && m.Profile == m.BootDefault; !committed || (reason == "UpToDate") != (m.Running != old) {
			t.Errorf("%s: machine %+v", flake, m)
		}
		if reason == "UpToDate" {
			w.want("Ready", meta.True, reason, "Suspended on the host (wait)")
		}
		if a := w.status().Status.LastAttempt; (a.Outcome == v1alpha1.OutcomeCommitted) != (reason == "UpToDate") {
			t.Errorf("%s: attempt %+v", flake, a)
		}
	}
}
