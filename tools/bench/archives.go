package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"time"

	"github.com/npcnix/npcnix/store/archive"
)

const (
	files  = 20_000
	rounds = 7
)

// sources fills a directory with the sources of the Go distribution, as often
// as it takes: text of a size and kind as flakes have it.
func sources(dir string) (paths []string, size int64, err error) {
	goroot, err := exec.Command("go", "env", "GOROOT").Output()
	if err != nil {
		return nil, 0, err
	}
	from := os.DirFS(string(goroot[:len(goroot)-1]) + "/src")
	for copies := 0; len(paths) < files; copies++ {
		err := fs.WalkDir(from, ".", func(p string, d fs.DirEntry, err error) error {
			if err != nil || !d.Type().IsRegular() || len(paths) >= files {
				return err
			}
			data, err := fs.ReadFile(from, p)
			if err != nil || len(data) > 64<<10 {
				return err
			}
			name := fmt.Sprintf("copy-%d/%s", copies, p)
			paths, size = append(paths, name), size+int64(len(data))
			return errors.Join(os.MkdirAll(filepath.Dir(filepath.Join(dir, name)), 0o755), os.WriteFile(filepath.Join(dir, name), data, 0o644))
		})
		if err != nil {
			return nil, 0, err
		}
	}
	return paths, size, nil
}

func archives(ctx context.Context, b *bench) (string, error) {
	tree := filepath.Join(b.dir, "tree")
	paths, size, err := sources(tree)
	if err != nil {
		return "", err
	}
	ours, theirs := filepath.Join(b.dir, "ours.tar.zst"), filepath.Join(b.dir, "theirs.tar.zst")
	var packOurs, packTheirs, unpackOurs, unpackTheirs figures
	measure := func(to *figures, do func() error) error {
		t, err := timed(do)
		*to = append(*to, t)
		return err
	}
	var sum archive.Summary
	for range rounds {
		err := errors.Join(
			measure(&packOurs, func() (err error) { sum, err = pack(tree, paths, ours); return err }),
			measure(&packTheirs, func() error { return shell(ctx, `tar -C "$0" -cf - . | zstd -q -3 -f -o "$1"`, tree, theirs) }),
		)
		if err != nil {
			return "", err
		}
	}
	out := filepath.Join(b.dir, "out")
	fresh := func() error { return errors.Join(os.RemoveAll(out), os.Mkdir(out, 0o755)) }
	for range rounds {
		err := errors.Join(
			fresh(), measure(&unpackOurs, func() error { return unpack(ctx, ours, out, sum.NarHash) }),
			fresh(), measure(&unpackTheirs, func() error { return shell(ctx, `zstd -q -d -c "$0" | tar -C "$1" -xf -`, theirs, out) }),
		)
		if err != nil {
			return "", err
		}
	}
	info, err := os.Stat(theirs)
	if err != nil {
		return "", err
	}
	err = os.RemoveAll(tree)
	return fmt.Sprintf("## Packing %d files, %.0f MB, on a tmpfs\n\n| | npcnix | tar and zstd -3 | ratio | target |\n|---|---|---|---|---|\n"+
		"| pack, with digest and NAR hash | %s | %s | %.2f | ≤ 1.0 |\n| unpack, with limits and NAR hash | %s | %s | %.2f | ≤ 1.3 |\n| size of the archive | %.1f MB | %.1f MB | %.2f | |\n",
		files, float64(size)/1e6, packOurs.spread("%.2f s"), packTheirs.spread("%.2f s"), packOurs.median()/packTheirs.median(),
		unpackOurs.spread("%.2f s"), unpackTheirs.spread("%.2f s"), unpackOurs.median()/unpackTheirs.median(),
		float64(sum.Size)/1e6, float64(info.Size())/1e6, float64(sum.Size)/float64(info.Size())), err
}

func shell(ctx context.Context, script string, args ...string) error {
	out, err := exec.CommandContext(ctx, "bash", append([]string{"-o", "pipefail", "-c", script}, args...)...).CombinedOutput()
	if err != nil {
		return fmt.Errorf("%s: %w\n%s", script, err, out)
	}
	return nil
}

func pack(dir string, paths []string, to string) (_ archive.Summary, err error) {
	root, err := os.OpenRoot(dir)
	if err != nil {
		return archive.Summary{}, err
	}
	f, err := os.Create(to)
	if err != nil {
		return archive.Summary{}, err
	}
	sum, err := archive.Pack(f, root, paths)
	return sum, errors.Join(err, f.Close(), root.Close())
}

func unpack(ctx context.Context, from, dir, narHash string) error {
	root, err := os.OpenRoot(dir)
	if err != nil {
		return err
	}
	f, err := os.Open(from)
	if err != nil {
		return err
	}
	got, err := archive.Unpack(ctx, f, root, time.Unix(1, 0), archive.DefaultLimits())
	return errors.Join(err, archive.CheckNarHash(got, narHash), f.Close(), root.Close())
}
