package host

import (
	"fmt"
	"os"
	"path/filepath"
)

// asideSuffix begins what is added to the name of a file that could not be used.
const asideSuffix = ".set-aside-"

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
