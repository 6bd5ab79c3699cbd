package s3_test

import (
	"context"
	"fmt"
	"os"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/npcnix/npcnix/store"
	"github.com/npcnix/npcnix/store/s3"
	"github.com/npcnix/npcnix/store/s3/s3test"
	"github.com/npcnix/npcnix/store/storetest"
)

var (
	server  *s3test.Server
	buckets atomic.Int64
)

func TestMain(m *testing.M) { os.Exit(run(m)) }

func run(m *testing.M) int {
	var err error
	server, err = s3test.Start(context.Background())
	if err == nil {
		err = server.SetEnv()
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	code := m.Run()
	if err := server.Close(); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	return code
}

func open(t *testing.T, url string) *s3.Store {
	t.Helper()
	loc, err := store.ParseURL(url)
	if err != nil {
		t.Fatal(err)
	}
	s, err := s3.New(t.Context(), loc)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func bucket(t *testing.T) string {
	t.Helper()
	name := fmt.Sprintf("bucket-%d", buckets.Add(1))
	if err := server.NewBucket(t.Context(), name); err != nil {
		t.Fatal(err)
	}
	return name
}

func TestConformance(t *testing.T) {
	t.Parallel()
	storetest.Run(t, storetest.Harness{
		New: func(t *testing.T) store.Store {
			t.Helper()
			return open(t, server.URL(bucket(t), "some/prefix"))
		},
		Missing: func(t *testing.T) store.Store {
			t.Helper()
			return open(t, server.URL("no-such-bucket", ""))
		},
	})
}

func TestPrefixesShareABucket(t *testing.T) {
	t.Parallel()
	b := bucket(t)
	one, other := open(t, server.URL(b, "one")), open(t, server.URL(b, "one-more"))
	if _, err := one.Put(t.Context(), "a", strings.NewReader("x"), store.PutOptions{}); err != nil {
		t.Fatal(err)
	}
	if _, err := other.Stat(t.Context(), "a"); err == nil {
		t.Error("one prefix sees another's object")
	}
	for info, err := range other.List(t.Context(), "") {
		t.Errorf("one prefix lists another's object: %v %v", info, err)
	}
}
