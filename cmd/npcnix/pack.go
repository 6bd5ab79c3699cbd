package main

import (
	"context"
	"errors"
	"fmt"
	"os"

	"github.com/google/renameio/v2"
	"github.com/spf13/cobra"

	"github.com/npcnix/npcnix/store/archive"
)

func (c *cli) packCommand() *cobra.Command {
	var out string
	var include []string
	cmd := &cobra.Command{
		Use:   "pack DIR -o FILE",
		Short: "Pack a flake into a reproducible archive",
		Long: "Pack what git tracks below DIR, with the work tree's contents; outside of git\n" +
			"everything but .git, result links into the Nix store and what " + ignoreFile + " names.\n" +
			"Prints the archive's digest and the NAR hash, which nix hash path prints for the tree.",
		Args: exactly("directory"),
		RunE: func(cmd *cobra.Command, args []string) error { return c.pack(cmd.Context(), args[0], out, include) },
	}
	cmd.Flags().StringVarP(&out, "output", "o", "", "file to write (required)")
	includeFlag(cmd, &include)
	if err := cmd.MarkFlagRequired("output"); err != nil {
		panic(err) // the flag is defined above
	}
	return cmd
}

func includeFlag(cmd *cobra.Command, include *[]string) {
	cmd.Flags().StringArrayVar(include, "include", nil, "also pack this untracked file or directory, relative to DIR (may be repeated)")
}

func (c *cli) pack(ctx context.Context, dir, out string, include []string) (err error) {
	s, err := c.readSource(ctx, dir, include)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, s.root.Close()) }()
	file, err := renameio.NewPendingFile(out, renameio.WithPermissions(0o644))
	if err != nil {
		return fmt.Errorf("write archive: %w", err)
	}
	defer func() { _ = file.Cleanup() }() // nothing is left to clean after success
	sum, err := archive.Pack(file, s.root, s.paths)
	if err != nil {
		return err
	}
	if err := file.CloseAtomicallyReplace(); err != nil {
		return fmt.Errorf("write archive: %w", err)
	}
	return c.print("%s %s", sum.Digest, sum.NarHash)
}

// packTemporary packs a source into a file that is removed with the closer.
func packTemporary(s *source) (f *os.File, sum archive.Summary, err error) {
	f, err = os.CreateTemp("", "npcnix-*.tar.zst")
	if err != nil {
		return nil, sum, fmt.Errorf("write archive: %w", err)
	}
	_ = os.Remove(f.Name()) // it lives as long as it is open
	if sum, err = archive.Pack(f, s.root, s.paths); err != nil {
		return nil, sum, errors.Join(err, f.Close())
	}
	return f, sum, nil
}
