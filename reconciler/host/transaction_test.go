package host_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/go-logr/logr"

	"github.com/npcnix/npcnix/apis/meta"
	"github.com/npcnix/npcnix/nixos"
	"github.com/npcnix/npcnix/nixos/nixfake"
	"github.com/npcnix/npcnix/reconciler"
	"github.com/npcnix/npcnix/reconciler/host"
	"github.com/npcnix/npcnix/reconciler/transaction"
	"github.com/npcnix/npcnix/store"
	"github.com/npcnix/npcnix/store/fault"
	"github.com/npcnix/npcnix/store/mem"
)

// errKilled is what an agent that is killed panics with.
var errKilled = errors.New("killed")

// strike is what happens at an act of the agent, or of its guard.
type strike string

const (
	nothing      strike = "nothing"
	fails        strike = "fails"
	killedBefore strike = "killed before"
	killedAfter  strike = "killed after"
	hangs        strike = "hangs"
	powerCut     strike = "power cut"
	guardFires   strike = "guard fires"
	newerJournal strike = "newer journal"
)

func strikes() []strike {
	return []strike{fails, killedBefore, killedAfter, hangs, powerCut, guardFires, newerJournal}
}

// queryLimit is what a real machine gives an act that has no limit of its own.
const queryLimit = 2 * time.Minute

// struck is a machine on which something happens at an act.
type struck struct {
	*nixfake.Machine

	w *table
	// who is agent or guard; a dead one does nothing any more.
	who  string
	dead *atomic.Bool
}

// at does an act, unless it is the one that is struck.
func (m struck) at(ctx context.Context, act string, do func() error) error {
	if m.dead.Load() {
		panic(errKilled)
	}
	w := m.w
	if m.who+" "+act != w.act || w.strike == nothing || w.done.Swap(true) {
		return do()
	}
	switch w.strike { //nolint:exhaustive // nothing is handled above
	case fails:
		return errors.New("injected")
	case killedBefore:
	case killedAfter:
		_ = do() // nobody learns how it went
	case hangs:
		limited, cancel := context.WithTimeout(ctx, queryLimit)
		defer cancel()
		<-limited.Done()
		return fmt.Errorf("%s: %w", act, context.Cause(limited))
	case powerCut:
		w.cut.Store(true)
	case guardFires:
		ids := m.Armed()
		for _, id := range ids {
			_ = m.Fire(ctx, id, transaction.Dir(w.state, id))
		}
		time.Sleep(time.Minute) // where it can, it has ended by then; where not, it waits for the lock
		return do()
	case newerJournal:
		path := filepath.Join(w.state, "journal.json")
		if err := os.WriteFile(path, []byte(`{"formatVersion": 99, "phase": "Teleporting"}`), 0o600); err != nil {
			w.t.Error(err)
		}
	}
	m.dead.Store(true)
	panic(errKilled)
}

func (m struck) Arm(ctx context.Context, id, dir string, after time.Duration) error {
	return m.at(ctx, "arm", func() error { return m.Machine.Arm(ctx, id, dir, after) })
}

func (m struck) Fire(ctx context.Context, id, dir string) error {
	return m.at(ctx, "fire", func() error { return m.Machine.Fire(ctx, id, dir) })
}

func (m struck) Start(ctx context.Context, a nixos.Activation) error {
	return m.at(ctx, "start "+what(a.ID), func() error {
		if mutate := m.w.mutate; mutate != nil {
			return mutate(ctx, m.Machine, a)
		}
		return m.Machine.Start(ctx, a)
	})
}

func (m struck) Await(ctx context.Context, id string) (result nixos.Result, err error) {
	err = m.at(ctx, "await "+what(id), func() (err error) { result, err = m.Machine.Await(ctx, id); return err })
	return result, err
}

// what is the part of a run's name that says what it is: test, boot, rollback.
func what(id string) string {
	parts := strings.Split(id, "-")
	for _, p := range parts[2:] {
		if p != "1" {
			return p
		}
	}
	return ""
}

func (m struck) Stop(ctx context.Context, id string) error {
	return m.at(ctx, "stop", func() error { return m.Machine.Stop(ctx, id) })
}

func (m struck) SetProfile(ctx context.Context, toplevel string, generation int64) error {
	return m.at(ctx, "profile", func() error { return m.Machine.SetProfile(ctx, toplevel, generation) })
}

func (m struck) Outdated(ctx context.Context) (why string, err error) {
	err = m.at(ctx, "outdated", func() (err error) { why, err = m.Machine.Outdated(ctx); return err })
	return why, err
}

func (m struck) TCP(ctx context.Context, address string) error {
	return m.at(ctx, "check", func() error { return m.Machine.TCP(ctx, address) })
}

func (m struck) Observe(ctx context.Context, desired string) (got nixos.Machine, err error) {
	if m.dead.Load() {
		panic(errKilled)
	}
	return m.Machine.Observe(ctx, desired)
}

// dyingStore is the store of an agent that can be killed.
type dyingStore struct {
	store.Store

	dead *atomic.Bool
}

func (s dyingStore) alive() {
	if s.dead.Load() {
		panic(errKilled)
	}
}

func (s dyingStore) Get(ctx context.Context, key string, o store.GetOptions) (*store.Object, error) {
	s.alive()
	return s.Store.Get(ctx, key, o)
}

// table is a host with three systems behind it, and what strikes it.
type table struct {
	*world

	act    string
	strike strike
	mutate func(ctx context.Context, m *nixfake.Machine, a nixos.Activation) error
	done   atomic.Bool
	cut    atomic.Bool
	names  map[string]string // of toplevels
	agent  *atomic.Bool      // whether the present agent is dead
}

const tableSpec = `apiVersion: npcnix.dev/v1alpha1
kind: HostSpec
metadata: {name: web}
spec:
  remote: prod
  rebuildPolicy: {timeouts: {activate: 10m, confirm: 5m}, %s}
  healthChecks: {settle: 30s, checks: [{name: ssh, tcp: {address: "127.0.0.1:22"}}]}
`

// start starts an agent, or another one after it was killed.
func (w *table) start() {
	w.t.Helper()
	if w.r != nil {
		if err := w.r.Close(); err != nil {
			w.t.Fatal(err)
		}
	}
	w.agent = &atomic.Bool{}
	m := struck{w.machine, w, "agent", w.agent}
	o := w.options()
	o.Log = logr.Discard()
	o.Now, o.Observer, o.Activator, o.Guard, o.Service, o.Prober = time.Now, m, m, m, m, m
	o.Store = dyingStore{w.store, w.agent}
	o.Fresh = func(context.Context) (store.Store, error) { return o.Store, nil }
	r, err := host.New(w.t.Context(), o)
	if err != nil {
		w.t.Fatal(err)
	}
	w.r = r
	w.machine.AgentStarted()
}

// guard is a guard, started anew when it was killed.
func (w *table) guard(ctx context.Context, dir string) {
	for range 5 {
		dead := &atomic.Bool{}
		_, err := reconciler.Once(ctx, func(ctx context.Context, _ string) (reconciler.Result, error) {
			t, err := transaction.Open(dir)
			if err == nil {
				_, err = t.RunGuard(ctx, struck{w.machine, w, "guard", dead}, time.Now)
			}
			return reconciler.Result{}, err
		}, "")
		if err == nil || w.cut.Load() {
			return
		}
		time.Sleep(time.Second)
	}
}

// passes lets agents look for an hour, one after the other when they are killed.
func (w *table) passes() {
	for range 60 {
		ctx, cancel := context.WithCancel(w.t.Context())
		restart := false
		w.machine.OnRestart = func() { restart = true; cancel() }
		_, err := reconciler.Once(ctx, w.r.Reconcile, "web")
		cancel()
		killed := errors.Is(err, reconciler.ErrPanic) && strings.Contains(err.Error(), errKilled.Error())
		if errors.Is(err, reconciler.ErrPanic) && !killed {
			w.t.Fatal(err)
		}
		if w.cut.Swap(false) {
			w.machine.PowerCut()
			killed = true
		}
		if killed || restart {
			w.start()
		}
		time.Sleep(time.Minute)
		synctest.Wait()
	}
}

// inTable brings a host to its second system, lets a third be published, and
// something happen, and returns what became of it.
func inTable(t *testing.T, flake, policy, act string, s strike, mutate func(ctx context.Context, m *nixfake.Machine, a nixos.Activation) error) (result string) {
	t.Helper()
	state := filepath.Join(t.TempDir(), "state")
	synctest.Test(t, func(t *testing.T) {
		w := &table{world: &world{t: t, machine: &nixfake.Machine{}, state: state}, act: act, strike: nothing, names: map[string]string{"": "none"}}
		w.now = time.Now()
		w.store = fault.New(mem.New(time.Now))
		w.machine.OnGuard = w.guard
		w.machine.Took = func(nixos.Activation) time.Duration { return 10 * time.Second }
		w.start()
		w.put("hosts/web.yaml", fmt.Sprintf(tableSpec, "mode: Switch"))
		for _, name := range []string{"A", "B"} {
			w.publish("web " + name)
			w.passes()
			w.names[w.machine.State().Running] = name
		}
		w.machine.Change(func(m *nixos.Machine) { m.Booted = m.BootDefault })
		w.strike, w.mutate = s, mutate
		w.machine.OnProbe = func(string) error {
			if strings.Contains(flake, "sick") && w.names[w.machine.State().Running] == "" {
				return errors.New("connection refused")
			}
			return nil
		}
		w.put("hosts/web.yaml", fmt.Sprintf(tableSpec, policy))
		w.publish("web C " + flake)
		w.passes()
		if len(w.names) == 3 {
			for _, call := range w.machine.Calls() {
				if words := strings.Fields(call); strings.HasPrefix(words[len(words)-1], "/nix/store/") && w.names[words[len(words)-1]] == "" {
					w.names[words[len(words)-1]] = "C"
				}
			}
		}
		if s != nothing && !w.done.Load() {
			t.Errorf("%s was never done", act)
		}
		result = w.result()
		if left := w.machine.Armed(); len(left) > 0 && s != newerJournal {
			t.Errorf("guards are left: %v", left)
		}
		if err := w.r.Close(); err != nil {
			t.Error(err)
		}
		w.machine.WaitGuards()
	})
	return result
}

// result is what runs, is the profile's and the boot default; then the phase in
// the journal; then why the host is ready or not.
func (w *table) result() string {
	m := w.machine.State()
	data, err := os.ReadFile(filepath.Join(w.state, "journal.json"))
	if err != nil {
		w.t.Fatal(err)
	}
	phase := "?"
	for line := range strings.Lines(string(data)) {
		if p, ok := strings.CutPrefix(strings.TrimSpace(line), `"phase": "`); ok {
			phase = strings.TrimSuffix(p, `",`)
			break
		}
	}
	if strings.Contains(string(data), "Teleporting") {
		phase = "newer"
	}
	s := w.status()
	c := meta.FindCondition(s.Status.Conditions, "Ready")
	return fmt.Sprintf("%s%s%s %s %s", w.names[m.Running], w.names[m.Profile], w.names[m.BootDefault], phase, c.Reason)
}

// What becomes of the host: running, profile, boot default; phase; reason.
const (
	inForce = "CCC Committed UpToDate"
	taken   = "BBB RolledBack Quarantined"
	tooNewB = "BBB newer JournalTooNew" // the guard took it back
	tooNewC = "CCC newer JournalTooNew" // the guard finished it
	pending = "BCC RebootPending RebootPending"
)

// row is a state of a transaction, by the act that is done in it, and what each
// strike makes of it.
type row struct {
	state, act    string
	flake, policy string
	want          string            // without a strike, and with most of them
	but           map[strike]string // with these
}

const sick, healthy = "sick", ""

func rows() []row {
	takenBy := map[strike]string{guardFires: taken, newerJournal: tooNewB}
	finished := map[strike]string{newerJournal: tooNewC}
	return []row{
		{"Armed", "agent arm", healthy, "mode: Switch", inForce, map[strike]string{newerJournal: tooNewB}},
		{"Switching", "agent start test", healthy, "mode: Switch", inForce, takenBy},
		{"Switching", "agent await test", healthy, "mode: Switch", inForce, takenBy},
		{"Confirming", "agent outdated", healthy, "mode: Switch", inForce, takenBy},
		{"Confirming", "agent check", healthy, "mode: Switch", inForce, takenBy},
		{"Committing", "agent profile", healthy, "mode: Switch", inForce, finished},
		{"Committing", "agent start boot", healthy, "mode: Switch", inForce, finished},
		{"Committing", "agent await boot", healthy, "mode: Switch", inForce, finished},
		{"RollingBack", "agent fire", sick, "mode: Switch", taken, map[strike]string{newerJournal: tooNewB}},
		{"RollingBack", "guard stop", sick, "mode: Switch", taken, nil},
		{"RollingBack", "guard start rollback", sick, "mode: Switch", taken, nil},
		{"RollingBack", "guard await rollback", sick, "mode: Switch", taken, nil},
		{"Staging", "agent profile", healthy, "mode: Boot", pending, map[strike]string{newerJournal: "BBB newer JournalTooNew"}},
		{"Staging", "agent start boot", healthy, "mode: Boot", pending, map[strike]string{newerJournal: "BCB newer JournalTooNew"}},
		{"Staging", "agent await boot", healthy, "mode: Boot", pending, map[strike]string{newerJournal: "BCC newer JournalTooNew"}},
	}
}

// Whatever strikes whichever state, the host ends in one that is named here,
// with everything of one system, and says so.
func TestTransactions(t *testing.T) {
	t.Parallel()
	for _, r := range rows() {
		for _, s := range append(strikes(), nothing) {
			if s == newerJournal && strings.HasPrefix(r.act, "guard") {
				continue // the agent that lives has read its journal
			}
			t.Run(fmt.Sprintf("%s, %s: %s", r.state, r.act, s), func(t *testing.T) {
				t.Parallel()
				want := r.want
				if but, ok := r.but[s]; ok {
					want = but
				}
				if got := inTable(t, r.flake, r.policy, r.act, s, nil); got != want {
					t.Errorf("%s, want %s", got, want)
				}
			})
		}
	}
}

// The table would tell: mistakes that other tools make are seen by it.
func TestTransactionsTableSeesMistakes(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		flake  string
		mutate func(ctx context.Context, m *nixfake.Machine, a nixos.Activation) error
	}{
		"the commit comes before the confirmation": {sick, func(ctx context.Context, m *nixfake.Machine, a nixos.Activation) error {
			if what(a.ID) == "test" {
				a.Action = nixos.ActionTest
				m.Change(func(s *nixos.Machine) { s.Profile, s.BootDefault = a.Toplevel, a.Toplevel })
			}
			return m.Start(ctx, a)
		}},
		"the rollback goes to the generation before": {sick, func(ctx context.Context, m *nixfake.Machine, a nixos.Activation) error {
			if what(a.ID) == "rollback" {
				a.Toplevel = m.Generation(1)
			}
			return m.Start(ctx, a)
		}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			if got := inTable(t, c.flake, "mode: Switch", "", nothing, c.mutate); got == taken {
				t.Errorf("%s: the table does not see it", got)
			}
		})
	}
}
