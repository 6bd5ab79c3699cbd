package local

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"

	"github.com/npcnix/npcnix/nixos"
)

// Units asks systemd. This program's own units are left out.
func (m *Machine) Units(ctx context.Context) (nixos.Units, error) {
	if m.units == nil {
		return nil, nixos.ErrNoServiceManager
	}
	services, err := m.units.Services(ctx)
	if err != nil {
		return nil, err
	}
	var units nixos.Units
	for _, s := range services {
		if s.Name == m.self.unit || strings.HasPrefix(s.Name, "npcnix-") {
			continue
		}
		waits := strings.HasPrefix(s.SubState, "auto-restart")
		units = append(units, nixos.Unit{
			Name: s.Name, Failed: s.ActiveState == "failed" || (waits && s.Result != "success"),
			Starting: s.ActiveState == "activating" && !waits, Restarts: s.Restarts,
		})
	}
	return units, nil
}

const (
	// otherSwitches are the units in which nixos-rebuild switches.
	otherSwitches = "nixos-rebuild-switch-to-configuration*"
	// switchLock is stc's own.
	switchLock = "run/nixos/switch-to-configuration.lock"
)

// OtherSwitch looks for nixos-rebuild's unit and for who holds stc's lock.
func (m *Machine) OtherSwitch(ctx context.Context) (string, error) {
	if m.units != nil {
		names, err := m.units.Matching(ctx, otherSwitches)
		if err != nil {
			return "", err
		}
		if len(names) > 0 {
			return names[0], nil
		}
	}
	pid, err := lockHolder(m.path(switchLock))
	if err != nil || pid == "" {
		return "", err
	}
	return "process " + pid + " holds " + m.path(switchLock), nil
}

// lockHolder returns the process that holds a file's lock. It only reads: a
// lock that was tried for a moment could make somebody's switch fail.
func lockHolder(path string) (pid string, err error) {
	var stat syscall.Stat_t
	if err := syscall.Stat(path, &stat); err != nil {
		return "", nil // nobody ever switched
	}
	locks, err := os.Open("/proc/locks")
	if err != nil {
		return "", fmt.Errorf("look for locks: %w", err)
	}
	defer func() { _ = locks.Close() }() // only read
	id := fmt.Sprintf("%02x:%02x:%d", unix.Major(stat.Dev), unix.Minor(stat.Dev), stat.Ino)
	// 1: FLOCK  ADVISORY  WRITE 1234 fd:00:5678 0 EOF
	for lines := bufio.NewScanner(locks); lines.Scan(); {
		words := strings.Fields(lines.Text())
		if len(words) > 5 && words[1] != "->" && words[5] == id {
			return words[4], nil
		}
	}
	return "", nil
}

// Specialisation returns the name of toplevel's specialisation that path is.
func (*Machine) Specialisation(toplevel, path string) string { return specialisation(toplevel, path) }

// Specialised returns the path of toplevel's specialisation of that name.
func (*Machine) Specialised(toplevel, name string) string {
	if name == "" || name != filepath.Base(name) {
		return ""
	}
	path, err := filepath.EvalSymlinks(filepath.Join(toplevel, "specialisation", name))
	if err != nil {
		return ""
	}
	return path
}

// Inhibitors compares the file switch-inhibitors of both systems: a JSON object
// that names critical components. Source: nixpkgs' system.switch.inhibitors.
func (m *Machine) Inhibitors(toplevel string) []string {
	now, then := inhibitors(m.path("run/current-system")), inhibitors(toplevel)
	var changed []string
	for name, value := range now {
		if other, both := then[name]; both && other != value {
			changed = append(changed, name)
		}
	}
	slices.Sort(changed)
	return changed
}

func inhibitors(system string) map[string]string {
	data, err := os.ReadFile(filepath.Join(system, "switch-inhibitors"))
	if err != nil {
		return nil // most systems have none
	}
	var named map[string]string
	if err := json.Unmarshal(data, &named); err != nil {
		return nil
	}
	return named
}
