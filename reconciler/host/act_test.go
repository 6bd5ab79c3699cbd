package host_test

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/npcnix/npcnix/apis/meta"
	"github.com/npcnix/npcnix/apis/v1alpha1"
	"github.com/npcnix/npcnix/nixos"
	"github.com/npcnix/npcnix/nixos/nixfake"
	"github.com/npcnix/npcnix/reconciler"
	"github.com/npcnix/npcnix/reconciler/transaction"
	"github.com/npcnix/npcnix/store/fault"
)

// A build may take hours: what is brought into force after it is what is
// declared then.
func TestWhatIsDeclaredDuringABuildCounts(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		change func(w *world)
		ready  meta.ConditionStatus
		reason string
		kept   bool
	}{
		"suspended":     {func(w *world) { w.put("hosts/web.yaml", hostSpec+"  suspend: {reason: INC-7}\n") }, meta.False, "Suspended", true},
		"deleted":       {func(w *world) { w.delete("hosts/web.yaml") }, meta.False, "SpecNotFound", true},
		"published":     {func(w *world) { w.publish("web 3") }, meta.True, "UpToDate", false},
		"not reachable": {func(w *world) { w.store.Follow(fault.On("hosts/web.yaml", fault.Fault{Err: errors.New("no route")})) }, meta.False, "StoreUnavailable", true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := converged(t)
			old, changed := w.machine.State(), false
			w.machine.OnBuild = func(nixos.BuildRequest) error {
				if !changed {
					changed = true
					c.change(w)
				}
				return nil
			}
			w.publish("web 2")
			_, _ = w.r.Reconcile(t.Context(), "web") // the store may not answer
			w.want("Ready", c.ready, c.reason, "")
			if m := w.machine.State(); (m == old) != c.kept {
				t.Errorf("machine is %+v, was %+v", m, old)
			}
			if a := w.lastAttempt(); c.reason == "Suspended" && (a.Outcome != v1alpha1.OutcomeBuilt || a.Reason != "Suspended") {
				t.Errorf("attempt %+v", a) // nothing is under way while it is held back
			}
		})
	}
}

// Each agent sees the system that it was started by: one that saw a switch end
// is started anew before it confirms.
func TestAgentThatSawTheSwitchDoesNotConfirm(t *testing.T) {
	t.Parallel()
	w := converged(t)
	restarts := 0
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	w.machine.OnRestart = func() { restarts++; cancel() }
	w.machine.OnStart = func(nixos.Activation) (nixos.Result, bool) { panic("killed") }
	w.publish("web 2")
	if _, err := reconciler.Once(ctx, w.r.Reconcile, "web"); !errors.Is(err, reconciler.ErrPanic) {
		t.Fatal(err)
	}
	w.machine.OnStart = nil
	w.restart() // not by the new system: nothing was activated yet
	_, _ = w.r.Reconcile(ctx, "web")
	if restarts != 1 {
		t.Errorf("%d restarts", restarts)
	}
	w.restart()
	w.pass()
	w.want("Ready", meta.True, "UpToDate", "generation 2")
}

// Two reboots in the middle of its switch put a target in quarantine; one before
// it began does not count.
func TestRebootsDuringASwitch(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		at     string
		reason string
	}{
		"before it began": {"arm", "UpToDate"},
		"in it":           {"start", "Quarantined"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := converged(t)
			old := w.machine.State().Running
			w.machine.Change(func(m *nixos.Machine) { m.Booted = m.Running })
			w.publish("web 2")
			for range 2 {
				dies := &dying{Machine: w.machine, at: c.at}
				w.restartOn(dies)
				if _, err := reconciler.Once(t.Context(), w.r.Reconcile, "web"); !errors.Is(err, reconciler.ErrPanic) {
					t.Fatalf("it did not die: %v", err)
				}
				w.machine.PowerCut()
			}
			w.restart()
			w.pass()
			w.want("Ready", map[bool]meta.ConditionStatus{true: meta.True, false: meta.False}[c.reason == "UpToDate"], c.reason, "")
			if m := w.machine.State(); (m.Running == old) != (c.reason == "Quarantined") {
				t.Errorf("machine %+v", m)
			}
		})
	}
}

// dying ends its agent in an act that was begun.
type dying struct {
	*nixfake.Machine

	at string
}

func (d *dying) Arm(ctx context.Context, id, dir string, after time.Duration) error {
	if d.at == "arm" {
		panic("killed")
	}
	return d.Machine.Arm(ctx, id, dir, after)
}

func (d *dying) Start(ctx context.Context, a nixos.Activation) error {
	err := d.Machine.Start(ctx, a)
	if d.at == "start" {
		panic("killed")
	}
	return err
}

// restartOn starts an agent on a machine whose guard and activator are others.
func (w *world) restartOn(m *dying) {
	w.t.Helper()
	w.with = func(o *hostOptions) { o.Guard, o.Activator = m, m }
	w.restart()
	w.with = nil
}

// A guard finishes a commit only while its target runs: a person who switched
// meanwhile has the last word.
func TestGuardLeavesAPersonsSwitchAlone(t *testing.T) {
	t.Parallel()
	state := filepath.Join(t.TempDir(), "state")
	synctest.Test(t, func(t *testing.T) {
		w := worldAt(t, time.Now(), state)
		w.restart()
		w.put("hosts/web.yaml", hostSpec)
		w.publish("web 1")
		w.pass()
		w.machine.OnSetProfile = func(string) error { panic("killed") }
		w.publish("web 2")
		if _, err := reconciler.Once(t.Context(), w.r.Reconcile, "web"); !errors.Is(err, reconciler.ErrPanic) {
			t.Fatal(err)
		}
		w.machine.OnSetProfile = nil
		const fix = "/nix/store/fix"
		w.machine.Change(func(m *nixos.Machine) { m.Running, m.Profile, m.BootDefault = fix, fix, fix })
		tx, err := transaction.Open(transaction.Dir(w.state, "attempt-2"))
		if err != nil {
			t.Fatal(err)
		}
		o, err := tx.RunGuard(t.Context(), w.machine, time.Now)
		if err != nil || o.Kind != transaction.Superseded {
			t.Errorf("%+v, %v", o, err)
		}
		w.wantState(fix, fix, fix)
		w.machine.WaitGuards()
	})
}

// A guard that is told to stop has found nothing out: it does not end a
// transaction by what was cut short, and the next one does.
func TestGuardThatIsToldToStopEndsNothing(t *testing.T) {
	t.Parallel()
	w := converged(t)
	old := w.machine.State().Running
	w.machine.OnGuard = nil
	w.publish("web fails:x.service")
	ctx, stop := context.WithCancel(t.Context())
	w.machine.OnProbe = nil
	w.machine.OnStart = func(nixos.Activation) (nixos.Result, bool) { return nixos.Result{Exited: true}, true }
	w.policy("")
	time.AfterFunc(500*time.Millisecond, stop) // in the rollback, for which no guard comes
	_, _ = w.r.Reconcile(ctx, "web")
	id := ""
	entries, err := os.ReadDir(filepath.Join(w.state, "transactions"))
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		id = e.Name()
	}
	tx, err := transaction.Open(transaction.Dir(w.state, id))
	if err != nil {
		t.Fatal(err)
	}
	if o, err := tx.RunGuard(ctx, w.machine, func() time.Time { return w.now }); err == nil {
		t.Errorf("it ended with %+v", o)
	}
	if o, ended, err := tx.Outcome(); ended || err != nil {
		t.Errorf("outcome %+v, %v", o, err)
	}
	if o, err := tx.RunGuard(t.Context(), w.machine, func() time.Time { return w.now }); err != nil || o.Kind != transaction.RolledBack {
		t.Errorf("%+v, %v", o, err)
	}
	w.wantState(old, old, old)
}

// What failed since is told with a rollback, which may have more to tell than
// that the links are back.
func TestRollbackTellsWhatStillFails(t *testing.T) {
	t.Parallel()
	w := converged(t)
	w.machine.OnProbe = func(string) error { return errors.New("connection refused") }
	w.put("hosts/web.yaml", strings.Replace(hostSpec, "settle: 0s}", `settle: 0s, checks: [{name: ssh, tcp: {address: "127.0.0.1:22"}}]}`, 1)+
		"  rebuildPolicy: {timeouts: {activate: 1s, confirm: 1s}}\n")
	broken := false
	w.machine.OnStart = func(nixos.Activation) (nixos.Result, bool) { broken = true; return nixos.Result{Exited: true}, true }
	w.machine.OnUnits = func(units nixos.Units) nixos.Units {
		units = append(units, nixos.Unit{Name: "old.service", Failed: true})
		if broken {
			units = append(units, nixos.Unit{Name: "mail.service", Failed: true})
		}
		return units
	}
	w.publish("web 2")
	w.pass()
	if a := w.lastAttempt(); a.Outcome != v1alpha1.OutcomeRolledBack || !strings.Contains(a.Message, "There failed since: mail.service.") {
		t.Errorf("attempt %+v", a)
	}
}

// An agent that is killed late in confirming leaves the next one the time for
// what it was to see: to be started again is not the new system's fault.
func TestAgentThatIsKilledLateInConfirming(t *testing.T) {
	t.Parallel()
	state := filepath.Join(t.TempDir(), "state")
	synctest.Test(t, func(t *testing.T) {
		w := worldAt(t, time.Now(), state)
		w.with = func(o *hostOptions) { o.Now = time.Now }
		w.restart()
		w.put("hosts/web.yaml", strings.Replace(hostSpec, "settle: 0s}", `settle: 20s, checks: [{name: ssh, tcp: {address: "127.0.0.1:22"}}]}`, 1)+
			"  rebuildPolicy: {timeouts: {confirm: 30s}}\n")
		w.publish("web 1")
		w.pass()
		w.machine.OnProbe = func(string) error { panic("killed") }
		w.publish("web 2")
		if _, err := reconciler.Once(t.Context(), w.r.Reconcile, "web"); !errors.Is(err, reconciler.ErrPanic) {
			t.Fatal(err)
		}
		w.machine.OnProbe = nil
		time.Sleep(15 * time.Second)
		w.restart()
		w.pass()
		w.want("Ready", meta.True, "UpToDate", "generation 2")
		w.machine.WaitGuards()
		if err := w.r.Close(); err != nil {
			t.Error(err)
		}
	})
}
