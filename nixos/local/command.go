package local

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/npcnix/npcnix/nixos/run"
)

// Bounds of what is read of a command's output, in bytes.
const (
	maxStdout = 4 << 20
	maxStderr = 64 << 10
)

// The units of builds and checks, which end with their agent.
const (
	buildUnits = "npcnix-build-"
	checkUnits = "npcnix-check-"
)

// command runs a command to its end: under systemd in a unit of its own, so
// that it can be stopped with everything it started, and is not bound by what
// this process may not do.
func (m *Machine) command(ctx context.Context, prefix string, c run.Command) (run.Result, error) {
	if m.units == nil {
		return run.Run(ctx, c)
	}
	path, err := run.LookPath(c.Path)
	if err != nil {
		return run.Result{}, err
	}
	name := prefix + strings.ToLower(rand.Text()[:12])
	dir, unit := filepath.Join(m.opts.StateDir, "jobs", name), name+".service"
	defer func() { _ = os.RemoveAll(dir) }() // else at the next start
	err = m.startJob(ctx, dir, unit, "npcnix: "+filepath.Base(path), job{
		Argv: append([]string{path}, c.Args...), Env: c.Env, Dir: c.Dir, Limit: c.Limit, Apart: true,
	})
	if err != nil {
		return run.Result{}, err
	}
	result, err := m.awaitJob(ctx, dir, unit)
	if err != nil {
		return run.Result{}, errors.Join(err, m.stopJob(context.WithoutCancel(ctx), dir, unit))
	}
	got := run.Result{
		ExitCode: result.ExitCode,
		Stdout:   tail(filepath.Join(dir, "output"), maxStdout+1), Stderr: tail(filepath.Join(dir, "errors"), maxStderr),
	}
	switch {
	case strings.Contains(result.How, "time limit"):
		return got, fmt.Errorf("%s: %w: %s", c.Path, run.ErrLimit, c.Limit)
	case !result.Exited:
		return got, fmt.Errorf("%s: %s", c.Path, result.How)
	case len(got.Stdout) > maxStdout:
		return got, fmt.Errorf("%s: %w", c.Path, run.ErrOutput)
	}
	return got, nil
}

// Sweep ends the builds and checks that an earlier agent left, and removes the
// files of commands that do not run any more.
func (m *Machine) Sweep(ctx context.Context) error {
	if m.units == nil {
		return nil // they ended with their agent, or are init's
	}
	for _, prefix := range []string{buildUnits, checkUnits} {
		names, err := m.units.Matching(ctx, prefix+"*")
		if err != nil {
			return err
		}
		for _, name := range names {
			if err := m.units.Stop(ctx, name); err != nil {
				return err
			}
		}
	}
	left, _ := filepath.Glob(filepath.Join(m.opts.StateDir, "jobs", "*")) // the pattern is well-formed
	for _, dir := range left {
		if runs, err := m.units.Runs(ctx, filepath.Base(dir)+".service"); err == nil && !runs { // else a guard's
			_ = os.RemoveAll(dir) // else at the next start
		}
	}
	return nil
}
