package nixfake_test

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/npcnix/npcnix/nixos/nixfake"
	"github.com/npcnix/npcnix/nixos/nixostest"
)

// machine adds what the contract wants to look at.
type machine struct {
	*nixfake.Machine

	dir string
}

func (m machine) TransactionDir(id string) string { return filepath.Join(m.dir, id) }

func (machine) Touched(string) bool            { return true }
func (m machine) RootsOf(name string) []string { return m.Roots()[name] }

func TestContract(t *testing.T) {
	t.Parallel()
	nixostest.Run(t, nixostest.Harness{
		New: func(t *testing.T) nixostest.Machine {
			t.Helper()
			return machine{&nixfake.Machine{Rooted: true, OnGuard: func(_ context.Context, dir string) {
				if err := os.WriteFile(filepath.Join(dir, nixostest.GuardActed), []byte("acted\n"), 0o600); err != nil {
					t.Error(err)
				}
			}}, t.TempDir()}
		},
		Flake: func(t *testing.T, dir string, system nixostest.System) {
			t.Helper()
			words := []string{"web", system.Motd}
			if !system.Unmarked {
				words = append(words, "npcnix-root")
			}
			if system.Hangs {
				words = append(words, "takes:10m")
			}
			if err := os.WriteFile(filepath.Join(dir, "flake.nix"), []byte(strings.Join(words, " ")), 0o600); err != nil {
				t.Fatal(err)
			}
		},
	})
}
