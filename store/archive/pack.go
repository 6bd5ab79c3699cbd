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
	compressor, err := zstd.NewWriter(out, zstd.WithEncoderLevel(zstd.SpeedDefault), zstd.WithWindowSize(window))
	if err != nil {
		return Summary{}, fmt.Errorf("compress: %w", err)
	}
	p := packer{root: root, tar: tar.NewWriter(compressor), nar: newNarHasher()}
	err = p.directory(tree, ".")
	if err == nil {
		err = p.tar.Close()
	}
	if err := errors.Join(err, compressor.Close()); err != nil {
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
	root *os.Root
	tar  *tar.Writer
	nar  *narHasher
}

func (p *packer) directory(dir *node, at string) error {
	p.nar.directory()
	for _, child := range dir.sorted() {
		p.nar.entry(child.name)
		if err := p.node(child, path.Join(at, child.name)); err != nil {
			return err
		}
		p.nar.endEntry()
	}
	p.nar.endDirectory()
	return nil
}

func (p *packer) node(n *node, name string) error {
	info, err := p.root.Lstat(name)
	if err != nil {
		return fmt.Errorf("pack: %w", err)
	}
	switch kind := info.Mode().Type(); {
	case kind.IsDir():
		header := tar.Header{Typeflag: tar.TypeDir, Name: name + "/", Mode: modeProgram}
		if err := p.tar.WriteHeader(&header); err != nil {
			return fmt.Errorf("pack %s: %w", name, err)
		}
		return p.directory(n, name)
	case len(n.children) > 0:
		return fmt.Errorf("pack %s: not a directory, but files below it are listed", name)
	case kind.IsRegular():
		return p.file(name)
	case kind&fs.ModeSymlink != 0:
		return p.symlink(name)
	default:
		return fmt.Errorf("pack %s: %w: a %s", name, ErrRefused, typeName(kind))
	}
}

func (p *packer) file(name string) error {
	return withFile(p.root, name, func(info fs.FileInfo, f io.Reader) error {
		header := tar.Header{Typeflag: tar.TypeReg, Name: name, Mode: modeFile, Size: info.Size()}
		if executable(info) {
			header.Mode = modeProgram
		}
		if err := p.tar.WriteHeader(&header); err != nil {
			return err //nolint:wrapcheck // wrapped by withFile
		}
		n, err := io.Copy(io.MultiWriter(p.tar, p.nar.file(executable(info), info.Size())), f)
		if err == nil && n != info.Size() {
			err = errors.New("file changed while it was packed")
		}
		p.nar.endFile(info.Size())
		return err
	})
}

func (p *packer) symlink(name string) error {
	target, err := p.root.Readlink(name)
	if err != nil {
		return fmt.Errorf("pack: %w", err)
	}
	if err := checkLink(p.root, name, target); err != nil {
		return fmt.Errorf("pack %w", err)
	}
	p.nar.symlink(target)
	header := tar.Header{Typeflag: tar.TypeSymlink, Name: name, Linkname: target, Mode: modeLink}
	if err := p.tar.WriteHeader(&header); err != nil {
		return fmt.Errorf("pack %s: %w", name, err)
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
	if err := do(info, io.LimitReader(f, info.Size())); err != nil {
		return fmt.Errorf("%s: %w", name, err)
	}
	return nil
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
