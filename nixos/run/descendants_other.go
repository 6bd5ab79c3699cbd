//go:build !linux

package run

// member is a process of a family. Only Linux, where agents run, tells them.
type member struct{}

func descendants(int) []member { return nil }

func (member) kill() {}

func identify(int) (Identity, bool) { return Identity{}, false }
