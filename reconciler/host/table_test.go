package host_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync/atomic"
	"syscall"
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
	// The store does not answer for twenty minutes.
	storeDown strike = "store down"
	// A run of stc goes on beyond its limit.
	stcHangs strike = "stc hangs"
	// The state's file system: full, with room for so many blocks, or read-only.
	diskFull     strike = "disk full"
	oneBlock     strike = "disk full but for a block"
	threeBlocks  strike = "disk full but for three blocks"
	diskReadOnly strike = "disk read-only"
)

func strikes() []strike {
	return []strike{fails, killedBefore, killedAfter, hangs, powerCut, guardFires, newerJournal, storeDown, stcHangs, diskFull, oneBlock, threeBlocks, diskReadOnly}
}

// room is how many blocks a strike leaves; ok says that it is about the disk.
func (s strike) room() (blocks int, ok bool) {
	blocks, ok = map[strike]int{diskFull: 0, oneBlock: 1, threeBlocks: 3, diskReadOnly: 0}[s]
	return blocks, ok
}

// queryLimit is what a real machine gives an act that has no limit of its own.
const queryLimit = 2 * time.Minute

// at does an act of the table's host, unless it is the one that is struck.
func (w *table) at(ctx context.Context, m struck, act string, do func() error) error {
	if m.who+" "+act != w.act || w.strike == nothing || w.done.Swap(true) {
		return do()
	}
	if _, disk := w.strike.room(); disk {
		w.spoil()
		return do()
	}
	switch w.strike { //nolint:exhaustive // the others are handled above
	case storeDown:
		w.store.Follow(fault.Always(fault.Fault{Err: errors.New("no route to host")}))
		time.AfterFunc(20*time.Minute, func() { w.store.Follow(nil) })
		return do()
	case stcHangs:
		w.slow.Store(true)
		defer w.slow.Store(false)
		return do()
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

// struck is the machine as the agent, or a guard, of the table meets it.
func (w *table) struck(who string, dead *atomic.Bool) struck {
	return struck{Machine: w.machine, who: who, dead: dead, hit: w.at, cut: &w.cut, mutate: w.mutate}
}

// table is a host with three systems behind it, and what strikes it.
type table struct {
	*world

	act    string
	strike strike
	mutate func(ctx context.Context, m *nixfake.Machine, a nixos.Activation) error
	done   atomic.Bool
	slow   atomic.Bool // what is started now takes longer than it may
	cut    atomic.Bool
	names  map[string]string // of toplevels
	agent  *atomic.Bool      // whether the present agent is dead
	// boots says that somebody reboots the host when it waits for that.
	boots   bool
	flake   string       // of the third system
	third   bool         // whether it was published
	powered *atomic.Bool // whether the power of this boot was cut
}

// spoil makes the state's file system useless for twenty minutes.
func (w *table) spoil() {
	if w.strike == diskReadOnly {
		w.remount("ro,size=1m")
		time.AfterFunc(20*time.Minute, func() { w.remount("rw,size=1m") })
		return
	}
	filler := filepath.Join(w.state, "filler")
	const block = 4096
	size, zeros := int64(0), make([]byte, block)
	err := os.Mkdir(filler, 0o700)
	f, createErr := os.Create(filepath.Join(filler, "blocks"))
	if err := errors.Join(err, createErr); err != nil {
		w.t.Error(err)
		return
	}
	for err == nil {
		var n int
		n, err = f.Write(zeros)
		size += int64(n)
	}
	blocks, _ := w.strike.room()
	if err := errors.Join(f.Truncate(size-int64(blocks)*block), f.Close()); err != nil {
		w.t.Error(err)
	}
	n := 0
	for w.strike == diskFull && os.WriteFile(filepath.Join(filler, strconv.Itoa(n)), nil, 0o600) == nil {
		n++
	}
	time.AfterFunc(20*time.Minute, func() {
		if err := os.RemoveAll(filler); err != nil {
			w.t.Error(err)
		}
	})
}

func (w *table) remount(options string) {
	flags := uintptr(syscall.MS_REMOUNT)
	if strings.HasPrefix(options, "ro,") {
		flags |= syscall.MS_RDONLY
	}
	if err := syscall.Mount("tmpfs", w.state, "tmpfs", flags, options[strings.Index(options, "size"):]); err != nil {
		w.t.Error(err)
	}
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
	m := w.struck("agent", w.agent)
	o := w.options()
	o.Log = logr.Discard()
	o.Now, o.Observer, o.Builder, o.Activator, o.Guard, o.Power, o.Service, o.Prober = time.Now, m, m, m, m, m, m, m
	o.Store = dyingStore{w.store, m}
	o.Fresh = func(context.Context) (store.Store, error) { return o.Store, nil }
	r, err := host.New(w.t.Context(), o)
	if err != nil {
		w.t.Fatal(err)
	}
	w.r = r
	w.machine.AgentStarted()
}

// guarding runs a guard until it has ended well, or the power is cut; one that
// fails or is killed is started anew.
func (w *table) guarding(who string, powered *atomic.Bool, act func(t *transaction.Transaction, m struck) error, dir string) {
	for range 1000 {
		_, err := reconciler.Once(w.t.Context(), func(context.Context, string) (reconciler.Result, error) {
			t, err := transaction.Open(dir)
			if err == nil {
				err = act(t, w.struck(who, powered))
			}
			return reconciler.Result{}, err
		}, "")
		if err == nil || w.cut.Load() || powered.Load() {
			return
		}
		time.Sleep(5 * time.Second)
	}
}

// guard is the guard of a switch.
func (w *table) guard(ctx context.Context, dir string) {
	alive := &atomic.Bool{}
	w.guarding("guard", alive, func(t *transaction.Transaction, m struck) error {
		m.dead = &atomic.Bool{} // each is killed for itself
		_, err := t.RunGuard(ctx, m, time.Now)
		return err
	}, dir)
}

// booted starts what a boot starts: the guards of staged systems.
func (w *table) booted() {
	if w.powered != nil {
		w.powered.Store(true)
	}
	powered := &atomic.Bool{}
	w.powered = powered
	if !strings.Contains(w.flake, crashes) && w.strike != newerJournal {
		return // the agent is faster, and does it itself
	}
	staged, _ := filepath.Glob(filepath.Join(w.state, "transactions/*/rebooting"))
	for _, path := range staged {
		go w.guarding("boot guard", powered, func(t *transaction.Transaction, m struck) error {
			dead := &atomic.Bool{}
			m.dead = dead
			time.Sleep(bootPart) // so that it never looks at the very moment at which the agent acts
			_, err := t.RunBootGuard(w.t.Context(), m, time.Now)
			return err
		}, filepath.Dir(path))
	}
}

// bootPart is a part of the time between two looks of a boot guard.
const bootPart = 300 * time.Millisecond

// passes lets agents look for an hour, one after the other when they are killed.
func (w *table) passes() {
	for range 60 {
		ctx, cancel := context.WithCancel(w.t.Context())
		restart := false
		w.machine.OnRestart = func() { restart = true; cancel() }
		if w.agentComesUp() {
			restart = w.pass(ctx) || restart
		}
		cancel()
		if w.cut.Swap(false) {
			w.machine.PowerCut()
			restart = true
		}
		if w.boots && w.staged() {
			w.boots = false
			w.machine.PowerCut()
			restart = true
		}
		if restart {
			w.start()
		}
		time.Sleep(time.Minute)
		synctest.Wait()
	}
}

// staged reports whether the third system waits for a reboot.
func (w *table) staged() bool {
	m := w.machine.State()
	_, running := w.names[m.Running]
	_, next := w.names[m.BootDefault]
	return w.third && running && !next
}

// pass lets an agent look once; killed says that it must be started anew.
func (w *table) pass(ctx context.Context) (killed bool) {
	_, err := reconciler.Once(ctx, w.r.Reconcile, "web")
	killed = errors.Is(err, reconciler.ErrPanic) && strings.Contains(err.Error(), errKilled.Error())
	if errors.Is(err, reconciler.ErrPanic) && !killed {
		w.t.Fatal(err)
	}
	return killed
}

// agentComesUp reports whether the running system has an agent that works.
func (w *table) agentComesUp() bool {
	return !w.third || !strings.Contains(w.flake, crashes) || w.names[w.machine.State().Running] != ""
}

// inTable brings a host to its second system, lets a third be published, and
// something happen, and returns what became of it.
func inTable(t *testing.T, flake, policy, act string, s strike, mutate func(ctx context.Context, m *nixfake.Machine, a nixos.Activation) error) (result string) {
	t.Helper()
	state := filepath.Join(t.TempDir(), "state")
	if _, disk := s.room(); disk {
		smallDisk(t, state)
	}
	synctest.Test(t, func(t *testing.T) {
		w := &table{
			world: &world{t: t, machine: &nixfake.Machine{}, state: state}, act: act, strike: nothing, names: map[string]string{"": "none"},
			boots: strings.Contains(flake, "boots"), flake: flake,
		}
		w.machine.OnReboot = w.booted
		w.now = time.Now()
		w.store = fault.New(mem.New(time.Now))
		w.machine.OnGuard = w.guard
		w.machine.Took = func(nixos.Activation) time.Duration {
			if w.slow.Load() {
				return time.Hour
			}
			return 10 * time.Second
		}
		w.start()
		w.put("hosts/web.yaml", fmt.Sprintf(tableSpec, "mode: Switch"))
		for _, name := range []string{"A", "B"} {
			w.publish("web " + name)
			w.passes()
			w.names[w.machine.State().Running] = name
		}
		w.machine.Change(func(m *nixos.Machine) { m.Booted = m.BootDefault })
		if w.strike, w.mutate = s, mutate; mutate != nil {
			w.start()
		}
		w.machine.OnProbe = func(string) error {
			if strings.Contains(flake, "sick") && w.names[w.machine.State().Running] == "" {
				return errors.New("connection refused")
			}
			return nil
		}
		w.put("hosts/web.yaml", fmt.Sprintf(tableSpec, policy))
		w.publish("web C " + flake)
		w.third = true
		w.passes()
		up := w.agentComesUp()
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
		if left := w.machine.Armed(); len(left) > 0 && s != newerJournal && up {
			t.Errorf("guards are left: %v", left)
		}
		if err := w.r.Close(); err != nil {
			t.Error(err)
		}
		w.machine.WaitGuards()
	})
	return result
}

// smallDisk mounts a megabyte at a path.
func smallDisk(t *testing.T, path string) {
	t.Helper()
	if err := errors.Join(os.Mkdir(path, 0o700), syscall.Mount("tmpfs", path, "tmpfs", 0, "size=1m,nr_inodes=1k,mode=700")); err != nil {
		t.Fatalf("a small disk cannot be mounted, which this test needs root for: %v", err)
	}
	t.Cleanup(func() { _ = syscall.Unmount(path, syscall.MNT_DETACH) })
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
