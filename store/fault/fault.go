package fault

import (
	"context"
	"fmt"
	"io"
	"iter"
	"sync"
	"time"

	"github.com/npcnix/npcnix/store"
)

// Op is an operation of a store.
type Op string

// The operations.
const (
	Get    Op = "Get"
	Stat   Op = "Stat"
	List   Op = "List"
	Put    Op = "Put"
	Delete Op = "Delete"
)

// Request is one call of a store.
type Request struct {
	Op Op
	// Key is the object's, or List's prefix.
	Key string
	// IfNoneMatch says that a Get knows a version already.
	IfNoneMatch bool
	// At is when it was made.
	At time.Time
}

// Fault is what goes wrong with a request. The zero value is nothing.
type Fault struct {
	// Wait is how long the store takes before anything else happens. It ends
	// with the context.
	Wait time.Duration
	// Err is returned instead of an answer.
	Err error
	// Done says that the store carried the request out all the same: only the
	// reply is lost.
	Done bool
	// Body, if set, makes the body of a Get that succeeds.
	Body func(whole io.Reader) io.Reader
}

// Script decides about each request, in the order in which they are made; it is
// never called twice at a time.
type Script func(Request) Fault

// Always gives every request the same fault.
func Always(f Fault) Script { return func(Request) Fault { return f } }

// On gives the requests for one key a fault.
func On(key string, f Fault) Script {
	return func(r Request) Fault {
		if r.Key != key {
			return Fault{}
		}
		return f
	}
}

// Cut makes bodies that break off after some bytes with err. Where err is
// io.EOF they end as if they were whole.
func Cut(after int64, err error) func(io.Reader) io.Reader {
	return func(whole io.Reader) io.Reader { return io.MultiReader(io.LimitReader(whole, after), broken{err}) }
}

type broken struct{ err error }

func (b broken) Read([]byte) (int, error) { return 0, b.err }

// Store passes requests on to another store as its script says, and remembers
// them.
type Store struct {
	store.Store

	mu       sync.Mutex
	script   Script
	requests []Request
	skew     time.Duration
}

var (
	_ store.Store   = (*Store)(nil)
	_ store.Clocked = (*Store)(nil)
)

// Ahead makes the store's clock be that much ahead of this machine's.
func (s *Store) Ahead(skew time.Duration) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.skew = skew
}

// Skew is what Ahead says.
func (s *Store) Skew() (skew time.Duration, known bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.skew, true
}

// New returns a store over s without faults.
func New(s store.Store) *Store { return &Store{Store: s} }

// Follow makes the script decide from now on; nil is no faults.
func (s *Store) Follow(script Script) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.script = script
}

// Requests returns the requests since the last call of Forget.
func (s *Store) Requests() []Request {
	s.mu.Lock()
	defer s.mu.Unlock()
	return append([]Request(nil), s.requests...)
}

// Count returns the number of requests since the last call of Forget.
func (s *Store) Count(op Op) (n int) {
	for _, r := range s.Requests() {
		if r.Op == op {
			n++
		}
	}
	return n
}

// Forget forgets the requests until now.
func (s *Store) Forget() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.requests = nil
}

// begin remembers a request and lets its fault happen. err ends the request
// unless the fault is Done.
func (s *Store) begin(ctx context.Context, r Request) (Fault, error) {
	s.mu.Lock()
	r.At = time.Now() //nolint:forbidigo // of the test that uses it
	s.requests = append(s.requests, r)
	var f Fault
	if s.script != nil {
		f = s.script(r)
	}
	s.mu.Unlock()
	if f.Wait > 0 {
		timer := time.NewTimer(f.Wait)
		defer timer.Stop()
		select {
		case <-timer.C:
		case <-ctx.Done():
			return f, fmt.Errorf("%s %s: %w", r.Op, r.Key, context.Cause(ctx))
		}
	}
	if f.Err != nil {
		return f, fmt.Errorf("%s %s: %w", r.Op, r.Key, f.Err)
	}
	return f, nil
}

// Get reads an object.
func (s *Store) Get(ctx context.Context, key string, opts store.GetOptions) (*store.Object, error) {
	f, err := s.begin(ctx, Request{Op: Get, Key: key, IfNoneMatch: opts.IfNoneMatch != ""})
	if err != nil {
		return nil, err
	}
	obj, err := s.Store.Get(ctx, key, opts)
	if err == nil && f.Body != nil {
		obj.Body = struct {
			io.Reader
			io.Closer
		}{f.Body(obj.Body), obj.Body}
	}
	return obj, err
}

// Stat describes an object.
func (s *Store) Stat(ctx context.Context, key string) (store.Info, error) {
	if _, err := s.begin(ctx, Request{Op: Stat, Key: key}); err != nil {
		return store.Info{}, err
	}
	return s.Store.Stat(ctx, key)
}

// List yields the objects below prefix.
func (s *Store) List(ctx context.Context, prefix string) iter.Seq2[store.Info, error] {
	return func(yield func(store.Info, error) bool) {
		if _, err := s.begin(ctx, Request{Op: List, Key: prefix}); err != nil {
			yield(store.Info{}, err)
			return
		}
		s.Store.List(ctx, prefix)(yield)
	}
}

// Put writes an object.
func (s *Store) Put(ctx context.Context, key string, body io.ReadSeeker, opts store.PutOptions) (string, error) {
	f, lost := s.begin(ctx, Request{Op: Put, Key: key})
	if lost != nil && !f.Done {
		return "", lost
	}
	etag, err := s.Store.Put(ctx, key, body, opts)
	if lost != nil {
		return "", lost
	}
	return etag, err
}

// Delete removes an object.
func (s *Store) Delete(ctx context.Context, key string) error {
	f, lost := s.begin(ctx, Request{Op: Delete, Key: key})
	if lost != nil && !f.Done {
		return lost
	}
	if err := s.Store.Delete(ctx, key); lost == nil {
		return err
	}
	return lost
}
