package archive

import (
	"archive/tar"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/klauspost/compress/zstd"
	"golang.org/x/sys/unix"
)

// ErrInvalid is returned, with the reason, for archives that are not what
// their document says or that break the rules. Trying again does not help.
var ErrInvalid = errors.New("archive is invalid")

// Limits bound what an archive may cost.
type Limits struct {
	// Size is the greatest length of an archive in bytes, Unpacked that of all its files together.
	Size, Unpacked int64
	// Entries is the greatest number of files, directories and symlinks.
	Entries int
	// Path is the greatest length of a path in bytes, Depth of its segments.
	Path, Depth int
	// Window is the most that the decompressor may keep, in bytes.
	Window uint64
}

// DefaultLimits are raised only by a host's own configuration.
func DefaultLimits() Limits {
	return Limits{Size: 256 << 20, Unpacked: 1 << 30, Entries: 200_000, Path: 1024, Depth: 64, Window: 128 << 20}
}

// Small returns the limits of a machine with less than 2 GiB of memory.
func (l Limits) Small() Limits {
	l.Window = window
	return l
}

// maxOtherHeaders is how many headers may stand for nothing: the tree itself,
// and the global one that git archive writes.
const maxOtherHeaders = 16

// maxPadding is what may stand behind a tar's end marker, all zero.
const maxPadding = 1 << 20

// Unpack unpacks the archive r into the empty directory root and returns the
// tree's NAR hash. Every entry, directories and symlinks included, gets the
// modification time modified. An archive that breaks the rules is refused with
// ErrInvalid; what was unpacked until then stays for the caller to remove.
func Unpack(ctx context.Context, r io.Reader, root *os.Root, modified time.Time, limits Limits) (narHash string, err error) {
	decoder, err := zstd.NewReader(newOneFrame(&cancellable{ctx: ctx, r: r}),
		zstd.WithDecoderMaxWindow(limits.Window), zstd.WithDecoderLowmem(true), zstd.WithDecoderConcurrency(1)) // the planter has the other processors
	if err != nil {
		return "", fmt.Errorf("unpack: %w", err)
	}
	defer decoder.Close()
	times, err := unix.TimeToTimespec(modified)
	if err != nil {
		return "", fmt.Errorf("unpack: %w", err)
	}
	both := []unix.Timespec{times, times}
	u := unpacker{planter: newPlanter(root, both), limits: limits, kinds: map[string]byte{}, dirs: []string{"."}}
	err = u.entries(tar.NewReader(decoder))
	if err == nil {
		err = onlyZeros(decoder)
	}
	if err = errors.Join(err, u.planter.close()); err != nil {
		return "", errors.Join(context.Cause(ctx), err)
	}
	if err := u.checkLinks(root); err != nil {
		return "", err
	}
	if err := u.fixTimes(root, both); err != nil {
		return "", fmt.Errorf("unpack: set modification times: %w", err)
	}
	if hash, ok := u.planter.nar.hash(); ok {
		return hash, nil
	}
	return NarHash(root)
}

// cancellable is a reader that ends with its context.
type cancellable struct {
	ctx context.Context //nolint:containedctx // of the one call that reads
	r   io.Reader
}

func (c *cancellable) Read(p []byte) (int, error) {
	if err := context.Cause(c.ctx); err != nil {
		return 0, err //nolint:wrapcheck // the caller's own
	}
	return c.r.Read(p) //nolint:wrapcheck // a reader's own error
}

func refuse(format string, args ...any) error {
	return fmt.Errorf("%w: %s", ErrInvalid, fmt.Sprintf(format, args...))
}

func onlyZeros(r io.Reader) error {
	buf := make([]byte, 32<<10)
	for total := 0; ; {
		n, err := r.Read(buf)
		total += n
		for _, b := range buf[:n] {
			if b != 0 {
				return refuse("something follows its last entry")
			}
		}
		switch {
		case total > maxPadding:
			return refuse("more than 1 MiB follows its last entry")
		case errors.Is(err, io.EOF):
			return nil
		case err != nil:
			return refuse("%v", err)
		}
	}
}

// Kinds of entries. An implied directory may still be named once.
const (
	kindFile    = 'f'
	kindLink    = 'l'
	kindDir     = 'd'
	kindImplied = 'i'
)

type unpacker struct {
	planter  *planter
	limits   Limits
	kinds    map[string]byte // of each path that was unpacked
	dirs     []string        // in the order in which they were made, the root first
	links    []link
	unpacked int64
	headers  int // of whatever kind
}

type link struct{ name, target string }

func (u *unpacker) entries(r *tar.Reader) error {
	for {
		header, err := r.Next()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return refuse("%v", err)
		}
		// The tree itself and global headers are no entries, but they cost time.
		if u.headers++; u.headers > u.limits.Entries+maxOtherHeaders {
			return refuse("more than %d entries", u.limits.Entries)
		}
		if header.Typeflag == tar.TypeXGlobalHeader {
			continue // git archive writes one
		}
		if err := errors.Join(u.entry(header, r), u.planter.err()); err != nil {
			return err
		}
	}
}

func (u *unpacker) entry(h *tar.Header, r io.Reader) error {
	name, err := u.cleanName(h)
	if err != nil || name == "." {
		return err
	}
	if h.FileInfo().Mode()&(fs.ModeSetuid|fs.ModeSetgid) != 0 {
		return refuse("%q has a set-id bit", h.Name)
	}
	if err := u.parents(name); err != nil {
		return err
	}
	old, exists := u.kinds[name]
	if exists && (old != kindImplied || h.Typeflag != tar.TypeDir) {
		return refuse("%q is there twice", name)
	}
	switch h.Typeflag {
	case tar.TypeDir:
		return u.directory(name, kindDir)
	case tar.TypeReg:
		return u.file(name, h, r)
	case tar.TypeSymlink:
		return u.symlink(name, h.Linkname)
	default:
		return refuse("%q is a %s", name, tarTypeName(h.Typeflag))
	}
}

// cleanName returns the entry's path without the decoration that tar programs
// add: ./ before it and / behind a directory. "." is the tree itself.
func (u *unpacker) cleanName(h *tar.Header) (string, error) {
	name := h.Name
	for strings.HasPrefix(name, "./") {
		name = strings.TrimPrefix(name, "./")
	}
	if h.Typeflag == tar.TypeDir {
		name = strings.TrimSuffix(name, "/")
		if name == "" || name == "." {
			return ".", nil
		}
	}
	switch {
	case !fs.ValidPath(name) || name == ".":
		return "", refuse("%q is no relative path below it", h.Name)
	case strings.ContainsFunc(name, unicode.IsControl) || !utf8.ValidString(name):
		return "", refuse("%q has a control character", h.Name)
	case len(name) > u.limits.Path:
		return "", refuse("a path is longer than %d bytes: %.60q…", u.limits.Path, name)
	case strings.Count(name, "/") >= u.limits.Depth:
		return "", refuse("a path is deeper than %d directories: %.60q…", u.limits.Depth, name)
	}
	return name, nil
}

// parents creates the directories above name that no entry named. A parent
// that is a file or a link is refused: nothing is written through links.
func (u *unpacker) parents(name string) error {
	dir := path.Dir(name)
	if dir == "." {
		return nil
	}
	switch u.kinds[dir] {
	case kindDir, kindImplied:
		return nil
	case kindFile, kindLink:
		return refuse("%q is below a file or a link", name)
	}
	if err := u.parents(dir); err != nil {
		return err
	}
	return u.directory(dir, kindImplied)
}

func (u *unpacker) add(name string, kind byte) error {
	u.kinds[name] = kind
	if len(u.kinds) > u.limits.Entries {
		return refuse("more than %d entries", u.limits.Entries)
	}
	return nil
}

func (u *unpacker) directory(p string, kind byte) error {
	_, exists := u.kinds[p]
	if err := u.add(p, kind); err != nil || exists {
		return err
	}
	u.dirs = append(u.dirs, p)
	u.planter.todo <- task{kind: kindDir, path: p}
	return nil
}

func (u *unpacker) file(p string, h *tar.Header, r io.Reader) error {
	u.unpacked += h.Size
	if u.unpacked > u.limits.Unpacked {
		return refuse("its files are larger than %d bytes", u.limits.Unpacked)
	}
	if err := u.add(p, kindFile); err != nil {
		return err
	}
	mode := fs.FileMode(modeFile)
	if h.Mode&0o100 != 0 {
		mode = modeProgram
	}
	t := task{kind: kindFile, path: p, mode: mode, size: h.Size, first: true, more: true}
	for left := h.Size; t.more; t.first = false {
		chunk := <-u.planter.free
		n, err := io.ReadFull(r, chunk[:min(left, chunkSize)])
		if err != nil {
			u.planter.free <- chunk
			return refuse("%q: %v", p, err)
		}
		left -= int64(n)
		t.data, t.more = chunk[:n], left > 0
		u.planter.todo <- t
	}
	return nil
}

func (u *unpacker) symlink(name, target string) error {
	if strings.ContainsFunc(target, unicode.IsControl) || !utf8.ValidString(target) || len(target) > u.limits.Path {
		return refuse("%q is a symlink to a malformed or overlong target", name)
	}
	if err := u.add(name, kindLink); err != nil {
		return err
	}
	u.links = append(u.links, link{name, target})
	if target == "" || path.IsAbs(target) || !fs.ValidPath(path.Join(path.Dir(name), target)) {
		return refuse("%q is a symlink to %q, outside of the tree", name, target)
	}
	u.planter.todo <- task{kind: kindLink, path: name, target: target}
	return nil
}

// checkLinks follows every link once all are there: each can stay inside by
// itself and leave together with others.
func (u *unpacker) checkLinks(root *os.Root) error {
	for _, l := range u.links {
		if err := checkLink(root, l.name, l.target); err != nil {
			return refuse("%v", err)
		}
	}
	return nil
}

func tarTypeName(flag byte) string {
	switch flag {
	case tar.TypeLink:
		return "hard link"
	case tar.TypeChar, tar.TypeBlock:
		return "device"
	case tar.TypeFifo:
		return "FIFO"
	default:
		return fmt.Sprintf("tar entry of type %q", flag)
	}
}
