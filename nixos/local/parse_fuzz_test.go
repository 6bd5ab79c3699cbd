package local

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"unicode"

	"github.com/npcnix/npcnix/nixos"
)

// FuzzNixOutput wants whatever a program called nix prints to be taken only
// where it makes sense.
func FuzzNixOutput(f *testing.F) {
	f.Add([]byte(`[{"drvPath": "/nix/store/x.drv", "outputs": {"out": "/nix/store/x"}}]`))
	f.Add([]byte("nix (Nix) 2.8.0\n"))
	f.Add([]byte("nix (Lix, like Nix) 2.93.0\x1b[0m"))
	f.Add([]byte(`[null]`))
	f.Fuzz(func(t *testing.T, out []byte) {
		link := filepath.Join(t.TempDir(), "result")
		if err := os.Symlink("/nix/store/x", link); err != nil {
			t.Fatal(err)
		}
		if path, err := readBuilt(out, link); err == nil && path != "/nix/store/x" {
			t.Errorf("%q was taken for what is rooted", path)
		}
		version, err := readVersion(out)
		if err == nil && (version == "" || len(version) > maxVersion || strings.ContainsFunc(version, func(r rune) bool { return !unicode.IsPrint(r) })) {
			t.Errorf("version %q", version)
		}
	})
}

// FuzzBootLoader wants whatever stands in /boot to name a path or nothing.
func FuzzBootLoader(f *testing.F) {
	f.Add("default nixos-generation-7.conf\n", "title NixOS\noptions init=/nix/store/x/init loglevel=4\n")
	f.Add("default @saved", "")
	f.Add("default ../../../etc/passwd", "options init=x")
	f.Fuzz(func(t *testing.T, loader, entry string) {
		root := t.TempDir()
		if err := os.MkdirAll(filepath.Join(root, "boot/loader/entries"), 0o700); err != nil {
			t.Fatal(err)
		}
		for name, data := range map[string]string{"loader.conf": loader, "entries/nixos-generation-7.conf": entry} {
			if err := os.WriteFile(filepath.Join(root, "boot/loader", name), []byte(data), 0o600); err != nil {
				t.Fatal(err)
			}
		}
		m := &Machine{opts: Options{Root: root}}
		if got := m.bootDefault(); got != nixos.Unknown && !filepath.IsAbs(got) {
			t.Errorf("boot default is %q", got)
		}
	})
}
