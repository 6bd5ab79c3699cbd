package file_test

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/npcnix/npcnix/store"
	"github.com/npcnix/npcnix/store/file"
)

// FuzzKeys wants every key to be refused, or to name an object of its own
// below the store's directory, under the same name when it is listed.
func FuzzKeys(f *testing.F) {
	for _, key := range []string{"hosts/web.yaml", "a b", "a%2Fb", "..", "a/../b", "ä/ö", "a\\b", "a//b", ".npcnix/x", "CON", "a\x00b", "-", "~", "a/.b"} {
		f.Add(key)
	}
	f.Fuzz(func(t *testing.T, key string) {
		parent := t.TempDir()
		s := file.New(filepath.Join(parent, "store"))
		_, err := s.Put(t.Context(), key, strings.NewReader("x"), store.PutOptions{IfAbsent: true})
		if errors.Is(err, store.ErrInvalidKey) {
			return
		}
		if err != nil {
			t.Fatalf("%q: %v", key, err)
		}
		beside, err := os.ReadDir(parent)
		if err != nil || len(beside) != 1 {
			t.Errorf("%q: outside of the store: %v %v", key, beside, err)
		}
		data, info, err := store.ReadAll(t.Context(), s, key, 10, store.GetOptions{})
		if err != nil || string(data) != "x" || info.Key != key {
			t.Errorf("%q: %q %+v %v", key, data, info, err)
		}
		for listed, err := range s.List(t.Context(), "") {
			if err != nil || listed.Key != key {
				t.Errorf("%q is listed as %q, %v", key, listed.Key, err)
			}
		}
		if err := s.Delete(t.Context(), key); err != nil {
			t.Errorf("delete %q: %v", key, err)
		}
		if _, err := s.Stat(t.Context(), key); !errors.Is(err, store.ErrNotFound) {
			t.Errorf("%q after its delete: %v", key, err)
		}
		err = filepath.WalkDir(filepath.Join(parent, "store"), func(p string, d fs.DirEntry, err error) error {
			if err == nil && d.Type().IsRegular() && !strings.Contains(p, "/"+store.Reserved+"/") {
				t.Errorf("%q left %s behind", key, p)
			}
			return err
		})
		if err != nil {
			t.Error(err)
		}
	})
}
