package local

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"

	"github.com/npcnix/npcnix/nixos"
)

const profile = "nix/var/nix/profiles/system"

// Observe reads links and small files; it starts nothing.
func (m *Machine) Observe(_ context.Context, desired string) (nixos.Machine, error) {
	var got nixos.Machine
	var err error
	if got.Running, err = m.link("run/current-system"); err != nil {
		return got, err
	}
	if got.Booted, err = m.link("run/booted-system"); err != nil {
		return got, err
	}
	if got.Profile, got.ProfileGeneration, err = m.profile(); err != nil {
		return got, err
	}
	got.BootDefault = m.bootDefault()
	if got.Running != desired {
		got.Specialisation = specialisation(desired, got.Running)
	}
	if got.Booted != desired {
		got.BootedSpecialisation = specialisation(desired, got.Booted)
	}
	got.Reboot = m.rebootNeed()
	got.NixOSVersion = firstLine(filepath.Join(got.Running, "nixos-version"))
	got.Kernel = kernelVersion(got.Running)
	return got, nil
}

// link returns where a link of the machine leads in the end, or "" where there is none.
func (m *Machine) link(name string) (string, error) {
	target, err := filepath.EvalSymlinks(m.path(name))
	if errors.Is(err, fs.ErrNotExist) {
		return "", nil
	}
	if err != nil {
		return "", fmt.Errorf("read %s: %w", m.path(name), err)
	}
	return target, nil
}

// profile reads system -> system-42-link -> /nix/store/….
func (m *Machine) profile() (path string, generation int64, err error) {
	path, err = m.link(profile)
	if err != nil || path == "" {
		return "", 0, err
	}
	link, err := os.Readlink(m.path(profile))
	if err != nil {
		return "", 0, fmt.Errorf("read system profile: %w", err)
	}
	number := strings.TrimSuffix(strings.TrimPrefix(filepath.Base(link), "system-"), "-link")
	generation, err = strconv.ParseInt(number, 10, 64)
	if err != nil {
		return path, 0, nil //nolint:nilerr // a link made by hand has no number
	}
	return path, generation, nil
}

// specialisation returns the name of the desired system's specialisation that
// runs, or "".
func specialisation(desired, running string) string {
	if desired == "" || running == "" {
		return ""
	}
	dir := filepath.Join(desired, "specialisation")
	entries, err := os.ReadDir(dir)
	if err != nil {
		return "" // most systems have none
	}
	for _, e := range entries {
		if target, err := filepath.EvalSymlinks(filepath.Join(dir, e.Name())); err == nil && target == running {
			return e.Name()
		}
	}
	return ""
}

func firstLine(path string) string {
	data, err := os.ReadFile(path)
	if err != nil {
		return ""
	}
	line, _, _ := strings.Cut(string(data), "\n")
	return line
}

// kernelVersion reads the version from the name of the kernel's package.
func kernelVersion(toplevel string) string {
	path, err := filepath.EvalSymlinks(filepath.Join(toplevel, "kernel"))
	if err != nil {
		return ""
	}
	found := regexp.MustCompile(`^/nix/store/[0-9a-z]{32}-linux-([^/]+)/`).FindStringSubmatch(path)
	if found == nil {
		return ""
	}
	return found[1]
}

// BootID reads the kernel's. A container shares that with its host, and what
// its manager puts in its place a hardened service does not see (systemd 252):
// there the start of its init tells one boot from another too.
func (*Machine) BootID(context.Context) (string, error) {
	data, err := os.ReadFile("/proc/sys/kernel/random/boot_id")
	if err != nil {
		return "", fmt.Errorf("read boot id: %w", err)
	}
	id := strings.TrimSpace(string(data))
	if _, err := os.Stat("/run/systemd/container"); err != nil {
		return id, nil //nolint:nilerr // no container
	}
	stat, err := os.ReadFile("/proc/1/stat")
	if err != nil {
		return "", fmt.Errorf("read the start of init: %w", err)
	}
	// The start time is field 22; field 2, a name in brackets, may have spaces.
	const afterName = 20
	fields := strings.Fields(string(stat[strings.LastIndex(string(stat), ")")+1:]))
	if len(fields) < afterName {
		return "", fmt.Errorf("read the start of init: %q", stat)
	}
	return id + "." + fields[afterName-1], nil
}
