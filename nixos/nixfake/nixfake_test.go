package nixfake_test

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/npcnix/npcnix/nixos/nixfake"
	"github.com/npcnix/npcnix/nixos/nixostest"
)

func TestContract(t *testing.T) {
	t.Parallel()
	nixostest.Run(t, nixostest.Fake, nixostest.Harness{
		New: func(t *testing.T) nixostest.Machine {
			t.Helper()
			return &nixfake.Machine{Rooted: true}
		},
		Flake: func(t *testing.T, dir, motd string, marked bool) {
			t.Helper()
			text := "web " + motd
			if marked {
				text += " npcnix-root"
			}
			if err := os.WriteFile(filepath.Join(dir, "flake.nix"), []byte(text), 0o600); err != nil {
				t.Fatal(err)
			}
		},
	})
}
