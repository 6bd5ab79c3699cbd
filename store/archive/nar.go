package archive

import (
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"fmt"
	"hash"
	"io"
	"io/fs"
	"os"
	"path"
)

// narHasher hashes a tree in Nix's archive format as it is walked. The format
// is that of Figure 5.2 in Dolstra's thesis and of nix's archive.cc: strings
// with a 64-bit little-endian length, padded with zeros to 8 bytes.
type narHasher struct {
	h hash.Hash
	// head is what is to be hashed before the next content: many short strings.
	head []byte
}

func newNarHasher() *narHasher {
	n := &narHasher{h: sha256.New()}
	n.strings("nix-archive-1")
	return n
}

func (n *narHasher) strings(list ...string) {
	for _, s := range list {
		n.length(int64(len(s)))
		n.head = append(n.head, s...)
		n.pad(int64(len(s)))
	}
}

func (n *narHasher) length(size int64) {
	n.head = binary.LittleEndian.AppendUint64(n.head, uint64(size)) //nolint:gosec // sizes are not negative
}

func (n *narHasher) pad(size int64) {
	n.head = append(n.head, zeros[:(8-size%8)%8]...)
}

const zeros = "\x00\x00\x00\x00\x00\x00\x00"

// flush hashes what was gathered.
func (n *narHasher) flush() {
	_, _ = n.h.Write(n.head) // a hash never fails
	n.head = n.head[:0]
}

// file begins a regular file; the caller writes size bytes to the returned
// writer and calls endFile.
func (n *narHasher) file(executable bool, size int64) io.Writer {
	n.strings("(", "type", "regular")
	if executable {
		n.strings("executable", "")
	}
	n.strings("contents")
	n.length(size)
	n.flush()
	return n.h
}

func (n *narHasher) endFile(size int64) {
	n.pad(size)
	n.strings(")")
}

func (n *narHasher) symlink(target string) { n.strings("(", "type", "symlink", "target", target, ")") }
func (n *narHasher) directory()            { n.strings("(", "type", "directory") }
func (n *narHasher) endDirectory()         { n.strings(")") }
func (n *narHasher) entry(name string)     { n.strings("entry", "(", "name", name, "node") }
func (n *narHasher) endEntry()             { n.strings(")") }

// String returns the hash as nix prints it: sha256-<base64>.
func (n *narHasher) String() string {
	n.flush()
	return "sha256-" + base64.StdEncoding.EncodeToString(n.h.Sum(nil))
}

// NarHash returns the NAR hash of the tree at root, as `nix hash path` prints it.
func NarHash(root *os.Root) (string, error) {
	n := newNarHasher()
	if err := n.tree(root, "."); err != nil {
		return "", fmt.Errorf("hash tree: %w", err)
	}
	return n.String(), nil
}

func (n *narHasher) tree(root *os.Root, dir string) error {
	entries, err := fs.ReadDir(root.FS(), dir)
	if err != nil {
		return err //nolint:wrapcheck // names the path
	}
	n.directory()
	for _, e := range entries { // sorted by name, as the format asks
		n.entry(e.Name())
		if err := n.node(root, path.Join(dir, e.Name()), e.Type()); err != nil {
			return err
		}
		n.endEntry()
	}
	n.endDirectory()
	return nil
}

func (n *narHasher) node(root *os.Root, name string, kind fs.FileMode) error {
	switch {
	case kind.IsDir():
		return n.tree(root, name)
	case kind&fs.ModeSymlink != 0:
		target, err := root.Readlink(name)
		if err == nil {
			n.symlink(target)
		}
		return err //nolint:wrapcheck // names the path
	case kind.IsRegular():
		return withFile(root, name, func(info fs.FileInfo, f io.Reader) error {
			_, err := io.Copy(n.file(executable(info), info.Size()), f)
			n.endFile(info.Size())
			return err //nolint:wrapcheck // names the path
		})
	default:
		return fmt.Errorf("%s: %w: a %s", name, ErrRefused, typeName(kind))
	}
}

// executable reports the one bit of a mode that Nix keeps.
func executable(info fs.FileInfo) bool { return info.Mode()&0o100 != 0 }
