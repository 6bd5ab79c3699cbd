package storeurl

import (
	"context"

	"github.com/npcnix/npcnix/store"
	"github.com/npcnix/npcnix/store/file"
	"github.com/npcnix/npcnix/store/s3"
)

// Open returns the store at a URL, see store.ParseURL. Nothing is asked of it yet.
func Open(ctx context.Context, url string) (store.Store, error) { //nolint:ireturn // which one is the point
	loc, err := store.ParseURL(url)
	if err != nil {
		return nil, err
	}
	if loc.Dir != "" {
		return file.New(loc.Dir), nil
	}
	return s3.New(ctx, loc)
}
