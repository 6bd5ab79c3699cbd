package host

import (
	"hash/fnv"
	"time"

	"github.com/npcnix/npcnix/reconciler"
)

// What the loop adds to the host's own policy.
const (
	minBackoff = 5 * time.Second
	maxBackoff = 2 * time.Minute
	jitter     = 0.5
	// maxSpread bounds the wait before the first look, which differs from host to host.
	maxSpread = 30 * time.Second
)

// Loop returns the loop that keeps the host at its declared state once it runs,
// and the time from now to its first look: none if an earlier agent left
// something open. random returns a number in [0, 1).
func (r *Reconciler) Loop(random func() float64) (loop *reconciler.Loop[string], first time.Duration, err error) {
	loop, err = reconciler.New(r.Reconcile, reconciler.Options{
		Workers: 1, MinBackoff: minBackoff, MaxBackoff: maxBackoff, Jitter: jitter, Rand: random, Log: r.opts.Log,
	})
	if err != nil {
		return nil, 0, err
	}
	if !r.leftOpen() {
		first = spread(r.opts.Host, min(maxSpread, r.interval().Max.Duration))
	}
	loop.AddAfter(r.opts.Host, first)
	return loop, first, nil
}

// spread is a host's own part of a time, so that a fleet that starts at once
// does not look at once.
func spread(name string, most time.Duration) time.Duration {
	h := fnv.New32a()
	_, _ = h.Write([]byte(name)) // a hash never fails
	return most * time.Duration(h.Sum32()%1000) / 1000
}
