package local

import (
	"bufio"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

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
