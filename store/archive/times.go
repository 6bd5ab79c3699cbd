package archive

import (
	"errors"
	"io/fs"
	"os"
	"path"
	"time"

	"golang.org/x/sys/unix"
)

// fixTimes gives every entry below root, and last root itself, one
// modification time. os.Root.Chtimes would follow symlinks.
func fixTimes(root *os.Root, modified time.Time) error {
	times, err := unix.TimeToTimespec(modified)
	if err != nil {
		return err //nolint:wrapcheck // wrapped by the caller
	}
	both := []unix.Timespec{times, times}
	if err := fixDir(root, ".", both); err != nil {
		return err
	}
	dir, err := root.Open(".")
	if err != nil {
		return err //nolint:wrapcheck // wrapped by the caller
	}
	return errors.Join(unix.UtimesNanoAt(int(dir.Fd()), ".", both, unix.AT_SYMLINK_NOFOLLOW), dir.Close())
}

// fixDir sets the times of the entries of one directory, those below first.
func fixDir(root *os.Root, name string, times []unix.Timespec) (err error) {
	dir, err := root.Open(name)
	if err != nil {
		return err //nolint:wrapcheck // wrapped by the caller
	}
	defer func() { err = errors.Join(err, dir.Close()) }()
	entries, err := fs.ReadDir(root.FS(), name)
	if err != nil {
		return err //nolint:wrapcheck // wrapped by the caller
	}
	for _, e := range entries {
		if e.IsDir() {
			if err := fixDir(root, path.Join(name, e.Name()), times); err != nil {
				return err
			}
		}
		if err := unix.UtimesNanoAt(int(dir.Fd()), e.Name(), times, unix.AT_SYMLINK_NOFOLLOW); err != nil {
			return err //nolint:wrapcheck // wrapped by the caller
		}
	}
	return nil
}
