//go:build !linux

package run

import "os/exec"

// member is a process of a family. Only Linux, where agents run, tells them.
type member struct{}

func descendants(int) []member { return nil }

func launch(cmd *exec.Cmd) error { return cmd.Start() } //nolint:wrapcheck // wrapped by the caller

func leave(int) error { return nil }

func ended(int) {}

func family() map[Identity]bool { return nil }

func sweep([]member, map[Identity]bool) {}

// AdoptOrphans does nothing where there is no such thing.
func AdoptOrphans() error { return nil }

func identify(int) (Identity, bool) { return Identity{}, false }
