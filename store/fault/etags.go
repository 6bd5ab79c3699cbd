package fault

import (
	"context"
	"fmt"
	"io"
	"iter"
	"sync"

	"github.com/npcnix/npcnix/store"
)

// FreshETags is a store in which each Put gives its object another ETag, also
// where the bytes are equal, as buckets with KMS keys or multipart uploads do.
type FreshETags struct {
	store.Store

	mu    sync.Mutex
	puts  int
	fresh map[string]string // the ETag of each key
	below map[string]string // what stands behind it
}

var _ store.Store = (*FreshETags)(nil)

// NewFreshETags returns a store over s, which nobody else writes.
func NewFreshETags(s store.Store) *FreshETags {
	return &FreshETags{Store: s, fresh: map[string]string{}, below: map[string]string{}}
}

// translate turns the ETag that a caller knows into the one of the store below;
// one that is not the key's present one into one that never matches.
func (s *FreshETags) translate(key, etag string) string {
	switch {
	case etag == "":
		return ""
	case s.fresh[key] != etag:
		return `"never"`
	default:
		return s.below[etag]
	}
}

func (s *FreshETags) rename(info store.Info) store.Info {
	info.ETag = s.fresh[info.Key]
	return info
}

// Get reads an object.
func (s *FreshETags) Get(ctx context.Context, key string, opts store.GetOptions) (*store.Object, error) {
	s.mu.Lock() // body and ETag are of one write
	defer s.mu.Unlock()
	opts.IfMatch, opts.IfNoneMatch = s.translate(key, opts.IfMatch), s.translate(key, opts.IfNoneMatch)
	obj, err := s.Store.Get(ctx, key, opts)
	if err != nil {
		return nil, err
	}
	obj.Info = s.rename(obj.Info)
	return obj, nil
}

// Stat describes an object.
func (s *FreshETags) Stat(ctx context.Context, key string) (store.Info, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	info, err := s.Store.Stat(ctx, key)
	if err != nil {
		return store.Info{}, err
	}
	return s.rename(info), nil
}

// List yields the objects below prefix.
func (s *FreshETags) List(ctx context.Context, prefix string) iter.Seq2[store.Info, error] {
	return func(yield func(store.Info, error) bool) {
		for info, err := range s.Store.List(ctx, prefix) {
			if err == nil {
				s.mu.Lock()
				info = s.rename(info)
				s.mu.Unlock()
			}
			if !yield(info, err) {
				return
			}
		}
	}
}

// Put writes an object under a new ETag.
func (s *FreshETags) Put(ctx context.Context, key string, body io.ReadSeeker, opts store.PutOptions) (string, error) {
	s.mu.Lock() // the write and the name of its ETag are one
	defer s.mu.Unlock()
	opts.IfMatch = s.translate(key, opts.IfMatch)
	below, err := s.Store.Put(ctx, key, body, opts)
	if err != nil {
		return "", err
	}
	s.puts++
	etag := fmt.Sprintf(`"put-%d"`, s.puts)
	s.fresh[key], s.below[etag] = etag, below
	return etag, nil
}
