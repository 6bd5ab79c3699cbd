package host_test

import (
	"strings"
	"testing"
	"time"

	"github.com/npcnix/npcnix/apis/meta"
	"github.com/npcnix/npcnix/nixos"
)

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
		if walls := w.machine.Walls(); len(walls) != want || (want > 0 && !strings.Contains(walls[0], "reboots in 2m")) {
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

// What was announced in the host's part of the window is made there.
func TestRebootIsMadeWhereItWasAnnounced(t *testing.T) {
	t.Parallel()
	w := rebooting(t, "IfRequired")
	w.spec(strings.Replace(reboots, "%s", "IfRequired", 1) + strings.Replace(mondays, "timeZone", "gates: [Reboot], splay: 6h, timeZone", 1))
	w.publish("web kernel:2")
	w.now = time.Date(2026, 11, 23, 21, 0, 0, 0, time.UTC)
	for len(w.machine.Walls()) == 0 && w.now.Day() < 25 {
		w.now = w.now.Add(time.Minute)
		w.pass()
	}
	w.now = w.now.Add(2 * time.Minute)
	w.pass()
	if n, walls := w.rebooted(), w.machine.Walls(); n != 1 || len(walls) != 1 {
		t.Errorf("%d reboots at %s, said %q", n, w.now, walls)
	}
}
