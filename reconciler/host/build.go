package host

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/npcnix/npcnix/apis/meta"
	"github.com/npcnix/npcnix/apis/v1alpha1"
	"github.com/npcnix/npcnix/nixos"
	"github.com/npcnix/npcnix/reconciler/plan"
	"github.com/npcnix/npcnix/store/archive"
)

// The directories of the state.
func (r *Reconciler) treeDir(digest string) string {
	return filepath.Join(r.opts.StateDir, "trees", strings.TrimPrefix(digest, "sha256:"))
}

func (r *Reconciler) rootPath(attempt string) string {
	return filepath.Join(r.opts.StateDir, "gcroots", attempt)
}

// build fetches the archive, verifies and unpacks it, and lets Nix build it.
func (r *Reconciler) build(ctx context.Context, p *pass) error {
	d, j := &r.documents, r.journal
	tree, err := r.sourceInTime(ctx, d.accepted.spec.RebuildPolicy.Timeouts.Build.Duration)
	if err != nil {
		return r.sourceFailed(ctx, p, err)
	}
	j.Verified = d.publication.Spec.Archive.Digest
	if err := r.enter(phaseVerified); err != nil {
		return err
	}
	spec := d.accepted.spec
	b := built{
		Archive: d.publication.Spec.Archive.Digest, Attribute: spec.FlakeAttribute, NixVersion: r.nixVersion,
		OutLink: r.rootPath(j.Attempt.ID),
	}
	r.pulse.Begin("build", spec.RebuildPolicy.Timeouts.Build.Duration+awaitSlack)
	b.Toplevel, err = r.opts.Builder.Build(ctx, nixos.BuildRequest{
		Dir: tree, Attribute: b.Attribute, OutLink: b.OutLink, Log: r.buildLog(j.Attempt.ID), Limit: spec.RebuildPolicy.Timeouts.Build.Duration,
	})
	if err != nil {
		return r.buildFailed(ctx, p, err)
	}
	j.remember(b)
	j.Attempt.Target = b.Toplevel
	if err := r.enter(phaseBuilt); err != nil {
		return err
	}
	r.removeUnnamed()
	return nil
}

// sourceInTime is source within the time that a build has: what trickles in ends too.
func (r *Reconciler) sourceInTime(ctx context.Context, limit time.Duration) (string, error) {
	limited, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	dir, err := r.source(limited)
	if err != nil && limited.Err() != nil && ctx.Err() == nil {
		return "", fmt.Errorf("it took longer than rebuildPolicy.timeouts.build, %s", meta.Short(limit))
	}
	return dir, err
}

// source returns the directory of the verified flake.
func (r *Reconciler) source(ctx context.Context) (string, error) {
	pub := r.documents.publication
	dir := r.treeDir(pub.Spec.Archive.Digest)
	if _, err := os.Stat(dir); err == nil {
		return dir, nil // renamed to that name only when it was complete and verified
	}
	download := dir + ".tar.zst"
	if err := os.MkdirAll(filepath.Dir(dir), 0o700); err != nil {
		return "", fmt.Errorf("make directory of trees: %w", err)
	}
	if err := r.download(ctx, download, pub.Spec.Archive); err != nil {
		return "", errors.Join(err, os.RemoveAll(download))
	}
	if err := r.enter(phaseFetched); err != nil {
		return "", err
	}
	partial := dir + ".partial"
	err := errors.Join(os.RemoveAll(partial), r.unpack(ctx, download, partial, pub))
	if err != nil {
		return "", errors.Join(err, os.RemoveAll(partial), os.RemoveAll(download))
	}
	if err := errors.Join(os.Rename(partial, dir), os.RemoveAll(download)); err != nil {
		return "", fmt.Errorf("keep unpacked tree: %w", err)
	}
	return dir, nil
}

func (r *Reconciler) download(ctx context.Context, path string, a v1alpha1.Archive) (err error) {
	f, err := os.OpenFile(path, os.O_CREATE|os.O_TRUNC|os.O_WRONLY, 0o600)
	if err != nil {
		return fmt.Errorf("download archive: %w", err)
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	return archive.Fetch(ctx, r.opts.Store, beating{f, r.pulse}, a.Digest, a.Size, r.opts.Limits)
}

// beating tells the pulse of every piece that arrives: a slow line is no agent
// that hangs, and one that stalls is given up by the store's driver.
type beating struct {
	*os.File

	pulse *Pulse
}

func (b beating) Write(p []byte) (int, error) {
	b.pulse.Begin("fetch", stepLimit)
	return b.File.Write(p) //nolint:wrapcheck // as the file itself
}

// unpack unpacks the verified archive and compares the tree's NAR hash before
// Nix sees it.
func (r *Reconciler) unpack(ctx context.Context, download, dir string, pub *v1alpha1.Remote) (err error) {
	f, err := os.Open(download)
	if err != nil {
		return fmt.Errorf("unpack archive: %w", err)
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	r.pulse.Begin("unpack", stepLimit)
	if err := os.Mkdir(dir, 0o755); err != nil { //nolint:gosec // builders read it; its parent is root's alone
		return fmt.Errorf("unpack archive: %w", err)
	}
	root, err := os.OpenRoot(dir)
	if err != nil {
		return fmt.Errorf("unpack archive: %w", err)
	}
	defer func() { err = errors.Join(err, root.Close()) }()
	modified := int64(1) // what every host agrees on where git does not say
	if src := pub.Spec.Source; src != nil && src.LastModified > 0 {
		modified = src.LastModified
	}
	narHash, err := archive.Unpack(ctx, f, root, time.Unix(modified, 0), r.opts.Limits)
	if err != nil {
		return err
	}
	return archive.CheckNarHash(narHash, pub.Spec.Archive.NarHash)
}

// sourceFailed ends the attempt with a fetch that failed.
func (r *Reconciler) sourceFailed(ctx context.Context, p *pass, err error) error {
	if ctx.Err() != nil {
		return r.interrupted(ctx, p)
	}
	return r.fail(p, sourceFailure(err))
}

// buildFailed ends the attempt with a build that failed.
func (r *Reconciler) buildFailed(ctx context.Context, p *pass, err error) error {
	if ctx.Err() != nil {
		return r.interrupted(ctx, p)
	}
	return r.fail(p, buildFailure(r.documents.accepted.spec.FlakeAttribute, err))
}

// interrupted ends the attempt of an agent that is told to stop. It is no
// failure of the target.
func (r *Reconciler) interrupted(ctx context.Context, p *pass) error {
	p.progress = ""
	p.decide(plan.Decision{Action: plan.None, Reason: v1alpha1.ReasonInterrupted, Message: agentStopped})
	if !r.journal.open() {
		return context.Cause(ctx) //nolint:wrapcheck // the loop's own: draining
	}
	r.journal.end(phaseFailed, v1alpha1.OutcomeFailed, v1alpha1.ReasonInterrupted, agentStopped, r.opts.Now())
	return errors.Join(r.save(), context.Cause(ctx))
}

// removeUnnamed removes the trees, downloads, roots, runs and transactions that
// the journal does not name. What cannot be removed is tried again at the next start.
func (r *Reconciler) removeUnnamed() {
	for _, dir := range []string{"trees", "gcroots", "activations", "transactions", "logs"} {
		for _, name := range r.names(dir) {
			path := filepath.Join(r.opts.StateDir, dir, name)
			if r.needed(dir, name, path) {
				continue
			}
			if err := os.RemoveAll(path); err != nil {
				r.opts.Log.Info("Could not remove what is not needed any more", "path", path, "error", err.Error())
			}
		}
	}
}

// removeOtherTrees removes the trees of earlier targets, those that failed too.
func (r *Reconciler) removeOtherTrees(digest string) {
	for _, name := range r.names("trees") {
		if strings.HasPrefix(name, filepath.Base(r.treeDir(digest))) {
			continue
		}
		if err := os.RemoveAll(filepath.Join(r.opts.StateDir, "trees", name)); err != nil {
			r.opts.Log.Info("Could not remove an earlier tree", "tree", name, "error", err.Error())
		}
	}
}

// needed reports whether the journal names an entry of the state: a root of a
// remembered build, or anything of the newest attempt, whose output may still
// have to be put into the store.
func (r *Reconciler) needed(dir, name, path string) bool {
	j := r.journal
	if slices.ContainsFunc(j.Built, func(b built) bool { return b.OutLink == path }) {
		return true
	}
	if j.Attempt == nil || !strings.HasPrefix(name, j.Attempt.ID) {
		return false
	}
	return dir != "gcroots" || j.open() || j.Staged != ""
}
