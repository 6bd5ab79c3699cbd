package archive

import (
	"errors"
	"os"
	"slices"

	"golang.org/x/sys/unix"
)

// fixTimes gives the directories and symlinks their modification time; files
// have it. A directory's is set after whatever is below it, and the root's last.
func (u *unpacker) fixTimes(root *os.Root, times []unix.Timespec) error {
	links := map[string][]string{}
	for _, l := range u.links {
		dir, name := split(l.name)
		links[dir] = append(links[dir], name)
	}
	for _, dir := range slices.Backward(u.dirs) { // parents were made before what is below them
		if err := setTimes(root, dir, append(links[dir], "."), times); err != nil {
			return err
		}
	}
	return nil
}

// setTimes sets the times of names in a directory. os.Root.Chtimes would
// follow symlinks.
func setTimes(root *os.Root, dir string, names []string, times []unix.Timespec) (err error) {
	f, err := root.Open(dir)
	if err != nil {
		return err //nolint:wrapcheck // wrapped by the caller
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	for _, name := range names {
		if err := unix.UtimesNanoAt(int(f.Fd()), name, times, unix.AT_SYMLINK_NOFOLLOW); err != nil {
			return err //nolint:wrapcheck // wrapped by the caller
		}
	}
	return nil
}
