package archive

import (
	"errors"
	"os"
	"path"
	"strings"
)

// dirs keeps the directories open that lead to the one that was used last:
// archives are sorted, and os.Root looks up each name of a path anew.
type dirs struct {
	root *os.Root
	// path is the directory that was used last, names and open are the way down
	// to it, name by name.
	path  string
	names []string
	open  []*os.Root
	// file is the directory's own handle, once it is needed.
	file *os.File
}

// handle returns the directory that was used last as a file.
func (d *dirs) handle() (_ *os.File, err error) {
	if d.file == nil {
		d.file, err = d.last().Open(".")
	}
	return d.file, err //nolint:wrapcheck // names the path
}

// closeHandle closes what handle opened.
func (d *dirs) closeHandle() (err error) {
	if d.file != nil {
		err = d.file.Close()
		d.file = nil
	}
	return err //nolint:wrapcheck // names the path
}

// at returns the directory of that path below root, which stays open until
// another path is asked for.
func (d *dirs) at(dir string) (*os.Root, error) {
	if dir == d.path {
		return d.last(), nil
	}
	names := segments(dir)
	same := 0
	for same < min(len(names), len(d.names)) && names[same] == d.names[same] {
		same++
	}
	if err := errors.Join(d.closeHandle(), d.up(same)); err != nil {
		return nil, err
	}
	for _, name := range names[same:] {
		below, err := d.last().OpenRoot(name)
		if err != nil {
			return nil, err //nolint:wrapcheck // names the path
		}
		d.names, d.open = append(d.names, name), append(d.open, below)
	}
	d.path = dir
	return d.last(), nil
}

func (d *dirs) last() *os.Root {
	if len(d.open) == 0 {
		return d.root
	}
	return d.open[len(d.open)-1]
}

// up closes what is deeper than n names.
func (d *dirs) up(n int) (err error) {
	d.path = ""
	for len(d.open) > n {
		err = errors.Join(err, d.last().Close())
		d.open, d.names = d.open[:len(d.open)-1], d.names[:len(d.names)-1]
	}
	return err
}

func (d *dirs) close() error { return errors.Join(d.closeHandle(), d.up(0)) }

// segments returns the names of a clean relative path; "." has none.
func segments(p string) []string {
	if p == "." {
		return nil
	}
	return strings.Split(p, "/")
}

// split returns the directory and the name of a clean relative path.
func split(p string) (dir, name string) { return path.Dir(p), path.Base(p) }
