package local

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/npcnix/npcnix/nixos"
	"github.com/npcnix/npcnix/nixos/run"
)

const (
	// marker is the file of a toplevel that may be activated below another root.
	marker = "npcnix-root"
	stc    = "bin/switch-to-configuration"
	// maxOutput bounds the end of stc's output that a result has, in bytes.
	maxOutput = 16 << 10
)

// Check wants stc and, below another root, the marker.
func (m *Machine) Check(_ context.Context, toplevel string) error {
	for name, missing := range map[string]error{stc: nixos.ErrNoSwitch, marker: nixos.ErrRootNotSupported} {
		if name == marker && !m.rooted() {
			continue
		}
		_, err := os.Stat(filepath.Join(toplevel, name))
		if errors.Is(err, fs.ErrNotExist) {
			return missing
		}
		if err != nil {
			return fmt.Errorf("look for %s: %w", name, err)
		}
	}
	return nil
}

// runDir is where a run's files are.
func (m *Machine) runDir(id string) string {
	return filepath.Join(m.opts.StateDir, "activations", id)
}

func runUnit(id string) string { return "npcnix-switch-" + id + ".service" }

// Start starts stc in a unit of its own.
func (m *Machine) Start(ctx context.Context, a nixos.Activation) error {
	if err := m.Check(ctx, a.Toplevel); err != nil {
		return err
	}
	err := m.startJob(ctx, m.runDir(a.ID), runUnit(a.ID), fmt.Sprintf("npcnix: %s %s", a.Action, a.Toplevel), job{
		Argv: []string{filepath.Join(a.Toplevel, stc), string(a.Action)}, Env: m.activationEnv(a), Dir: "/", Limit: a.Limit,
	})
	if errors.Is(err, errJobExists) {
		return fmt.Errorf("%w: %s", nixos.ErrRunExists, a.ID)
	}
	return err
}

// activationEnv is what nixos-rebuild hands on.
func (m *Machine) activationEnv(a nixos.Activation) []string {
	env := run.Environ([]string{"PATH", "LANG", "LOCALE_ARCHIVE", "NIXOS_NO_SYNC"})
	if a.Unchecked {
		env = append(env, "NIXOS_NO_CHECK=1")
	}
	if m.rooted() {
		env = append(env, "NPCNIX_ROOT="+m.opts.Root)
	}
	return env
}

// Await waits for a run, whoever started it.
func (m *Machine) Await(ctx context.Context, id string) (nixos.Result, error) {
	result, err := m.awaitJob(ctx, m.runDir(id), runUnit(id))
	return nixos.Result{
		Exited: result.Exited, ExitCode: result.ExitCode, How: result.How, Output: plain(string(m.Output(id, maxOutput))),
		Touched: touched(filepath.Join(m.placed(m.runDir(id)), "output")), Lost: result.Lost,
	}, err
}

// touched reports whether stc printed anywhere that it stops units or
// activates. Output that is there and cannot be read may say so.
func touched(path string) bool {
	f, err := os.Open(path)
	if err != nil {
		return !errors.Is(err, fs.ErrNotExist)
	}
	defer func() { _ = f.Close() }() // only read
	found, err := says(f, "stopping the following units", "activating the configuration")
	return found || err != nil
}

// says reports whether one of the words stands in what r reads, however long
// its lines are.
func says(r io.Reader, words ...string) (bool, error) {
	const longest = 64 // of the words, in bytes
	window := make([]byte, 0, 2*maxOutput)
	for {
		n, err := r.Read(window[len(window):cap(window)])
		window = window[:len(window)+n]
		for _, word := range words {
			if bytes.Contains(window, []byte(word)) {
				return true, nil
			}
		}
		switch {
		case errors.Is(err, io.EOF):
			return false, nil
		case err != nil:
			return false, fmt.Errorf("read what the switch printed: %w", err)
		case len(window) == cap(window):
			window = append(window[:0], window[len(window)-longest:]...)
		}
	}
}

// Stop stops a run with everything that it started.
func (m *Machine) Stop(ctx context.Context, id string) error {
	return m.stopJob(ctx, m.runDir(id), runUnit(id))
}

// Output returns the end of what a run printed.
func (m *Machine) Output(id string, limit int64) []byte {
	return tail(filepath.Join(m.placed(m.runDir(id)), "output"), limit)
}

// SetProfile makes the toplevel the profile's present generation.
func (m *Machine) SetProfile(ctx context.Context, toplevel string, generation int64) error {
	if err := m.Check(ctx, toplevel); err != nil {
		return err
	}
	path := m.path(profile)
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil { //nolint:gosec // profiles are public
		return fmt.Errorf("make profile directory: %w", err)
	}
	verb := []string{"--set", toplevel}
	if old, err := filepath.EvalSymlinks(fmt.Sprintf("%s-%d-link", path, generation)); generation > 0 && err == nil && old == toplevel {
		verb = []string{"--switch-generation", strconv.FormatInt(generation, 10)}
	}
	result, err := m.nix(ctx, "nix-env", append([]string{"--profile", path}, verb...)...)
	if err != nil {
		return err
	}
	if result.ExitCode != 0 {
		return fmt.Errorf("nix-env %s: exit code %d: %s", verb[0], result.ExitCode, humanTail(string(result.Stderr)))
	}
	return nil
}

// Retain removes the oldest generations of the profile.
func (m *Machine) Retain(ctx context.Context, keep int32, protected ...string) error {
	machine, err := m.Observe(ctx, "")
	if err != nil {
		return err
	}
	protected = append(protected, machine.Booted, machine.Running, machine.Profile, machine.BootDefault)
	generations, err := m.generations()
	if err != nil {
		return err
	}
	var gone []string
	for i, number := range generations { // newest first
		target, err := filepath.EvalSymlinks(fmt.Sprintf("%s-%d-link", m.path(profile), number))
		holds := func(path string) bool { return path == target || m.Specialisation(target, path) != "" }
		if i < int(keep) || (err == nil && slices.ContainsFunc(protected, holds)) {
			continue
		}
		gone = append(gone, strconv.FormatInt(number, 10))
	}
	if len(gone) == 0 {
		return nil
	}
	result, err := m.nix(ctx, "nix-env", append([]string{"--profile", m.path(profile), "--delete-generations"}, gone...)...)
	if err != nil {
		return err
	}
	if result.ExitCode != 0 {
		return fmt.Errorf("nix-env --delete-generations: exit code %d: %s", result.ExitCode, humanTail(string(result.Stderr)))
	}
	return nil
}

// generations are the numbers of the profile's, newest first.
func (m *Machine) generations() ([]int64, error) {
	links, err := filepath.Glob(m.path(profile) + "-*-link")
	if err != nil {
		return nil, fmt.Errorf("look for generations: %w", err)
	}
	var numbers []int64
	for _, link := range links {
		text := strings.TrimSuffix(strings.TrimPrefix(filepath.Base(link), "system-"), "-link")
		if number, err := strconv.ParseInt(text, 10, 64); err == nil {
			numbers = append(numbers, number)
		}
	}
	slices.Sort(numbers)
	slices.Reverse(numbers)
	return numbers, nil
}

// rootLink is the garbage collector's root number i of that name.
func (m *Machine) rootLink(name string, i int) string {
	return filepath.Join(m.opts.StateDir, "gcroots", fmt.Sprintf("%s.%d", name, i))
}

// Root roots each path by an indirect root, which a bare symlink is not.
func (m *Machine) Root(ctx context.Context, name string, paths ...string) error {
	for i, path := range paths {
		if !nixos.IsStorePath(path) {
			continue
		}
		link := m.rootLink(name, i)
		if err := os.MkdirAll(filepath.Dir(link), 0o700); err != nil {
			return fmt.Errorf("make directory of roots: %w", err)
		}
		result, err := m.nix(ctx, "nix-store", "--realise", "--add-root", link, "--indirect", topOf(path))
		if err != nil {
			return err
		}
		if target, err := os.Readlink(link); result.ExitCode != 0 || err != nil || target != topOf(path) {
			return fmt.Errorf("root %s: exit code %d: %s", path, result.ExitCode, humanTail(string(result.Stderr)))
		}
	}
	return nil
}

// topOf returns the store object that a path is in.
func topOf(path string) string {
	parts := strings.SplitN(path, "/", 5)
	return strings.Join(parts[:min(len(parts), 4)], "/")
}

// Unroot removes the roots of that name.
func (m *Machine) Unroot(name string) error {
	dir := filepath.Dir(m.rootLink(name, 0))
	links, err := os.ReadDir(dir)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("look for roots: %w", err)
	}
	for _, link := range links {
		if number, ours := strings.CutPrefix(link.Name(), name+"."); ours && !strings.Contains(number, ".") {
			if err := os.Remove(filepath.Join(dir, link.Name())); err != nil && !errors.Is(err, fs.ErrNotExist) {
				return fmt.Errorf("remove root: %w", err)
			}
		}
	}
	return nil
}
