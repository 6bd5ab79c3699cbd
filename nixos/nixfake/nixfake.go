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

	"github.com/npcnix/npcnix/nixos"
)

// Machine is a scriptable machine. The zero value is an empty one on which
// everything works. Its script fields are set before it is used.
type Machine struct {
	// OnBuild, if set, decides about a build before it is done.
	OnBuild func(req nixos.BuildRequest) error
	// OnStart, if set, decides how a run of stc ends. Activating false means
	// that the machine stays as it was.
	OnStart func(a nixos.Activation) (result nixos.Result, activating bool)
	// OnSetProfile, if set, decides about setting the profile.
	OnSetProfile func(toplevel string) error
	// Rooted makes the machine refuse toplevels whose tree has no file npcnix-root.
	Rooted bool

	mu      sync.Mutex
	state   nixos.Machine
	runs    map[string]nixos.Result
	calls   []string
	marked  map[string]bool
	version string
}

var (
	_ nixos.Observer  = (*Machine)(nil)
	_ nixos.Builder   = (*Machine)(nil)
	_ nixos.Activator = (*Machine)(nil)
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

func (m *Machine) called(format string, args ...any) {
	m.calls = append(m.calls, fmt.Sprintf(format, args...))
}

// Observe describes the machine.
func (m *Machine) Observe(ctx context.Context, desired string) (nixos.Machine, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	got := m.state
	if name, ok := strings.CutPrefix(got.Running, desired+"-specialisation-"); ok && desired != "" {
		got.Specialisation = name
	}
	return got, ctx.Err() //nolint:wrapcheck // the caller's own
}

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

// BootID returns one boot's id.
func (*Machine) BootID(context.Context) (string, error) {
	return "00000000-0000-0000-0000-000000000000", nil
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
	sum := sha256.Sum256(append(flake, req.Attribute...))
	toplevel := "/nix/store/" + hex.EncodeToString(sum[:16]) + "-nixos-system-" + req.Attribute
	if err := os.MkdirAll(filepath.Dir(req.OutLink), 0o700); err != nil {
		return "", err //nolint:wrapcheck // names the path
	}
	_ = os.Remove(req.OutLink) // as nix build replaces it
	if m.marked == nil {
		m.marked = map[string]bool{}
	}
	m.marked[toplevel] = strings.Contains(string(flake), "npcnix-root")
	return toplevel, os.Symlink(toplevel, req.OutLink) //nolint:wrapcheck // names the path
}

// Built reports whether the out link is still there.
func (*Machine) Built(_ context.Context, outLink, toplevel string) bool {
	target, err := os.Readlink(outLink)
	return err == nil && target == toplevel
}

// Check refuses unmarked toplevels on a rooted machine.
func (m *Machine) Check(_ context.Context, toplevel string) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.Rooted && !m.marked[toplevel] {
		return nixos.ErrRootNotSupported
	}
	return nil
}

// Start runs stc at once; Await tells how it ended.
func (m *Machine) Start(ctx context.Context, a nixos.Activation) error {
	if err := m.Check(ctx, a.Toplevel); err != nil {
		return err
	}
	result, activating := nixos.Result{Exited: true}, true
	if m.OnStart != nil {
		result, activating = m.OnStart(a)
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	m.called("%s %s", a.Action, a.Toplevel)
	if m.runs == nil {
		m.runs = map[string]nixos.Result{}
	}
	m.runs[a.ID] = result
	switch {
	case !activating:
	case a.Action == nixos.ActionTest:
		m.state.Running = a.Toplevel
	case m.state.Profile == a.Toplevel: // installers ignore what is in no profile
		m.state.BootDefault = a.Toplevel
	}
	return nil
}

// Await returns how a run ended.
func (m *Machine) Await(_ context.Context, id string) (nixos.Result, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	result, ok := m.runs[id]
	if !ok {
		return nixos.Result{How: "never started"}, nil
	}
	return result, nil
}

// SetProfile adds a generation.
func (m *Machine) SetProfile(ctx context.Context, toplevel string) error {
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
	if m.state.Profile != toplevel {
		m.state.Profile = toplevel
		m.state.ProfileGeneration++
	}
	return nil
}
