package host_test

import (
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/npcnix/npcnix/apis/meta"
	"github.com/npcnix/npcnix/apis/v1alpha1"
	"github.com/npcnix/npcnix/nixos"
	"github.com/npcnix/npcnix/store"
	"github.com/npcnix/npcnix/store/fault"
)

// with applies the spec with more fields.
func (w *world) spec(more string) {
	w.t.Helper()
	w.put("hosts/web.yaml", hostSpec+more)
}

// override puts a HostOverride of these fields.
func (w *world) override(fields string) {
	w.t.Helper()
	w.put("overrides/web.yaml", "apiVersion: npcnix.dev/v1alpha1\nkind: HostOverride\nmetadata: {name: web}\nspec: "+fields+"\n")
}

func (w *world) runs() string { return w.machine.State().Running }

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
	w.want("Ready", meta.False, "WaitingForWindow", "waits for window nights at Mon 2026-11-23 22:")
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

// Whoever suspends the host, it is suspended until the last of them is over; a
// sync from git undoes none but its own.
func TestSuspensionsCombine(t *testing.T) {
	t.Parallel()
	w := converged(t)
	w.spec(`  suspend: {reason: git, until: "2026-11-22T11:00:00Z"}` + "\n")
	w.override(`{suspend: {reason: INC-7, until: "2026-11-22T12:00:00Z"}}`)
	if _, err := w.r.Suspend("disk", 3*time.Hour); err != nil {
		t.Fatal(err)
	}
	w.publish("web 2")
	w.pass()
	w.want("Ready", meta.False, "Suspended", "Suspended by its HostSpec and by its HostOverride and on the host (git, INC-7, disk) until 2026-11-22T13:00:00Z; generation 2")
	w.spec("") // synced from git
	w.now = w.now.Add(90 * time.Minute)
	w.pass()
	w.want("Suspended", meta.True, "Suspended", "Suspended by its HostOverride and on the host (INC-7, disk)")
	if _, err := w.r.Resume(); err != nil {
		t.Fatal(err)
	}
	w.store.Follow(fault.On("overrides/web.yaml", fault.Fault{Err: store.ErrAccessDenied})) // which lifts nothing
	w.restart()
	_, _ = w.r.Reconcile(t.Context(), "web")
	w.store.Follow(nil)
	w.pass()
	w.want("Ready", meta.False, "Suspended", "Suspended by its HostOverride (INC-7) until")
	w.override(`{unknown: 1}`) // nor does what is not understood
	w.pass()
	w.want("Suspended", meta.True, "Suspended", "INC-7")
	w.want("SpecAccepted", meta.False, "SpecInvalid", "spec.unknown")
	w.override("{}")
	w.pass()
	w.want("Ready", meta.True, "UpToDate", "generation 2")
	if o := w.status().Status.Observed.Override; o == nil || o.Digest == "" {
		t.Errorf("observed %+v", o)
	}
	w.delete("overrides/web.yaml")
	w.pass()
	if o := w.status().Status.Observed.Override; o != nil {
		t.Errorf("observed %+v", o)
	}
}

// A request is taken up once, and what was taken up stands in the status.
func TestRequestsOfTheOverride(t *testing.T) {
	t.Parallel()
	w := converged(t)
	w.policy("")
	w.publish("web fails:x.service")
	w.pass()
	w.want("Ready", meta.False, "Quarantined", "")
	tests := func() (n int) { return strings.Count(strings.Join(w.machine.Calls(), "\n"), "test ") }
	before := tests()
	w.override(`{reconcileRequestedAt: "2026-11-22T10:00:00Z"}`)
	w.pass()
	if n := tests(); n != before {
		t.Errorf("reconcile lifted the quarantine: %v", w.machine.Calls())
	}
	w.override(`{reconcileRequestedAt: "2026-11-22T10:00:00Z", retryRequestedAt: "2026-11-22T10:01:00Z"}`)
	for range 3 {
		w.pass()
		w.restart()
	}
	if n := tests(); n != before+2 { // forth and back, once
		t.Errorf("retry made %d switches", n-before)
	}
	h := w.status().Status.Handled
	if h == nil || h.ReconcileRequestedAt.Format(time.RFC3339) != "2026-11-22T10:00:00Z" || h.RetryRequestedAt.Format(time.RFC3339) != "2026-11-22T10:01:00Z" {
		t.Errorf("handled %+v", h)
	}
}

// A request that comes with a look that cannot do anything is not lost with it.
func TestRequestIsHandledByALookThatCan(t *testing.T) {
	t.Parallel()
	w := converged(t)
	w.machine.OnBuild = func(nixos.BuildRequest) error {
		return &nixos.BuildError{Failure: nixos.BuilderFailure, Message: "no", ExitCode: 1}
	}
	w.publish("web 2")
	w.pass()
	w.want("Ready", meta.False, "BuildFailed", "the next is due at")
	w.machine.OnBuild = nil
	w.override(`{reconcileRequestedAt: "2026-11-22T10:00:00Z"}`)
	w.store.Follow(fault.On("remotes/prod.yaml", fault.Fault{Err: errors.New("no route to host")}))
	_, _ = w.r.Reconcile(t.Context(), "web")
	w.store.Follow(nil)
	if h := w.status().Status.Handled; h != nil {
		t.Errorf("handled %+v", h)
	}
	w.restart()
	w.pass() // before the next attempt is due
	w.want("Ready", meta.True, "UpToDate", "generation 2")
	if h := w.status().Status.Handled; h == nil || h.ReconcileRequestedAt == nil {
		t.Errorf("handled %+v", h)
	}
}

func TestDiskPreflight(t *testing.T) {
	t.Parallel()
	w := converged(t)
	w.machine.Free = 1 << 30
	w.publish("web 2")
	w.pass()
	w.want("Ready", meta.False, "DiskFull", "is not built: less is free on /nix than rebuildPolicy.minFreeDisk, 2GiB. nix-collect-garbage")
	w.wantCalls("build", "test", "profile", "boot")
	w.spec("  rebuildPolicy: {diskFull: GarbageCollect}\n")
	w.pass()
	w.want("Ready", meta.False, "DiskFull", "Collecting garbage did not make enough room")
	w.pass() // not once more
	w.wantCalls("build", "test", "profile", "boot", "collect")
	w.now = w.now.Add(time.Hour)
	w.machine.OnCollect = func() { w.machine.Free = 3 << 30 }
	w.pass()
	w.want("Ready", meta.True, "UpToDate", "generation 2")
}

// A /boot that is full is made room on as far as retention allows; a spec that
// keeps fewer generations helps a host on which nothing can be committed.
func TestFullBootIsPruned(t *testing.T) {
	t.Parallel()
	w := converged(t)
	for name := range strings.FieldsSeq("2 3") {
		w.publish("web " + name)
		w.pass()
	}
	w.machine.Change(func(m *nixos.Machine) { m.Booted = m.Running })
	w.machine.Full = true
	w.machine.OnStart = func(a nixos.Activation) (nixos.Result, bool) {
		if a.Action == nixos.ActionBoot && w.machine.Generation(1) == "" {
			w.machine.Full = false
		}
		return nixos.Result{Exited: true}, true
	}
	w.publish("web 4")
	calls := len(w.machine.Calls())
	for range 3 { // it is tried once an hour
		w.pass()
		w.now = w.now.Add(time.Minute)
		w.want("Ready", meta.False, "DiskFull", "/boot has no room for generation 4 of prod (abababababab), which waits for it, although no generations are left beyond rebuildPolicy.retention, 10. Keep fewer")
	}
	var made []string
	for _, call := range w.machine.Calls()[calls:] {
		made = append(made, strings.Fields(call)[0])
	}
	if strings.Join(made, " ") != "build boot" {
		t.Errorf("it made %v", made)
	}
	w.spec("  rebuildPolicy: {retention: {generations: 2}}\n")
	w.pass()
	w.want("Ready", meta.True, "UpToDate", "generation 4")
}

// The profile keeps as many generations as it shall, and what is needed.
func TestRetention(t *testing.T) {
	t.Parallel()
	w := converged(t)
	first := w.runs()
	w.machine.Change(func(m *nixos.Machine) { m.Booted = first })
	w.spec("  rebuildPolicy: {retention: {generations: 2}}\n")
	for name := range strings.FieldsSeq("2 3 4 5 6") {
		w.publish("web " + name)
		w.pass()
	}
	var left []int64
	for number := range int64(10) {
		if w.machine.Generation(number) != "" {
			left = append(left, number)
		}
	}
	if len(left) != 3 || left[0] != 1 || left[1] != 5 || left[2] != 6 {
		t.Errorf("generations %v are left, the first of them was booted", left)
	}
}

const reboots = "  rebuildPolicy: {reboot: {when: %s, delay: 2m}, timeouts: {activate: 1s, confirm: 1s, reboot: 10m}}\n"

// rebooting converges on a system with one kernel, and wants another.
func rebooting(t *testing.T, when string) *world {
	t.Helper()
	w := newWorld(t)
	w.put("hosts/web.yaml", hostSpec)
	w.publish("web kernel:1")
	w.pass()
	w.machine.Change(func(m *nixos.Machine) { m.Booted = m.Running })
	w.spec(strings.Replace(reboots, "%s", when, 1))
	w.pass()
	w.want("RebootRequired", meta.False, "RebootNotRequired", "")
	return w
}

func (w *world) rebooted() int {
	return strings.Count(strings.Join(w.machine.Calls(), "\n"), "reboot ")
}

func TestRebootIsMadeWhereItIsRequired(t *testing.T) {
	t.Parallel()
	for when, want := range map[string]int{"Never": 0, "IfRequired": 1, "Always": 1} {
		w := rebooting(t, when)
		w.publish("web kernel:2")
		w.pass()
		w.want("RebootRequired", meta.True, "RebootRequired", "Only a reboot brings into force: another kernel.")
		w.want("Ready", meta.True, "UpToDate", map[bool]string{true: "It reboots at 2026-11-22T10:02:00Z.", false: ""}[want > 0])
		if walls := w.machine.Walls(); len(walls) != want || (want > 0 && !strings.Contains(walls[0], "reboots in 2m0s")) {
			t.Errorf("%s: said %q", when, walls)
		}
		w.now = w.now.Add(2 * time.Minute)
		w.pass()
		w.restart()
		w.pass()
		if n := w.rebooted(); n != want {
			t.Errorf("%s: %d reboots", when, n)
		}
		w.now = w.now.Add(time.Hour)
		w.pass()
		m := w.machine.State()
		w.want("Ready", meta.True, "UpToDate", "")
		if n := w.rebooted(); n != want || (want == 1) != (m.Booted == m.Running) {
			t.Errorf("%s: %d reboots, machine %+v", when, n, m)
		}
	}
}

func TestAlwaysRebootsAfterEachNewSystem(t *testing.T) {
	t.Parallel()
	w := rebooting(t, "Always")
	w.publish("web kernel:1 more")
	w.pass()
	w.want("RebootRequired", meta.False, "RebootNotRequired", "")
	w.now = w.now.Add(2 * time.Minute)
	w.pass()
	w.restart()
	w.pass()
	w.want("Ready", meta.True, "UpToDate", "")
	w.now = w.now.Add(24 * time.Hour)
	w.pass()
	if n := w.rebooted(); n != 1 {
		t.Errorf("%d reboots", n)
	}
}

// A reboot waits for the window, for who is logged in, and is stopped by a
// suspension; it is cancelled when nothing wants it any more.
func TestRebootWaitsAndIsCancelled(t *testing.T) {
	t.Parallel()
	w := rebooting(t, "IfRequired")
	w.machine.LoggedIn = []string{"anna"}
	w.spec(strings.Replace(reboots, "%s", "IfRequired", 1) + strings.Replace(mondays, "timeZone", "gates: [Reboot], timeZone", 1))
	w.publish("web kernel:2")
	w.pass()
	w.want("Ready", meta.True, "UpToDate", "The reboot is due, and waits for window nights at Mon 2026-11-23 22:00 Europe/Berlin")
	w.spec(strings.Replace(reboots, "%s", "IfRequired", 1))
	w.now = w.now.Add(10 * time.Minute)
	w.pass()
	w.want("Ready", meta.True, "UpToDate", "The reboot waits for who is logged in (anna), until 2026-11-22T11:10:00Z at the latest.") // an hour since it could be made
	w.machine.LoggedIn = nil
	w.now = w.now.Add(time.Minute)
	w.pass()
	w.want("Ready", meta.True, "UpToDate", "It reboots at 2026-11-22T10:13:00Z.")
	if _, err := w.r.Suspend("wait", time.Hour); err != nil {
		t.Fatal(err)
	}
	w.now = w.now.Add(2 * time.Minute)
	w.pass()
	if _, err := w.r.Resume(); err != nil {
		t.Fatal(err)
	}
	w.pass()
	w.publish("web kernel:1")
	w.pass()
	w.want("RebootRequired", meta.False, "RebootNotRequired", "")
	w.now = w.now.Add(time.Hour)
	w.pass()
	if n := w.rebooted(); n != 0 {
		t.Errorf("%d reboots", n)
	}
	var said []string
	for _, wall := range w.machine.Walls() {
		said = append(said, strings.Fields(wall)[3])
	}
	if strings.Join(said, " ") != "reboots that reboots that" { // announced, cancelled, twice
		t.Errorf("said %q", w.machine.Walls())
	}
}

func TestSessionsHoldARebootOffForAWhile(t *testing.T) {
	t.Parallel()
	w := rebooting(t, "IfRequired")
	w.machine.LoggedIn = []string{"anna"}
	w.publish("web kernel:2")
	w.pass()
	w.now = w.now.Add(59 * time.Minute)
	w.pass()
	if walls := w.machine.Walls(); len(walls) != 0 {
		t.Errorf("said %q", walls)
	}
	w.now = w.now.Add(time.Minute)
	w.pass()
	w.now = w.now.Add(2 * time.Minute)
	w.pass()
	if n := w.rebooted(); n != 1 {
		t.Errorf("%d reboots", n)
	}
}

// It is announced with enough of the window left for its delay, too.
func TestRebootIsNotAnnouncedTooLate(t *testing.T) {
	t.Parallel()
	w := rebooting(t, "IfRequired")
	w.spec(strings.Replace(reboots, "%s", "IfRequired", 1) + strings.Replace(mondays, "timeZone", "gates: [Reboot], timeZone", 1))
	w.publish("web kernel:2")
	w.now = time.Date(2026, 11, 24, 2, 48, 0, 0, time.UTC)
	w.pass()
	w.want("Ready", meta.True, "UpToDate", "the window closes at Tue 2026-11-24 04:00 Europe/Berlin, and 12m1s are needed")
	w.now = time.Date(2026, 12, 1, 2, 47, 59, 0, time.UTC)
	w.pass()
	w.want("Ready", meta.True, "UpToDate", "It reboots at Tue 2026-12-01 03:49 Europe/Berlin")
	w.now = w.now.Add(2 * time.Minute) // 10m1s are left, and needed
	w.pass()
	if n := w.rebooted(); n != 1 {
		t.Errorf("%d reboots", n)
	}
}

// Who cannot tell whether somebody is logged in does not take nobody for granted.
func TestSessionsThatNobodyKnows(t *testing.T) {
	t.Parallel()
	w := rebooting(t, "IfRequired")
	w.machine.SessionsErr = errors.New("no answer")
	w.publish("web kernel:2")
	w.pass()
	w.want("Ready", meta.True, "UpToDate", "The reboot waits for who is logged in (nobody knows who: logind does not answer), until 2026-11-22T11:00:00Z at the latest.")
}

// Nothing is begun while the machine goes down.
func TestNothingBeginsWhileTheHostGoesDown(t *testing.T) {
	t.Parallel()
	w := rebooting(t, "IfRequired")
	w.machine.OnPower = func() error { return nil } // it takes its time
	w.publish("web kernel:2")
	w.pass()
	w.now = w.now.Add(2 * time.Minute)
	w.pass()
	calls := len(w.machine.Calls())
	w.publish("web kernel:2 more")
	w.pass()
	w.want("Ready", meta.False, "Rebooting", "Nothing is begun meanwhile.")
	if walls := w.machine.Walls(); len(w.machine.Calls()) != calls || len(walls) != 1 {
		t.Errorf("calls %v, said %q", w.machine.Calls()[calls:], walls)
	}
	w.machine.OnPower = nil
	w.machine.PowerCut()
	w.restart()
	w.pass()
	w.pass()
	w.want("Ready", meta.True, "UpToDate", "generation 3")
}

// A machine that does not go down is asked three times.
func TestRebootThatDoesNotHappen(t *testing.T) {
	t.Parallel()
	w := rebooting(t, "IfRequired")
	w.machine.OnPower = func() error { return nil }
	w.publish("web kernel:2")
	w.pass()
	w.now = w.now.Add(2 * time.Minute)
	for n := 1; n <= 3; n++ {
		w.pass()
		w.want("Ready", meta.False, "Rebooting", "The host was told to reboot at ")
		w.restart() // it is the same boot
		w.pass()
		if got := w.rebooted(); got != n {
			t.Fatalf("%d reboots, want %d", got, n)
		}
		w.now = w.now.Add(10 * time.Minute)
	}
	w.pass()
	w.want("Ready", meta.False, "RebootFailed", "The host was told 3 times to reboot")
	w.want("Stalled", meta.True, "RebootFailed", "")
	w.now = w.now.Add(24 * time.Hour)
	w.pass()
	if n := w.rebooted(); n != 3 {
		t.Errorf("%d reboots", n)
	}
	w.machine.OnPower = nil
	w.machine.PowerCut() // by hand
	w.restart()
	w.pass()
	w.want("Ready", meta.True, "UpToDate", "")
}

// What comes up unhealthy is taken back to the system that was booted before,
// and what boots something else is left alone.
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
			const checks = `settle: 0s, checks: [{name: ssh, tcp: {address: "127.0.0.1:22"}}]}`
			w.put("hosts/web.yaml", strings.Replace(hostSpec, "settle: 0s}", checks, 1)+strings.Replace(reboots, "%s", "IfRequired", 1))
			c.wrong(w, old)
			w.publish("web kernel:2")
			w.pass()
			w.now = w.now.Add(2 * time.Minute)
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
