package storetest

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"github.com/npcnix/npcnix/store"
)

// model is what a store must be like: a map of objects, and the ETags that were
// ever given.
type model struct {
	store   store.Store
	prefix  string
	objects map[string]modelObject
	etags   []string
}

type modelObject struct{ data, etag string }

// testModel compares the store with the model over random histories.
func testModel(t *testing.T, s store.Store) {
	histories := 0
	rapid.Check(t, func(t *rapid.T) {
		histories++
		m := &model{store: s, prefix: fmt.Sprintf("history-%d/", histories), objects: map[string]modelObject{}, etags: []string{`"none"`}}
		t.Repeat(map[string]func(*rapid.T){
			"put": m.put, "get": m.get, "stat": m.stat, "list": m.list, "delete": m.remove,
		})
	})
}

func (m *model) key(t *rapid.T) string {
	return m.prefix + rapid.SampledFrom([]string{"a", "b/c", "b/d", "é f", "b.x"}).Draw(t, "key")
}

func (m *model) etag(t *rapid.T) string { return rapid.SampledFrom(m.etags).Draw(t, "etag") }

func want(t *rapid.T, what string, err, class error) {
	t.Helper()
	if !errors.Is(err, class) {
		t.Fatalf("%s: %v, want %v", what, err, class)
	}
}

func (m *model) put(t *rapid.T) {
	key, data := m.key(t), rapid.SampledFrom([]string{"", "one", "two", strings.Repeat("x", 5000)}).Draw(t, "data")
	var opts store.PutOptions
	switch rapid.IntRange(0, 2).Draw(t, "precondition") {
	case 1:
		opts.IfAbsent = true
	case 2:
		opts.IfMatch = m.etag(t)
	}
	old, exists := m.objects[key]
	etag, err := m.store.Put(t.Context(), key, strings.NewReader(data), opts)
	if (opts.IfAbsent && exists) || (opts.IfMatch != "" && (!exists || old.etag != opts.IfMatch)) {
		want(t, "put", err, store.ErrConflict)
		return
	}
	want(t, "put", err, nil)
	m.objects[key] = modelObject{data, etag}
	m.etags = append(m.etags, etag)
}

func (m *model) get(t *rapid.T) {
	key := m.key(t)
	var opts store.GetOptions
	switch rapid.IntRange(0, 2).Draw(t, "precondition") {
	case 1:
		opts.IfNoneMatch = m.etag(t)
	case 2:
		opts.IfMatch = m.etag(t)
	}
	data, info, err := store.ReadAll(t.Context(), m.store, key, limit, opts)
	o, exists := m.objects[key]
	switch {
	case !exists && opts.IfMatch != "" && errors.Is(err, store.ErrConflict): // servers differ in what they ask first
	case !exists:
		want(t, "get", err, store.ErrNotFound)
	case opts.IfMatch != "" && opts.IfMatch != o.etag:
		want(t, "get", err, store.ErrConflict)
	case opts.IfNoneMatch == o.etag:
		want(t, "get", err, store.ErrNotModified)
	case err != nil || string(data) != o.data || info.ETag != o.etag || info.Size != int64(len(o.data)):
		t.Fatalf("get %s: %d bytes, %+v, %v; want %d bytes, %s", key, len(data), info, err, len(o.data), o.etag)
	}
}

func (m *model) stat(t *rapid.T) {
	key := m.key(t)
	info, err := m.store.Stat(t.Context(), key)
	o, exists := m.objects[key]
	switch {
	case !exists:
		want(t, "stat", err, store.ErrNotFound)
	case err != nil || info.ETag != o.etag || info.Size != int64(len(o.data)):
		t.Fatalf("stat %s: %+v, %v; want %s", key, info, err, o.etag)
	}
}

func (m *model) list(t *rapid.T) {
	prefix := m.prefix + rapid.SampledFrom([]string{"", "b", "b/", "none"}).Draw(t, "prefix")
	var got, wanted []string
	for info, err := range m.store.List(t.Context(), prefix) {
		if err != nil {
			t.Fatalf("list: %v", err)
		}
		got = append(got, info.Key+info.ETag)
	}
	for _, key := range slices.Sorted(maps.Keys(m.objects)) {
		if strings.HasPrefix(key, prefix) {
			wanted = append(wanted, key+m.objects[key].etag)
		}
	}
	if !slices.Equal(got, wanted) {
		t.Fatalf("list %s: %v, want %v", prefix, got, wanted)
	}
}

func (m *model) remove(t *rapid.T) {
	key := m.key(t)
	want(t, "delete", m.store.Delete(t.Context(), key), nil)
	delete(m.objects, key)
}
