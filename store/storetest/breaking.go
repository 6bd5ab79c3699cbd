package storetest

import (
	"errors"
	"io"
	"testing"

	"github.com/npcnix/npcnix/store"
	"github.com/npcnix/npcnix/store/fault"
)

// errBroken is what a broken connection says.
var errBroken = errors.New("connection reset")

// breaking is a store whose bodies break off after some bytes.
func breaking(s store.Store, after int64, err error) *fault.Store {
	f := fault.New(s)
	f.Follow(fault.Always(fault.Fault{Body: fault.Cut(after, err)}))
	return f
}

func testBrokenBody(t *testing.T, s store.Store) {
	put(t, s, "a", "0123456789", store.PutOptions{})
	for _, broken := range []error{errBroken, io.EOF} {
		for after := int64(1); after <= 10; after++ {
			data, _, err := store.ReadAll(t.Context(), breaking(s, after, broken), "a", limit, store.GetOptions{})
			if err != nil || string(data) != "0123456789" {
				t.Errorf("breaking after %d with %v: %q %v", after, broken, data, err)
			}
		}
	}
}

func testBodyBrokenForGood(t *testing.T, s store.Store) {
	put(t, s, "a", "0123456789", store.PutOptions{})
	_, _, err := store.ReadAll(t.Context(), breaking(s, 0, errBroken), "a", limit, store.GetOptions{})
	wantErr(t, "body without bytes", err, errBroken)
	_, _, err = store.ReadAll(t.Context(), breaking(s, 0, io.EOF), "a", limit, store.GetOptions{})
	wantErr(t, "body that silently ends", err, io.ErrUnexpectedEOF)
}
