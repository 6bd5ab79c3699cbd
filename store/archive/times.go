package archive

import (
	"errors"
	"maps"
	"os"
	"slices"

	"golang.org/x/sys/unix"
)

// fixTimes gives the directories and symlinks their modification time; files
// have it. A directory's is set after whatever is below it, and the root's last.
func (u *unpacker) fixTimes() error {
	times, err := unix.TimeToTimespec(u.modified)
	if err != nil {
		return err //nolint:wrapcheck // wrapped by the caller
	}
	both := []unix.Timespec{times, times}
	links := map[string][]string{}
	for _, l := range u.links {
		dir, name := split(l.name)
		links[dir] = append(links[dir], name)
	}
	dirs := []string{"."}
	for _, p := range slices.Sorted(maps.Keys(u.kinds)) {
		if kind := u.kinds[p]; kind == kindDir || kind == kindImplied {
			dirs = append(dirs, p)
		}
	}
	for _, dir := range slices.Backward(dirs) { // a path sorts before those below it
		if err := setTimes(u.root, dir, append(links[dir], "."), both); err != nil {
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
