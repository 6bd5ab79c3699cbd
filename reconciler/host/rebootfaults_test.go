package host_test

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/npcnix/npcnix/apis/meta"
	"github.com/npcnix/npcnix/nixos"
)

// check makes the host check its health.
func (w *world) check() {
	w.t.Helper()
	const checks = `settle: 0s, checks: [{name: ssh, tcp: {address: "127.0.0.1:22"}}]}`
	w.put("hosts/web.yaml", strings.Replace(hostSpec, "settle: 0s}", checks, 1)+strings.Replace(reboots, "%s", "IfRequired", 1))
}

// announced publishes another kernel and waits until its reboot is due.
func (w *world) announced() {
	w.t.Helper()
	w.publish("web kernel:2")
	w.pass()
	w.now = w.now.Add(2 * time.Minute)
}

// minutes lets the host look at each of them.
func (w *world) minutes(n int) {
	w.t.Helper()
	for range n {
		w.now = w.now.Add(time.Minute)
		w.pass()
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
	w.announced()
	w.pass()
	calls := len(w.machine.Calls())
	w.publish("web kernel:2 more")
	w.r.Ask(true) // not even at an operator's word
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
	w.announced()
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
// A machine that cannot even be told to reboot goes on with everything else, and
// is told again.
func TestRebootThatCannotBeAskedFor(t *testing.T) {
	t.Parallel()
	w := rebooting(t, "IfRequired")
	w.machine.OnPower = func() error { return errors.New("no bus") }
	w.announced()
	w.pass()
	w.want("Ready", meta.False, "RebootFailed", "The host could not be told to reboot: no bus.\nThe next attempt is due at 2026-11-22T10:02:30Z.")
	w.publish("web kernel:3")
	w.pass()
	w.want("Ready", meta.True, "UpToDate", "generation 3")
	w.now = w.now.Add(4 * time.Hour)
	for range 4 { // announced, failed, waited, announced and so on
		w.now = w.now.Add(2 * time.Minute)
		w.pass()
	}
	w.want("Ready", meta.False, "RebootFailed", "no bus")
	w.want("Stalled", meta.False, "RebootFailed", "")
	w.machine.OnPower = nil
	w.now = w.now.Add(2 * time.Hour)
	w.pass()
	w.now = w.now.Add(2 * time.Minute)
	w.pass()
	w.restart()
	w.pass()
	w.want("Ready", meta.True, "UpToDate", "generation 3")
	if m := w.machine.State(); m.Booted != m.Running {
		t.Errorf("machine %+v", m)
	}
}

// How long a machine has to go down is what it was when it was told, and a clock
// that is set meanwhile does not change that.
func TestNothingEndsARebootEarly(t *testing.T) {
	t.Parallel()
	for name, meanwhile := range map[string]func(w *world){
		"a shorter limit": func(w *world) {
			w.spec(strings.NewReplacer("%s", "IfRequired", "reboot: 10m", "reboot: 1s").Replace(reboots))
		},
		"a clock set back": func(w *world) { w.now = w.now.Add(-30 * time.Second) },
		"a word on retry":  func(w *world) { w.override(`{retryRequestedAt: "2026-11-22T10:02:00Z"}`) },
		"a suspension":     func(w *world) { w.spec("  suspend: {reason: INC-42}\n") },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := rebooting(t, "IfRequired")
			w.machine.OnPower = func() error { return nil }
			w.announced()
			w.pass()
			w.now = w.now.Add(5 * time.Second)
			calls := len(w.machine.Calls())
			meanwhile(w)
			w.publish("web kernel:2 more")
			w.pass()
			w.want("Ready", meta.False, "Rebooting", "and has until 2026-11-22T10:12:00Z. Nothing is begun meanwhile.")
			if begun := w.machine.Calls()[calls:]; len(begun) > 0 {
				t.Errorf("began %q", begun)
			}
		})
	}
}

// Whoever suspends the host at the last moment is in time: also while the reboot
// is prepared.
func TestSuspendedAtTheLastMoment(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.with = func(o *hostOptions) {
		o.Guard = preparing{w.machine, func() {
			if _, err := w.r.Suspend("stop", time.Hour); err != nil {
				t.Error(err)
			}
		}}
	}
	w.put("hosts/web.yaml", hostSpec)
	w.publish("web kernel:1")
	w.pass()
	w.machine.Change(func(m *nixos.Machine) { m.Booted = m.Running })
	w.spec(strings.Replace(reboots, "%s", "IfRequired", 1))
	w.restart()
	w.announced()
	w.pass()
	w.want("Ready", meta.True, "UpToDate", "Suspended on the host (stop)")
	if n := w.rebooted(); n != 0 {
		t.Errorf("%d reboots", n)
	}
}

// preparing calls before while the guard of a reboot is prepared.
type preparing struct {
	nixos.Guard
	before func()
}

func (p preparing) Prepare(ctx context.Context, id, dir string) error {
	p.before()
	return p.Guard.Prepare(ctx, id, dir)
}

// A reboot that is not wanted any more leaves nothing behind: one by hand, weeks
// later, is not judged by it.
func TestCancelledRebootIsForgotten(t *testing.T) {
	t.Parallel()
	w := rebooting(t, "IfRequired")
	w.check()
	w.machine.OnPower = func() error { return nil } // it hangs
	w.announced()
	w.pass()
	w.override(`{suspend: {reason: INC-42}}`)
	w.now = w.now.Add(11 * time.Minute)
	w.pass()
	w.want("Ready", meta.True, "UpToDate", "Suspended by its HostOverride (INC-42).")
	if walls := w.machine.Walls(); len(walls) != 2 || !strings.Contains(walls[1], "is cancelled") {
		t.Errorf("said %q", walls)
	}
	runs := w.runs()
	w.now = w.now.Add(30 * 24 * time.Hour)
	w.machine.OnProbe = func(string) error { return errors.New("connection refused") }
	w.machine.PowerCut()
	for range 3 {
		w.restart()
		w.pass()
	}
	w.want("Ready", meta.False, "HealthCheckFailed", "connection refused")
	w.wantState(runs, runs, runs)
}

// A boot that says nothing about its system is not made again and again.
// A system that is staged while another runs is booted, also if it is the one
// that was booted before.
// A reboot that did not happen in one window is announced anew in the next, and
// waits for who is logged in by then.
func TestRebootIsAnnouncedAnew(t *testing.T) {
	t.Parallel()
	w := rebooting(t, "IfRequired")
	w.spec(strings.Replace(reboots, "%s", "IfRequired", 1) + strings.Replace(mondays, "timeZone", "gates: [Reboot], timeZone", 1))
	w.machine.OnPower = func() error { return nil }
	w.publish("web kernel:2")
	w.now = time.Date(2026, 11, 24, 2, 30, 0, 0, time.UTC)
	w.pass()
	w.now = w.now.Add(2 * time.Minute)
	w.pass()
	w.want("Ready", meta.False, "Rebooting", "")
	w.now = time.Date(2026, 11, 30, 21, 30, 0, 0, time.UTC)
	w.machine.LoggedIn = []string{"anna"}
	w.pass()
	w.want("Ready", meta.True, "UpToDate", "The reboot waits for who is logged in (anna), until Mon 2026-11-30 23:30 Europe/Berlin at the latest.")
	w.machine.LoggedIn = nil
	w.pass()
	w.now = w.now.Add(2 * time.Minute)
	w.pass()
	if n, walls := w.rebooted(), w.machine.Walls(); n != 2 || len(walls) != 3 || !strings.Contains(walls[1], "was not made") {
		t.Errorf("%d reboots, said %q", n, walls)
	}
}

// A host that is Ready stays so until it goes down.
func TestAnnouncingLeavesTheHostReady(t *testing.T) {
	t.Parallel()
	w := rebooting(t, "IfRequired")
	w.machine.LoggedIn = []string{"anna"}
	w.publish("web kernel:2")
	w.pass()
	since := w.status().Status.ReadySince
	w.now = w.now.Add(40 * time.Minute)
	w.machine.LoggedIn = nil
	w.machine.Other = "nixos-rebuild"
	w.pass()
	w.want("Ready", meta.True, "UpToDate", "Something else switches this host: nixos-rebuild.")
	w.machine.Other = ""
	w.pass()
	w.want("Ready", meta.True, "UpToDate", "It reboots at ")
	w.machine.Other = "nixos-rebuild"
	w.now = w.now.Add(2 * time.Minute)
	w.pass()
	w.want("Ready", meta.True, "UpToDate", "Something else switches this host: nixos-rebuild.")
	if got := w.status().Status.ReadySince; since == nil || got == nil || !got.Equal(since.Time) {
		t.Errorf("Ready since %v, then since %v", since, got)
	}
}

// A person who suspended a host reads why it does not reboot.
func TestSuspendedWhileStaged(t *testing.T) {
	t.Parallel()
	w := rebooting(t, "Never")
	w.spec(strings.NewReplacer("%s", "IfRequired", "{reboot:", "{mode: Boot, reboot:").Replace(reboots))
	w.publish("web kernel:2")
	w.pass()
	w.override(`{suspend: {reason: INC-42}}`)
	w.pass()
	w.want("Ready", meta.False, "RebootPending", "is the boot default and comes into force with a reboot. Suspended by its HostOverride (INC-42).")
}

// A reboot that cannot even be prepared, or told, is tried as often as the policy
// allows, says so, and tells nobody of a reboot that does not come.
func TestRebootThatCannotBePrepared(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		fails  func(w *world)
		most   int
		reason string
	}{
		"the boot loader": {func(w *world) {
			w.machine.Change(func(m *nixos.Machine) { m.BootDefault = nixos.Unknown }) // so that its word counts
			w.machine.OnStart = func(a nixos.Activation) (nixos.Result, bool) {
				if a.Action == nixos.ActionBoot {
					return nixos.Result{Exited: true, ExitCode: 1}, false
				}
				return nixos.Result{Exited: true}, true
			}
		}, 5, "RetriesExhausted"},
		"the bus": {func(w *world) { w.machine.OnPower = func() error { return errors.New("no bus") } }, 40, "RebootFailed"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := rebooting(t, "IfRequired")
			w.publish("web kernel:2")
			w.pass()
			c.fails(w)
			for range 24 * 60 {
				w.now = w.now.Add(time.Minute)
				_, _ = w.r.Reconcile(t.Context(), "web")
			}
			w.want("Ready", meta.False, c.reason, "")
			if n := strings.Count(strings.Join(w.machine.Walls(), "\n"), "reboots in 2m"); n > c.most || n == 0 {
				t.Errorf("told of %d reboots", n)
			}
			if walls := w.machine.Walls(); !strings.Contains(walls[len(walls)-1], "failed") {
				t.Errorf("said last %q", walls[len(walls)-1])
			}
			if n := len(w.status().Status.History); c.most == 5 && n > 6 {
				t.Errorf("%d attempts", n)
			}
		})
	}
}

// One that was prepared is nothing without its reboot, whatever came up since:
// one by hand is not judged by it.
func TestPreparedRebootIsNotKept(t *testing.T) {
	t.Parallel()
	for name, meanwhile := range map[string]func(w *world){
		"no HostSpec": func(w *world) { w.delete("hosts/web.yaml") },
		"unhealthy": func(w *world) {
			w.machine.OnProbe = func(string) error { return errors.New("connection refused") }
			w.spec(strings.Replace(reboots, "%s", "Never", 1))
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := rebooting(t, "IfRequired")
			w.check()
			w.machine.OnPower = func() error { return nil } // it hangs
			w.announced()
			w.pass()
			runs := w.runs()
			meanwhile(w)
			for range 3 {
				w.now = w.now.Add(11 * time.Minute)
				_, _ = w.r.Reconcile(t.Context(), "web")
			}
			w.machine.OnProbe = func(string) error { return errors.New("connection refused") }
			w.machine.PowerCut()
			calls := len(w.machine.Calls())
			for range 3 {
				w.restart()
				_, _ = w.r.Reconcile(t.Context(), "web")
			}
			w.wantState(runs, runs, runs)
			if made := w.machine.Calls()[calls:]; strings.Contains(strings.Join(made, " "), "reboot") {
				t.Errorf("it made %q", made)
			}
		})
	}
}

// Who is logged in is waited for once, however often something is published.
func TestPostponementEnds(t *testing.T) {
	t.Parallel()
	w := rebooting(t, "IfRequired")
	w.machine.LoggedIn = []string{"anna"}
	for n := range 3 {
		w.publish(strings.Repeat("web kernel:2 ", n+1))
		w.pass()
		w.want("Ready", meta.True, "UpToDate", "The reboot waits for who is logged in (anna), until 2026-11-22T11:00:00Z at the latest.")
		w.now = w.now.Add(25 * time.Minute)
	}
	w.pass()
	w.want("Ready", meta.True, "UpToDate", "It reboots at ")
}

// A new system that takes the host down before it is confirmed is taken back.
// A machine that was not told to reboot is not waited for: also if the agent is
// stopped at that moment.
func TestStoppedWhileRebooting(t *testing.T) {
	t.Parallel()
	w := rebooting(t, "IfRequired")
	w.announced()
	ctx, cancel := context.WithCancel(t.Context())
	w.machine.OnPower = func() error {
		cancel()
		return errors.New("no bus")
	}
	_, _ = w.r.Reconcile(ctx, "web")
	w.restart()
	w.publish("web kernel:3")
	w.pass()
	w.want("Ready", meta.True, "UpToDate", "generation 3")
}

// A transaction that cannot be read any more does not stop the host.
func TestPreparedRebootThatIsLost(t *testing.T) {
	t.Parallel()
	w := rebooting(t, "IfRequired")
	w.machine.OnPower = func() error { return nil }
	w.announced()
	w.pass()
	plans, err := filepath.Glob(filepath.Join(w.state, "transactions", "*", "plan.json"))
	if err != nil || len(plans) == 0 {
		t.Fatal(plans, err)
	}
	for _, plan := range plans {
		if err := os.WriteFile(plan, []byte("{"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	w.override(`{suspend: {reason: INC-42}}`)
	w.now = w.now.Add(11 * time.Minute)
	w.pass()
	w.override(`{}`)
	w.pass()
	w.publish("web kernel:1")
	w.pass()
	w.want("Ready", meta.True, "UpToDate", "generation 3")
}

// What a person asks for during the back-off of a reboot is that reboot.
func TestRebootIsAskedFor(t *testing.T) {
	t.Parallel()
	w := rebooting(t, "IfRequired")
	w.machine.OnPower = func() error { return errors.New("no bus") }
	w.publish("web kernel:2")
	w.minutes(60)
	w.want("Ready", meta.False, "RebootFailed", "no bus")
	w.machine.OnPower = nil
	w.r.Ask(false)
	w.pass()
	w.now = w.now.Add(2 * time.Minute)
	w.pass()
	w.restart()
	w.pass()
	w.want("Ready", meta.True, "UpToDate", "")
	if m := w.machine.State(); m.Booted != m.Running {
		t.Errorf("machine %+v", m)
	}
}

// That a reboot fails holds back nothing else.
func TestFailedRebootHoldsNothingBack(t *testing.T) {
	t.Parallel()
	w := rebooting(t, "IfRequired")
	w.machine.OnPower = func() error { return errors.New("no bus") }
	w.publish("web kernel:2")
	w.minutes(60)
	runs := w.runs()
	w.override(`{unknown: 1}`)
	w.machine.Change(func(m *nixos.Machine) { m.Running = "/nix/store/by-hand" })
	for range 18 { // its grace is a quarter of an hour
		w.now = w.now.Add(time.Minute)
		w.pass()
	}
	w.wantState(runs, runs, runs)
}

// Three times is three times, whatever comes up in between.
func TestFlappingDoesNotAskAnew(t *testing.T) {
	t.Parallel()
	w := rebooting(t, "IfRequired")
	w.machine.OnPower = func() error { return nil }
	w.publish("web kernel:2")
	w.minutes(60)
	w.want("Ready", meta.False, "RebootFailed", "told 3 times")
	good := w.machine.State().BootDefault
	for range 3 {
		w.machine.Change(func(m *nixos.Machine) { m.BootDefault = "/nix/store/by-hand" })
		w.minutes(40)
		if got := w.machine.State().BootDefault; got != good {
			t.Errorf("boots %s", got)
		}
	}
	if n := w.rebooted(); n != 3 {
		t.Errorf("%d reboots", n)
	}
	w.publish("web kernel:3") // another one is another reboot
	w.minutes(20)
	if n := w.rebooted(); n < 4 {
		t.Errorf("%d reboots", n)
	}
}

// A machine that does not leave a boot goes on with what is declared.
// A transaction that is gone leaves nothing to wait for.
func TestPreparedRebootThatIsGone(t *testing.T) {
	t.Parallel()
	w := rebooting(t, "IfRequired")
	w.machine.OnPower = func() error { return nil }
	w.announced()
	w.pass()
	if err := os.RemoveAll(filepath.Join(w.state, "transactions")); err != nil {
		t.Fatal(err)
	}
	w.machine.PowerCut()
	w.restart()
	w.publish("web kernel:3")
	w.pass()
	w.want("Ready", meta.True, "UpToDate", "generation 3")
}

// A machine that could not even be told to leave a boot is told again.
