package archive

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

// add hashes what a task makes.
func (s *narStream) add(t task) {
	switch {
	case t.kind == kindFile && !t.first:
		s.content(t)
	case !s.enter(t.path):
	case t.kind == kindDir:
		_, name := split(t.path)
		s.nar.directory()
		s.path, s.names, s.last = t.path, append(s.names, name), append(s.last, "")
	case t.kind == kindLink:
		s.nar.symlink(t.target)
		s.nar.endEntry()
	case t.kind == kindFile:
		s.nar.file(t.mode == modeProgram, t.size)
		s.content(t)
	}
}

// content hashes a chunk of a file, and ends the file with its last.
func (s *narStream) content(t task) {
	if s.disordered {
		return
	}
	_, _ = s.nar.h.Write(t.data) // a hash never fails
	if !t.more {
		s.nar.endFile(t.size)
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
