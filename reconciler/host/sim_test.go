package host_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/go-logr/logr"

	"github.com/npcnix/npcnix/apis/codec"
	"github.com/npcnix/npcnix/apis/meta"
	"github.com/npcnix/npcnix/apis/v1alpha1"
	"github.com/npcnix/npcnix/nixos"
	"github.com/npcnix/npcnix/nixos/nixfake"
	"github.com/npcnix/npcnix/reconciler"
	"github.com/npcnix/npcnix/reconciler/host"
	"github.com/npcnix/npcnix/reconciler/redact"
	"github.com/npcnix/npcnix/reconciler/transaction"
	"github.com/npcnix/npcnix/reconciler/window"
	"github.com/npcnix/npcnix/store"
	"github.com/npcnix/npcnix/store/archive"
	"github.com/npcnix/npcnix/store/document"
	"github.com/npcnix/npcnix/store/fault"
	"github.com/npcnix/npcnix/store/mem"
)

// sim is a host, its store and what is known of both from outside.
type sim struct {
	t       *testing.T
	machine *nixfake.Machine
	store   *fault.Store
	state   string
	r       *host.Reconciler

	agent, powered *atomic.Bool
	cut            atomic.Bool
	kill, power    int // the act at which the agent dies, or the power is cut; 0 is none
	faulty         string
	faultEnds      time.Time
	trouble        time.Time // when the last event, or what it began, was over
	storeDown      bool
	flaky          int           // of the store's requests one in so many fails; 0 is none
	down           time.Time     // when the machine, told to reboot, does so
	ahead          time.Duration // of the agent's clock
	ids, asked     int
	local          bool // suspended by a person on the host

	spec       v1alpha1.HostSpecSpec // as declared, with defaults
	specText   string
	specDigest string
	declared   bool
	broken     bool // the HostSpec in the store is invalid
	keeps      bool // what does not work may have been kept by its policy
	override   v1alpha1.HostOverrideSpec
	generation int64
	flakes     map[string]string // of toplevels
	newest     string            // toplevel
	archive    string            // its digest
	sickLooks  int               // at a system that does not work

	// What must not be tried again: taken back, by toplevel and policy.
	taken   map[string]bool
	tries   map[string]int
	lifting bool // a request to retry is on its way
	// keys are what transactions are remembered by in taken: the policy may change
	// while one is under way.
	keys map[string]string
	// builds counts those of the newest target that cannot be built.
	builds  int
	changes int // of the status since the last event
	status  string
	decoded struct {
		text   string
		status *v1alpha1.HostStatus
	}
	mu    sync.Mutex
	wrong string
}

// fail remembers the first thing that is wrong.
func (s *sim) fail(format string, args ...any) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.wrong == "" {
		s.wrong = fmt.Sprintf(format, args...) + " at " + time.Now().UTC().Format(time.DateTime)
	}
}

// simulate lets a history happen, and says what is wrong, or "".
func simulate(t *testing.T, h history) string {
	t.Helper()
	dir, err := os.MkdirTemp(memoryDir(), "npcnix-sim-") //nolint:usetesting // in memory, and gone with its history
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = os.RemoveAll(dir) }() // it is in memory, or the system's to remove
	wrong := ""
	synctest.Test(t, func(t *testing.T) {
		s := &sim{
			t: t, machine: &nixfake.Machine{}, store: fault.New(mem.New(time.Now)), state: filepath.Join(dir, "state"),
			flakes: map[string]string{}, taken: map[string]bool{}, tries: map[string]int{}, keys: map[string]string{},
		}
		s.begin()
		for _, e := range h.Events {
			s.wait(e.After)
			s.changes = 0
			s.happen(e)
			s.look()
			if s.wrong != "" {
				break
			}
		}
		if s.wrong == "" {
			s.end()
		}
		wrong = s.wrong
		s.close()
	})
	return wrong
}

// memoryDir is where files cost no disk, if there is such a place.
func memoryDir() string {
	if info, err := os.Stat("/dev/shm"); err == nil && info.IsDir() {
		return "/dev/shm"
	}
	return ""
}

func (s *sim) begin() {
	s.machine.OnGuard = s.guard
	s.machine.OnReboot = s.booted
	s.machine.OnProbe = s.probe
	s.machine.OnStart = func(a nixos.Activation) (nixos.Result, bool) {
		s.begun(a)
		return nixos.Result{Exited: true}, true
	}
	s.machine.OnBuild = func(req nixos.BuildRequest) error {
		flake, err := os.ReadFile(filepath.Join(req.Dir, "flake.nix"))
		switch words := strings.Fields(string(flake)); {
		case err != nil:
			return err
		case slices.Contains(words, "unbuildable"):
			s.building()
			return &nixos.BuildError{Failure: nixos.BuilderFailure, Message: "builder failed", ExitCode: 1}
		case slices.Contains(words, "nonsense"):
			return &nixos.BuildError{Failure: nixos.EvaluationFailure, Message: "undefined variable", ExitCode: 1}
		}
		return nil
	}
	s.start()
	s.declare("")
	s.publish("")
	s.look()
	s.machine.Change(func(m *nixos.Machine) { m.Booted = m.Running })
}

// probe is the health check: what the words of the flake say.
func (s *sim) probe(string) error {
	m := s.machine.State()
	words := strings.Fields(s.flakes[m.Running])
	if slices.Contains(words, "sick") || (slices.Contains(words, "sickboot") && m.Booted == m.Running) {
		return errors.New("connection refused")
	}
	return nil
}

// sick reports whether a system fails its checks wherever it runs.
func (s *sim) sick(toplevel string) bool {
	words := strings.Fields(s.flakes[toplevel])
	return slices.Contains(words, "sick") || slices.Contains(words, "fails:x.service")
}

func (s *sim) now() time.Time { return time.Now().Add(s.ahead) }

// view is the machine as the agent or a guard meets it.
type view struct {
	struck

	s *sim
}

// SetProfile wants that what becomes the profile's may.
func (v view) SetProfile(ctx context.Context, toplevel string, generation int64) error {
	v.s.permanent("profile", toplevel)
	return v.struck.SetProfile(ctx, toplevel, generation)
}

func (v view) FreeDisk() (int64, bool) {
	if v.s.isFaulty("full disk") {
		return 1, true
	}
	return 0, false
}

// Sessions knows of one where the machine is said to have one.
func (v view) Sessions(context.Context) ([]string, error) {
	switch {
	case v.s.isFaulty("sessions"):
		return nil, errors.New("injected")
	case v.s.isFaulty(loggedIn):
		return []string{"anna"}, nil
	default:
		return nil, nil
	}
}

// goingDown is how long a slow machine takes to reboot.
const goingDown = 5 * time.Minute

// Reboot may take its time.
func (v view) Reboot(ctx context.Context, why string) error {
	if strings.HasPrefix(why, "npcnix: rebooting into ") { // by the policy; a way back is never held up
		v.s.rebooting()
	}
	if !v.s.isFaulty(slowReboot) {
		return v.struck.Reboot(ctx, why)
	}
	return v.at(ctx, "reboot", func() error {
		v.s.mu.Lock()
		defer v.s.mu.Unlock()
		if v.s.down.IsZero() {
			v.s.down = time.Now().Add(goingDown)
		}
		return nil
	})
}

func (v view) BootFull(string) bool { return v.s.isFaulty("full boot") }

func (s *sim) isFaulty(act string) bool { return s.faulty == act && time.Now().Before(s.faultEnds) }

func (s *sim) view(who string, dead *atomic.Bool) view {
	return view{struck{Machine: s.machine, who: who, dead: dead, hit: s.at, cut: &s.cut}, s}
}

// at does an act, unless it is faulty, or something dies in it.
func (s *sim) at(_ context.Context, m struck, act string, do func() error) error {
	s.mu.Lock()
	dies, cut := s.kill == 1, s.power == 1
	s.kill, s.power = max(0, s.kill-1), max(0, s.power-1)
	s.mu.Unlock()
	if s.isFaulty(act) {
		return errors.New("injected")
	}
	if dies || cut {
		if cut {
			s.cut.Store(true)
		} else {
			_ = do() // nobody learns how it went
		}
		m.dead.Store(true)
		panic(errKilled)
	}
	return do()
}

// served is the store as the agent meets it.
type served struct{ dyingStore }

// Skew is that of the agent's clock.
func (s served) Skew() (time.Duration, bool) {
	clocked, ok := s.Store.(store.Clocked)
	if !ok {
		return 0, false
	}
	return clocked.Skew()
}

// start starts an agent, or another one in its place.
func (s *sim) start() {
	if s.r != nil {
		if err := s.r.Close(); err != nil {
			s.fail("close: %v", err)
		}
	}
	s.agent = &atomic.Bool{}
	v := s.view("agent", s.agent)
	o := host.Options{
		Host: "web", Observer: v, Builder: v, Activator: v, Guard: v, Power: v, Service: v, Prober: v,
		Redact: redact.New(), Rand: func() float64 { return 0.5 }, StateDir: s.state, MachineIDFile: filepath.Join(s.state, "none"),
		Limits: archive.DefaultLimits(), Version: "test", Now: s.now, Log: logr.Discard(),
		NewID: func() string { s.ids++; return fmt.Sprintf("attempt-%d", s.ids) },
	}
	o.Store = served{dyingStore{s.store, v.struck}}
	o.Fresh = func(context.Context) (store.Store, error) { return o.Store, nil }
	r, err := host.New(s.t.Context(), o)
	if err != nil {
		s.fail("start: %v", err)
		return
	}
	s.r = r
	s.machine.AgentStarted()
}

func (s *sim) close() {
	s.agent.Store(true)
	if s.powered != nil {
		s.powered.Store(true)
	}
	if s.r != nil {
		_ = s.r.Close()
	}
	time.Sleep(24 * time.Hour) // what still waits sees that it is dead
	s.machine.WaitGuards()
}

// guarding runs a guard until it has ended well, or the power is cut.
func (s *sim) guarding(who string, powered *atomic.Bool, act func(t *transaction.Transaction, m view) error, dir string) {
	for range 100 {
		_, err := reconciler.Once(s.t.Context(), func(context.Context, string) (reconciler.Result, error) {
			t, err := transaction.Open(dir)
			if err == nil {
				err = act(t, s.view(who, &atomic.Bool{}))
			}
			return reconciler.Result{}, err
		}, "")
		if err == nil || s.cut.Load() || powered.Load() {
			return
		}
		time.Sleep(5 * time.Second)
	}
}

func (s *sim) guard(ctx context.Context, dir string) {
	s.guarding("guard", &atomic.Bool{}, func(t *transaction.Transaction, m view) error {
		_, err := t.RunGuard(ctx, m, s.now)
		return err
	}, dir)
}

// booted starts what a boot starts: the guards of staged systems.
func (s *sim) booted() {
	s.mu.Lock()
	s.down = time.Time{}
	s.mu.Unlock()
	if s.powered != nil {
		s.powered.Store(true)
	}
	powered := &atomic.Bool{}
	s.powered = powered
	staged, _ := filepath.Glob(filepath.Join(s.state, "transactions/*/rebooting"))
	for _, path := range staged {
		go s.guarding("boot guard", powered, func(t *transaction.Transaction, m view) error {
			m.dead = powered
			_, err := t.RunBootGuard(s.t.Context(), m, s.now)
			return err
		}, filepath.Dir(path))
	}
}

// archives are those of the flakes that were packed already.
var archives sync.Map

type packed struct {
	data []byte
	sum  archive.Summary
}

func (s *sim) pack(flake string) packed {
	if p, ok := archives.Load(flake); ok {
		return p.(packed) //nolint:forcetypeassert,errcheck // nothing else is stored
	}
	dir, err := os.MkdirTemp(memoryDir(), "npcnix-flake-")
	if err == nil {
		err = os.WriteFile(filepath.Join(dir, "flake.nix"), []byte(flake), 0o600)
	}
	if err != nil {
		s.t.Fatal(err)
	}
	defer func() { _ = os.RemoveAll(dir) }() // as above
	root, err := os.OpenRoot(dir)
	if err != nil {
		s.t.Fatal(err)
	}
	defer func() { _ = root.Close() }() // only read
	var data bytes.Buffer
	sum, err := archive.Pack(&data, root, []string{"flake.nix"})
	if err != nil {
		s.t.Fatal(err)
	}
	p := packed{data.Bytes(), sum}
	archives.Store(flake, p)
	return p
}

// publish publishes a flake of these words, and one that makes it another.
func (s *sim) publish(words string) {
	flake := fmt.Sprintf("web %s g%d", words, s.generation%7)
	p := s.pack(flake)
	done, err := document.Publish(s.t.Context(), s.store.Store, document.Publication{
		Remote: "prod", Archive: bytes.NewReader(p.data), Force: true, Spec: v1alpha1.RemoteSpec{
			PublishedAt: meta.NewTime(time.Now()), Archive: v1alpha1.Archive{Digest: p.sum.Digest, Size: p.sum.Size, NarHash: p.sum.NarHash},
		},
	})
	if err != nil {
		s.t.Fatal(err)
	}
	s.generation, s.builds = done.Generation, 0
	s.newest, s.archive = nixfake.Toplevel([]byte(flake), "web"), p.sum.Digest
	s.flakes[s.newest] = flake
}

func (s *sim) put(key, data string) {
	if _, err := s.store.Store.Put(s.t.Context(), key, strings.NewReader(data), store.PutOptions{}); err != nil {
		s.t.Fatal(err)
	}
}

// declare applies a HostSpec with these fields.
func (s *sim) declare(fields string) {
	s.specText = `apiVersion: npcnix.dev/v1alpha1
kind: HostSpec
metadata: {name: web}
spec:
  remote: prod
  pollInterval: {min: 1h, max: 6h}
  healthChecks: {checks: [{name: units, systemd: {require: NoNewFailures}}, {name: ssh, tcp: {address: "127.0.0.1:22"}}]}
  ` + fields + "\n"
	spec, err := codec.DecodeStrict[v1alpha1.HostSpec](codec.Document{Source: "spec", Raw: []byte(s.specText)}, v1alpha1.KindHostSpec)
	if err != nil {
		s.t.Fatal(err)
	}
	if s.specDigest, err = codec.SpecDigest(codec.Document{Source: "spec", Raw: []byte(s.specText)}); err != nil {
		s.t.Fatal(err)
	}
	s.spec, s.declared, s.broken, s.builds = spec.Spec.WithDefaults("web"), true, false, 0
	s.keeps = s.keeps || s.spec.RebuildPolicy.Rollback.OnFailure == v1alpha1.RollbackKeep
	s.put("hosts/web.yaml", s.specText)
}

// ask puts the HostOverride.
func (s *sim) ask() {
	data, err := codec.Encode(&v1alpha1.HostOverride{
		TypeMeta: meta.TypeMeta{APIVersion: v1alpha1.APIVersion, Kind: v1alpha1.KindHostOverride}, Metadata: meta.ObjectMeta{Name: "web"}, Spec: s.override,
	})
	if err != nil {
		s.t.Fatal(err)
	}
	s.put("overrides/web.yaml", string(data))
}

// stamp is another value each time.
func (s *sim) stamp() *meta.Time {
	s.asked++
	return new(meta.NewTime(time.Now().Add(time.Duration(s.asked) * time.Second)))
}

// calendar is the window as it is declared and opened.
func (s *sim) calendar() *window.Calendar {
	c := window.New("web", s.spec.MaintenanceWindow)
	if s.override.OpenWindowUntil != nil {
		c = c.Opened(time.Now().Add(min(0, s.ahead)), s.override.OpenWindowUntil.Time)
	}
	return c
}
