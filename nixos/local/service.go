package local

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"

	"golang.org/x/sys/unix"

	"github.com/npcnix/npcnix/nixos"
)

// self is this process as the machine's service.
type self struct {
	// unit is the service that it is the main process of, "" if of none.
	unit string
	// defined is the digest of the unit's files when it was started.
	defined string
}

const unitDir = "etc/systemd/system"

// findSelf looks for this process's unit, once: what changes afterwards is
// another agent than this one.
func (m *Machine) findSelf(ctx context.Context) (err error) {
	if m.units == nil {
		return nil
	}
	if m.self.unit, err = m.units.Self(ctx); err != nil || m.self.unit == "" {
		return err
	}
	m.self.defined, err = definition(m.path("run/current-system"), m.self.unit)
	return err
}

// definition is the digest of a unit's file and its drop-ins as a system has
// them, "" where it has none.
func definition(system, unit string) (string, error) {
	file := filepath.Join(system, unitDir, unit)
	dropIns, _ := filepath.Glob(file + ".d/*.conf") // the pattern is well-formed, and sorted
	sum := sha256.New()
	for i, path := range append([]string{file}, dropIns...) {
		data, err := os.ReadFile(path)
		if i == 0 && errors.Is(err, fs.ErrNotExist) {
			return "", nil
		}
		if err != nil {
			return "", fmt.Errorf("read unit: %w", err)
		}
		_, _ = fmt.Fprintf(sum, "%s %d\n%s", filepath.Base(path), len(data), data) // a hash never fails
	}
	return hex.EncodeToString(sum.Sum(nil)), nil
}

// execStart finds the program of a service.
const execStart = `(?m)^ExecStart=[@:+!-]*"?([^"\s]+)`

// programOf returns the agent that a unit's file starts, if it names one itself.
func programOf(system, unit string) string {
	data, err := os.ReadFile(filepath.Join(system, unitDir, unit))
	if err != nil {
		return ""
	}
	found := regexp.MustCompile(execStart).FindSubmatch(data)
	if found == nil || !bytes.HasSuffix(found[1], []byte("/npcnix-reconciler")) {
		return ""
	}
	program, err := filepath.EvalSymlinks(string(found[1]))
	if err != nil {
		return string(found[1])
	}
	return program
}

// Outdated compares this process with what the running system would start.
func (m *Machine) Outdated(context.Context) (string, error) {
	if m.self.unit == "" || m.self.defined == "" {
		return "", nil
	}
	system := m.path("run/current-system")
	now, err := definition(system, m.self.unit)
	if err != nil || now == "" {
		return "", err
	}
	own, err := filepath.EvalSymlinks(m.opts.Executable)
	if err != nil {
		return "the agent's program is gone", nil //nolint:nilerr // that is the answer
	}
	if program := programOf(system, m.self.unit); program != "" && program != own {
		return fmt.Sprintf("%s starts %s, this agent is %s", m.self.unit, program, own), nil
	}
	if now != m.self.defined {
		return m.self.unit + " was changed since this agent was started", nil
	}
	return "", nil
}

// Removes reports whether the toplevel does not start the agent any more.
func (m *Machine) Removes(_ context.Context, toplevel string) (bool, error) {
	if m.self.unit == "" || !starts(m.path("run/current-system"), m.self.unit) {
		return false, nil
	}
	return !starts(toplevel, m.self.unit), nil
}

// starts reports whether a system has a unit and something that wants it.
func starts(system, unit string) bool {
	for _, kind := range []string{"wants", "requires", "upholds"} {
		found, _ := filepath.Glob(filepath.Join(system, unitDir, "*."+kind, unit)) // the pattern is well-formed
		for _, link := range found {
			if _, err := os.Stat(link); err == nil {
				return true
			}
		}
	}
	return false
}

// Managed reports whether this process is the main one of a unit.
func (m *Machine) Managed() bool { return m.units != nil && m.self.unit != "" }

// Restart asks systemd.
func (m *Machine) Restart(ctx context.Context) error {
	if m.units == nil || m.self.unit == "" {
		return nixos.ErrNoServiceManager
	}
	return m.units.Restart(ctx, m.self.unit)
}

// Warnings looks at systemd and at the state's file system.
func (m *Machine) Warnings(context.Context) []string {
	var warnings []string
	if m.units == nil {
		warnings = append(warnings, "systemd does not run here: units cannot be checked, and the guard of a switch is a mere process.")
	}
	var fs unix.Statfs_t
	if err := unix.Statfs(m.opts.StateDir, &fs); err == nil && (fs.Type == unix.TMPFS_MAGIC || fs.Type == unix.RAMFS_MAGIC) {
		warnings = append(warnings, "The state directory "+m.opts.StateDir+" is in memory: after a reboot this host knows of no earlier attempt.")
	}
	return warnings
}
