package storetest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"testing"
	"time"

	"github.com/npcnix/npcnix/store"
)

// Harness is what a driver brings to its conformance test.
type Harness struct {
	// New returns an empty store. It is called once for each test.
	New func(t *testing.T) store.Store
	// Missing returns a store whose bucket or directory does not exist; nil if
	// the driver has no such thing.
	Missing func(t *testing.T) store.Store
	// NestedKeys says that a key may be a directory of another, as in S3.
	NestedKeys bool
	// FreshETags says that equal bytes get another ETag each time they are put.
	FreshETags bool
}

// Run runs the conformance suite.
func Run(t *testing.T, h Harness) {
	t.Helper()
	for name, test := range map[string]func(t *testing.T, s store.Store){
		"put, get, stat and delete":               testRoundTrip,
		"missing keys":                            testMissingKeys,
		"odd keys":                                testOddKeys,
		"invalid keys":                            testInvalidKeys,
		"conditional get":                         testConditionalGet,
		"conditional put":                         testConditionalPut,
		"ranges":                                  testRanges,
		"one of 32 concurrent creators wins":      testOneCreator,
		"compare-and-swap loses no update":        testCounters,
		"list of more than 2,000 keys":            testLongList,
		"list by prefix":                          testListPrefix,
		"a body is never of two versions":         testReadWhileWritten,
		"a broken body is told from a whole one":  testBrokenBody,
		"a body that breaks off for good":         testBodyBrokenForGood,
		"random histories are those of a model":   testModel,
		"a cancelled context ends each operation": testCancelled,
		"reading all is bounded":                  testReadAllLimit,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			test(t, h.New(t))
		})
	}
	t.Run("ETags of equal and other bytes", func(t *testing.T) {
		t.Parallel()
		testETagOfContent(t, h.New(t), h.FreshETags)
	})
	t.Run("putting again moves the modification time", func(t *testing.T) {
		t.Parallel()
		testHeartbeat(t, h.New(t), h.FreshETags)
	})
	t.Run("a key that is a directory of another", func(t *testing.T) {
		t.Parallel()
		testNestedKeys(t, h.New(t), h.NestedKeys)
	})
	if h.Missing != nil {
		t.Run("missing bucket", func(t *testing.T) {
			t.Parallel()
			testMissingBucket(t, h.Missing(t))
		})
	}
}

// limit is what a test allows for a small object.
const limit = 1 << 20

func put(t *testing.T, s store.Store, key, body string, opts store.PutOptions) string {
	t.Helper()
	etag, err := s.Put(t.Context(), key, strings.NewReader(body), opts)
	if err != nil {
		t.Fatalf("put %s: %v", key, err)
	}
	if etag == "" {
		t.Fatalf("put %s: no ETag", key)
	}
	return etag
}

func get(t *testing.T, s store.Store, key string) (string, store.Info) {
	t.Helper()
	data, info, err := store.ReadAll(t.Context(), s, key, limit, store.GetOptions{})
	if err != nil {
		t.Fatalf("get %s: %v", key, err)
	}
	return string(data), info
}

func list(t *testing.T, s store.Store, prefix string) []string {
	t.Helper()
	var keys []string
	for info, err := range s.List(t.Context(), prefix) {
		if err != nil {
			t.Fatalf("list %q: %v", prefix, err)
		}
		keys = append(keys, info.Key)
	}
	return keys
}

func wantErr(t *testing.T, what string, err, want error) {
	t.Helper()
	if !errors.Is(err, want) {
		t.Errorf("%s: got error %v, want %v", what, err, want)
	}
}

func testRoundTrip(t *testing.T, s store.Store) {
	before := time.Now().Add(-time.Minute)
	etag := put(t, s, "hosts/web.yaml", "one", store.PutOptions{})
	body, info := get(t, s, "hosts/web.yaml")
	if body != "one" || info.Key != "hosts/web.yaml" || info.Size != 3 || info.ETag != etag || info.LastModified.Before(before) {
		t.Errorf("get: %q %+v, ETag of put %s", body, info, etag)
	}
	stat, err := s.Stat(t.Context(), "hosts/web.yaml")
	if err != nil || stat.ETag != etag || stat.Size != 3 || stat.LastModified.Before(before) {
		t.Errorf("stat: %+v, %v", stat, err)
	}
	put(t, s, "hosts/web.yaml", "", store.PutOptions{})
	if body, info := get(t, s, "hosts/web.yaml"); body != "" || info.Size != 0 {
		t.Errorf("empty object: %q %+v", body, info)
	}
	for range 2 { // the second time it is not there
		if err := s.Delete(t.Context(), "hosts/web.yaml"); err != nil {
			t.Errorf("delete: %v", err)
		}
	}
	_, err = s.Stat(t.Context(), "hosts/web.yaml")
	wantErr(t, "stat after delete", err, store.ErrNotFound)
}

func testMissingKeys(t *testing.T, s store.Store) {
	put(t, s, "hosts/web.yaml", "one", store.PutOptions{}) // so that the directory is there
	for _, key := range []string{"hosts/other.yaml", "hosts", "other/a/b"} {
		_, err := s.Get(t.Context(), key, store.GetOptions{})
		wantErr(t, "get "+key, err, store.ErrNotFound)
		_, err = s.Get(t.Context(), key, store.GetOptions{IfNoneMatch: `"x"`})
		wantErr(t, "conditional get "+key, err, store.ErrNotFound)
		_, err = s.Stat(t.Context(), key)
		wantErr(t, "stat "+key, err, store.ErrNotFound)
		if err := s.Delete(t.Context(), key); err != nil {
			t.Errorf("delete %s: %v", key, err)
		}
	}
	if keys := list(t, s, "other/"); len(keys) != 0 {
		t.Errorf("list of nothing: %v", keys)
	}
}

func testMissingBucket(t *testing.T, s store.Store) {
	_, err := s.Get(t.Context(), "a", store.GetOptions{})
	wantErr(t, "get", err, store.ErrBucketNotFound)
	_, err = s.Stat(t.Context(), "a")
	wantErr(t, "stat", err, store.ErrBucketNotFound)
	for _, err := range s.List(t.Context(), "") {
		wantErr(t, "list", err, store.ErrBucketNotFound)
	}
	_, err = s.Put(t.Context(), "a", strings.NewReader("x"), store.PutOptions{})
	if err != nil { // a directory is created by the first put, a bucket is not
		wantErr(t, "put", err, store.ErrBucketNotFound)
	}
}

func testOddKeys(t *testing.T, s store.Store) {
	keys := []string{
		"a b", "a+b", "a%2Fb", "a%b", "ä/ö", "a&b=c?d", "a'b\"c", "a;b,c", "a#b", "a\\b", "~", "-", ".hidden", "x..y", "a:b",
		"(a)[b]{c}", "<a>", "*", "日本/語", strings.Repeat("long", 60), "d/" + strings.Repeat("e/", 40) + "f", "dir.npcnix/a", "sub/.npcnix",
	}
	for _, key := range keys {
		put(t, s, key, "body of "+key, store.PutOptions{IfAbsent: true})
	}
	for _, key := range keys {
		if body, info := get(t, s, key); body != "body of "+key || info.Key != key {
			t.Errorf("%q: %q %+v", key, body, info)
		}
	}
	listed := map[string]bool{}
	for _, key := range list(t, s, "") {
		listed[key] = true
	}
	for _, key := range keys {
		if !listed[key] {
			t.Errorf("%q is not listed", key)
		}
		if err := s.Delete(t.Context(), key); err != nil {
			t.Errorf("delete %q: %v", key, err)
		}
	}
	if left := list(t, s, ""); len(left) != 0 {
		t.Errorf("left after deleting all: %q", left)
	}
}

func testInvalidKeys(t *testing.T, s store.Store) {
	for _, key := range []string{
		"", "/", "/a", "a/", "a//b", ".", "..", "a/../b", "./a", "a/.", "a\x00b", "a\nb", "\xff",
		".npcnix/lock", ".npcnix", strings.Repeat("x", 256), strings.Repeat("x/", 500) + "x",
	} {
		_, err := s.Get(t.Context(), key, store.GetOptions{})
		wantErr(t, fmt.Sprintf("get %q", key), err, store.ErrInvalidKey)
		_, err = s.Stat(t.Context(), key)
		wantErr(t, fmt.Sprintf("stat %q", key), err, store.ErrInvalidKey)
		_, err = s.Put(t.Context(), key, strings.NewReader("x"), store.PutOptions{})
		wantErr(t, fmt.Sprintf("put %q", key), err, store.ErrInvalidKey)
		wantErr(t, fmt.Sprintf("delete %q", key), s.Delete(t.Context(), key), store.ErrInvalidKey)
	}
}

func testNestedKeys(t *testing.T, s store.Store, allowed bool) {
	put(t, s, "a", "file", store.PutOptions{})
	put(t, s, "b/c", "file", store.PutOptions{})
	for _, key := range []string{"a/b", "b"} {
		_, err := s.Put(t.Context(), key, strings.NewReader("x"), store.PutOptions{})
		if allowed && err != nil {
			t.Errorf("put %s: %v", key, err)
		}
		if !allowed {
			wantErr(t, "put "+key, err, store.ErrInvalidKey)
		}
	}
	if body, _ := get(t, s, "a"); body != "file" {
		t.Errorf("a is %q", body)
	}
	if body, _ := get(t, s, "b/c"); body != "file" {
		t.Errorf("b/c is %q", body)
	}
}

func testETagOfContent(t *testing.T, s store.Store, fresh bool) {
	first := put(t, s, "a", "one", store.PutOptions{})
	second := put(t, s, "a", "two", store.PutOptions{})
	again := put(t, s, "a", "one", store.PutOptions{})
	if first == second || (first == again) == fresh {
		t.Errorf("ETags of one, two, one: %s %s %s", first, second, again)
	}
	for info, err := range s.List(t.Context(), "a") {
		if err != nil || info.ETag != again || info.Size != 3 {
			t.Errorf("listed %+v, %v; want ETag %s", info, err, again)
		}
	}
}

func testConditionalGet(t *testing.T, s store.Store) {
	etag := put(t, s, "a", "one", store.PutOptions{})
	_, err := s.Get(t.Context(), "a", store.GetOptions{IfNoneMatch: etag})
	wantErr(t, "get of the known version", err, store.ErrNotModified)
	_, err = s.Get(t.Context(), "a", store.GetOptions{IfMatch: `"other"`})
	wantErr(t, "get of another version", err, store.ErrConflict)
	put(t, s, "a", "two", store.PutOptions{})
	data, info, err := store.ReadAll(t.Context(), s, "a", limit, store.GetOptions{IfNoneMatch: etag})
	if err != nil || string(data) != "two" || info.ETag == etag {
		t.Errorf("get of the new version: %q %+v %v", data, info, err)
	}
}

func testConditionalPut(t *testing.T, s store.Store) {
	ctx := t.Context()
	_, err := s.Put(ctx, "a", strings.NewReader("x"), store.PutOptions{IfMatch: `"none"`})
	wantErr(t, "replace what is not there", err, store.ErrConflict)
	one := put(t, s, "a", "one", store.PutOptions{IfAbsent: true})
	_, err = s.Put(ctx, "a", strings.NewReader("x"), store.PutOptions{IfAbsent: true})
	wantErr(t, "create what is there", err, store.ErrConflict)
	two := put(t, s, "a", "two", store.PutOptions{IfMatch: one})
	_, err = s.Put(ctx, "a", strings.NewReader("x"), store.PutOptions{IfMatch: one})
	wantErr(t, "replace an older version", err, store.ErrConflict)
	if body, info := get(t, s, "a"); body != "two" || info.ETag != two {
		t.Errorf("after refused puts: %q %+v", body, info)
	}
}

func testRanges(t *testing.T, s store.Store) {
	etag := put(t, s, "a", "0123456789", store.PutOptions{})
	for _, r := range []struct {
		offset, length int64
		want           string
	}{{0, 0, "0123456789"}, {3, 0, "3456789"}, {3, 4, "3456"}, {0, 1, "0"}, {9, 1, "9"}, {8, 100, "89"}} {
		data, info, err := store.ReadAll(t.Context(), s, "a", limit, store.GetOptions{Offset: r.offset, Length: r.length, IfMatch: etag})
		if err != nil || string(data) != r.want || info.Size != 10 || info.ETag != etag {
			t.Errorf("%d+%d: %q %+v %v", r.offset, r.length, data, info, err)
		}
	}
	_, err := s.Get(t.Context(), "a", store.GetOptions{Offset: 10})
	wantErr(t, "range behind the end", err, store.ErrInvalidRange)
}

func testLongList(t *testing.T, s store.Store) {
	const n = 2100
	fill(t, n, func(i int) error {
		_, err := s.Put(context.WithoutCancel(t.Context()), fmt.Sprintf("statuses/host-%05d.yaml", i), strings.NewReader("x"), store.PutOptions{})
		return err
	})
	keys := list(t, s, "statuses/")
	if len(keys) != n {
		t.Fatalf("%d keys listed, want %d", len(keys), n)
	}
	for i, key := range keys {
		if want := fmt.Sprintf("statuses/host-%05d.yaml", i); key != want {
			t.Fatalf("key %d is %s, want %s", i, key, want)
		}
	}
	seen := 0
	for _, err := range s.List(t.Context(), "statuses/") { // stopping early is fine
		if seen++; seen == 3 || err != nil {
			break
		}
	}
}

func testListPrefix(t *testing.T, s store.Store) {
	for _, key := range []string{"a.b", "a/b", "a/c/d", "ab", "b/a"} {
		put(t, s, key, key, store.PutOptions{})
	}
	for prefix, want := range map[string]string{
		"":     "a.b a/b a/c/d ab b/a",
		"a":    "a.b a/b a/c/d ab",
		"a/":   "a/b a/c/d",
		"a/c":  "a/c/d",
		"none": "",
		"b/a":  "b/a",
	} {
		if got := strings.Join(list(t, s, prefix), " "); got != want {
			t.Errorf("list %q: %s, want %s", prefix, got, want)
		}
	}
}

func testCancelled(t *testing.T, s store.Store) {
	put(t, s, "a", "x", store.PutOptions{})
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	_, err := s.Get(ctx, "a", store.GetOptions{})
	wantErr(t, "get", err, context.Canceled)
	_, err = s.Stat(ctx, "a")
	wantErr(t, "stat", err, context.Canceled)
	_, err = s.Put(ctx, "a", strings.NewReader("x"), store.PutOptions{})
	wantErr(t, "put", err, context.Canceled)
	wantErr(t, "delete", s.Delete(ctx, "a"), context.Canceled)
	for _, err := range s.List(ctx, "") {
		wantErr(t, "list", err, context.Canceled)
	}
}

func testReadAllLimit(t *testing.T, s store.Store) {
	put(t, s, "a", "12345", store.PutOptions{})
	if data, _, err := store.ReadAll(t.Context(), s, "a", 5, store.GetOptions{}); err != nil || string(data) != "12345" {
		t.Errorf("at the limit: %q %v", data, err)
	}
	_, _, err := store.ReadAll(t.Context(), s, "a", 4, store.GetOptions{})
	wantErr(t, "above the limit", err, store.ErrTooLarge)
}

// testHeartbeat waits for a clock to tick: S3 tells time in whole seconds.
func testHeartbeat(t *testing.T, s store.Store, fresh bool) {
	etag := put(t, s, "a", "same", store.PutOptions{})
	first, err := s.Stat(t.Context(), "a")
	if err != nil {
		t.Fatal(err)
	}
	ticker := time.NewTicker(100 * time.Millisecond)
	defer ticker.Stop()
	for range 50 {
		<-ticker.C
		again := put(t, s, "a", "same", store.PutOptions{IfMatch: etag})
		if (again == etag) == fresh {
			t.Fatalf("ETag of equal bytes: %s, then %s", etag, again)
		}
		etag = again
		if info, err := s.Stat(t.Context(), "a"); err == nil && info.LastModified.After(first.LastModified) {
			return
		}
	}
	t.Error("the modification time never moved")
}

func readers(body string) io.ReadSeeker { return bytes.NewReader([]byte(body)) }
