package document

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"time"

	"github.com/npcnix/npcnix/apis/codec"
	"github.com/npcnix/npcnix/store"
)

// maxUpdates bounds the tries of Update against other writers.
const maxUpdates = 8

// Raw is a document as it stands in the store.
type Raw struct {
	store.Info

	Data []byte
}

// Read reads the document at key, of at most codec.MaxDocumentSize bytes. With
// ifNoneMatch it returns store.ErrNotModified while the document has that ETag.
func Read(ctx context.Context, s store.Store, key, ifNoneMatch string) (Raw, error) {
	data, info, err := store.ReadAll(ctx, s, key, codec.MaxDocumentSize, store.GetOptions{IfNoneMatch: ifNoneMatch})
	return Raw{Info: info, Data: data}, err
}

// Get reads and leniently decodes the document at key.
func Get[T any](ctx context.Context, s store.Store, key, kind string) (*T, Raw, error) {
	raw, err := Read(ctx, s, key, "")
	if err != nil {
		return nil, raw, err
	}
	obj, err := codec.DecodeLenient[T](codec.Document{Source: key, Raw: raw.Data}, kind)
	return obj, raw, err
}

// Change makes the next bytes of a document out of the present ones, which are
// nil if there is none. Nil bytes leave the document as it is.
type Change func(present []byte) (next []byte, err error)

// Update changes the document at key by compare-and-swap: change is called anew
// with what another writer put in between. After a conflict or a lost reply the
// document is read back: if it has our very bytes, the write was a success. After
// maxUpdates lost races the error is store.ErrConflict.
func Update(ctx context.Context, s store.Store, key string, change Change) error {
	u := updater{store: s, key: key, change: change}
	for try := range maxUpdates {
		if err := pause(ctx, try); err != nil {
			return errors.Join(u.lost, err)
		}
		if done, err := u.try(ctx); done || err != nil {
			return err
		}
	}
	return fmt.Errorf("update %s: %w: lost against other writers %d times", key, store.ErrConflict, maxUpdates)
}

// updater is one Update.
type updater struct {
	store  store.Store
	key    string
	change Change
	// written are the bytes of the last try, lost what it came to if its
	// success is unknown.
	written []byte
	lost    error
}

// try reads, changes and writes once. It is not done after a conflict.
func (u *updater) try(ctx context.Context) (done bool, err error) {
	raw, err := Read(ctx, u.store, u.key, "")
	missing := absent(err)
	switch {
	case err != nil && !missing:
		return false, errors.Join(u.lost, err)
	case u.written != nil && bytes.Equal(raw.Data, u.written):
		return true, nil // it was a success
	case u.lost != nil:
		return false, u.lost
	}
	next, err := u.change(raw.Data)
	if err != nil || next == nil {
		return true, err
	}
	_, err = u.store.Put(ctx, u.key, bytes.NewReader(next), store.PutOptions{IfAbsent: missing, IfMatch: raw.ETag})
	if err == nil || refused(err) {
		return true, err
	}
	if !errors.Is(err, store.ErrConflict) {
		u.lost = err
	}
	u.written = next
	return false, nil
}

// refused reports whether the store answered that it did not write.
func refused(err error) bool {
	return errors.Is(err, store.ErrAccessDenied) || errors.Is(err, store.ErrUnauthorized) || errors.Is(err, store.ErrInvalidKey) || errors.Is(err, store.ErrBucketNotFound)
}

// absent reports whether an object is not there, or nothing at all: a
// directory is made by the first write, and a bucket says again that it is missing.
func absent(err error) bool {
	return errors.Is(err, store.ErrNotFound) || errors.Is(err, store.ErrBucketNotFound)
}

// pause waits before a further try, longer and at random.
func pause(ctx context.Context, try int) error {
	if try == 0 {
		return nil
	}
	most := 20 * time.Millisecond << try
	timer := time.NewTimer(rand.N(most)) //nolint:gosec // spreads writers, no security
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx) //nolint:wrapcheck // the caller's own
	}
}
