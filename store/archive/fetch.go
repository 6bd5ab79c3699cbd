package archive

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"

	"github.com/npcnix/npcnix/store"
)

// Fetch copies the archive of that digest and size from the store to w and
// verifies both. An archive that is longer than limits.Size, or not what it
// should be, is refused with ErrInvalid; w holds no more than size bytes then.
func Fetch(ctx context.Context, s store.Store, w io.Writer, digest string, size int64, limits Limits) error {
	if size > limits.Size {
		return refuse("%d bytes are more than the limit of %d", size, limits.Size)
	}
	key := store.ArchiveKey(digest)
	obj, err := store.Open(ctx, s, key, store.GetOptions{})
	if err != nil {
		return err
	}
	defer func() { _ = obj.Body.Close() }() // read to its end or given up
	if obj.Size != size {
		return refuse("%s has %d bytes, the remote says %d", key, obj.Size, size)
	}
	hash := sha256.New()
	n, err := io.Copy(io.MultiWriter(w, hash), obj.Body)
	if err != nil {
		return fmt.Errorf("fetch %s: %w", key, errors.Join(err, context.Cause(ctx)))
	}
	if got := "sha256:" + hex.EncodeToString(hash.Sum(nil)); n != size || got != digest {
		return refuse("%s has the digest %s", key, got)
	}
	return nil
}

// CheckNarHash refuses a tree whose NAR hash is not the one that is wanted, with
// ErrInvalid. An empty want, of documents that other tools wrote, is any.
func CheckNarHash(got, want string) error {
	if want != "" && got != want {
		return refuse("its tree has the NAR hash %s, the remote says %s", got, want)
	}
	return nil
}
