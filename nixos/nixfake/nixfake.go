package nixfake

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/npcnix/npcnix/nixos"
)

// Machine is a scriptable machine. The zero value is an empty one on which
// everything works. Its script fields are set before it is used.
//
// What a system is like stands in the words of its flake: npcnix-root marks it
// for another root, no-stc lacks switch-to-configuration, no-agent does not
// start the agent, agent:X starts another agent, special:X has that
// specialisation, takes:X takes that long to activate, fails:X has a service that fails, inhibits:X is a critical
// component, kernel:X is its kernel.
type Machine struct {
	// OnBuild, if set, decides about a build before it is done.
	OnBuild func(req nixos.BuildRequest) error
	// OnStart, if set, decides how a run of stc ends. Activating false means
	// that the machine stays as it was.
	OnStart func(a nixos.Activation) (result nixos.Result, activating bool)
	// Took, if set, is how long a run takes; at its end the machine changes.
	Took func(a nixos.Activation) time.Duration
	// OnSetProfile, if set, decides about setting the profile.
	OnSetProfile func(toplevel string) error
	// OnGuard is what a guard does; none if not set.
	OnGuard func(ctx context.Context, dir string)
	// OnRestart is how the agent is restarted, OnReboot what a reboot does to it.
	OnRestart, OnReboot func()
	// OnProbe, if set, answers http, tcp and exec checks.
	OnProbe func(what string) error
	// OnUnits, if set, changes what Units returns.
	OnUnits func(units nixos.Units) nixos.Units
	// Rooted makes the machine refuse toplevels whose flake has no word npcnix-root.
	Rooted bool
	// Unmanaged is a machine without a service manager.
	Unmanaged bool
	// Full says that /boot is full, Free what is free on /nix; 0 is plenty.
	// OnCollect is what collecting garbage does.
	Full      bool
	Free      int64
	OnCollect func()
	// LoggedIn are those who are; SessionsErr is returned instead, if it is set.
	LoggedIn    []string
	SessionsErr error
	// OnPower, if set, decides whether the machine reboots when it is told to.
	OnPower func() error
	// Other says what else switches the machine.
	Other string
	// Warned are the machine's warnings.
	Warned []string

	mu      sync.Mutex
	state   nixos.Machine
	boots   int
	runs    map[string]*running
	calls   []string
	words   map[string][]string
	paths   map[int64]string // of the profile's generations
	roots   map[string][]string
	guards  map[string]*guard
	agent   string
	version string
	walls   []string
	working sync.WaitGroup
}

var (
	_ nixos.Observer  = (*Machine)(nil)
	_ nixos.Builder   = (*Machine)(nil)
	_ nixos.Activator = (*Machine)(nil)
	_ nixos.Guard     = (*Machine)(nil)
	_ nixos.Power     = (*Machine)(nil)
	_ nixos.Service   = (*Machine)(nil)
	_ nixos.Prober    = (*Machine)(nil)
)

// Calls returns the calls that changed something, in order: "build web",
// "test /nix/store/…", "profile /nix/store/…", "boot /nix/store/…".
func (m *Machine) Calls() []string {
	m.mu.Lock()
	defer m.mu.Unlock()
	return slices.Clone(m.calls)
}

// Change changes the machine as a person would by hand.
func (m *Machine) Change(change func(state *nixos.Machine)) {
	m.mu.Lock()
	defer m.mu.Unlock()
	change(&m.state)
}

// State returns what the machine is now.
func (m *Machine) State() nixos.Machine {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.state
}

// Walls returns what was said to everybody who is logged in.
func (m *Machine) Walls() []string {
	m.mu.Lock()
	defer m.mu.Unlock()
	return slices.Clone(m.walls)
}

// Roots returns the rooted paths, by the name of their roots.
func (m *Machine) Roots() map[string][]string {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.roots
}

func (m *Machine) called(format string, args ...any) {
	m.calls = append(m.calls, fmt.Sprintf(format, args...))
}

// word returns what follows a prefix in the words of a toplevel's flake. The
// caller holds the lock.
func (m *Machine) word(toplevel, prefix string) (rest string, ok bool) {
	base, _, _ := strings.Cut(toplevel, specialisationInfix)
	for _, w := range m.words[base] {
		if rest, ok := strings.CutPrefix(w, prefix); ok {
			return rest, true
		}
	}
	return "", false
}

const specialisationInfix = "-specialisation-"

// Observe describes the machine.
func (m *Machine) Observe(ctx context.Context, desired string) (nixos.Machine, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	got := m.state
	if got.Running != desired {
		got.Specialisation = m.Specialisation(desired, got.Running)
	}
	if got.Booted != desired {
		got.BootedSpecialisation = m.Specialisation(desired, got.Booted)
	}
	if got.Booted != "" {
		got.Reboot.Known = true
		if m.kernelOf(got.Booted) != m.kernelOf(got.Running) {
			got.Reboot.Changed = "kernel"
		}
	}
	return got, ctx.Err() //nolint:wrapcheck // the caller's own
}

// Specialisation goes by the names of paths.
func (*Machine) Specialisation(toplevel, path string) string {
	if name, ok := strings.CutPrefix(path, toplevel+specialisationInfix); ok && toplevel != "" {
		return name
	}
	return ""
}

// Specialised returns the path of a specialisation that the flake has.
func (m *Machine) Specialised(toplevel, name string) string {
	m.mu.Lock()
	defer m.mu.Unlock()
	if has, ok := m.word(toplevel, "special:"); ok && has == name {
		return toplevel + specialisationInfix + name
	}
	return ""
}

// Inhibitors compares what inhibits switching.
func (m *Machine) Inhibitors(toplevel string) []string {
	m.mu.Lock()
	defer m.mu.Unlock()
	now, has := m.word(m.state.Running, "inhibits:")
	if then, ok := m.word(toplevel, "inhibits:"); ok && has && then != now {
		return []string{"component"}
	}
	return nil
}

// Units lists the service that the running system's flake says to fail.
func (m *Machine) Units(ctx context.Context) (nixos.Units, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.Unmanaged {
		return nil, nixos.ErrNoServiceManager
	}
	units := nixos.Units{{Name: "sshd.service"}}
	if name, fails := m.word(m.state.Running, "fails:"); fails {
		units = append(units, nixos.Unit{Name: name, Failed: true})
	}
	if m.OnUnits != nil {
		units = m.OnUnits(units)
	}
	return units, ctx.Err() //nolint:wrapcheck // the caller's own
}

// BootFull returns Full.
func (m *Machine) BootFull(string) bool { return m.Full }

// FreeDisk returns Free.
func (m *Machine) FreeDisk() (free int64, ok bool) { return m.Free, m.Free > 0 }

// Sessions returns LoggedIn and SessionsErr.
func (m *Machine) Sessions(context.Context) ([]string, error) { return m.LoggedIn, m.SessionsErr }

// CollectGarbage calls OnCollect.
func (m *Machine) CollectGarbage(context.Context, time.Duration) error {
	m.mu.Lock()
	m.called("collect garbage")
	m.mu.Unlock()
	if m.OnCollect != nil {
		m.OnCollect()
	}
	return nil
}

// kernelOf is the kernel of a system: what follows the word kernel: of its
// flake. The caller holds the lock.
func (m *Machine) kernelOf(toplevel string) string {
	kernel, _ := m.word(toplevel, "kernel:")
	return kernel
}

// OtherSwitch returns Other.
func (m *Machine) OtherSwitch(context.Context) (string, error) { return m.Other, nil }

// NixVersion returns a version that no real Nix has.
func (m *Machine) NixVersion(context.Context) (string, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	return "0.0.0-fake" + m.version, nil
}

// UpgradeNix changes what NixVersion returns.
func (m *Machine) UpgradeNix() {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.version += "+1"
}

// BootID counts the boots.
func (m *Machine) BootID(context.Context) (string, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	return fmt.Sprintf("00000000-0000-0000-0000-%012d", m.boots), nil
}

// Toplevel is the store path that Build gives an attribute of a flake.nix.
func Toplevel(flake []byte, attribute string) string {
	sum := sha256.Sum256(append(slices.Clone(flake), attribute...))
	return "/nix/store/" + hex.EncodeToString(sum[:16]) + "-nixos-system-" + attribute
}

// Build gives each tree and attribute a store path of its own. The tree must
// hold a flake.nix; an attribute that its text does not contain is missing.
func (m *Machine) Build(ctx context.Context, req nixos.BuildRequest) (string, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.called("build %s", req.Attribute)
	if err := ctx.Err(); err != nil {
		return "", err //nolint:wrapcheck // the caller's own
	}
	if m.OnBuild != nil {
		if err := m.OnBuild(req); err != nil {
			return "", err
		}
	}
	flake, err := os.ReadFile(filepath.Join(req.Dir, "flake.nix"))
	if err != nil {
		return "", &nixos.BuildError{Failure: nixos.EvaluationFailure, Message: err.Error(), ExitCode: 1}
	}
	if !strings.Contains(string(flake), req.Attribute) {
		return "", &nixos.BuildError{Failure: nixos.AttributeMissing, Message: "flake does not provide attribute", ExitCode: 1}
	}
	toplevel := Toplevel(flake, req.Attribute)
	if err := os.MkdirAll(filepath.Dir(req.OutLink), 0o700); err != nil {
		return "", err //nolint:wrapcheck // names the path
	}
	_ = os.Remove(req.OutLink) // as nix build replaces it
	if m.words == nil {
		m.words = map[string][]string{}
	}
	m.words[toplevel] = strings.Fields(string(flake))
	return toplevel, os.Symlink(toplevel, req.OutLink) //nolint:wrapcheck // names the path
}

// Built reports whether the out link is still there.
func (*Machine) Built(_ context.Context, outLink, toplevel string) bool {
	target, err := os.Readlink(outLink)
	return err == nil && target == toplevel
}

// Sweep has nothing to end: a build ends with its call.
func (*Machine) Sweep(context.Context) error { return nil }

// HTTP asks OnProbe.
func (m *Machine) HTTP(_ context.Context, url string) error { return m.probe("http " + url) }

// TCP asks OnProbe.
func (m *Machine) TCP(_ context.Context, address string) error { return m.probe("tcp " + address) }

// Exec asks OnProbe.
func (m *Machine) Exec(_ context.Context, name string) error { return m.probe("exec " + name) }

func (m *Machine) probe(what string) error {
	if m.OnProbe == nil {
		return nil
	}
	return m.OnProbe(what)
}

// Outdated compares the agent that was started with the running system's.
func (m *Machine) Outdated(context.Context) (string, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if now := m.defined(m.state.Running); now != m.agent {
		return fmt.Sprintf("the agent is %q, this one %q", now, m.agent), nil
	}
	return "", nil
}

// defined is the agent that a system starts. The caller holds the lock.
func (m *Machine) defined(toplevel string) string {
	agent, _ := m.word(toplevel, "agent:")
	return agent
}

// AgentStarted says that an agent was started, as the running system defines it.
func (m *Machine) AgentStarted() {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.agent = m.defined(m.state.Running)
}

// Removes looks for the word no-agent.
func (m *Machine) Removes(_ context.Context, toplevel string) (bool, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	_, removes := m.word(toplevel, "no-agent")
	return removes, nil
}

// Managed reports whether OnRestart is set.
func (m *Machine) Managed() bool { return m.OnRestart != nil }

// Restart calls OnRestart.
func (m *Machine) Restart(context.Context) error {
	m.mu.Lock()
	m.called("restart agent")
	m.mu.Unlock()
	if m.OnRestart == nil {
		return nixos.ErrNoServiceManager
	}
	m.OnRestart()
	return nil
}

// Warnings returns Warned.
func (m *Machine) Warnings(context.Context) []string { return m.Warned }
