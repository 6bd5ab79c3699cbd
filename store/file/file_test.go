package file_test

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/npcnix/npcnix/store"
	"github.com/npcnix/npcnix/store/file"
	"github.com/npcnix/npcnix/store/storetest"
)

func TestConformance(t *testing.T) {
	t.Parallel()
	storetest.Run(t, storetest.Harness{
		New: func(t *testing.T) store.Store {
			t.Helper()
			return file.New(t.TempDir())
		},
		Missing: func(t *testing.T) store.Store {
			t.Helper()
			return file.New(filepath.Join(t.TempDir(), "missing"))
		},
	})
}

func TestOwnFilesAreHiddenAndReadersNeedNoWritePermission(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	s := file.New(dir)
	if _, err := s.Put(t.Context(), "hosts/web.yaml", strings.NewReader("x"), store.PutOptions{}); err != nil {
		t.Fatal(err)
	}
	left, err := filepath.Glob(filepath.Join(dir, ".npcnix", "tmp", "*"))
	if err != nil || len(left) != 0 {
		t.Errorf("temporary files left: %v %v", left, err)
	}
	for info, err := range s.List(t.Context(), "") {
		if err != nil || info.Key != "hosts/web.yaml" {
			t.Errorf("listed %+v %v", info, err)
		}
	}
	// Root writes anywhere, so what is asked is that reading creates nothing.
	if err := os.RemoveAll(filepath.Join(dir, ".npcnix")); err != nil {
		t.Fatal(err)
	}
	if _, _, err := store.ReadAll(t.Context(), s, "hosts/web.yaml", 10, store.GetOptions{}); err != nil {
		t.Error(err)
	}
	if _, err := os.Stat(filepath.Join(dir, ".npcnix")); !os.IsNotExist(err) {
		t.Errorf("reading created .npcnix: %v", err)
	}
}

func TestFilesOfWritersThatWereKilledAreRemoved(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	tmp := filepath.Join(dir, ".npcnix", "tmp")
	if err := os.MkdirAll(tmp, 0o750); err != nil {
		t.Fatal(err)
	}
	for name, age := range map[string]time.Duration{"put-old": 25 * time.Hour, "put-new": time.Hour} {
		path, then := filepath.Join(tmp, name), time.Now().Add(-age)
		if err := errors.Join(os.WriteFile(path, nil, 0o600), os.Chtimes(path, then, then)); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := file.New(dir).Put(t.Context(), "a", strings.NewReader("x"), store.PutOptions{}); err != nil {
		t.Fatal(err)
	}
	left, err := os.ReadDir(tmp)
	if err != nil || len(left) != 1 || left[0].Name() != "put-new" {
		t.Errorf("left: %v %v", left, err)
	}
}

func TestEmptyDirectoryLeftByACrashIsNoKey(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	if err := os.MkdirAll(filepath.Join(dir, "hosts", "web.yaml"), 0o750); err != nil {
		t.Fatal(err)
	}
	if _, err := file.New(dir).Put(t.Context(), "hosts/web.yaml", strings.NewReader("x"), store.PutOptions{IfAbsent: true}); err != nil {
		t.Error(err)
	}
}
