package host_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"path/filepath"
	"runtime"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/go-logr/logr"

	"github.com/npcnix/npcnix/apis/meta"
	"github.com/npcnix/npcnix/apis/v1alpha1"
	"github.com/npcnix/npcnix/nixos"
	"github.com/npcnix/npcnix/nixos/nixfake"
	"github.com/npcnix/npcnix/reconciler/host"
	"github.com/npcnix/npcnix/reconciler/redact"
	"github.com/npcnix/npcnix/store"
	"github.com/npcnix/npcnix/store/archive"
	"github.com/npcnix/npcnix/store/document"
	"github.com/npcnix/npcnix/store/fault"
	"github.com/npcnix/npcnix/store/mem"
)

// fleet are hosts of one store, each with its loop, in virtual time.
type fleet struct {
	world // for its store, and its verbs

	names []string
}

// inFleet starts n hosts in a bubble of virtual time, lets do work with them,
// and stops them.
func inFleet(t *testing.T, n int, machine func() *nixfake.Machine, do func(f *fleet)) {
	t.Helper()
	state := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		f := &fleet{world: world{t: t, store: fault.New(mem.New(time.Now))}}
		f.now = time.Now()
		f.publish("web 1")
		ctx, stop := context.WithCancel(t.Context())
		var loops sync.WaitGroup
		defer loops.Wait()
		defer stop()
		for i := range n {
			name := fmt.Sprintf("web-%03d", i)
			f.names = append(f.names, name)
			f.put(store.HostSpecKey(name), fmt.Sprintf("apiVersion: npcnix.dev/v1alpha1\nkind: HostSpec\nmetadata: {name: %s}\nspec: {remote: prod, flakeAttribute: web, healthChecks: {settle: 0s}}\n", name))
			m, ids := machine(), 0
			m.OnGuard = f.guardOf(m)
			r, err := host.New(t.Context(), host.Options{
				Host: name, Store: f.store, Observer: m, Builder: m, Activator: m, StateDir: filepath.Join(state, name),
				Guard: m, Power: m, Service: m, Prober: m, Redact: redact.New(), Rand: func() float64 { return 0.5 },
				Fresh:  func(context.Context) (store.Store, error) { return f.store, nil },
				Limits: archive.DefaultLimits(), Version: "test", Now: time.Now, Log: logr.Discard(),
				NewID: func() string { ids++; return fmt.Sprintf("attempt-%d", ids) },
			})
			if err != nil {
				t.Fatal(err)
			}
			random := rand.New(rand.NewPCG(1, uint64(i))) //nolint:gosec // a seed, no secret
			loop, _, err := r.Loop(random.Float64)
			if err != nil {
				t.Fatal(err)
			}
			loops.Go(func() {
				loop.Run(ctx)
				if err := r.Close(); err != nil {
					t.Error(err)
				}
			})
		}
		do(f)
	})
}

func healthyMachine() *nixfake.Machine { return &nixfake.Machine{} }

// looks returns when a host looked at its HostSpec since the last Forget.
func (f *fleet) looks(name string) (at []time.Time) {
	for _, r := range f.store.Requests() {
		// The round trips of a switch come with the look that began it.
		if r.Op == fault.Get && r.Key == store.HostSpecKey(name) && (len(at) == 0 || r.At.After(at[len(at)-1])) {
			at = append(at, r.At)
		}
	}
	return at
}

// ready returns how many hosts say that they are Ready on that generation.
func (f *fleet) ready(generation int64) (n int) {
	f.t.Helper()
	for _, name := range f.names {
		s, _, err := document.Get[v1alpha1.HostStatus](f.t.Context(), f.store.Store, store.StatusKey(name), v1alpha1.KindHostStatus)
		if errors.Is(err, store.ErrNotFound) {
			continue
		}
		if err != nil {
			f.t.Fatal(err)
		}
		c := meta.FindCondition(s.Status.Conditions, v1alpha1.ConditionReady)
		if c != nil && c.Status == meta.True && s.Status.Observed.Remote.Generation == generation {
			n++
		}
	}
	return n
}

// The time between two looks follows the age of the newest document, within its
// jitter, for a day with one change in it.
func TestADayOfAdaptivePolling(t *testing.T) {
	t.Parallel()
	inFleet(t, 1, healthyMachine, func(f *fleet) {
		start := time.Now()
		time.Sleep(12 * time.Hour)
		changed := time.Now()
		f.publish("web 2")
		time.Sleep(12 * time.Hour)
		looks := f.looks("web-000")
		for i, at := range looks[:len(looks)-1] {
			age := at.Sub(start)
			if at.After(changed) {
				age = at.Sub(changed)
			}
			want := min(max(age/10, 5*time.Second), 2*time.Minute)
			gap := looks[i+1].Sub(at)
			if gap < want/2-2*time.Second || gap > want*3/2+2*time.Second {
				t.Errorf("look %d, at an age of %s: the next after %s, want %s ± 50 %%", i, age, gap, want)
			}
		}
		if n := len(looks); n < 700 || n > 900 { // 24 h / 120 s, and two times 20 minutes of more
			t.Errorf("%d looks in a day", n)
		}
		puts := f.store.Count(fault.Put)
		if puts < 24*60/8 || puts > 24*60/5+30 { // heartbeats, jitter included
			t.Errorf("%d puts in a day", puts)
		}
		t.Logf("%d looks, %d requests, %d puts in a day", len(looks), len(f.store.Requests()), puts)
		if f.ready(2) != 1 {
			t.Error("not ready on the change")
		}
	})
}

// An agent whose store is away for a day stays small, asks gently, and is back
// with its next look.
func TestADaysOutage(t *testing.T) { //nolint:paralleltest // measures the heap of the whole process
	const hosts = 10
	inFleet(t, hosts, healthyMachine, func(f *fleet) {
		time.Sleep(2 * time.Hour)
		before := heap()
		f.store.Forget()
		f.store.Follow(down())
		time.Sleep(24 * time.Hour)
		perHost := len(f.store.Requests()) / hosts
		if want := 24*60/2 + 24*60/5; perHost > want*11/10 { // a look each 2 minutes, and a status each 5
			t.Errorf("%d requests of each host in a day's outage, want about %d", perHost, want)
		}
		f.store.Forget()
		if grown := heap() - before; grown > hosts*100<<10 {
			t.Errorf("the hosts grew by %d bytes each", grown/hosts)
		}
		f.publish("web 2")
		f.store.Follow(nil)
		time.Sleep(3 * time.Minute) // the longest wait of all: 2 minutes and their jitter
		if n := f.ready(2); n != hosts {
			t.Errorf("%d of %d hosts are ready %s after the outage", n, hosts, 3*time.Minute)
		}
		t.Logf("%d requests of each host in a day's outage", perHost)
	})
}

// A fleet that starts at once does not look at once, and neither does one whose
// store was away.
func TestFleetDoesNotLookAtOnce(t *testing.T) {
	t.Parallel()
	const hosts = 100
	inFleet(t, hosts, healthyMachine, func(f *fleet) {
		time.Sleep(31 * time.Second)
		f.spread("start", hosts)
		time.Sleep(time.Hour)
		if n := f.ready(1); n != hosts {
			t.Fatalf("%d hosts are ready", n)
		}
		f.store.Follow(down())
		time.Sleep(time.Hour)
		f.store.Forget()
		f.store.Follow(nil)
		time.Sleep(3 * time.Minute)
		f.spread("an outage", hosts)
	})
}

// spread wants the first looks of the fleet since the last Forget spread: in
// no second more than a tenth of them.
func (f *fleet) spread(after string, hosts int) {
	f.t.Helper()
	seconds := map[int64]int{}
	for _, name := range f.names {
		looks := f.looks(name)
		if len(looks) == 0 {
			f.t.Errorf("%s did not look after %s", name, after)
			continue
		}
		seconds[looks[0].Unix()]++
	}
	for _, n := range seconds {
		if n > hosts/10 {
			f.t.Errorf("%d of %d hosts looked in the same second after %s", n, hosts, after)
		}
	}
	if len(seconds) < 10 {
		f.t.Errorf("%d hosts looked in %d different seconds after %s", hosts, len(seconds), after)
	}
}

func heap() int64 {
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return int64(m.HeapAlloc) //nolint:gosec // no heap is that large
}

// Whatever fails, and however fast: an hour of it is no storm of requests.
func TestErrorsMakeNoStormOfRequests(t *testing.T) {
	t.Parallel()
	broken := errors.New("broken")
	conflicts := func(r fault.Request) fault.Fault {
		if r.Op == fault.Put {
			return fault.Fault{Err: store.ErrConflict}
		}
		return fault.Fault{}
	}
	for name, c := range map[string]struct {
		machine *nixfake.Machine
		script  fault.Script
	}{
		"no store":               {script: fault.Always(fault.Fault{Err: broken})},
		"no credentials":         {script: fault.Always(fault.Fault{Err: store.ErrAccessDenied})},
		"no bucket":              {script: fault.Always(fault.Fault{Err: store.ErrBucketNotFound})},
		"a store that hangs":     {script: fault.Always(fault.Fault{Err: broken, Wait: 40 * time.Second})},
		"a remote without reply": {script: fault.On("remotes/prod.yaml", fault.Fault{Err: broken})},
		"a status not writable":  {script: fault.On("statuses/web-000.yaml", fault.Fault{Err: broken})},
		"a status in conflict":   {script: conflicts},
		"bodies that break off":  {script: fault.Always(fault.Fault{Body: fault.Cut(0, broken)})},
		"builds":                 {machine: &nixfake.Machine{OnBuild: func(nixos.BuildRequest) error { return &nixos.BuildError{Failure: nixos.BuilderFailure} }}},
		"Nix":                    {machine: &nixfake.Machine{OnBuild: func(nixos.BuildRequest) error { return broken }}},
		"switches":               {machine: &nixfake.Machine{OnStart: func(nixos.Activation) (nixos.Result, bool) { return nixos.Result{Exited: true, ExitCode: 1}, false }}},
		"the agent":              {machine: &nixfake.Machine{OnBuild: func(nixos.BuildRequest) error { panic(broken) }}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			machine := c.machine
			if machine == nil {
				machine = healthyMachine()
			}
			inFleet(t, 1, func() *nixfake.Machine { return machine }, func(f *fleet) {
				time.Sleep(2 * time.Hour)
				f.store.Forget()
				f.store.Follow(c.script)
				time.Sleep(10 * time.Minute)
				f.publish("web 2")
				before := len(f.store.Requests())
				time.Sleep(time.Hour)
				// A change is looked at each 5 s at first, then ever less often:
				// 20 min / 10 steps make about 45 looks, the rest of the hour 20.
				if n := len(f.store.Requests()) - before; n > 100*6 {
					t.Errorf("%d requests in an hour", n)
				} else {
					t.Logf("%d requests in an hour", n)
				}
			})
		})
	}
}
