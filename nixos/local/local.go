package local

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/npcnix/npcnix/nixos"
	"github.com/npcnix/npcnix/nixos/systemd"
)

// Options say where the machine is.
type Options struct {
	// Root is / or, for demonstrations and tests, a directory that stands for
	// it: profile, /run, /boot and state are below it, the Nix store is not.
	Root string
	// StateDir is the agent's own directory, below Root already.
	StateDir string
	// CacheDir is what Nix uses as its home.
	CacheDir string
	// Executable is this program's file, which is started anew for what must
	// outlive this process; see Helper.
	Executable string
	// Checks are the commands that exec checks name.
	Checks map[string][]string
	// RemoteChecks lets http and tcp checks reach other machines.
	RemoteChecks bool
}

// Machine fulfils every role of package nixos.
type Machine struct {
	opts Options
	// units runs what must outlive this process; nil where there is no systemd.
	units *systemd.Manager
	self  self
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

// New returns the machine at opts.Root. All paths must be absolute.
func New(ctx context.Context, opts Options) (*Machine, error) {
	for _, path := range []string{opts.Root, opts.StateDir, opts.CacheDir, opts.Executable} {
		if !filepath.IsAbs(path) {
			return nil, fmt.Errorf("local machine: %q is no absolute path", path)
		}
	}
	if opts.StateDir == "/" {
		return nil, errors.New("local machine: the state directory is /")
	}
	m := &Machine{opts: opts}
	if !m.rooted() && systemd.Booted() {
		m.units = &systemd.Manager{}
	}
	return m, m.findSelf(ctx)
}

// Close ends the connection to the service manager.
func (m *Machine) Close() {
	if m.units != nil {
		m.units.Close()
	}
}

// Executable returns the file of the program that this process runs, for
// Options. Where the program was replaced since, it is the new one.
func Executable() (string, error) {
	path, err := os.Executable()
	if err != nil {
		return "", fmt.Errorf("find this program's file: %w", err)
	}
	return strings.TrimSuffix(path, " (deleted)"), nil
}

// path returns a path of the machine as this process sees it.
func (m *Machine) path(p string) string { return filepath.Join(m.opts.Root, p) }

// rooted reports whether the machine is a directory of another one.
func (m *Machine) rooted() bool { return m.opts.Root != "/" }
