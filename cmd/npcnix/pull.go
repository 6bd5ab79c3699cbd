package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"github.com/spf13/cobra"

	"github.com/npcnix/npcnix/apis/v1alpha1"
	"github.com/npcnix/npcnix/store"
	"github.com/npcnix/npcnix/store/archive"
	"github.com/npcnix/npcnix/store/document"
)

func (c *cli) pullCommand() *cobra.Command {
	var remote string
	var generation int64
	cmd := &cobra.Command{
		Use:   "pull DIR --remote NAME",
		Short: "Unpack a published flake into a new or empty directory",
		Args:  exactly("directory"),
		RunE: func(cmd *cobra.Command, args []string) error {
			return c.pull(cmd.Context(), args[0], remote, generation)
		},
	}
	cmd.Flags().StringVar(&remote, "remote", "", "remote to unpack (required)")
	cmd.Flags().Int64Var(&generation, "generation", 0, "an earlier generation instead of the newest")
	if err := cmd.MarkFlagRequired("remote"); err != nil {
		panic(err) // the flag is defined above
	}
	return cmd
}

func (c *cli) pull(ctx context.Context, dir, remote string, generation int64) error {
	if generation < 0 {
		return fmt.Errorf("%w: --generation %d: generations count from 1", errUsage, generation)
	}
	entries, err := os.ReadDir(dir)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("pull: %w", err)
	}
	if len(entries) > 0 {
		return fmt.Errorf("%w: %s is not empty; name a new directory", errRefused, dir)
	}
	s, err := c.open(ctx)
	if err != nil {
		return err
	}
	pointer, err := findGeneration(ctx, s, remote, generation)
	if err != nil {
		return err
	}
	if err := c.unpackInto(ctx, s, dir, pointer); err != nil {
		return err
	}
	return c.print("%s %d %s pulled", remote, pointer.Metadata.Generation, pointer.Spec.Archive.Digest)
}

// findGeneration returns a publication from the pointer or the history; 0 is the newest.
func findGeneration(ctx context.Context, s store.Store, remote string, generation int64) (*v1alpha1.Remote, error) {
	pointer, _, err := document.Get[v1alpha1.Remote](ctx, s, store.RemoteKey(remote), v1alpha1.KindRemote)
	switch {
	case err == nil && (generation == 0 || generation == pointer.Metadata.Generation):
		return pointer, nil
	case generation == 0 || (err != nil && !errors.Is(err, store.ErrNotFound)):
		return nil, err
	}
	old, _, err := document.Get[v1alpha1.Remote](ctx, s, store.HistoryKey(remote, generation), v1alpha1.KindRemote)
	return old, err
}

// unpackInto fetches, verifies and unpacks beside dir, and moves the complete
// tree there.
func (c *cli) unpackInto(ctx context.Context, s store.Store, dir string, pointer *v1alpha1.Remote) (err error) {
	dir, err = filepath.Abs(dir)
	if err != nil {
		return fmt.Errorf("pull: %w", err)
	}
	if err := os.MkdirAll(filepath.Dir(dir), 0o755); err != nil { //nolint:gosec // the operator's own tree
		return fmt.Errorf("pull: %w", err)
	}
	temp, err := os.MkdirTemp(filepath.Dir(dir), ".npcnix-pull-")
	if err != nil {
		return fmt.Errorf("pull: %w", err)
	}
	defer func() { err = errors.Join(err, os.RemoveAll(temp)) }()
	file, err := os.Create(filepath.Join(temp, "archive"))
	if err != nil {
		return fmt.Errorf("pull: %w", err)
	}
	defer func() { err = errors.Join(err, file.Close()) }()
	a, limits := pointer.Spec.Archive, archive.DefaultLimits()
	if err := archive.Fetch(ctx, s, file, a.Digest, a.Size, limits); err != nil {
		return err
	}
	if _, err := file.Seek(0, io.SeekStart); err != nil {
		return fmt.Errorf("pull: %w", err)
	}
	tree := filepath.Join(temp, "tree")
	if err := unpackVerified(ctx, file, tree, pointer, limits); err != nil {
		return err
	}
	return moveInto(tree, dir)
}

// moveInto moves a tree to dir, or what is in it if dir is there: somebody may
// stand in it.
func moveInto(tree, dir string) error {
	entries, err := os.ReadDir(tree)
	if err != nil {
		return fmt.Errorf("pull: %w", err)
	}
	if err := os.Mkdir(dir, 0o755); err != nil && !errors.Is(err, fs.ErrExist) { //nolint:gosec // the operator's own tree
		return fmt.Errorf("pull: %w", err)
	}
	for _, e := range entries {
		if err := os.Rename(filepath.Join(tree, e.Name()), filepath.Join(dir, e.Name())); err != nil {
			return fmt.Errorf("pull: %w", err)
		}
	}
	return nil
}

func unpackVerified(ctx context.Context, r io.Reader, tree string, pointer *v1alpha1.Remote, limits archive.Limits) (err error) {
	if err := os.Mkdir(tree, 0o755); err != nil { //nolint:gosec // the operator's own tree
		return fmt.Errorf("pull: %w", err)
	}
	root, err := os.OpenRoot(tree)
	if err != nil {
		return fmt.Errorf("pull: %w", err)
	}
	defer func() { err = errors.Join(err, root.Close()) }()
	modified := time.Unix(1, 0)
	if src := pointer.Spec.Source; src != nil && src.LastModified > 0 {
		modified = time.Unix(src.LastModified, 0)
	}
	narHash, err := archive.Unpack(ctx, r, root, modified, limits)
	if err != nil {
		return err
	}
	return archive.CheckNarHash(narHash, pointer.Spec.Archive.NarHash)
}
