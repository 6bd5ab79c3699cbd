package archive

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"sync"
	"sync/atomic"

	"golang.org/x/sys/unix"
)

// Buffers between reading an archive and writing its tree: chunks of files, of
// which as many may wait.
const (
	chunkSize = 32 << 10
	maxChunks = 128
)

// task is one act of the planter: an entry to make, or a further chunk of a file.
type task struct {
	kind   byte
	path   string
	target string      // of a symlink
	mode   fs.FileMode // of a file
	size   int64       // of the whole file
	data   []byte      // of a file
	// first and more say that it is the file's first chunk, and that others follow.
	first, more bool
}

// planter makes a tree while the archive is still being read, and hashes it:
// the three take about as long as each other, and other processors can do them.
// It trusts what it is told: the unpacker has judged it.
type planter struct {
	nar   *narStream
	dirs  dirs
	times []unix.Timespec
	// modes says of each mode whether the umask lets it be.
	modes map[fs.FileMode]bool
	file  *os.File // that is being written

	// Tasks go through todo, are hashed, and then through hashed.
	todo, hashed chan task
	free         chan []byte
	done         sync.WaitGroup
	failed       atomic.Pointer[error]
}

func newPlanter(root *os.Root, times []unix.Timespec) *planter {
	p := &planter{
		nar: newNarStream(), dirs: dirs{root: root}, times: times, modes: map[fs.FileMode]bool{},
		todo: make(chan task, maxChunks), hashed: make(chan task, maxChunks), free: make(chan []byte, maxChunks),
	}
	for range maxChunks {
		p.free <- make([]byte, chunkSize)
	}
	p.done.Go(func() {
		defer close(p.hashed)
		for t := range p.todo {
			p.nar.add(t)
			p.hashed <- t
		}
	})
	p.done.Go(func() {
		for t := range p.hashed {
			if p.err() == nil {
				p.fail(t.path, p.do(t))
			}
			if t.data != nil {
				p.free <- t.data[:chunkSize]
			}
		}
		if p.file != nil {
			p.fail("", p.file.Close())
		}
		p.fail("", p.dirs.close())
	})
	return p
}

// err is what went wrong first.
func (p *planter) err() error {
	if err := p.failed.Load(); err != nil {
		return *err
	}
	return nil
}

func (p *planter) fail(path string, err error) {
	if err != nil && p.err() == nil {
		err = fmt.Errorf("unpack %s: %w", path, err)
		p.failed.Store(&err)
	}
}

// close waits until everything is there.
func (p *planter) close() error {
	close(p.todo)
	p.done.Wait()
	return p.err()
}

func (p *planter) do(t task) error {
	if t.kind == kindFile && p.file != nil {
		return p.write(t)
	}
	at, name := split(t.path)
	dir, err := p.dirs.at(at)
	if err != nil {
		return err
	}
	switch t.kind {
	case kindDir:
		return dir.Mkdir(name, modeProgram) //nolint:wrapcheck // wrapped by the caller
	case kindLink:
		return dir.Symlink(t.target, name) //nolint:wrapcheck // wrapped by the caller
	}
	if p.file, err = dir.OpenFile(name, os.O_CREATE|os.O_EXCL|os.O_WRONLY, t.mode); err != nil {
		return err //nolint:wrapcheck // wrapped by the caller
	}
	if err := p.chmod(t.mode); err != nil {
		return err
	}
	return p.write(t)
}

// write writes a chunk, and ends the file with its last.
func (p *planter) write(t task) error {
	if _, err := p.file.Write(t.data); err != nil {
		return err //nolint:wrapcheck // wrapped by the caller
	}
	if t.more {
		return nil
	}
	f := p.file
	p.file = nil
	dir, err := p.dirs.handle()
	if err := errors.Join(err, f.Close()); err != nil {
		return err
	}
	_, name := split(t.path)
	return unix.UtimesNanoAt(int(dir.Fd()), name, p.times, unix.AT_SYMLINK_NOFOLLOW) //nolint:wrapcheck // wrapped by the caller
}

// chmod gives a new file its mode where the umask took something away. Whether
// it does is seen at the first file of a mode.
func (p *planter) chmod(mode fs.FileMode) error {
	kept, known := p.modes[mode]
	if !known {
		info, err := p.file.Stat()
		if err != nil {
			return err //nolint:wrapcheck // wrapped by the caller
		}
		kept = info.Mode().Perm() == mode
		p.modes[mode] = kept
	}
	if kept {
		return nil
	}
	return p.file.Chmod(mode) //nolint:wrapcheck // wrapped by the caller
}
