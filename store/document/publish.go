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
	if err := upload(ctx, s, p); err != nil {
		return Published{}, err
	}
	var done Published
	err := Update(ctx, s, store.RemoteKey(p.Remote), func(present []byte) ([]byte, error) {
		var next []byte
		var err error
		done, next, err = advance(ctx, s, p, present)
		return next, err
	})
	if err != nil {
		return Published{}, fmt.Errorf("publish %s: %w", p.Remote, err)
	}
	_, err = s.Stat(ctx, store.ArchiveKey(p.Spec.Archive.Digest))
	if errors.Is(err, store.ErrNotFound) {
		err = upload(ctx, s, p)
	}
	return done, err
}

// upload puts the archive unless it is there. One of another length is broken,
// whatever its name says, and is replaced.
func upload(ctx context.Context, s store.Store, p Publication) error {
	key := store.ArchiveKey(p.Spec.Archive.Digest)
	opts := store.PutOptions{IfAbsent: !p.Force}
	if !p.Force {
		info, err := s.Stat(ctx, key)
		switch {
		case err == nil && info.Size == p.Spec.Archive.Size:
			return nil
		case err == nil:
			opts.IfAbsent = false
		case !absent(err) && !errors.Is(err, store.ErrAccessDenied):
			return err
		}
	}
	if _, err := p.Archive.Seek(0, io.SeekStart); err != nil {
		return fmt.Errorf("read archive: %w", err)
	}
	_, err := s.Put(ctx, key, p.Archive, opts)
	if errors.Is(err, store.ErrConflict) {
		return nil // another pusher was faster with the same bytes
	}
	return err
}

// advance makes the next pointer out of the present one, and keeps that in the
// history first. It returns no pointer where the tree is the same.
func advance(ctx context.Context, s store.Store, p Publication, present []byte) (Published, []byte, error) {
	generation, err := nextAfterHistory(ctx, s, p.Remote, present)
	if err != nil {
		return Published{}, nil, err
	}
	if present != nil {
		key := store.RemoteKey(p.Remote)
		old, err := codec.DecodeLenient[v1alpha1.Remote](codec.Document{Source: key, Raw: present}, v1alpha1.KindRemote)
		if err != nil {
			return Published{}, nil, fmt.Errorf("the present pointer cannot be understood; restore it from history, or delete the remote: %w", err)
		}
		if !p.Force && old.Spec.Archive.NarHash != "" && old.Spec.Archive.NarHash == p.Spec.Archive.NarHash {
			return Published{Generation: old.Metadata.Generation, Digest: old.Spec.Archive.Digest, Unchanged: true}, nil, nil
		}
		if err := keep(ctx, s, store.HistoryKey(p.Remote, old.Metadata.Generation), present); err != nil {
			return Published{}, nil, err
		}
		generation = old.Metadata.Generation + 1
	}
	next, err := codec.Encode(&v1alpha1.Remote{
		TypeMeta: meta.TypeMeta{APIVersion: v1alpha1.APIVersion, Kind: v1alpha1.KindRemote},
		Metadata: meta.ObjectMeta{Name: p.Remote, Generation: generation},
		Spec:     p.Spec,
	})
	return Published{Generation: generation, Digest: p.Spec.Archive.Digest}, next, err
}

// nextAfterHistory returns the first generation of a remote without a pointer:
// 1, or the one after those of a remote that was deleted.
func nextAfterHistory(ctx context.Context, s store.Store, remote string, present []byte) (int64, error) {
	last := int64(0)
	if present != nil {
		return last, nil
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
// that its generation is never given again.
func Unpublish(ctx context.Context, s store.Store, remote string) error {
	key := store.RemoteKey(remote)
	pointer, raw, err := Get[v1alpha1.Remote](ctx, s, key, v1alpha1.KindRemote)
	if err != nil {
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
