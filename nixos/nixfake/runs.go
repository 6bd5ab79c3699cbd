package nixfake

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/npcnix/npcnix/nixos"
)

// running is a run of stc.
type running struct {
	a          nixos.Activation
	result     nixos.Result
	activating bool
	timer      *time.Timer
	done       chan struct{}
	ended      bool
}

// Check refuses what the flake's words say.
func (m *Machine) Check(_ context.Context, toplevel string) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if _, marked := m.word(toplevel, "npcnix-root"); m.Rooted && !marked {
		return nixos.ErrRootNotSupported
	}
	if _, lacks := m.word(toplevel, "no-stc"); lacks {
		return nixos.ErrNoSwitch
	}
	return nil
}

// Start begins a run, which ends after the time that Took says.
func (m *Machine) Start(ctx context.Context, a nixos.Activation) error {
	if err := m.Check(ctx, a.Toplevel); err != nil {
		return err
	}
	m.mu.Lock()
	_, exists := m.runs[a.ID]
	m.mu.Unlock()
	if exists {
		return fmt.Errorf("%w: %s", nixos.ErrRunExists, a.ID)
	}
	r := &running{a: a, result: nixos.Result{Exited: true}, activating: true, done: make(chan struct{})}
	if m.OnStart != nil {
		r.result, r.activating = m.OnStart(a)
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	took := m.takes(a)
	m.called("%s %s", a.Action, a.Toplevel)
	if m.runs == nil {
		m.runs = map[string]*running{}
	}
	m.runs[a.ID] = r
	if took == 0 {
		m.finish(r)
		return nil
	}
	limited := a.Limit > 0 && took > a.Limit
	if limited {
		took = a.Limit
	}
	r.timer = time.AfterFunc(took, func() {
		m.mu.Lock()
		defer m.mu.Unlock()
		if limited {
			m.cut(r, "it was stopped at its time limit")
		}
		m.finish(r)
	})
	return nil
}

// Switching reports whether a run of stc is under way.
func (m *Machine) Switching() bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, r := range m.runs {
		if !r.ended {
			return true
		}
	}
	return false
}

// cut ends a run in the middle of what it does. The caller holds the lock.
func (m *Machine) cut(r *running, how string) {
	if r.ended {
		return
	}
	r.timer.Stop()
	r.result = nixos.Result{How: how, Output: r.result.Output, Touched: r.activating && r.a.Action == nixos.ActionTest}
	r.activating = false
	m.finish(r)
}

// takes is how long a run takes. The caller holds the lock.
func (m *Machine) takes(a nixos.Activation) time.Duration {
	if m.Took != nil {
		return m.Took(a)
	}
	said, _ := m.word(a.Toplevel, "takes:")
	took, err := time.ParseDuration(said)
	if err != nil || a.Action != nixos.ActionTest {
		return 0
	}
	return took
}

// finish ends a run and changes the machine. The caller holds the lock.
func (m *Machine) finish(r *running) {
	if r.ended {
		return
	}
	r.ended = true
	defer close(r.done)
	r.result.Touched = r.result.Touched || (r.activating && r.a.Action == nixos.ActionTest)
	switch {
	case !r.activating:
	case r.a.Action == nixos.ActionTest:
		m.state.Running = r.a.Toplevel
	case r.a.Action == nixos.ActionBoot && m.state.Profile == r.a.Toplevel: // installers ignore what is in no profile
		m.state.BootDefault = r.a.Toplevel
	}
}

// Await waits for the end of a run.
func (m *Machine) Await(ctx context.Context, id string) (nixos.Result, error) {
	m.mu.Lock()
	r, ok := m.runs[id]
	m.mu.Unlock()
	if !ok {
		return nixos.Result{How: nixos.NeverStarted}, nil
	}
	select {
	case <-r.done:
		return r.result, nil
	case <-ctx.Done():
		return nixos.Result{}, context.Cause(ctx) //nolint:wrapcheck // the caller's own
	}
}

// Stop ends a run in the middle of what it does.
func (m *Machine) Stop(_ context.Context, id string) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if r, ok := m.runs[id]; ok {
		m.cut(r, "it was ended by signal TERM")
	}
	return nil
}

// Output returns what the run's script says.
func (m *Machine) Output(id string, limit int64) []byte {
	m.mu.Lock()
	defer m.mu.Unlock()
	r, ok := m.runs[id]
	if !ok {
		return nil
	}
	return []byte(r.result.Output[max(0, len(r.result.Output)-int(limit)):])
}

// SetProfile adds a generation, or goes back to one.
func (m *Machine) SetProfile(ctx context.Context, toplevel string, generation int64) error {
	if err := m.Check(ctx, toplevel); err != nil {
		return err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	m.called("profile %s", toplevel)
	if m.OnSetProfile != nil {
		if err := m.OnSetProfile(toplevel); err != nil {
			return err
		}
	}
	if m.paths == nil {
		m.paths = map[int64]string{}
	}
	newest := int64(0)
	for number := range m.paths {
		newest = max(newest, number)
	}
	switch {
	case generation > 0 && m.paths[generation] == toplevel:
		m.state.ProfileGeneration = generation
	case m.paths[newest] == toplevel: // as nix-env does
		m.state.ProfileGeneration = newest
	default:
		m.state.ProfileGeneration = newest + 1
	}
	m.state.Profile = toplevel
	m.paths[m.state.ProfileGeneration] = toplevel
	return nil
}

// Retain forgets the oldest generations.
func (m *Machine) Retain(_ context.Context, keep int32, protected ...string) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	protected = append(protected, m.state.Booted, m.state.Running, m.state.Profile, m.state.BootDefault)
	numbers := slices.Sorted(maps.Keys(m.paths))
	for i, number := range numbers {
		holds := func(path string) bool {
			return path == m.paths[number] || m.Specialisation(m.paths[number], path) != ""
		}
		if len(numbers)-i > int(keep) && !slices.ContainsFunc(protected, holds) {
			delete(m.paths, number)
		}
	}
	return nil
}

// Generation returns the path of a generation of the profile.
func (m *Machine) Generation(number int64) string {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.paths[number]
}

// Root remembers the paths that can be rooted.
func (m *Machine) Root(_ context.Context, name string, paths ...string) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.roots == nil {
		m.roots = map[string][]string{}
	}
	for _, path := range paths {
		if nixos.IsStorePath(path) {
			m.roots[name] = append(m.roots[name], path)
		}
	}
	return nil
}

// Unroot forgets them.
func (m *Machine) Unroot(name string) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	delete(m.roots, name)
	return nil
}

// guard is an armed guard.
type guard struct {
	id, dir string
	timer   *time.Timer
	runs    bool
	// disarmed says that it is forgotten when it does not run any more.
	disarmed bool
}

// Prepare has nothing to keep.
func (*Machine) Prepare(context.Context, string, string) error { return nil }

// Arm starts a timer.
func (m *Machine) Arm(_ context.Context, id, dir string, after time.Duration) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.guards == nil {
		m.guards = map[string]*guard{}
	}
	g := &guard{id: id, dir: dir}
	g.timer = time.AfterFunc(after, func() {
		m.mu.Lock()
		defer m.mu.Unlock()
		m.fire(g)
	})
	if old := m.guards[id]; old != nil {
		old.timer.Stop()
	}
	m.guards[id] = g
	return nil
}

// Armed names the transactions whose guards wait.
func (m *Machine) Armed() []string {
	m.mu.Lock()
	defer m.mu.Unlock()
	var ids []string
	for id, g := range m.guards {
		if !g.runs {
			ids = append(ids, id)
		}
	}
	return ids
}

// fire runs the guard apart. The caller holds the lock.
func (m *Machine) fire(g *guard) {
	if g.runs || m.OnGuard == nil {
		return
	}
	g.runs = true
	m.working.Go(func() {
		m.OnGuard(context.Background(), g.dir)
		m.mu.Lock()
		defer m.mu.Unlock()
		g.runs = false
		if g.disarmed && m.guards[g.id] == g {
			delete(m.guards, g.id)
		}
	})
}

// Fire runs the guard now.
func (m *Machine) Fire(_ context.Context, id, dir string) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	g := m.guards[id]
	if g == nil {
		if m.guards == nil {
			m.guards = map[string]*guard{}
		}
		g = &guard{id: id, dir: dir, timer: time.AfterFunc(time.Hour, func() {})}
		g.timer.Stop()
		m.guards[id] = g
	}
	m.fire(g)
	return nil
}

// Disarm stops the timer.
func (m *Machine) Disarm(_ context.Context, id string) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if g := m.guards[id]; g != nil {
		g.timer.Stop()
		if g.disarmed = true; !g.runs {
			delete(m.guards, id)
		}
	}
	return nil
}

// Runs reports whether the guard runs.
func (m *Machine) Runs(_ context.Context, id string) (bool, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	g := m.guards[id]
	return g != nil && g.runs, nil
}

// WaitGuards waits until the guards that work have ended.
func (m *Machine) WaitGuards() { m.working.Wait() }

// Wall remembers the message.
func (m *Machine) Wall(_ context.Context, message string) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.walls = append(m.walls, message)
	return nil
}

// Reboot reboots at once.
func (m *Machine) Reboot(_ context.Context, why string) error {
	m.mu.Lock()
	m.called("reboot %s", strings.ReplaceAll(why, " ", "_"))
	m.mu.Unlock()
	if m.OnPower != nil {
		return m.OnPower()
	}
	m.PowerCut()
	return nil
}

// PowerCut boots the machine anew: what ran is gone, the boot default runs.
func (m *Machine) PowerCut() {
	m.mu.Lock()
	for _, r := range m.runs {
		if !r.ended {
			m.cut(r, "it is gone without a result")
			r.result.Lost = true
		}
	}
	for id, g := range m.guards {
		g.timer.Stop()
		delete(m.guards, id)
	}
	m.boots++
	if d := m.state.BootDefault; d != nixos.Unknown && d != "" {
		m.state.Running, m.state.Booted = d, d
	} else {
		m.state.Running, m.state.Booted = m.state.Profile, m.state.Profile
	}
	m.mu.Unlock()
	if m.OnReboot != nil {
		m.OnReboot()
	}
}
