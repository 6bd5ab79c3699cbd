package archive_test

import (
	"archive/tar"
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/klauspost/compress/zstd"

	"github.com/npcnix/npcnix/store/archive"
)

// tarStream is a tar that is written, and what is below it.
type tarStream struct {
	*tar.Writer

	raw io.Writer
}

// long writes a header of that type, which stands for another's field, and the
// 100 MiB that it says to have.
func long(kind byte) func(w *tarStream) error {
	return func(w *tarStream) error {
		var block bytes.Buffer
		const size = 100 << 20
		if err := tar.NewWriter(&block).WriteHeader(&tar.Header{Typeflag: tar.TypeReg, Name: "long", Size: size, Format: tar.FormatUSTAR}); err != nil {
			return err
		}
		b := block.Bytes()
		b[156] = kind
		copy(b[148:156], "        ") // the sum counts itself as spaces
		sum := 0
		for _, c := range b[:512] {
			sum += int(c)
		}
		copy(b[148:156], fmt.Sprintf("%06o\x00 ", sum))
		if _, err := w.raw.Write(b[:512]); err != nil {
			return err
		}
		_, err := io.CopyN(w.raw, zeros{}, size)
		return err
	}
}

// stream lets write write a tar archive that is compressed as it is read: what
// is never read is never made.
func stream(t *testing.T, write func(w *tarStream) error) io.Reader {
	t.Helper()
	r, w := io.Pipe()
	done := make(chan struct{})
	t.Cleanup(func() {
		_ = r.Close() // the reader may have had enough
		<-done
	})
	go func() {
		defer close(done)
		z, err := zstd.NewWriter(w, zstd.WithWindowSize(1<<20), zstd.WithEncoderConcurrency(1))
		if err == nil {
			out := &tarStream{tar.NewWriter(z), z}
			err = errors.Join(write(out), out.Close(), z.Close())
		}
		_ = w.CloseWithError(err) // never fails
	}()
	return r
}

// peak returns the most heap that do needed, in bytes.
func peak(do func()) uint64 {
	runtime.GC()
	var before runtime.MemStats
	runtime.ReadMemStats(&before)
	var most atomic.Uint64
	done, stopped := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(stopped)
		ticker := time.NewTicker(2 * time.Millisecond)
		defer ticker.Stop()
		for {
			select {
			case <-done:
				return
			case <-ticker.C:
				var m runtime.MemStats
				runtime.ReadMemStats(&m)
				most.Store(max(most.Load(), m.HeapAlloc))
			}
		}
	}()
	do()
	close(done)
	<-stopped
	return most.Load() - min(most.Load(), before.HeapAlloc)
}

// zeros is an endless file.
type zeros struct{}

func (zeros) Read(p []byte) (int, error) {
	clear(p)
	return len(p), nil
}

// Archives that are made to exhaust a host are refused before they do, in
// bounded memory, with nothing outside of their directory.
func TestBombs(t *testing.T) { //nolint:paralleltest // measures the heap of the whole process
	const allowed = 96 << 20 // two windows of 8 MiB, 200,000 paths, and what waits to be collected
	for name, c := range map[string]struct {
		write func(w *tarStream) error
		want  string
	}{
		"a million entries": {func(w *tarStream) error {
			for i := range 1_000_000 {
				if err := w.WriteHeader(&tar.Header{Typeflag: tar.TypeDir, Name: fmt.Sprintf("%d/", i), Mode: 0o755}); err != nil {
					return err
				}
			}
			return nil
		}, "more than 20000 entries"},
		"a file of 100 GiB": {func(w *tarStream) error {
			if err := w.WriteHeader(&tar.Header{Typeflag: tar.TypeReg, Name: "a", Size: 100 << 30}); err != nil {
				return err
			}
			_, err := io.CopyN(w, zeros{}, 100<<30)
			return err
		}, "larger than 1073741824 bytes"},
		"files of 2 GiB together": {func(w *tarStream) error {
			for i := range 32 {
				if err := w.WriteHeader(&tar.Header{Typeflag: tar.TypeReg, Name: strconv.Itoa(i), Size: 64 << 20}); err != nil {
					return err
				}
				if _, err := io.CopyN(w, zeros{}, 64<<20); err != nil {
					return err
				}
			}
			return nil
		}, "larger than 1073741824 bytes"},
		"headers without end": {func(w *tarStream) error {
			for range 1_000_000 {
				if err := w.WriteHeader(&tar.Header{Typeflag: tar.TypeXGlobalHeader, PAXRecords: map[string]string{"comment": strings.Repeat("x", 1000)}}); err != nil {
					return err
				}
			}
			return nil
		}, "more than 20000 entries"},
		"a name of 100 MiB":       {long(tar.TypeGNULongName), "header field too long"},
		"a link of 100 MiB":       {long(tar.TypeGNULongLink), "header field too long"},
		"an attribute of 100 MiB": {long(tar.TypeXHeader), "header field too long"},
		"a comment of 100 MiB":    {long(tar.TypeXGlobalHeader), "header field too long"},
	} {
		t.Run(name, func(t *testing.T) {
			limits := archive.DefaultLimits().Small()
			limits.Entries /= 10 // so many files take their time
			r := stream(t, c.write)
			root := openRoot(t, t.TempDir())
			var err error
			most := peak(func() {
				_, err = archive.Unpack(t.Context(), r, root, time.Unix(1, 0), limits)
			})
			if !errors.Is(err, archive.ErrInvalid) || !strings.Contains(err.Error(), c.want) {
				t.Errorf("error %.300v, want %s", err, c.want)
			}
			if most > allowed {
				t.Errorf("needed %d MiB of memory", most>>20)
			}
			if beside, err := os.ReadDir(filepath.Dir(root.Name())); err != nil || len(beside) != 1 {
				t.Errorf("outside of it: %v %v", beside, err)
			}
		})
	}
}

// A frame may ask for a window of its own; what it asks for is not trusted.
func TestWindowIsBounded(t *testing.T) {
	t.Parallel()
	// Magic, a descriptor without a size, and a window of 2 GiB: RFC 8878, 3.1.1.1.
	frame := append([]byte{0x28, 0xb5, 0x2f, 0xfd, 0x00, 21 << 3}, bytes.Repeat([]byte{0x03, 0, 0, 0}, 4)...)
	if _, err := unpack(t, frame, archive.DefaultLimits()); !errors.Is(err, archive.ErrInvalid) || !strings.Contains(err.Error(), "window") {
		t.Errorf("error %v", err)
	}
}

// Wherever an archive ends too early, it is refused, in the compressed stream
// as in the tar within.
func TestTruncatedArchivesAreRefused(t *testing.T) {
	t.Parallel()
	plain := tarball(t, []entry{dir("d"), file("d/a", strings.Repeat("0123456789", 200)), symlink("d/l", "a"), file("z", strings.Repeat("x", 1000))})
	whole := compress(t, plain)
	for n := range whole {
		if _, err := unpack(t, whole[:n], archive.DefaultLimits()); !errors.Is(err, archive.ErrInvalid) {
			t.Errorf("%d of %d compressed bytes: %v", n, len(whole), err)
		}
	}
	end := len(plain) - 1024 // two blocks of zeros say that it ends
	for n := 0; n < end; n += 128 {
		_, err := unpack(t, compress(t, plain[:n]), archive.DefaultLimits())
		// Between two entries a tar without its end is taken, as all tars do;
		// the digest in the Remote says that it was cut.
		boundary := errors.Is(err, nil) && n%512 == 0
		if !boundary && !errors.Is(err, archive.ErrInvalid) {
			t.Errorf("%d of %d bytes: %v", n, len(plain), err)
		}
	}
}

// FuzzUnpack wants that nothing which is unpacked is more than was asked for.
func FuzzUnpack(f *testing.F) {
	limits := archive.Limits{Size: 1 << 20, Unpacked: 1 << 20, Entries: 50, Path: 100, Depth: 6, Window: 8 << 20}
	var seeds [][]entry
	for _, c := range refusals() {
		seeds = append(seeds, c.entries)
	}
	seeds = append(seeds, []entry{dir("./"), file("./flake.nix", "{}"), symlink("l", "flake.nix"), file("b/c", "x"), file("a/b", "y")})
	for _, entries := range seeds {
		f.Add(tarball(f, entries))
	}
	f.Fuzz(func(t *testing.T, plain []byte) {
		parent := t.TempDir()
		target := filepath.Join(parent, "target")
		if err := os.Mkdir(target, 0o700); err != nil {
			t.Fatal(err)
		}
		root := openRoot(t, target)
		for _, data := range [][]byte{plain, compress(t, plain)} {
			hash, err := archive.Unpack(t.Context(), bytes.NewReader(data), root, time.Unix(1, 0), limits)
			if err != nil {
				continue
			}
			if onDisk, err := archive.NarHash(root); err != nil || onDisk != hash {
				t.Errorf("NAR hash %s, on disk %s %v", hash, onDisk, err)
			}
		}
		entries, size := 0, int64(0)
		err := fs.WalkDir(os.DirFS(parent), ".", func(p string, d fs.DirEntry, err error) error {
			if err != nil {
				return err
			}
			info, err := d.Info()
			if err != nil {
				return err
			}
			if !info.IsDir() && !info.Mode().IsRegular() && info.Mode().Type() != fs.ModeSymlink {
				t.Errorf("%s is a %s", p, info.Mode())
			}
			if info.Mode().IsRegular() {
				size += info.Size()
			}
			if p != "." && p != "target" && !strings.HasPrefix(p, "target/") {
				t.Errorf("%q is outside", p)
			}
			entries++
			return nil
		})
		if err != nil || entries > limits.Entries+3 || size > limits.Unpacked {
			t.Errorf("%d entries, %d bytes, %v", entries, size, err)
		}
	})
}

// Archives are the same on every machine.
func TestProcessorsDoNotChangeTheBytes(t *testing.T) { //nolint:paralleltest // sets GOMAXPROCS
	root, paths := sample(t)
	want, _ := pack(t, root, paths)
	for _, n := range []int{1, 4} {
		before := runtime.GOMAXPROCS(n)
		got, _ := pack(t, root, paths)
		runtime.GOMAXPROCS(before)
		if !bytes.Equal(got, want) {
			t.Errorf("with %d processors the archive differs", n)
		}
	}
}
