package document

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"

	"github.com/npcnix/npcnix/apis/codec"
	"github.com/npcnix/npcnix/apis/meta"
	"github.com/npcnix/npcnix/apis/v1alpha1"
	"github.com/npcnix/npcnix/store"
)

// Publication is what Publish publishes.
type Publication struct {
	// Remote names the remote.
	Remote string
	// Spec is the new publication; its archive is what Archive reads.
	Spec v1alpha1.RemoteSpec
	// Archive is the archive's bytes.
	Archive io.ReadSeeker
	// Force publishes a new generation of an unchanged tree, and uploads the
	// archive even if one of its name is there.
	Force bool
}

// Published is what became of a Publication.
type Published struct {
	Generation int64
	// Digest is that of the archive that the generation consists of.
	Digest string
	// Unchanged says that the present generation has the same tree.
	Unchanged bool
}

// Publish makes the archive the remote's newest generation. Its one commit
// point is the pointer's compare-and-swap: whoever is killed leaves the old or
// the new state, and the next Publish heals what is around it.
//
//  1. put the archive, create-only
//  2. read the pointer, generation N
//  3. copy its exact bytes to the history, create-only
//  4. replace it by N+1; on conflict from 2
//  5. see that the archive still exists
func Publish(ctx context.Context, s store.Store, p Publication) (Published, error) {
	mended, err := upload(ctx, s, p)
	if err != nil {
		return Published{}, err
	}
	p.Force = p.Force || mended // hosts that refused the broken archive look again
	var done Published
	err = Update(ctx, s, store.RemoteKey(p.Remote), func(present []byte) (next []byte, err error) {
		done, next, err = advance(ctx, s, p, present)
		return next, err
	})
	if err != nil {
		return Published{}, fmt.Errorf("publish %s: %w", p.Remote, err)
	}
	_, err = s.Stat(ctx, store.ArchiveKey(p.Spec.Archive.Digest))
	if errors.Is(err, store.ErrNotFound) {
		_, err = upload(ctx, s, p)
	}
	return done, err
}

// upload puts the archive unless it is there. One of another length is broken,
// whatever its name says, and is mended.
func upload(ctx context.Context, s store.Store, p Publication) (mended bool, err error) {
	key := store.ArchiveKey(p.Spec.Archive.Digest)
	opts := store.PutOptions{IfAbsent: !p.Force}
	if !p.Force {
		info, err := s.Stat(ctx, key)
		switch {
		case err == nil && info.Size == p.Spec.Archive.Size:
			return false, nil
		case err == nil:
			opts.IfAbsent, mended = false, true
		case !absent(err) && !errors.Is(err, store.ErrAccessDenied):
			return false, err
		}
	}
	if _, err := p.Archive.Seek(0, io.SeekStart); err != nil {
		return false, fmt.Errorf("read archive: %w", err)
	}
	_, err = s.Put(ctx, key, p.Archive, opts)
	if errors.Is(err, store.ErrConflict) {
		return false, nil // another pusher was faster with the same bytes
	}
	return mended, err
}

// advance makes the next pointer out of the present one, and keeps that in the
// history first. It returns no pointer where the tree is the same.
func advance(ctx context.Context, s store.Store, p Publication, present []byte) (Published, []byte, error) {
	last := int64(0)
	if present != nil {
		key := store.RemoteKey(p.Remote)
		old, err := codec.DecodeLenient[v1alpha1.Remote](codec.Document{Source: key, Raw: present}, v1alpha1.KindRemote)
		if err != nil {
			return Published{}, nil, fmt.Errorf("the present pointer cannot be understood; restore it from history, or delete the remote by force: %w", err)
		}
		last = old.Metadata.Generation
		same, err := unchanged(ctx, s, p, old.Spec.Archive)
		if same || err != nil {
			return Published{Generation: last, Digest: old.Spec.Archive.Digest, Unchanged: true}, nil, err
		}
		if err := keep(ctx, s, store.HistoryKey(p.Remote, last), present); err != nil {
			return Published{}, nil, err
		}
	}
	generation, err := nextGeneration(ctx, s, p.Remote, last)
	if err != nil {
		return Published{}, nil, err
	}
	next, err := codec.Encode(&v1alpha1.Remote{
		TypeMeta: meta.TypeMeta{APIVersion: v1alpha1.APIVersion, Kind: v1alpha1.KindRemote},
		Metadata: meta.ObjectMeta{Name: p.Remote, Generation: generation},
		Spec:     p.Spec,
	})
	return Published{Generation: generation, Digest: p.Spec.Archive.Digest}, next, err
}

// unchanged reports whether the present archive has the same tree, and is there.
func unchanged(ctx context.Context, s store.Store, p Publication, present v1alpha1.Archive) (bool, error) {
	if p.Force || present.NarHash == "" || present.NarHash != p.Spec.Archive.NarHash {
		return false, nil
	}
	info, err := s.Stat(ctx, store.ArchiveKey(present.Digest))
	if errors.Is(err, store.ErrNotFound) {
		return false, nil
	}
	return err == nil && info.Size == present.Size, err
}

// nextGeneration returns the generation after last, or, where the history has
// that already, the one after the whole history: the remote was deleted, or its
// pointer restored from there.
func nextGeneration(ctx context.Context, s store.Store, remote string, last int64) (int64, error) {
	if last > 0 {
		_, err := s.Stat(ctx, store.HistoryKey(remote, last+1))
		if errors.Is(err, store.ErrNotFound) || errors.Is(err, store.ErrAccessDenied) {
			return last + 1, nil
		}
	}
	for info, err := range s.List(ctx, store.HistoryPrefix(remote)) {
		if err != nil {
			return 0, err
		}
		if generation, ok := store.Generation(remote, info.Key); ok {
			last = max(last, generation)
		}
	}
	return last + 1, nil
}

// Unpublish deletes the remote's pointer. It is kept in the history first, so
// that its generation is never given again; one that cannot be understood is
// deleted by force only.
func Unpublish(ctx context.Context, s store.Store, remote string, force bool) error {
	key := store.RemoteKey(remote)
	pointer, raw, err := Get[v1alpha1.Remote](ctx, s, key, v1alpha1.KindRemote)
	_, malformed := errors.AsType[*codec.InvalidError](err)
	switch {
	case malformed && force:
		return s.Delete(ctx, key)
	case err != nil:
		return err
	}
	if err := keep(ctx, s, store.HistoryKey(remote, pointer.Metadata.Generation), raw.Data); err != nil {
		return err
	}
	return s.Delete(ctx, key)
}

// keep copies a superseded pointer to the history.
func keep(ctx context.Context, s store.Store, key string, present []byte) error {
	_, err := s.Put(ctx, key, bytes.NewReader(present), store.PutOptions{IfAbsent: true})
	if !errors.Is(err, store.ErrConflict) {
		return err
	}
	kept, err := Read(ctx, s, key, "")
	if err != nil {
		return err
	}
	if !bytes.Equal(kept.Data, present) {
		return fmt.Errorf("%s holds another publication of the same generation; move it away to go on", key)
	}
	return nil
}
