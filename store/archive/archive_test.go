package archive_test

import (
	"archive/tar"
	"bytes"
	"errors"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/klauspost/compress/zstd"

	"github.com/npcnix/npcnix/store/archive"
)

// sample is a tree with everything an archive may hold, and names that sort
// differently as paths and as directories.
func sample(t *testing.T) (root *os.Root, paths []string) {
	t.Helper()
	dir := t.TempDir()
	for name, body := range map[string]string{
		"flake.nix": "{ outputs = _: { }; }", "a/b": "1", "a.b": "22", "a-b": "", "bin/run": "#!/bin/sh\n",
		"ä/日本": strings.Repeat("x", 70000), strings.Repeat("long/", 40) + "f": "deep",
	} {
		path := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(body), 0o640); err != nil {
			t.Fatal(err)
		}
		paths = append(paths, name)
	}
	for name, target := range map[string]string{"link": "a/b", "a/up": "../bin", "dangling": "nowhere"} {
		if err := os.Symlink(target, filepath.Join(dir, name)); err != nil {
			t.Fatal(err)
		}
		paths = append(paths, name)
	}
	if err := os.Chmod(filepath.Join(dir, "bin/run"), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.Mkdir(filepath.Join(dir, "empty"), 0o700); err != nil {
		t.Fatal(err)
	}
	return openRoot(t, dir), append(paths, "empty")
}

func openRoot(tb testing.TB, dir string) *os.Root {
	tb.Helper()
	root, err := os.OpenRoot(dir)
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() { _ = root.Close() })
	return root
}

func pack(t *testing.T, root *os.Root, paths []string) ([]byte, archive.Summary) {
	t.Helper()
	var buf bytes.Buffer
	sum, err := archive.Pack(&buf, root, paths)
	if err != nil {
		t.Fatal(err)
	}
	return buf.Bytes(), sum
}

func unpack(t *testing.T, data []byte, limits archive.Limits) (*os.Root, error) {
	t.Helper()
	root := openRoot(t, t.TempDir())
	streamed, err := archive.Unpack(t.Context(), bytes.NewReader(data), root, time.Unix(1763800000, 0), limits)
	if err == nil { // whatever order the entries came in
		onDisk, hashErr := archive.NarHash(root)
		if hashErr != nil || streamed != onDisk {
			t.Errorf("NAR hash %s while unpacking, %s %v of what is there", streamed, onDisk, hashErr)
		}
	}
	return root, err
}

func TestSameFilesGiveTheSameBytes(t *testing.T) {
	t.Parallel()
	root, paths := sample(t)
	first, sum := pack(t, root, paths)
	other, otherPaths := sample(t) // later, in another directory and another order
	second, otherSum := pack(t, other, otherPaths)
	if !bytes.Equal(first, second) || sum != otherSum || sum.Size != int64(len(first)) {
		t.Errorf("archives differ: %+v %+v", sum, otherSum)
	}
}

func TestNarHashIsWhatNixPrints(t *testing.T) {
	t.Parallel()
	root, paths := sample(t)
	_, sum := pack(t, root, paths)
	out, err := exec.CommandContext(t.Context(), "nix", "--extra-experimental-features", "nix-command", "hash", "path", root.Name()).Output()
	if err != nil {
		t.Fatalf("nix hash path: %v (make tools installs nix)", err)
	}
	if want := strings.TrimSpace(string(out)); sum.NarHash != want {
		t.Errorf("NAR hash is %s, nix says %s", sum.NarHash, want)
	}
}

func TestUnpackedTreeIsThePackedOne(t *testing.T) {
	t.Parallel()
	root, paths := sample(t)
	data, sum := pack(t, root, paths)
	got, err := unpack(t, data, archive.DefaultLimits())
	if err != nil {
		t.Fatal(err)
	}
	hash, err := archive.NarHash(got)
	if err != nil || hash != sum.NarHash {
		t.Errorf("NAR hash of the unpacked tree: %s %v, want %s", hash, err, sum.NarHash)
	}
	err = fs.WalkDir(got.FS(), ".", func(path string, _ fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		info, err := got.Lstat(path)
		if err != nil {
			return err
		}
		if info.ModTime().Unix() != 1763800000 {
			t.Errorf("%s was modified at %v", path, info.ModTime())
		}
		want := fs.FileMode(0o644)
		if strings.HasSuffix(path, "/run") {
			want = 0o755
		}
		if info.Mode().IsRegular() && info.Mode().Perm() != want {
			t.Errorf("%s has mode %v", path, info.Mode())
		}
		return nil
	})
	if err != nil {
		t.Error(err)
	}
}

func TestPackRefusesByName(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		make func(dir string) error
		want string
	}{
		"absolute symlink": {func(d string) error { return os.Symlink("/etc/passwd", d+"/x") }, `x: not allowed in an archive: a symlink to "/etc/passwd", which is absolute`},
		"escaping symlink": {func(d string) error { return os.Symlink("../x", d+"/x") }, `x: not allowed in an archive: a symlink to "../x", which leaves the tree`},
		"FIFO":             {func(d string) error { return mkfifo(d + "/x") }, "x: not allowed in an archive: a FIFO"},
		"missing file":     {func(string) error { return nil }, "no such file"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			dir := t.TempDir()
			if err := c.make(dir); err != nil {
				t.Fatal(err)
			}
			_, err := archive.Pack(io.Discard, openRoot(t, dir), []string{"x"})
			if err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("error %v, want %s", err, c.want)
			}
		})
	}
}

type entry struct {
	name, link, body string
	kind             byte
	mode             int64
}

func file(name, body string) entry {
	return entry{name: name, body: body, kind: tar.TypeReg, mode: 0o644}
}
func dir(name string) entry { return entry{name: name, kind: tar.TypeDir, mode: 0o755} }
func symlink(name, to string) entry {
	return entry{name: name, link: to, kind: tar.TypeSymlink, mode: 0o777}
}

func tarball(tb testing.TB, entries []entry) []byte {
	tb.Helper()
	var buf bytes.Buffer
	w := tar.NewWriter(&buf)
	for _, e := range entries {
		h := &tar.Header{Typeflag: e.kind, Name: e.name, Linkname: e.link, Mode: e.mode, Size: int64(len(e.body)), Uid: 1000, Uname: "someone", ModTime: time.Unix(1e9, 0)}
		if err := w.WriteHeader(h); err != nil {
			tb.Fatal(err)
		}
		if _, err := io.WriteString(w, e.body); err != nil {
			tb.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		tb.Fatal(err)
	}
	return buf.Bytes()
}

func compress(tb testing.TB, data []byte, opts ...zstd.EOption) []byte {
	tb.Helper()
	w, err := zstd.NewWriter(nil, opts...)
	if err != nil {
		tb.Fatal(err)
	}
	return w.EncodeAll(data, nil)
}

// refusal is an archive that breaks a rule, and which.
type refusal struct {
	entries []entry
	want    string
}

func refusals() map[string]refusal {
	many := make([]entry, 12)
	for i := range many {
		many[i] = file("f"+string(rune('a'+i)), "")
	}
	return map[string]refusal{
		"traversal":               {[]entry{file("../x", "")}, "no relative path"},
		"traversal inside":        {[]entry{file("a/../../x", "")}, "no relative path"},
		"absolute":                {[]entry{file("/etc/x", "")}, "no relative path"},
		"empty segment":           {[]entry{file("a//x", "")}, "no relative path"},
		"control character":       {[]entry{file("a\nb", "")}, "control character"},
		"absolute symlink":        {[]entry{symlink("l", "/etc")}, "outside of the tree"},
		"escaping symlink":        {[]entry{symlink("a/l", "../../x")}, "outside of the tree"},
		"write through a symlink": {[]entry{dir("d"), symlink("l", "d"), file("l/x", "")}, "below a file or a link"},
		"a chain of links": {[]entry{
			dir("d"), symlink("d/c0", ".."), symlink("d/c1", "c0"), symlink("d/c2", "c1"), symlink("d/c3", "c2"), symlink("d/c4", "c3"), symlink("d/c5", "c4"),
			symlink("d/c6", "c5"), symlink("d/c7", "c6"), symlink("d/c8", "c7"), symlink("t", "d/c8/../secret"),
		}, "by way of other links, or never ends"},
		"links that together leave":         {[]entry{dir("c"), dir("a/b"), symlink("a/b/up", "../../c"), symlink("l", "a/b/up/../../etc")}, "by way of other links"},
		"hard link":                         {[]entry{file("a", ""), {name: "b", link: "a", kind: tar.TypeLink}}, "hard link"},
		"device":                            {[]entry{{name: "null", kind: tar.TypeChar}}, "device"},
		"FIFO":                              {[]entry{{name: "p", kind: tar.TypeFifo}}, "FIFO"},
		"set-id":                            {[]entry{{name: "su", kind: tar.TypeReg, mode: 0o4755}}, "set-id"},
		"duplicate":                         {[]entry{file("a", "1"), file("a", "2")}, "there twice"},
		"duplicate in another spelling":     {[]entry{file("a", "1"), file("./a", "2")}, "there twice"},
		"directory twice":                   {[]entry{dir("a"), dir("a/")}, "there twice"},
		"file used as directory":            {[]entry{file("a", ""), file("a/b", "")}, "below a file or a link"},
		"directory replaced by file":        {[]entry{file("a/b", ""), file("a", "")}, "there twice"},
		"too many entries":                  {many, "more than 11 entries"},
		"too many headers that are nothing": {slices.Repeat([]entry{dir("./")}, 28), "more than 11 entries"},
		"too large":                         {[]entry{file("a", strings.Repeat("x", 501)), file("b", strings.Repeat("x", 500))}, "larger than 1000 bytes"},
		"path too long":                     {[]entry{file(strings.Repeat("x", 51), "")}, "longer than 50 bytes"},
		"path too deep":                     {[]entry{file("1/2/3/4/5/6", "")}, "deeper than 5"},
	}
}

func TestUnpackRefuses(t *testing.T) {
	t.Parallel()
	limits := archive.Limits{Size: 1 << 20, Unpacked: 1000, Entries: 11, Path: 50, Depth: 5, Window: 8 << 20}
	for name, c := range refusals() {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			root, err := unpack(t, compress(t, tarball(t, c.entries)), limits)
			if !errors.Is(err, archive.ErrInvalid) || !strings.Contains(err.Error(), c.want) {
				t.Errorf("error %v, want %s", err, c.want)
			}
			if outside, _ := os.ReadDir(filepath.Dir(root.Name())); len(outside) != 1 {
				t.Errorf("something was written outside: %v", outside)
			}
		})
	}
}

func TestUnpackRefusesMalformedStreams(t *testing.T) {
	t.Parallel()
	plain := tarball(t, []entry{file("flake.nix", strings.Repeat("0123456789", 500))})
	good := compress(t, plain)
	for name, c := range map[string]struct {
		data []byte
		want string
	}{
		"empty":                   {nil, "not a zstd frame"},
		"not compressed":          {plain, "not a zstd frame"},
		"truncated":               {good[:len(good)-9], "unexpected EOF"},
		"bytes after the frame":   {append(bytes.Clone(good), 0), "follows the compressed archive"},
		"second frame":            {append(bytes.Clone(good), compress(t, make([]byte, 512))...), "follows the compressed archive"},
		"bytes after the end":     {compress(t, append(bytes.Clone(plain), 1)), "follows its last entry"},
		"much after the end":      {compress(t, append(bytes.Clone(plain), make([]byte, 2<<20)...)), "more than 1 MiB follows"},
		"flipped bit":             {flip(good, len(good)/2), ""},
		"window larger than ours": {compress(t, bytes.Repeat(plain, 20000), zstd.WithWindowSize(32<<20)), "window size exceeded"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			limits := archive.DefaultLimits()
			limits.Window = 8 << 20
			_, err := unpack(t, c.data, limits)
			if !errors.Is(err, archive.ErrInvalid) || !strings.Contains(err.Error(), c.want) {
				t.Errorf("error %v, want %s", err, c.want)
			}
		})
	}
}

func flip(data []byte, at int) []byte {
	data = bytes.Clone(data)
	data[at] ^= 0x10
	return data
}

func TestArchivesOfOtherToolsUnpack(t *testing.T) {
	t.Parallel()
	entries := []entry{
		dir("./"),
		{name: "./flake.nix", body: "{}", kind: tar.TypeReg, mode: 0o664},
		{name: "./bin/run", kind: tar.TypeReg, mode: 0o775},
		dir("./bin"), symlink("./l", "bin/run"), dir("./empty/"),
	}
	plain := append(tarball(t, entries), make([]byte, 9000)...) // tar pads to its block size
	root, err := unpack(t, compress(t, plain), archive.DefaultLimits())
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	err = fs.WalkDir(root.FS(), ".", func(path string, _ fs.DirEntry, err error) error {
		info, statErr := root.Lstat(path)
		got = append(got, path+" "+info.Mode().String())
		return errors.Join(err, statErr)
	})
	want := []string{". drwxr-xr-x", "bin drwxr-xr-x", "bin/run -rwxr-xr-x", "empty drwxr-xr-x", "flake.nix -rw-r--r--", "l Lrwxrwxrwx"}
	if diff := cmp.Diff(want, got); diff != "" || err != nil {
		t.Errorf("%v %s", err, diff)
	}
}

func TestTarOfGNUUnpacks(t *testing.T) {
	t.Parallel()
	root, _ := sample(t)
	out := filepath.Join(t.TempDir(), "x.tar.zst")
	if output, err := exec.CommandContext(t.Context(), "tar", "--zstd", "-C", root.Name(), "-cf", out, ".").CombinedOutput(); err != nil {
		t.Fatalf("tar: %v %s", err, output)
	}
	data, err := os.ReadFile(out)
	if err != nil {
		t.Fatal(err)
	}
	got, err := unpack(t, data, archive.DefaultLimits())
	if err != nil {
		t.Fatal(err)
	}
	want, err := archive.NarHash(root)
	if hash, hashErr := archive.NarHash(got); err != nil || hashErr != nil || hash != want {
		t.Errorf("NAR hash %s %v %v, want %s", hash, err, hashErr, want)
	}
}

func TestLimitsAreTheDocumentedOnes(t *testing.T) {
	t.Parallel()
	want := archive.Limits{Size: 256 << 20, Unpacked: 1 << 30, Entries: 200000, Path: 1024, Depth: 64, Window: 128 << 20}
	if got := archive.DefaultLimits(); got != want {
		t.Errorf("limits are %+v", got)
	}
}
