package local

import (
	"bytes"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/npcnix/npcnix/nixos"
)

// rebootNeed compares what runs with what was booted: the paths that kernel,
// initrd and modules lead to, and the text of the kernel's parameters. Systems
// that have reboot-triggers say themselves what wants a reboot besides.
func (m *Machine) rebootNeed() nixos.RebootNeed {
	booted, running := m.path("run/booted-system"), m.path("run/current-system")
	known, changed := true, []string{}
	compare := func(name string, differ func(a, b string) (bool, error)) {
		differs, err := differ(filepath.Join(booted, name), filepath.Join(running, name))
		switch {
		case err != nil:
			known = false
		case differs:
			changed = append(changed, name)
		}
	}
	for _, name := range []string{"kernel", "initrd", "kernel-modules"} {
		compare(name, leadElsewhere)
	}
	compare("kernel-params", readOtherwise)
	if triggers := "reboot-triggers"; exists(filepath.Join(booted, triggers)) && exists(filepath.Join(running, triggers)) {
		compare(triggers, readOtherwise)
	}
	if !known {
		return nixos.RebootNeed{}
	}
	return nixos.RebootNeed{Known: true, Changed: strings.Join(changed, ", ")}
}

func exists(path string) bool {
	_, err := os.Stat(path)
	return !errors.Is(err, fs.ErrNotExist)
}

// leadElsewhere reports whether two links lead to different files.
func leadElsewhere(a, b string) (bool, error) {
	left, err := filepath.EvalSymlinks(a)
	if err != nil {
		return false, err //nolint:wrapcheck // only that it is one counts
	}
	right, err := filepath.EvalSymlinks(b)
	return left != right, err //nolint:wrapcheck // as above
}

// readOtherwise reports whether two small files have different contents.
func readOtherwise(a, b string) (bool, error) {
	left, err := os.ReadFile(a)
	if err != nil {
		return false, err //nolint:wrapcheck // only that it is one counts
	}
	right, err := os.ReadFile(b)
	return !bytes.Equal(left, right), err //nolint:wrapcheck // as above
}
