package archive

import (
	"archive/tar"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"hash"
	"io"
	"io/fs"
	"os"
	"path"

	"github.com/klauspost/compress/zstd"
)

// ErrRefused is returned, with the name, for what an archive must not hold.
var ErrRefused = errors.New("not allowed in an archive")

// window is the compressor's, and so what unpacking costs in memory: 8 MiB is
// what hosts with less than 2 GiB allow.
const window = 8 << 20

// concurrency of the compressor: it works on a block while the next is read.
// The bytes do not depend on it, nor on how many processors there are.
const concurrency = 2

// bufferSize is how much of a file is copied at a time, in bytes.
const bufferSize = 64 << 10

// Modes of packed entries.
const (
	modeFile    = 0o644
	modeProgram = 0o755
	modeLink    = 0o777
)

// Summary names an archive.
type Summary struct {
	// Digest is sha256:<hex> of the archive's bytes, Size their number.
	Digest string
	Size   int64
	// NarHash is what `nix hash path` prints for the packed tree.
	NarHash string
}

// Pack writes an archive of the given paths below root to w. Paths have
// slashes and are relative; a directory stands for itself, not for what is in
// it, and parents are implied. Symlinks that are absolute or leave the tree,
// devices, sockets and FIFOs are refused by name.
func Pack(w io.Writer, root *os.Root, paths []string) (Summary, error) {
	tree, err := newTree(paths)
	if err != nil {
		return Summary{}, err
	}
	out := &digestWriter{w: w, hash: sha256.New()}
	compressor, err := zstd.NewWriter(out, zstd.WithEncoderLevel(zstd.SpeedFastest), zstd.WithWindowSize(window), zstd.WithEncoderConcurrency(concurrency))
	if err != nil {
		return Summary{}, fmt.Errorf("compress: %w", err)
	}
	buffered := newAhead(compressor)
	p := packer{root: root, tar: tar.NewWriter(buffered), nar: newNarHasher(), buffer: make([]byte, bufferSize)}
	err = p.directory(root, tree, ".")
	if err == nil {
		err = p.tar.Close()
	}
	if err := errors.Join(err, buffered.close(), compressor.Close()); err != nil {
		return Summary{}, err
	}
	return Summary{Digest: "sha256:" + hex.EncodeToString(out.hash.Sum(nil)), Size: out.size, NarHash: p.nar.String()}, nil
}

type digestWriter struct {
	w    io.Writer
	hash hash.Hash
	size int64
}

func (d *digestWriter) Write(p []byte) (int, error) {
	n, err := d.w.Write(p)
	_, _ = d.hash.Write(p[:n]) // a hash never fails
	d.size += int64(n)
	return n, err //nolint:wrapcheck // the caller's own writer
}

// packer walks a tree once, for the tar and the NAR at the same time: both
// have their entries in the order of names, directory by directory.
type packer struct {
	root   *os.Root
	tar    *tar.Writer
	nar    *narHasher
	buffer []byte
}

// directory packs what is listed of the directory dir, which is at that path.
func (p *packer) directory(dir *os.Root, n *node, at string) error {
	p.nar.directory()
	for _, child := range n.sorted() {
		p.nar.entry(child.name)
		if err := p.node(dir, child, path.Join(at, child.name)); err != nil {
			return err
		}
		p.nar.endEntry()
	}
	p.nar.endDirectory()
	return nil
}

func (p *packer) node(dir *os.Root, n *node, at string) error {
	info, err := dir.Lstat(n.name)
	if err != nil {
		return fmt.Errorf("pack %s: %w", at, err)
	}
	switch kind := info.Mode().Type(); {
	case kind.IsDir():
		return p.below(dir, n, at)
	case len(n.children) > 0:
		return fmt.Errorf("pack %s: not a directory, but files below it are listed", at)
	case kind.IsRegular():
		return p.file(dir, n, at)
	case kind&fs.ModeSymlink != 0:
		return p.symlink(dir, n, at)
	default:
		return fmt.Errorf("pack %s: %w: a %s", at, ErrRefused, typeName(kind))
	}
}

// below packs a directory below dir.
func (p *packer) below(dir *os.Root, n *node, at string) (err error) {
	header := tar.Header{Typeflag: tar.TypeDir, Name: at + "/", Mode: modeProgram}
	if err := p.tar.WriteHeader(&header); err != nil {
		return fmt.Errorf("pack %s: %w", at, err)
	}
	opened, err := dir.OpenRoot(n.name)
	if err != nil {
		return fmt.Errorf("pack %s: %w", at, err)
	}
	defer func() { err = errors.Join(err, opened.Close()) }()
	return p.directory(opened, n, at)
}

func (p *packer) file(dir *os.Root, n *node, at string) error {
	err := withFile(dir, n.name, func(info fs.FileInfo, f io.Reader) error {
		header := tar.Header{Typeflag: tar.TypeReg, Name: at, Mode: modeFile, Size: info.Size()}
		if executable(info) {
			header.Mode = modeProgram
		}
		if err := p.tar.WriteHeader(&header); err != nil {
			return err //nolint:wrapcheck // wrapped below
		}
		copied, err := io.CopyBuffer(io.MultiWriter(p.tar, p.nar.file(executable(info), info.Size())), f, p.buffer)
		if err == nil && copied != info.Size() {
			err = errors.New("file changed while it was packed")
		}
		p.nar.endFile(info.Size())
		return err
	})
	if err != nil {
		return fmt.Errorf("pack %s: %w", at, err)
	}
	return nil
}

func (p *packer) symlink(dir *os.Root, n *node, at string) error {
	target, err := dir.Readlink(n.name)
	if err != nil {
		return fmt.Errorf("pack %s: %w", at, err)
	}
	if err := checkLink(p.root, at, target); err != nil {
		return fmt.Errorf("pack %w", err)
	}
	p.nar.symlink(target)
	header := tar.Header{Typeflag: tar.TypeSymlink, Name: at, Linkname: target, Mode: modeLink}
	if err := p.tar.WriteHeader(&header); err != nil {
		return fmt.Errorf("pack %s: %w", at, err)
	}
	return nil
}

// withFile opens a regular file below root for do.
func withFile(root *os.Root, name string, do func(info fs.FileInfo, f io.Reader) error) (err error) {
	f, err := root.Open(name)
	if err != nil {
		return err //nolint:wrapcheck // names the path
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	info, err := f.Stat()
	if err != nil {
		return err //nolint:wrapcheck // names the path
	}
	return do(info, io.LimitReader(f, info.Size()))
}

// checkLink refuses a symlink that leaves the tree: by its own target, or by
// way of other links.
func checkLink(root *os.Root, name, target string) error {
	refuse := func(why string) error {
		return fmt.Errorf("%s: %w: a symlink to %q, which %s", name, ErrRefused, target, why)
	}
	switch {
	case target == "":
		return refuse("is empty")
	case path.IsAbs(target):
		return refuse("is absolute")
	case !fs.ValidPath(path.Join(path.Dir(name), target)):
		return refuse("leaves the tree")
	}
	// A chain that is too long for os.Root to follow may be short enough for others.
	if _, err := root.Stat(name); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return refuse("leaves the tree by way of other links, or never ends")
	}
	return nil
}

// typeName names a kind of file that is refused.
func typeName(mode fs.FileMode) string {
	switch {
	case mode&fs.ModeDevice != 0:
		return "device"
	case mode&fs.ModeSocket != 0:
		return "socket"
	case mode&fs.ModeNamedPipe != 0:
		return "FIFO"
	default:
		return "special file"
	}
}
