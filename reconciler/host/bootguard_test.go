package host_test

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/npcnix/npcnix/apis/meta"
	"github.com/npcnix/npcnix/nixos"
	"github.com/npcnix/npcnix/reconciler"
	"github.com/npcnix/npcnix/reconciler/transaction"
	"github.com/npcnix/npcnix/store/fault"
)

// The guard of a boot takes back what no agent confirms, unless somebody took
// over or the policy is to keep it.
func TestBootGuard(t *testing.T) {
	t.Parallel()
	const old, target = "old", "target"
	for name, c := range map[string]struct {
		policy string
		change func(m *nixos.Machine)
		kind   transaction.Kind
		reboot bool
	}{
		"nobody confirms":       {"", func(*nixos.Machine) {}, transaction.RolledBack, true},
		"somebody took over":    {"", func(m *nixos.Machine) { m.Running, m.Profile = "/nix/store/fix", "/nix/store/fix" }, transaction.Superseded, false},
		"the policy is to keep": {", rollback: {onFailure: Keep}", func(*nixos.Machine) {}, transaction.Kept, false},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			state := filepath.Join(t.TempDir(), "state")
			synctest.Test(t, func(t *testing.T) {
				w := worldAt(t, time.Now(), state)
				w.restart()
				w.put("hosts/web.yaml", hostSpec)
				w.publish("web 1")
				w.pass()
				names := map[string]string{w.machine.State().Running: old}
				w.policy("mode: Boot" + c.policy)
				w.publish("web 2")
				w.pass()
				names[w.machine.State().Profile] = target
				w.machine.PowerCut()
				w.machine.Change(c.change)
				tx, err := transaction.Open(transaction.Dir(w.state, w.lastAttempt().ID))
				if err != nil {
					t.Fatal(err)
				}
				calls := len(w.machine.Calls())
				o, err := tx.RunBootGuard(t.Context(), w.machine, time.Now)
				if err != nil || o.Kind != c.kind {
					t.Errorf("%+v %v, want %s", o, err, c.kind)
				}
				made := strings.Join(w.machine.Calls()[calls:], " ")
				if reboot := strings.Contains(made, "reboot"); reboot != c.reboot {
					t.Errorf("it made %s", made)
				}
				if m := w.machine.State(); c.reboot && (names[m.Running] != old || names[m.Profile] != old || names[m.BootDefault] != old) {
					t.Errorf("machine %+v", m)
				}
				if !c.reboot && made != "" {
					t.Errorf("it made %s", made)
				}
			})
		})
	}
}

// Whether it was the booted system that lost the store is judged from the earlier
// one, once that is booted again.
func TestStoreThatIsLostAfterABoot(t *testing.T) {
	t.Parallel()
	for reason, both := range map[string]bool{"Quarantined": false, "Inconclusive": true} {
		t.Run(reason, func(t *testing.T) {
			t.Parallel()
			w := converged(t)
			old, lost := w.runs(), true
			w.policy("mode: Boot, retry: {maxBackoff: 1m}")
			w.publish("web 2")
			w.pass()
			w.machine.PowerCut()
			w.store.Follow(func(fault.Request) fault.Fault {
				if lost && (both || w.runs() != old) {
					return fault.Fault{Err: errors.New("no route to host")}
				}
				return fault.Fault{}
			})
			w.restart()
			w.machine.OnPower = func() error { return nil } // it takes its time
			for range 2 {
				_, _ = w.r.Reconcile(t.Context(), "web") // that it could not report is its error
			}
			if m := w.machine.State(); m.Running == old || m.BootDefault != old {
				t.Fatalf("machine %+v", m)
			}
			w.machine.PowerCut()
			w.restart()
			_, _ = w.r.Reconcile(t.Context(), "web")
			lost = false
			w.now = w.now.Add(10 * time.Second)
			w.pass()
			w.want("Ready", meta.False, reason, "The store could not be reached from the new system")
		})
	}
}

// Files of a transaction, or of the journal, that make no sense hold the host up
// only until the next look.
func TestDamagedTransactionWedgesNothing(t *testing.T) {
	t.Parallel()
	for name, damage := range map[string]func(w *world) error{
		"plan": func(w *world) error {
			return os.WriteFile(filepath.Join(transaction.Dir(w.state, "attempt-2"), "plan.json"), []byte("{"), 0o600)
		},
		"outcome": func(w *world) error {
			return os.WriteFile(filepath.Join(transaction.Dir(w.state, "attempt-2"), "outcome.json"), []byte("{"), 0o600)
		},
		"journal": func(w *world) error {
			return os.WriteFile(filepath.Join(w.state, "journal.json"), []byte(`{"formatVersion": 2, "host": "web", "phase": "Switching"}`), 0o600)
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := converged(t)
			w.policy("")
			w.machine.OnProbe = func(string) error { return nil }
			w.publish("web 2")
			w.machine.OnStart = func(a nixos.Activation) (nixos.Result, bool) {
				if a.Action == nixos.ActionBoot {
					panic("killed")
				}
				return nixos.Result{Exited: true}, true
			}
			if _, err := reconciler.Once(t.Context(), w.r.Reconcile, "web"); !errors.Is(err, reconciler.ErrPanic) {
				t.Fatal(err)
			}
			w.machine.OnStart = nil
			if err := damage(w); err != nil {
				t.Fatal(err)
			}
			w.restart()
			for range 3 {
				_, _ = w.r.Reconcile(t.Context(), "web")
				w.now = w.now.Add(time.Hour)
			}
			w.want("Ready", meta.True, "UpToDate", "generation 2")
			if m := w.machine.State(); m.Running != m.Profile || m.Profile != m.BootDefault {
				t.Errorf("machine %+v", m)
			}
		})
	}
}
