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

// bootRoom is the least room on /boot, in bytes, with which a boot loader's
// installer does not fail for the lack of it: entries alone need that much.
const bootRoom = 64 << 10

// BootFull looks at the file system.
func (m *Machine) BootFull() bool {
	var fs unix.Statfs_t
	return unix.Statfs(m.path("boot"), &fs) == nil && fs.Bavail*uint64(fs.Bsize) < bootRoom //nolint:gosec // never negative
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
