package storetest

import (
	"errors"
	"fmt"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/npcnix/npcnix/store"
)

// fill calls do for 0 … n-1, 16 at a time.
func fill(t *testing.T, n int, do func(i int) error) {
	t.Helper()
	var next atomic.Int64
	var wg sync.WaitGroup
	for range 16 {
		wg.Go(func() {
			for i := int(next.Add(1)) - 1; i < n; i = int(next.Add(1)) - 1 {
				if err := do(i); err != nil {
					t.Errorf("%d: %v", i, err)
					return
				}
			}
		})
	}
	wg.Wait()
}

func testOneCreator(t *testing.T, s store.Store) {
	const creators = 32
	var winners atomic.Int64
	var winner atomic.Value
	var wg sync.WaitGroup
	for i := range creators {
		wg.Go(func() {
			body := "creator " + strconv.Itoa(i)
			_, err := s.Put(t.Context(), "lock", readers(body), store.PutOptions{IfAbsent: true})
			switch {
			case err == nil:
				winners.Add(1)
				winner.Store(body)
			case !errors.Is(err, store.ErrConflict):
				t.Errorf("%s: %v", body, err)
			}
		})
	}
	wg.Wait()
	if winners.Load() != 1 {
		t.Fatalf("%d creators won", winners.Load())
	}
	if body, _ := get(t, s, "lock"); body != winner.Load() {
		t.Errorf("object is of %q, winner was %q", body, winner.Load())
	}
}

func testCounters(t *testing.T, s store.Store) {
	const writers, increments = 8, 10
	put(t, s, "counter", "0", store.PutOptions{})
	fill(t, writers, func(int) error {
		for range increments {
			if err := increment(t, s); err != nil {
				return err
			}
		}
		return nil
	})
	if body, _ := get(t, s, "counter"); body != strconv.Itoa(writers*increments) {
		t.Errorf("counter is %s after %d increments", body, writers*increments)
	}
}

func increment(t *testing.T, s store.Store) error {
	t.Helper()
	for {
		data, info, err := store.ReadAll(t.Context(), s, "counter", limit, store.GetOptions{})
		if err != nil {
			return fmt.Errorf("read: %w", err)
		}
		n, err := strconv.Atoi(string(data))
		if err != nil {
			return fmt.Errorf("parse: %w", err)
		}
		_, err = s.Put(t.Context(), "counter", readers(strconv.Itoa(n+1)), store.PutOptions{IfMatch: info.ETag})
		if !errors.Is(err, store.ErrConflict) {
			return err
		}
	}
}

func testReadWhileWritten(t *testing.T, s store.Store) {
	const size, versions = 64 * 1024, 40
	version := func(i int) string { return strings.Repeat(string(rune('a'+i%26)), size+i) }
	put(t, s, "a", version(0), store.PutOptions{})
	done := make(chan struct{})
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() {
			for {
				select {
				case <-done:
					return
				default:
				}
				data, _, err := store.ReadAll(t.Context(), s, "a", limit, store.GetOptions{})
				if err != nil {
					t.Errorf("read while written: %v", err)
					return
				}
				if string(data) != version(len(data)-size) {
					t.Errorf("a body of %d bytes mixes versions", len(data))
					return
				}
			}
		})
	}
	for i := range versions {
		put(t, s, "a", version(i), store.PutOptions{})
	}
	close(done)
	wg.Wait()
}
