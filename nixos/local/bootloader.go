package local

import (
	"bufio"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/npcnix/npcnix/nixos"
)

// bootDefault reads what systemd-boot starts next: loader.conf names an entry,
// whose options name the system's init. Other boot loaders' choice, and a
// pattern instead of a name, is Unknown; a machine without /boot has none.
// Source: systemd's loader.conf(5) and the Boot Loader Specification.
func (m *Machine) bootDefault() string {
	if m.rooted() {
		if _, err := os.Stat(m.path("boot")); errors.Is(err, fs.ErrNotExist) {
			return ""
		}
	}
	entry := value(m.path("boot/loader/loader.conf"), "default", "")
	if entry == "" || strings.ContainsAny(entry, "*?@/") {
		return nixos.Unknown
	}
	if !strings.HasSuffix(entry, ".conf") {
		entry += ".conf"
	}
	init := value(filepath.Join(m.path("boot/loader/entries"), entry), "options", "init=")
	if !filepath.IsAbs(init) {
		return nixos.Unknown
	}
	return filepath.Dir(init)
}

// bootRoom is what an installer needs on /boot beside kernels and initrds, in
// bytes: entries, and a file that is written before it takes another's place.
const bootRoom = 64 << 10

// BootFull looks at the file system. Installers copy kernel and initrd to names
// that have the hash of their store paths, unless they are there.
func (m *Machine) BootFull(toplevel string) bool {
	var fs unix.Statfs_t
	if unix.Statfs(m.path("boot"), &fs) != nil {
		return false // there is none
	}
	need := uint64(bootRoom)
	for _, name := range []string{"kernel", "initrd"} {
		file, err := filepath.EvalSymlinks(filepath.Join(toplevel, name))
		if err != nil || m.onBoot(file) {
			continue
		}
		if info, err := os.Stat(file); err == nil {
			need += uint64(info.Size()) //nolint:gosec // never negative
		}
	}
	return fs.Bavail*uint64(fs.Bsize) < need //nolint:gosec // never negative
}

// hashLength is that of the hash in a store path's name.
const hashLength = 32

// onBoot reports whether a file of the Nix store was copied to /boot.
func (m *Machine) onBoot(file string) bool {
	name, ok := strings.CutPrefix(file, storeDir)
	if !ok || len(name) < hashLength {
		return false
	}
	found := false
	_ = filepath.WalkDir(m.path("boot"), func(path string, _ fs.DirEntry, err error) error { // what cannot be read is not there
		found = found || (err == nil && strings.Contains(filepath.Base(path), name[:hashLength]))
		return nil
	})
	return found
}

// FreeDisk looks at the file system of the Nix store.
func (*Machine) FreeDisk() (free int64, ok bool) {
	var fs unix.Statfs_t
	if err := unix.Statfs(storeDir, &fs); err != nil {
		return 0, false
	}
	return int64(fs.Bavail) * fs.Bsize, true //nolint:gosec // less than any disk has
}

// value returns the value of a key in a file of "key value" lines; with a
// prefix, the word of that value which begins with it, without it.
func value(path, key, prefix string) string {
	f, err := os.Open(path)
	if err != nil {
		return ""
	}
	defer func() { _ = f.Close() }() // only read
	for lines := bufio.NewScanner(f); lines.Scan(); {
		words := strings.Fields(lines.Text())
		if len(words) < 2 || words[0] != key {
			continue
		}
		if prefix == "" {
			return words[1]
		}
		for _, w := range words[1:] {
			if rest, ok := strings.CutPrefix(w, prefix); ok {
				return rest
			}
		}
	}
	return ""
}
