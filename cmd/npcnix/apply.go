package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"

	"github.com/spf13/cobra"

	"github.com/npcnix/npcnix/apis/codec"
	"github.com/npcnix/npcnix/apis/v1alpha1"
	"github.com/npcnix/npcnix/reconciler/window"
	"github.com/npcnix/npcnix/store"
	"github.com/npcnix/npcnix/store/document"
)

func (c *cli) applyCommand() *cobra.Command {
	var paths []string
	var dryRun bool
	cmd := &cobra.Command{
		Use:   "apply -f FILE|DIR|-",
		Short: "Declare hosts: write HostSpecs and HostOverrides to the store",
		Long: "Validate every document first, and write none if any is wrong. What is in the store\n" +
			"already is not written again. Comments are kept: aws s3 sync of the same files to\n" +
			"hosts/ is as good.",
		Args: exactly(""),
		RunE: func(cmd *cobra.Command, _ []string) error { return c.apply(cmd.Context(), paths, dryRun) },
	}
	fileFlag(cmd, &paths)
	cmd.Flags().BoolVar(&dryRun, "dry-run", false, "say what would be done, and do nothing")
	return cmd
}

func fileFlag(cmd *cobra.Command, paths *[]string) {
	cmd.Flags().StringArrayVarP(paths, "filename", "f", nil, "file, flat directory of <name>.yaml files, or - for standard input; may be repeated (required)")
	if err := cmd.MarkFlagRequired("filename"); err != nil {
		panic(err) // the flag is defined above
	}
}

func (c *cli) apply(ctx context.Context, paths []string, dryRun bool) error {
	manifests, err := c.readManifests(paths)
	if err != nil {
		return err
	}
	keys := make([]string, len(manifests))
	for i, m := range manifests {
		if keys[i], err = applyKey(m); err != nil {
			return err
		}
	}
	s, err := c.open(ctx)
	if err != nil {
		return err
	}
	suffix := ""
	if dryRun {
		suffix = " (dry run)"
	}
	for i, m := range manifests {
		done, err := c.applyOne(ctx, s, keys[i], m, dryRun)
		if err != nil {
			return fmt.Errorf("%s: %w", m, err)
		}
		if err := c.print("%s %s%s", m, done, suffix); err != nil {
			return err
		}
		c.warn(m)
	}
	return nil
}

// applyKey returns where operators write a document, or refuses those that
// others write.
func applyKey(m manifest) (string, error) {
	switch m.kind {
	case v1alpha1.KindHostSpec:
		return store.HostSpecKey(m.name), nil
	case v1alpha1.KindHostOverride:
		return store.OverrideKey(m.name), nil
	case v1alpha1.KindRemote:
		return "", fmt.Errorf("%w: %s: a Remote is written by npcnix push", errRefused, m)
	default:
		return "", fmt.Errorf("%w: %s: a %s is written by its host alone", errRefused, m, m.kind)
	}
}

func (c *cli) applyOne(ctx context.Context, s store.Store, key string, m manifest, dryRun bool) (done string, err error) {
	doc := m.doc
	present, err := document.Read(ctx, s, key, "")
	// A directory is made by the first write; a missing bucket says so again then.
	missing := errors.Is(err, store.ErrNotFound) || errors.Is(err, store.ErrBucketNotFound)
	switch {
	case missing:
		done = "created"
	case err != nil && !errors.Is(err, store.ErrTooLarge):
		return "", err
	default:
		done = "configured"
		if same(doc.Raw, present.Data) {
			return "unchanged", nil
		}
		if was := suspendedBy(present.Data, c.now()); m.kind == v1alpha1.KindHostOverride && was != "" && was != suspendedBy(doc.Raw, c.now()) {
			c.note("%s: it was suspended %s, which this replaces", m, was)
		}
	}
	if dryRun {
		return done, nil
	}
	_, err = s.Put(ctx, key, bytes.NewReader(doc.Raw), store.PutOptions{IfAbsent: missing, IfMatch: present.ETag})
	return done, err
}

// same reports whether two files say the same, document by document.
func same(a, b []byte) bool {
	left, err := codec.Split("", a)
	if err != nil {
		return false
	}
	right, err := codec.Split("", b)
	if err != nil || len(left) != len(right) {
		return false
	}
	for i := range left {
		if equal, err := codec.Equal(left[i], right[i]); err != nil || !equal {
			return false
		}
	}
	return true
}

func (c *cli) validateCommand() *cobra.Command {
	var paths []string
	cmd := &cobra.Command{
		Use:   "validate -f FILE|DIR|-",
		Short: "Check documents without a store",
		Args:  exactly(""),
		RunE: func(*cobra.Command, []string) error {
			manifests, err := c.readManifests(paths)
			if err != nil {
				return err
			}
			for _, m := range manifests {
				if err := c.print("%s valid", m); err != nil {
					return err
				}
				c.warn(m)
			}
			return nil
		},
	}
	fileFlag(cmd, &paths)
	return cmd
}

// warn tells what is valid, and will not do what was meant.
func (c *cli) warn(m manifest) {
	if m.kind != v1alpha1.KindHostSpec {
		return
	}
	spec, err := codec.DecodeStrict[v1alpha1.HostSpec](m.doc, v1alpha1.KindHostSpec)
	if err != nil {
		return // it was told
	}
	for _, warning := range window.Warnings(spec.Spec, c.now()) {
		c.note("%s: %s", m, warning)
	}
	if spec.Spec.Origin == v1alpha1.OriginClosure {
		c.note("%s: spec.origin: Closure is not supported by hosts of this version, which then start nothing", m)
	}
}
