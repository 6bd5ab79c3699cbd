package host

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"github.com/google/renameio/v2"
	"golang.org/x/sys/unix"
)

// maxStateFile bounds a file of the state before it is parsed, in bytes.
const maxStateFile = 1 << 20

// asideSuffix begins what is added to the name of a file that could not be used.
const asideSuffix = ".set-aside-"

// errUnusable is wrapped by what is wrong with a state file's content: reading
// it again does not help.
var errUnusable = errors.New("cannot be used")

func unusable(format string, args ...any) error {
	return fmt.Errorf("%w: %s", errUnusable, fmt.Sprintf(format, args...))
}

// readState reads a file of the state: a regular one, of bounded size. One that
// is not there is fs.ErrNotExist, one that is something else errUnusable.
func readState(path string) (data []byte, err error) {
	// A FIFO must not hold the agent, nor a link lead it elsewhere.
	f, err := os.OpenFile(path, os.O_RDONLY|unix.O_NOFOLLOW|unix.O_NONBLOCK, 0)
	switch {
	case errors.Is(err, unix.ELOOP), errors.Is(err, unix.ENXIO): // a link, a socket
		return nil, unusable("not a regular file")
	case err != nil:
		return nil, err //nolint:wrapcheck // names the path
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	info, err := f.Stat()
	if err != nil {
		return nil, err //nolint:wrapcheck // names the path
	}
	if !info.Mode().IsRegular() {
		return nil, unusable("not a regular file")
	}
	data, err = io.ReadAll(io.LimitReader(f, maxStateFile+1))
	if err != nil {
		return nil, err //nolint:wrapcheck // names the path
	}
	if len(data) > maxStateFile {
		return nil, unusable("larger than %d bytes", maxStateFile)
	}
	return data, nil
}

// writeState replaces a file of the state: written, synced, renamed, and the
// rename made durable.
func writeState(path string, data []byte) error {
	dir := filepath.Dir(path)
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return err //nolint:wrapcheck // names the path
	}
	if err := renameio.WriteFile(path, data, 0o600, renameio.WithTempDir(dir)); err != nil {
		return err //nolint:wrapcheck // names the path
	}
	d, err := os.Open(dir)
	if err != nil {
		return err //nolint:wrapcheck // names the path
	}
	return errors.Join(d.Sync(), d.Close())
}

// setAside moves a state file that cannot be used out of the way, for a person
// to look at, and says so. Its new name has the time, so that none is lost.
func (r *Reconciler) setAside(path string, why error) error {
	aside := path + asideSuffix + r.opts.Now().UTC().Format("20060102T150405.000000000")
	if err := os.Rename(path, aside); err != nil {
		return fmt.Errorf("set %s aside, which %w: %w", path, why, err)
	}
	r.opts.Log.Error(why, "Set a state file aside", "host", r.opts.Host, "path", path, "now", aside)
	return nil
}

// removeTemporaries removes what killed agents were writing in place of the
// files: renameio names it after them, with a dot before and digits behind.
// Nothing else is touched, wherever the state directory was said to be.
func removeTemporaries(files ...string) error {
	for _, file := range files {
		left, err := filepath.Glob(filepath.Join(filepath.Dir(file), "."+filepath.Base(file)+"[0-9]*"))
		if err != nil {
			return fmt.Errorf("look for temporary files: %w", err)
		}
		for _, path := range left {
			if info, err := os.Lstat(path); err != nil || !info.Mode().IsRegular() {
				continue
			}
			if err := os.Remove(path); err != nil {
				return fmt.Errorf("remove temporary file: %w", err)
			}
		}
	}
	return nil
}
