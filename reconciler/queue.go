package reconciler

import (
	"sync"
	"time"
)

// queue holds the keys that are to be reconciled: each at most once, and never
// while it is being reconciled.
type queue[K comparable] struct {
	mu      sync.Mutex
	items   map[K]*item
	ready   []K
	closed  bool
	changed chan struct{} // closed and replaced at each change
}

type item struct {
	queued, running, again bool
	failures               int
	timer                  *time.Timer
}

func newQueue[K comparable]() *queue[K] {
	return &queue[K]{items: map[K]*item{}, changed: make(chan struct{})}
}

func (q *queue[K]) item(key K) *item {
	it, ok := q.items[key]
	if !ok {
		it = &item{}
		q.items[key] = it
	}
	return it
}

// notify wakes whoever waits in next. The caller holds the lock.
func (q *queue[K]) notify() {
	close(q.changed)
	q.changed = make(chan struct{})
}

// add makes the key ready now; a key that is being reconciled is reconciled again.
func (q *queue[K]) add(key K) {
	q.mu.Lock()
	defer q.mu.Unlock()
	it := q.item(key)
	switch {
	case q.closed || it.queued:
	case it.running:
		it.again = true
	default:
		it.queued = true
		q.ready = append(q.ready, key)
		q.notify()
	}
}

// addAfter makes the key ready after d; it replaces an earlier addAfter.
func (q *queue[K]) addAfter(key K, d time.Duration) {
	q.mu.Lock()
	defer q.mu.Unlock()
	it := q.item(key)
	if it.timer != nil {
		it.timer.Stop()
	}
	if !q.closed {
		it.timer = time.AfterFunc(d, func() { q.add(key) })
	}
}

// next waits for a ready key. ok is false when stop is closed.
func (q *queue[K]) next(stop <-chan struct{}) (key K, ok bool) {
	for {
		q.mu.Lock()
		changed := q.changed
		if !q.closed && len(q.ready) > 0 {
			key, q.ready = q.ready[0], q.ready[1:]
			it := q.item(key)
			it.queued, it.running = false, true
			if it.timer != nil {
				it.timer.Stop()
			}
			q.mu.Unlock()
			return key, true
		}
		q.mu.Unlock()
		select {
		case <-changed:
		case <-stop:
			return key, false
		}
	}
}

// done ends the key's run and returns how often in a row it has failed.
func (q *queue[K]) done(key K, failed bool) (failures int) {
	q.mu.Lock()
	defer q.mu.Unlock()
	it := q.item(key)
	it.running = false
	if failed {
		it.failures++
	} else {
		it.failures = 0
	}
	if it.again && !q.closed {
		it.again, it.queued = false, true
		q.ready = append(q.ready, key)
		q.notify()
	}
	return it.failures
}

// close stops all timers; nothing becomes ready any more.
func (q *queue[K]) close() {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.closed = true
	for _, it := range q.items {
		if it.timer != nil {
			it.timer.Stop()
		}
	}
}
