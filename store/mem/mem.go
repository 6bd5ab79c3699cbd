package mem

import (
	"bytes"
	"context"
	"crypto/md5" //nolint:gosec // an ETag as S3 makes it, no security
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"iter"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/npcnix/npcnix/store"
)

// Store holds objects in memory.
type Store struct {
	now func() time.Time

	mu      sync.Mutex
	objects map[string]object
}

type object struct {
	data     []byte
	etag     string
	modified time.Time
}

// newObject gives data the ETag that S3 would.
func newObject(data []byte, modified time.Time) object {
	sum := md5.Sum(data) //nolint:gosec // an ETag as S3 makes it, no security
	return object{data: data, etag: `"` + hex.EncodeToString(sum[:]) + `"`, modified: modified}
}

var _ store.Store = (*Store)(nil)

// New returns an empty store whose clock is now.
func New(now func() time.Time) *Store {
	return &Store{now: now, objects: map[string]object{}}
}

func (o object) info(key string) store.Info {
	return store.Info{Key: key, ETag: o.etag, Size: int64(len(o.data)), LastModified: o.modified}
}

// Get reads an object.
func (s *Store) Get(ctx context.Context, key string, opts store.GetOptions) (*store.Object, error) {
	o, err := s.find(ctx, key)
	if err != nil {
		return nil, fmt.Errorf("get %s: %w", key, err)
	}
	info := o.info(key)
	switch {
	case opts.IfMatch != "" && opts.IfMatch != info.ETag:
		return nil, fmt.Errorf("get %s: %w", key, store.ErrConflict)
	case opts.IfNoneMatch != "" && opts.IfNoneMatch == info.ETag:
		return nil, fmt.Errorf("get %s: %w", key, store.ErrNotModified)
	case opts.Offset > 0 && opts.Offset >= info.Size:
		return nil, fmt.Errorf("get %s: %w", key, store.ErrInvalidRange)
	}
	part := o.data[opts.Offset:]
	if opts.Length > 0 && opts.Length < int64(len(part)) {
		part = part[:opts.Length]
	}
	return &store.Object{Info: info, Body: io.NopCloser(bytes.NewReader(part))}, nil
}

// Stat describes an object.
func (s *Store) Stat(ctx context.Context, key string) (store.Info, error) {
	o, err := s.find(ctx, key)
	if err != nil {
		return store.Info{}, fmt.Errorf("stat %s: %w", key, err)
	}
	return o.info(key), nil
}

func (s *Store) find(ctx context.Context, key string) (object, error) {
	if err := errors.Join(ctx.Err(), store.ValidateKey(key)); err != nil {
		return object{}, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	o, ok := s.objects[key]
	if !ok {
		return object{}, store.ErrNotFound
	}
	return o, nil
}

// List yields the objects below prefix as they were when it began.
func (s *Store) List(ctx context.Context, prefix string) iter.Seq2[store.Info, error] {
	return func(yield func(store.Info, error) bool) {
		s.mu.Lock()
		objects := maps.Clone(s.objects)
		s.mu.Unlock()
		for _, key := range slices.Sorted(maps.Keys(objects)) {
			if err := ctx.Err(); err != nil {
				yield(store.Info{}, fmt.Errorf("list %s: %w", prefix, err))
				return
			}
			if strings.HasPrefix(key, prefix) && !yield(objects[key].info(key), nil) {
				return
			}
		}
	}
}

// Put writes an object.
func (s *Store) Put(ctx context.Context, key string, body io.ReadSeeker, opts store.PutOptions) (string, error) {
	if err := errors.Join(ctx.Err(), store.ValidateKey(key)); err != nil {
		return "", fmt.Errorf("put %s: %w", key, err)
	}
	data, err := io.ReadAll(body)
	if err != nil {
		return "", fmt.Errorf("put %s: %w", key, err)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	old, exists := s.objects[key]
	if (opts.IfAbsent && exists) || (opts.IfMatch != "" && (!exists || old.info(key).ETag != opts.IfMatch)) {
		return "", fmt.Errorf("put %s: %w", key, store.ErrConflict)
	}
	o := newObject(data, s.now())
	s.objects[key] = o
	return o.info(key).ETag, nil
}

// Delete removes an object.
func (s *Store) Delete(ctx context.Context, key string) error {
	if err := errors.Join(ctx.Err(), store.ValidateKey(key)); err != nil {
		return fmt.Errorf("delete %s: %w", key, err)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.objects, key)
	return nil
}
