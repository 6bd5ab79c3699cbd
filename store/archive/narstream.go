package archive

import "io"

// narStream hashes a tree while it is unpacked, if its entries come in the
// order of the NAR format: depth first, sorted by name. This package's own
// archives do; of others the tree is hashed once it is there.
type narStream struct {
	nar *narHasher
	// path is the open directory, names the way to it, and last the last name
	// in each directory on it, the root's first.
	path  string
	names []string
	last  []string
	// disordered says that the entries came in another order.
	disordered bool
}

func newNarStream() *narStream {
	s := &narStream{nar: newNarHasher(), path: ".", last: []string{""}}
	s.nar.directory()
	return s
}

// enter begins an entry; its directories must have been entered. It reports
// whether the entry is to be hashed.
func (s *narStream) enter(p string) bool {
	if s.disordered {
		return false
	}
	dir, name := split(p)
	if dir != s.path && !s.descend(dir) {
		return false
	}
	deepest := len(s.last) - 1
	if name <= s.last[deepest] {
		s.disordered = true
		return false
	}
	s.last[deepest] = name
	s.nar.entry(name)
	return true
}

// descend leaves directories until dir is the open one. One that was left
// already cannot be entered again.
func (s *narStream) descend(dir string) bool {
	names := segments(dir)
	same := 0
	for same < min(len(names), len(s.names)) && names[same] == s.names[same] {
		same++
	}
	for len(s.names) > same {
		s.leave()
	}
	s.path, s.disordered = dir, same < len(names)
	return !s.disordered
}

// leave ends the deepest open directory.
func (s *narStream) leave() {
	s.nar.endDirectory()
	s.nar.endEntry()
	s.names, s.last = s.names[:len(s.names)-1], s.last[:len(s.last)-1]
}

func (s *narStream) directory(p string) {
	if !s.enter(p) {
		return
	}
	_, name := split(p)
	s.nar.directory()
	s.path, s.names, s.last = p, append(s.names, name), append(s.last, "")
}

func (s *narStream) symlink(p, target string) {
	if s.enter(p) {
		s.nar.symlink(target)
		s.nar.endEntry()
	}
}

// file begins a file of that size and returns where its content goes, or nil.
func (s *narStream) file(p string, executable bool, size int64) io.Writer {
	if !s.enter(p) {
		return nil
	}
	return s.nar.file(executable, size)
}

func (s *narStream) endFile(size int64) {
	if !s.disordered {
		s.nar.endFile(size)
		s.nar.endEntry()
	}
}

// hash returns the hash of the whole tree; ok is false if it could not be told.
func (s *narStream) hash() (hash string, ok bool) {
	if s.disordered {
		return "", false
	}
	for len(s.names) > 0 {
		s.leave()
	}
	s.nar.endDirectory()
	return s.nar.String(), true
}
