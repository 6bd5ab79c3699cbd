package local_test

import (
	"errors"
	"os"
	"path/filepath"
	"syscall"
	"testing"
)

// /boot is full where it has no room for the kernel of a system.
func TestBootFull(t *testing.T) {
	t.Parallel()
	root := t.TempDir()
	m := newMachine(t, root)
	boot, toplevel := filepath.Join(root, "boot"), filepath.Join(root, "toplevel")
	if m.BootFull(toplevel) {
		t.Error("a /boot that is not there is full")
	}
	if err := errors.Join(os.Mkdir(boot, 0o700), syscall.Mount("tmpfs", boot, "tmpfs", 0, "size=12m")); err != nil {
		t.Fatalf("a small /boot cannot be mounted, which this test needs root for: %v", err)
	}
	t.Cleanup(func() { _ = syscall.Unmount(boot, syscall.MNT_DETACH) })
	kernel := filepath.Join(toplevel, "kernel")
	if err := errors.Join(os.Mkdir(toplevel, 0o700), os.WriteFile(kernel, make([]byte, 1<<20), 0o600)); err != nil {
		t.Fatal(err)
	}
	for size, want := range map[int64]bool{1 << 20: false, 14 << 20: true} {
		if err := os.Truncate(kernel, size); err != nil {
			t.Fatal(err)
		}
		if got := m.BootFull(toplevel); got != want {
			t.Errorf("with a kernel of %d bytes: %v", size, got)
		}
	}
}

// The room on /nix is what its file system says.
func TestFreeDisk(t *testing.T) {
	t.Parallel()
	var fs syscall.Statfs_t
	if err := syscall.Statfs("/nix/store", &fs); err != nil {
		t.Fatal(err)
	}
	free, ok := newMachine(t, t.TempDir()).FreeDisk()
	if most := float64(fs.Blocks) * float64(fs.Bsize); !ok || free <= 0 || float64(free) > most {
		t.Errorf("%d of %.0f, %v", free, most, ok)
	}
}
