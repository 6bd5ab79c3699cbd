package local

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"github.com/google/renameio/v2"

	"github.com/npcnix/npcnix/nixos"
	"github.com/npcnix/npcnix/nixos/run"
	"github.com/npcnix/npcnix/nixos/systemd"
)

const storeDir = "/nix/store/"

// GuardLink is the name, in a transaction's directory, of the guard's program.
const GuardLink = "guard"

func guardUnit(id string) string  { return "npcnix-guard-" + id + ".service" }
func guardTimer(id string) string { return "npcnix-guard-" + id + ".timer" }

// Arm starts a timer for the guard, or a process that waits where there is no
// systemd. The program is kept, whatever becomes of the system it came with.
func (m *Machine) Arm(ctx context.Context, id, dir string, after time.Duration) error {
	program, err := m.prepareGuard(ctx, id, dir)
	if err != nil {
		return err
	}
	if m.units == nil {
		if _, err := endGuard(ctx, dir); err != nil {
			return err
		}
		return m.startGuard(dir, "--after", after.String())
	}
	service := m.guardService(id, dir, program)
	err = m.units.StartTimer(ctx, service, after)
	if errors.Is(err, systemd.ErrExists) {
		if err = m.units.Stop(ctx, guardTimer(id)); err == nil {
			err = m.units.StartTimer(ctx, service, after)
		}
	}
	return err
}

// Prepare roots or copies the program, and links it.
func (m *Machine) Prepare(ctx context.Context, id, dir string) error {
	_, err := m.prepareGuard(ctx, id, dir)
	return err
}

func (m *Machine) prepareGuard(ctx context.Context, id, dir string) (program string, err error) {
	if program, err = m.guardProgram(ctx, id); err != nil {
		return "", err
	}
	if err := renameio.Symlink(program, filepath.Join(dir, GuardLink)); err != nil {
		return "", fmt.Errorf("link guard: %w", err)
	}
	return program, nil
}

func (m *Machine) guardService(id, dir, program string) systemd.Service {
	return systemd.Service{
		Name: guardUnit(id), Description: "npcnix: guard of " + id, Restart: true,
		Argv: append([]string{program}, m.guardArgs(dir)...), Env: run.Environ([]string{"PATH", "LANG", "LOCALE_ARCHIVE"}),
	}
}

func (m *Machine) guardArgs(dir string, flags ...string) []string {
	return append(append([]string{"guard", "--root", m.opts.Root}, flags...), dir)
}

// Fire starts the guard.
func (m *Machine) Fire(ctx context.Context, id, dir string) error {
	if m.units == nil {
		if working, err := endGuard(ctx, dir); working || err != nil {
			return err
		}
		return m.startGuard(dir)
	}
	err := m.units.Begin(ctx, guardUnit(id))
	if err == nil {
		return nil
	}
	program, linkErr := os.Readlink(filepath.Join(dir, GuardLink))
	if linkErr != nil {
		return errors.Join(err, linkErr)
	}
	// Its timer is gone, and the service with it.
	if err := m.units.Start(ctx, m.guardService(id, dir, program)); err != nil && !errors.Is(err, systemd.ErrExists) {
		return err
	}
	return nil
}

// Disarm stops the timer.
func (m *Machine) Disarm(ctx context.Context, id string) error {
	if m.units == nil {
		_, err := endGuard(ctx, filepath.Join(m.opts.StateDir, "transactions", id))
		return err
	}
	return m.units.Stop(ctx, guardTimer(id))
}

// Runs reports whether the guard's service runs. Without systemd the process
// that waits counts too.
func (m *Machine) Runs(ctx context.Context, id string) (bool, error) {
	if m.units != nil {
		return m.units.Runs(ctx, guardUnit(id))
	}
	var process run.Identity
	known, err := kept(filepath.Join(m.opts.StateDir, "transactions", id), "process", &process)
	return known && process.Alive(), err
}

func (m *Machine) startGuard(dir string, flags ...string) error {
	process, err := run.Start(run.Command{
		Path: filepath.Join(dir, GuardLink), Args: m.guardArgs(dir, flags...), Dir: "/", Leave: true,
		Env: run.Environ(passed()),
	})
	if err != nil {
		return err
	}
	if id, ok := process.Identity(); ok {
		return keep(dir, "process", id)
	}
	return nil
}

// endWait is how long the end of a guard's process is waited for, so that one
// which is fired next is not taken for it.
const endWait = time.Second

// endGuard ends a guard's process, unless it is at work.
func endGuard(ctx context.Context, dir string) (working bool, err error) {
	var process run.Identity
	known, err := kept(dir, "process", &process)
	if err != nil || !known || !process.Alive() {
		return false, err
	}
	_ = syscall.Kill(process.PID, syscall.SIGTERM) // it leaves if it waits
	limited, cancel := context.WithTimeout(ctx, endWait)
	defer cancel()
	_, _ = process.Wait(limited, time.Hour) // if it is at work, it goes on
	return process.Alive(), nil
}

// guardProgram returns a copy of this program that stays: in the Nix store it
// is rooted with the transaction, elsewhere copied.
func (m *Machine) guardProgram(ctx context.Context, id string) (string, error) {
	program, err := filepath.EvalSymlinks(m.opts.Executable)
	if err != nil {
		return "", fmt.Errorf("find the guard's program: %w", err)
	}
	if strings.HasPrefix(program, storeDir) {
		return program, m.Root(ctx, id+".guard", program)
	}
	return m.copyProgram(program)
}

// copyProgram copies a program to a name that its content gives.
func (m *Machine) copyProgram(program string) (string, error) {
	source, err := os.Open(program)
	if err != nil {
		return "", fmt.Errorf("copy the guard's program: %w", err)
	}
	defer func() { _ = source.Close() }() // only read
	sum := sha256.New()
	if _, err := io.Copy(sum, source); err != nil {
		return "", fmt.Errorf("copy the guard's program: %w", err)
	}
	copied := filepath.Join(m.opts.StateDir, "guard", hex.EncodeToString(sum.Sum(nil)))
	if _, err := os.Stat(copied); err == nil {
		return copied, nil
	} else if !errors.Is(err, fs.ErrNotExist) {
		return "", fmt.Errorf("look for the guard's program: %w", err)
	}
	if err := os.MkdirAll(filepath.Dir(copied), 0o700); err != nil {
		return "", fmt.Errorf("copy the guard's program: %w", err)
	}
	target, err := renameio.NewPendingFile(copied, renameio.WithPermissions(0o700))
	if err != nil {
		return "", fmt.Errorf("copy the guard's program: %w", err)
	}
	defer func() { _ = target.Cleanup() }() // nothing after it was renamed
	if _, err := source.Seek(0, io.SeekStart); err != nil {
		return "", fmt.Errorf("copy the guard's program: %w", err)
	}
	if _, err := io.Copy(target, source); err != nil {
		return "", fmt.Errorf("copy the guard's program: %w", err)
	}
	if err := target.CloseAtomicallyReplace(); err != nil {
		return "", fmt.Errorf("copy the guard's program: %w", err)
	}
	return copied, nil
}

// Reboot asks systemd for a reboot.
func (m *Machine) Reboot(ctx context.Context, why string) error {
	if m.units == nil {
		return nixos.ErrNoServiceManager
	}
	_ = m.Wall(ctx, why) // whom nobody tells loses the session all the same
	return m.units.Reboot(ctx)
}

// Wall runs wall(1).
func (m *Machine) Wall(ctx context.Context, message string) error {
	if m.rooted() {
		return nil
	}
	result, err := m.command(ctx, "npcnix-wall-", run.Command{Path: "wall", Args: []string{message}, Env: run.Environ([]string{"PATH"}), Dir: "/", Limit: queryLimit})
	if err == nil && result.ExitCode != 0 {
		err = fmt.Errorf("wall: exit code %d", result.ExitCode)
	}
	return err
}
