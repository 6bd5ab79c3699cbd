package main

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"time"

	"github.com/spf13/cobra"
	"k8s.io/apimachinery/pkg/util/validation"

	"github.com/npcnix/npcnix/apis/codec"
	"github.com/npcnix/npcnix/apis/meta"
	"github.com/npcnix/npcnix/apis/v1alpha1"
	"github.com/npcnix/npcnix/store/archive"
	"github.com/npcnix/npcnix/store/document"
)

type pushOptions struct {
	remote  string
	force   bool
	include []string
}

func (c *cli) pushCommand() *cobra.Command {
	var o pushOptions
	cmd := &cobra.Command{
		Use:   "push DIR|FILE.tar.zst --remote NAME",
		Short: "Publish a flake as the newest generation of a remote",
		Long: "Pack DIR, or take an archive, and make it the newest generation of a remote: the\n" +
			"hosts that follow it see it at their next look. A tree that is published already\n" +
			"makes no new generation. Prints: <remote> <generation> sha256:<hex> published|unchanged.",
		Args: exactly("directory or archive"),
		RunE: func(cmd *cobra.Command, args []string) error { return c.push(cmd.Context(), args[0], o) },
	}
	f := cmd.Flags()
	f.StringVar(&o.remote, "remote", "", "remote to publish to (required)")
	f.BoolVar(&o.force, "force", false, "publish a new generation even if nothing changed, and upload the archive again")
	includeFlag(cmd, &o.include)
	if err := cmd.MarkFlagRequired("remote"); err != nil {
		panic(err) // the flag is defined above
	}
	return cmd
}

func (c *cli) push(ctx context.Context, path string, o pushOptions) (err error) {
	if faults := validation.IsDNS1123Label(o.remote); len(faults) > 0 {
		return fmt.Errorf("%w: --remote %s: %s", errUsage, o.remote, faults[0])
	}
	info, err := os.Stat(path)
	if err != nil {
		return fmt.Errorf("push: %w", err)
	}
	s, err := c.open(ctx)
	if err != nil {
		return err
	}
	p := document.Publication{Remote: o.remote, Force: o.force}
	var file *os.File
	if !info.IsDir() && len(o.include) > 0 {
		return fmt.Errorf("%w: --include goes with a directory; %s is an archive already", errUsage, path)
	}
	if info.IsDir() {
		file, err = c.fromDirectory(ctx, path, o.include, &p.Spec)
	} else {
		file, err = fromArchive(ctx, path, &p.Spec)
	}
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, file.Close()) }()
	p.Archive = file
	p.Spec.PublishedAt = meta.NewTime(c.now())
	done, err := document.Publish(ctx, s, p)
	if err != nil {
		return err
	}
	word := "published"
	if done.Unchanged {
		word = "unchanged"
	}
	return c.print("%s %d %s %s", o.remote, done.Generation, done.Digest, word)
}

// fromDirectory packs a flake and describes where it came from.
func (c *cli) fromDirectory(ctx context.Context, dir string, include []string, spec *v1alpha1.RemoteSpec) (_ *os.File, err error) {
	src, err := c.readSource(ctx, dir, include)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, src.root.Close()) }()
	file, sum, err := packTemporary(src)
	if err != nil {
		return nil, err
	}
	spec.Source, spec.PublishedBy = src.described, src.by
	spec.Archive = v1alpha1.Archive{Digest: sum.Digest, Size: sum.Size, NarHash: sum.NarHash}
	return file, nil
}

// fromArchive takes an archive as it is, after unpacking it as a host would.
func fromArchive(ctx context.Context, path string, spec *v1alpha1.RemoteSpec) (_ *os.File, err error) {
	file, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("push: %w", err)
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, file.Close())
		}
	}()
	hash := sha256.New()
	limits := archive.DefaultLimits()
	size, err := io.Copy(hash, io.LimitReader(file, limits.Size+1))
	if err != nil {
		return nil, fmt.Errorf("read archive: %w", err)
	}
	if size > limits.Size {
		return nil, fmt.Errorf("%w: %s is larger than %d bytes, the limit of hosts", errRefused, path, limits.Size)
	}
	if _, err := file.Seek(0, io.SeekStart); err != nil {
		return nil, fmt.Errorf("read archive: %w", err)
	}
	spec.Source = &v1alpha1.Source{Dirty: true}
	narHash, err := inspect(ctx, file, limits, spec.Source)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	spec.Archive = v1alpha1.Archive{Digest: "sha256:" + hex.EncodeToString(hash.Sum(nil)), Size: size, NarHash: narHash}
	return file, nil
}

// inspect unpacks an archive into a temporary directory and returns its NAR hash.
func inspect(ctx context.Context, r io.Reader, limits archive.Limits, src *v1alpha1.Source) (narHash string, err error) {
	dir, err := os.MkdirTemp("", "npcnix-")
	if err != nil {
		return "", fmt.Errorf("unpack: %w", err)
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	root, err := os.OpenRoot(dir)
	if err != nil {
		return "", fmt.Errorf("unpack: %w", err)
	}
	defer func() { err = errors.Join(err, root.Close()) }()
	if narHash, err = archive.Unpack(ctx, r, root, time.Unix(1, 0), limits); err != nil {
		return "", err
	}
	if _, err := os.Stat(filepath.Join(dir, "flake.nix")); err != nil {
		return "", fmt.Errorf("%w: the archive has no flake.nix at its top", errRefused)
	}
	if lock, err := root.ReadFile("flake.lock"); err == nil {
		src.FlakeLockDigest = codec.Digest(lock)
	}
	return narHash, nil
}
