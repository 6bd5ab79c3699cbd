package local

import (
	"errors"
	"fmt"
	"path/filepath"

	"github.com/npcnix/npcnix/nixos"
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
}

// Machine fulfils nixos.Observer, nixos.Builder and nixos.Activator.
type Machine struct {
	opts Options
	runs runs
}

var (
	_ nixos.Observer  = (*Machine)(nil)
	_ nixos.Builder   = (*Machine)(nil)
	_ nixos.Activator = (*Machine)(nil)
)

// New returns the machine at opts.Root. All paths must be absolute.
func New(opts Options) (*Machine, error) {
	for _, path := range []string{opts.Root, opts.StateDir, opts.CacheDir} {
		if !filepath.IsAbs(path) {
			return nil, fmt.Errorf("local machine: %q is no absolute path", path)
		}
	}
	if opts.StateDir == "/" {
		return nil, errors.New("local machine: the state directory is /")
	}
	return &Machine{opts: opts, runs: runs{ours: map[string]*activation{}}}, nil
}

// path returns a path of the machine as this process sees it.
func (m *Machine) path(p string) string { return filepath.Join(m.opts.Root, p) }

// rooted reports whether the machine is a directory of another one.
func (m *Machine) rooted() bool { return m.opts.Root != "/" }
