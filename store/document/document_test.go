package document_test

import (
	"bytes"
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/npcnix/npcnix/apis/codec"
	"github.com/npcnix/npcnix/apis/meta"
	"github.com/npcnix/npcnix/apis/v1alpha1"
	"github.com/npcnix/npcnix/store"
	"github.com/npcnix/npcnix/store/document"
	"github.com/npcnix/npcnix/store/fault"
	"github.com/npcnix/npcnix/store/file"
	"github.com/npcnix/npcnix/store/mem"
)

// errKilled is what a pusher sees that is killed: the act did, or did not,
// reach the store, and nothing after it.
var errKilled = errors.New("killed")

// mortal is a store whose user is killed at one of its writes: the last of acts
// reaches the store if done.
func mortal(s store.Store, acts int, done bool) store.Store {
	m := fault.New(s)
	dead := false
	m.Follow(func(r fault.Request) fault.Fault {
		if r.Op == fault.Put && !dead {
			if acts--; acts == 0 {
				dead = true
				return fault.Fault{Err: errKilled, Done: done}
			}
		}
		if dead {
			return fault.Fault{Err: errKilled}
		}
		return fault.Fault{}
	})
	return m
}

func memory() store.Store { return mem.New(time.Now) }

// tree is a publication of a tree; equal numbers are equal trees.
func tree(n int) document.Publication {
	body := fmt.Sprintf("archive %04d", n)
	return document.Publication{
		Remote: "prod", Archive: strings.NewReader(body),
		Spec: v1alpha1.RemoteSpec{
			PublishedAt: meta.NewTime(time.Unix(1763800000+int64(n), 0)),
			Archive:     v1alpha1.Archive{Digest: codec.Digest([]byte(body)), Size: int64(len(body)), NarHash: fmt.Sprintf("sha256-%043d=", n)},
		},
	}
}

func publish(t *testing.T, s store.Store, n int) document.Published {
	t.Helper()
	done, err := document.Publish(t.Context(), s, tree(n))
	if err != nil {
		t.Fatal(err)
	}
	return done
}

// check wants that pointer and history are complete and in order, that every
// archive is there, and returns the number of generations.
func check(t *testing.T, s store.Store) int64 {
	t.Helper()
	pointer, raw, err := document.Get[v1alpha1.Remote](t.Context(), s, "remotes/prod.yaml", "Remote")
	if err != nil {
		t.Fatal(err)
	}
	last := pointer.Metadata.Generation
	documents := map[int64][]byte{last: raw.Data}
	for info, err := range s.List(t.Context(), "history/prod/") {
		if err != nil {
			t.Fatal(err)
		}
		generation, ok := store.Generation("prod", info.Key)
		if !ok || generation > last {
			t.Errorf("history has %s, the pointer is at %d", info.Key, last)
			continue
		}
		data, _, err := store.ReadAll(t.Context(), s, info.Key, 1<<20, store.GetOptions{})
		if err != nil {
			t.Fatal(err)
		}
		if known, ok := documents[generation]; ok && !bytes.Equal(known, data) {
			t.Errorf("generation %d is not the same in history and pointer", generation)
		}
		documents[generation] = data
	}
	for g := int64(1); g <= last; g++ {
		r, err := codec.DecodeStrict[v1alpha1.Remote](codec.Document{Raw: documents[g]}, "Remote")
		if err != nil || r.Metadata.Generation != g {
			t.Errorf("generation %d: %+v %v", g, r, err)
			continue
		}
		if _, err := s.Stat(t.Context(), store.ArchiveKey(r.Spec.Archive.Digest)); err != nil {
			t.Errorf("generation %d: %v", g, err)
		}
	}
	return last
}

func TestPublishingCountsGenerationsAndKeepsHistory(t *testing.T) {
	t.Parallel()
	s := memory()
	for i := 1; i <= 3; i++ {
		if done := publish(t, s, i); done.Generation != int64(i) || done.Unchanged || done.Digest != tree(i).Spec.Archive.Digest {
			t.Errorf("publication %d: %+v", i, done)
		}
	}
	if done := publish(t, s, 3); done.Generation != 3 || !done.Unchanged {
		t.Errorf("unchanged: %+v", done)
	}
	if n := check(t, s); n != 3 {
		t.Errorf("%d generations", n)
	}
	if _, err := s.Stat(t.Context(), "history/prod/0000000003.yaml"); !errors.Is(err, store.ErrNotFound) {
		t.Errorf("an unchanged publication wrote history: %v", err)
	}
}

func TestFirstPublicationWritesNoHistory(t *testing.T) {
	t.Parallel()
	s := memory()
	publish(t, s, 1)
	for info, err := range s.List(t.Context(), "history/") {
		t.Errorf("history has %s, %v", info.Key, err)
	}
}

// A pusher that is killed at any write, before or after it reached the store,
// leaves the old or the new state, and the next push heals it.
func TestKilledPusherIsHealedByTheNext(t *testing.T) {
	t.Parallel()
	for acts := 1; acts <= 3; acts++ { // archive, history, pointer
		for _, done := range []bool{false, true} {
			t.Run(fmt.Sprintf("write %d, reached the store: %v", acts, done), func(t *testing.T) {
				t.Parallel()
				s := memory()
				publish(t, s, 1)
				_, err := document.Publish(t.Context(), mortal(s, acts, done), tree(2))
				if !errors.Is(err, errKilled) {
					t.Errorf("error %v", err)
				}
				before := check(t, s)
				if want := int64(1); before != want && (acts != 3 || !done || before != 2) {
					t.Errorf("generation %d after the kill", before)
				}
				publish(t, s, 3)
				if after := check(t, s); after != before+1 {
					t.Errorf("generation %d after the next push, %d before", after, before)
				}
			})
		}
	}
}

// The fifth step: the archive was collected while it was being published.
func TestArchiveThatVanishedIsUploadedAgain(t *testing.T) {
	t.Parallel()
	below := memory()
	s := fault.New(below)
	var once sync.Once
	s.Follow(func(r fault.Request) (f fault.Fault) {
		if r.Op == fault.Put && r.Key == store.RemoteKey("prod") {
			once.Do(func() { f.Err = below.Delete(t.Context(), store.ArchiveKey(tree(1).Spec.Archive.Digest)) })
		}
		return f
	})
	publish(t, s, 1)
	if n := check(t, s); n != 1 {
		t.Errorf("generation %d", n)
	}
}

// forgetful loses the reply to the first write of a pointer: with an error, or
// as the SDK sees it when it tries again and finds its own success in the way.
func forgetful(s store.Store, reply error) store.Store {
	f := fault.New(s)
	var once sync.Once
	f.Follow(func(r fault.Request) (lost fault.Fault) {
		if r.Op == fault.Put && r.Key == store.RemoteKey("prod") {
			once.Do(func() { lost = fault.Fault{Err: reply, Done: true} })
		}
		return lost
	})
	return f
}

func TestLostReplyIsNoSecondGeneration(t *testing.T) {
	t.Parallel()
	for _, reply := range []error{store.ErrConflict, errors.New("connection reset")} {
		s := memory()
		publish(t, s, 1)
		done, err := document.Publish(t.Context(), forgetful(s, reply), tree(2))
		if err != nil || done.Generation != 2 || done.Unchanged {
			t.Errorf("%v: %+v %v", reply, done, err)
		}
		if n := check(t, s); n != 2 {
			t.Errorf("%v: generation %d", reply, n)
		}
	}
}

func TestSixteenPushersAtOnce(t *testing.T) {
	t.Parallel()
	for name, s := range map[string]store.Store{"memory": memory(), "directory": file.New(t.TempDir())} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			const pushers = 16
			var mu sync.Mutex
			told := map[int64]int{}
			var wg sync.WaitGroup
			for i := range pushers {
				wg.Go(func() {
					done, err := document.Publish(t.Context(), s, tree(i))
					mu.Lock()
					defer mu.Unlock()
					switch {
					case err == nil:
						told[done.Generation]++
					case !errors.Is(err, store.ErrConflict):
						t.Errorf("pusher %d: %v", i, err)
					}
				})
			}
			wg.Wait()
			last := check(t, s)
			if int(last) != len(told) {
				t.Errorf("%d generations, told %v", last, told)
			}
			for g, n := range told {
				if n != 1 {
					t.Errorf("generation %d was told to %d pushers", g, n)
				}
			}
			t.Logf("%d of %d pushers were told a generation, the others to try again", len(told), pushers)
		})
	}
}

func TestForcedPublicationHealsABrokenArchive(t *testing.T) {
	t.Parallel()
	s := memory()
	publish(t, s, 1)
	key := store.ArchiveKey(tree(1).Spec.Archive.Digest)
	put(t, s, key, "garbage 0001") // of the same length
	p := tree(1)
	p.Force = true
	done, err := document.Publish(t.Context(), s, p)
	if err != nil || done.Generation != 2 || done.Unchanged {
		t.Errorf("%+v %v", done, err)
	}
	if data, _, err := store.ReadAll(t.Context(), s, key, 100, store.GetOptions{}); err != nil || string(data) != "archive 0001" {
		t.Errorf("archive is %q, %v", data, err)
	}
	put(t, s, key, "short")
	if done := publish(t, s, 1); done.Unchanged || done.Generation != 3 { // another length is seen without force, and hosts look again
		t.Errorf("%+v", done)
	}
	if data, _, err := store.ReadAll(t.Context(), s, key, 100, store.GetOptions{}); err != nil || string(data) != "archive 0001" {
		t.Errorf("archive is %q, %v", data, err)
	}
}

func put(t *testing.T, s store.Store, key, data string) {
	t.Helper()
	if _, err := s.Put(t.Context(), key, strings.NewReader(data), store.PutOptions{}); err != nil {
		t.Fatal(err)
	}
}

func TestDeletedRemoteNeverGivesAGenerationTwice(t *testing.T) {
	t.Parallel()
	s := memory()
	publish(t, s, 1)
	publish(t, s, 2)
	if err := document.Unpublish(t.Context(), s, "prod", false); err != nil {
		t.Fatal(err)
	}
	if done := publish(t, s, 3); done.Generation != 3 {
		t.Errorf("%+v", done)
	}
	check(t, s)
	if err := document.Unpublish(t.Context(), s, "absent", true); !errors.Is(err, store.ErrNotFound) {
		t.Errorf("error %v", err)
	}
}

func TestArchiveOfTheSameTreeThatIsGoneIsPublishedAnew(t *testing.T) {
	t.Parallel()
	s := memory()
	publish(t, s, 1)
	if err := s.Delete(t.Context(), store.ArchiveKey(tree(1).Spec.Archive.Digest)); err != nil {
		t.Fatal(err)
	}
	other := tree(2) // the same tree, packed by another program
	other.Spec.Archive.NarHash = tree(1).Spec.Archive.NarHash
	if done, err := document.Publish(t.Context(), s, other); err != nil || done.Unchanged || done.Generation != 2 {
		t.Errorf("%+v %v", done, err)
	}
}

func TestRestoredPointerDoesNotMakeGenerationsGoBack(t *testing.T) {
	t.Parallel()
	s := memory()
	for i := 1; i <= 4; i++ {
		publish(t, s, i)
	}
	second, _, err := store.ReadAll(t.Context(), s, "history/prod/0000000002.yaml", 1<<20, store.GetOptions{})
	if err != nil {
		t.Fatal(err)
	}
	put(t, s, "remotes/prod.yaml", string(second))
	if done := publish(t, s, 5); done.Generation != 4 { // after the history; the pointer that was overwritten left no trace
		t.Errorf("%+v", done)
	}
	if done := publish(t, s, 6); done.Generation != 5 {
		t.Errorf("%+v", done)
	}
	check(t, s)
}

func TestForeignHistoryIsNotOverwritten(t *testing.T) {
	t.Parallel()
	s := memory()
	publish(t, s, 1)
	put(t, s, "history/prod/0000000001.yaml", "something else")
	if _, err := document.Publish(t.Context(), s, tree(2)); err == nil || !strings.Contains(err.Error(), "another publication of the same generation") {
		t.Errorf("error %v", err)
	}
}

func TestPointerThatCannotBeReadIsDeletedByForceOnly(t *testing.T) {
	t.Parallel()
	s := memory()
	publish(t, s, 1)
	publish(t, s, 2)
	put(t, s, "remotes/prod.yaml", "kind: [")
	if err := document.Unpublish(t.Context(), s, "prod", false); err == nil {
		t.Error("deleted")
	}
	if err := document.Unpublish(t.Context(), s, "prod", true); err != nil {
		t.Error(err)
	}
	if done := publish(t, s, 3); done.Generation != 2 {
		t.Errorf("%+v", done)
	}
}

func TestPointerThatCannotBeReadIsNotReplaced(t *testing.T) {
	t.Parallel()
	s := memory()
	put(t, s, "remotes/prod.yaml", "kind: [")
	if _, err := document.Publish(t.Context(), s, tree(1)); err == nil || !strings.Contains(err.Error(), "cannot be understood") {
		t.Errorf("error %v", err)
	}
}

// Whoever is killed wherever, of sixteen who push at once: the history has no
// gap and no generation twice, and the next push heals what is around it.
func TestRandomCrashesOfSixteenPushers(t *testing.T) {
	t.Parallel()
	const seeds, pushers = 60, 16
	killed, published := 0, 0
	for seed := range uint64(seeds) {
		random := rand.New(rand.NewPCG(seed, 0)) //nolint:gosec // a seed that replays
		s := memory()
		var mu sync.Mutex
		told := map[int64]bool{}
		var wg sync.WaitGroup
		for i := range pushers {
			mine := mortal(s, 1+random.IntN(6), random.IntN(2) == 0) // a push makes three writes and some more after conflicts
			wg.Go(func() {
				done, err := document.Publish(t.Context(), mine, tree(i))
				mu.Lock()
				defer mu.Unlock()
				switch {
				case errors.Is(err, errKilled):
					killed++
				case errors.Is(err, store.ErrConflict):
				case err != nil || told[done.Generation]:
					t.Errorf("seed %d, pusher %d: %+v %v", seed, i, done, err)
				default:
					published++
					told[done.Generation] = true
				}
			})
		}
		wg.Wait()
		healed := publish(t, s, pushers+1)
		if last := check(t, s); last != healed.Generation || int(last) < len(told)+1 {
			t.Errorf("seed %d: generation %d after %+v, told %v", seed, last, healed, told)
		}
		if t.Failed() {
			return
		}
	}
	t.Logf("%d pushers were killed, %d published", killed, published)
	if killed < seeds || published < seeds {
		t.Errorf("%d pushers were killed, %d published: that shows nothing", killed, published)
	}
}
