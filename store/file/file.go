package file

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"iter"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/gofrs/flock"

	"github.com/npcnix/npcnix/store"
)

const (
	// lockRetry is how often a busy lock is tried again.
	lockRetry = 5 * time.Millisecond
	// abandoned is the age at which nobody writes a temporary file any more.
	abandoned = 24 * time.Hour
)

// Store is a directory of objects.
type Store struct{ dir string }

var _ store.Store = (*Store)(nil)

// New returns the store in dir. The directory need not exist: the first Put creates it.
func New(dir string) *Store { return &Store{dir: dir} }

func (s *Store) path(key string) string { return filepath.Join(s.dir, filepath.FromSlash(key)) }

// Get reads an object. Its body stays the same while the object is replaced.
func (s *Store) Get(ctx context.Context, key string, opts store.GetOptions) (*store.Object, error) {
	f, info, err := s.open(ctx, key)
	if err != nil {
		return nil, fmt.Errorf("get %s: %w", key, err)
	}
	switch {
	case opts.IfMatch != "" && opts.IfMatch != info.ETag:
		err = store.ErrConflict
	case opts.IfNoneMatch != "" && opts.IfNoneMatch == info.ETag:
		err = store.ErrNotModified
	case opts.Offset > 0 && opts.Offset >= info.Size:
		err = store.ErrInvalidRange
	}
	if err != nil {
		return nil, fmt.Errorf("get %s: %w", key, errors.Join(err, f.Close()))
	}
	length := info.Size - opts.Offset
	if opts.Length > 0 {
		length = min(length, opts.Length)
	}
	return &store.Object{Info: info, Body: &section{io.NewSectionReader(f, opts.Offset, length), f}}, nil
}

type section struct {
	*io.SectionReader
	io.Closer
}

// Stat describes an object.
func (s *Store) Stat(ctx context.Context, key string) (store.Info, error) {
	f, info, err := s.open(ctx, key)
	if err != nil {
		return store.Info{}, fmt.Errorf("stat %s: %w", key, err)
	}
	return info, f.Close() //nolint:wrapcheck // cannot fail on a file that was only read
}

// open opens an object and reads it once for its ETag, the hash of its content.
func (s *Store) open(ctx context.Context, key string) (*os.File, store.Info, error) {
	if err := errors.Join(ctx.Err(), store.ValidateKey(key)); err != nil {
		return nil, store.Info{}, err
	}
	f, err := os.Open(s.path(key))
	if err != nil {
		return nil, store.Info{}, s.classify(err)
	}
	info, err := describe(f, key)
	if err != nil {
		return nil, store.Info{}, errors.Join(s.classify(err), f.Close())
	}
	return f, info, nil
}

func describe(f *os.File, key string) (store.Info, error) {
	stat, err := f.Stat()
	if err != nil {
		return store.Info{}, err //nolint:wrapcheck // classified by the caller
	}
	if !stat.Mode().IsRegular() {
		return store.Info{}, store.ErrNotFound
	}
	hash := sha256.New()
	size, err := io.Copy(hash, io.NewSectionReader(f, 0, stat.Size()))
	if err != nil {
		return store.Info{}, err //nolint:wrapcheck // classified by the caller
	}
	return store.Info{
		Key: key, ETag: `"` + hex.EncodeToString(hash.Sum(nil)[:16]) + `"`,
		Size: size, LastModified: stat.ModTime(),
	}, nil
}

// classify turns what the file system says into the store's errors.
func (s *Store) classify(err error) error {
	switch {
	case errors.Is(err, fs.ErrNotExist), errors.Is(err, syscall.ENOTDIR):
		if _, dirErr := os.Stat(s.dir); dirErr != nil {
			return fmt.Errorf("%w: directory %s", store.ErrBucketNotFound, s.dir)
		}
		return store.ErrNotFound
	case errors.Is(err, fs.ErrPermission):
		return fmt.Errorf("%w: %w", store.ErrAccessDenied, err)
	default:
		return err
	}
}

// List yields the objects below prefix.
func (s *Store) List(ctx context.Context, prefix string) iter.Seq2[store.Info, error] {
	return func(yield func(store.Info, error) bool) {
		keys, err := s.keys(prefix)
		if err != nil {
			yield(store.Info{}, fmt.Errorf("list %s: %w", prefix, s.classify(err)))
			return
		}
		for _, key := range keys {
			info, err := s.Stat(ctx, key)
			if errors.Is(err, store.ErrNotFound) {
				continue // deleted since
			}
			if !yield(info, err) || err != nil {
				return
			}
		}
	}
}

// keys returns the sorted keys below prefix.
func (s *Store) keys(prefix string) ([]string, error) {
	if _, err := os.Stat(s.dir); err != nil {
		return nil, err //nolint:wrapcheck // classified by the caller
	}
	var keys []string
	start := s.path(prefix[:strings.LastIndex(prefix, "/")+1])
	err := filepath.WalkDir(start, func(path string, d fs.DirEntry, err error) error {
		switch {
		case errors.Is(err, fs.ErrNotExist):
			return nil // deleted since, or nothing below the prefix
		case err != nil:
			return err
		case d.IsDir():
			if path == filepath.Join(s.dir, store.Reserved) {
				return filepath.SkipDir
			}
			return nil
		}
		rel, err := filepath.Rel(s.dir, path)
		if err != nil {
			return err //nolint:wrapcheck // classified by the caller
		}
		if key := filepath.ToSlash(rel); strings.HasPrefix(key, prefix) && store.ValidateKey(key) == nil {
			keys = append(keys, key)
		}
		return nil
	})
	slices.Sort(keys) // the walk sorts a/b before a.b
	return keys, err  //nolint:wrapcheck // classified by the caller
}

// Put writes an object.
func (s *Store) Put(ctx context.Context, key string, body io.ReadSeeker, opts store.PutOptions) (etag string, err error) {
	if err := errors.Join(ctx.Err(), store.ValidateKey(key)); err != nil {
		return "", fmt.Errorf("put %s: %w", key, err)
	}
	if _, err := os.Stat(s.dir); opts.IfMatch != "" && errors.Is(err, fs.ErrNotExist) {
		return "", fmt.Errorf("put %s: %w", key, store.ErrBucketNotFound) // what is replaced must be somewhere; a mount may be gone
	}
	temp, etag, err := s.write(body)
	if err != nil {
		return "", fmt.Errorf("put %s: %w", key, s.classify(err))
	}
	err = s.locked(ctx, func() error { return s.replace(ctx, key, temp, opts) })
	if err != nil {
		return "", fmt.Errorf("put %s: %w", key, errors.Join(s.classify(err), os.Remove(temp)))
	}
	return etag, nil
}

// write stores the body in a temporary file that is safe on disk.
func (s *Store) write(body io.Reader) (temp, etag string, err error) {
	dir := filepath.Join(s.dir, store.Reserved, "tmp")
	if err := os.MkdirAll(dir, 0o755); err != nil { //nolint:gosec // readers are other users
		return "", "", err //nolint:wrapcheck // classified by the caller
	}
	sweep(dir)
	f, err := os.CreateTemp(dir, "put-")
	if err != nil {
		return "", "", err //nolint:wrapcheck // classified by the caller
	}
	_, err = io.Copy(f, body)
	if err == nil {
		err = f.Chmod(0o644)
	}
	if err == nil {
		err = f.Sync()
	}
	info, infoErr := describe(f, "")
	if err := errors.Join(err, infoErr, f.Close()); err != nil {
		return "", "", errors.Join(err, os.Remove(f.Name()))
	}
	return f.Name(), info.ETag, nil
}

// sweep removes the temporary files of writers that were killed long ago.
func sweep(dir string) {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return // another write sees to it
	}
	for _, e := range entries {
		info, err := e.Info()
		if err == nil && time.Since(info.ModTime()) > abandoned { //nolint:forbidigo // the file system's clock is this machine's
			_ = os.Remove(filepath.Join(dir, e.Name())) // or another writer did
		}
	}
}

// replace moves the temporary file to its key if the preconditions hold. The
// caller holds the lock.
func (s *Store) replace(ctx context.Context, key, temp string, opts store.PutOptions) error {
	if err := s.precondition(ctx, key, opts); err != nil {
		return err
	}
	path := s.path(key)
	err := os.MkdirAll(filepath.Dir(path), 0o755) //nolint:gosec // readers are other users
	if errors.Is(err, syscall.ENOTDIR) {
		return fmt.Errorf("%w: a part of it is a key itself", store.ErrInvalidKey)
	}
	if err != nil {
		return err //nolint:wrapcheck // classified by the caller
	}
	if stat, err := os.Stat(path); err == nil && stat.IsDir() {
		if os.Remove(path) != nil { // an empty one is what a crash left
			return fmt.Errorf("%w: other keys are below it", store.ErrInvalidKey)
		}
	}
	now := time.Now() //nolint:forbidigo // the file system's clock is this machine's
	if err := os.Chtimes(temp, now, now); err != nil {
		return err //nolint:wrapcheck // classified by the caller
	}
	if err := os.Rename(temp, path); err != nil {
		return err //nolint:wrapcheck // classified by the caller
	}
	return s.syncDirs(filepath.Dir(path))
}

// precondition returns store.ErrConflict unless the object is as opts ask.
func (s *Store) precondition(ctx context.Context, key string, opts store.PutOptions) error {
	if !opts.IfAbsent && opts.IfMatch == "" {
		return nil
	}
	info, err := s.Stat(ctx, key)
	missing := errors.Is(err, store.ErrNotFound)
	if err != nil && !missing {
		return err
	}
	if opts.IfAbsent != missing || (opts.IfMatch != "" && info.ETag != opts.IfMatch) {
		return store.ErrConflict
	}
	return nil
}

// syncDirs makes a rename in dir durable, and dir itself with its parents.
func (s *Store) syncDirs(dir string) error {
	for {
		d, err := os.Open(dir)
		if err != nil {
			return err //nolint:wrapcheck // classified by the caller
		}
		if err := errors.Join(d.Sync(), d.Close()); err != nil {
			return err
		}
		if dir == filepath.Clean(s.dir) || dir == filepath.Dir(dir) {
			return nil
		}
		dir = filepath.Dir(dir)
	}
}

// Delete removes an object and the directories that it leaves empty.
func (s *Store) Delete(ctx context.Context, key string) error {
	if err := errors.Join(ctx.Err(), store.ValidateKey(key)); err != nil {
		return fmt.Errorf("delete %s: %w", key, err)
	}
	if _, err := s.Stat(ctx, key); errors.Is(err, store.ErrNotFound) {
		return nil
	} else if err != nil {
		return err
	}
	err := s.locked(ctx, func() error {
		if err := os.Remove(s.path(key)); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err //nolint:wrapcheck // classified by the caller
		}
		dir := filepath.Dir(s.path(key))
		for dir != filepath.Clean(s.dir) && os.Remove(dir) == nil {
			dir = filepath.Dir(dir)
		}
		return s.syncDirs(dir)
	})
	if err != nil {
		return fmt.Errorf("delete %s: %w", key, s.classify(err))
	}
	return nil
}

// locked runs do while no other writer, in any process, changes the store.
func (s *Store) locked(ctx context.Context, do func() error) (err error) {
	path := filepath.Join(s.dir, store.Reserved, "lock")
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil { //nolint:gosec // readers are other users
		return fmt.Errorf("lock store: %w", err)
	}
	lock := flock.New(path)
	if _, err := lock.TryLockContext(ctx, lockRetry); err != nil {
		return fmt.Errorf("lock store: %w", err)
	}
	defer func() { err = errors.Join(err, lock.Unlock()) }()
	return do()
}
