package storetest

import (
	"context"
	"errors"
	"fmt"
	"io"
	"testing"

	"github.com/npcnix/npcnix/store"
)

// errBroken is what a broken connection says.
var errBroken = errors.New("connection reset")

// breaking is a store whose bodies break off after some bytes.
type breaking struct {
	store.Store

	after int64
	// silent bodies end with io.EOF, as if they were whole.
	silent bool
}

func (b breaking) Get(ctx context.Context, key string, opts store.GetOptions) (*store.Object, error) {
	obj, err := b.Store.Get(ctx, key, opts)
	if err != nil {
		return nil, fmt.Errorf("breaking: %w", err)
	}
	var rest io.Reader = &failing{}
	if b.silent {
		rest = eof{}
	}
	obj.Body = struct {
		io.Reader
		io.Closer
	}{io.MultiReader(io.LimitReader(obj.Body, b.after), rest), obj.Body}
	return obj, nil
}

type failing struct{}

func (failing) Read([]byte) (int, error) { return 0, errBroken }

type eof struct{}

func (eof) Read([]byte) (int, error) { return 0, io.EOF }

func testBrokenBody(t *testing.T, s store.Store) {
	put(t, s, "a", "0123456789", store.PutOptions{})
	for _, silent := range []bool{false, true} {
		for after := int64(1); after <= 10; after++ {
			data, _, err := store.ReadAll(t.Context(), breaking{s, after, silent}, "a", limit, store.GetOptions{})
			if err != nil || string(data) != "0123456789" {
				t.Errorf("breaking after %d (silent %v): %q %v", after, silent, data, err)
			}
		}
	}
}

func testBodyBrokenForGood(t *testing.T, s store.Store) {
	put(t, s, "a", "0123456789", store.PutOptions{})
	_, _, err := store.ReadAll(t.Context(), breaking{s, 0, false}, "a", limit, store.GetOptions{})
	wantErr(t, "body without bytes", err, errBroken)
	_, _, err = store.ReadAll(t.Context(), breaking{s, 0, true}, "a", limit, store.GetOptions{})
	wantErr(t, "body that silently ends", err, io.ErrUnexpectedEOF)
}
