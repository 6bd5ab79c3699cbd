package reconciler

import (
	"context"
	"errors"
	"fmt"
	"runtime/debug"
	"sync"
	"time"

	"github.com/go-logr/logr"
)

// Result is what a successful call asks for.
type Result struct {
	// After asks for another call after that time; 0 waits for Add. With a
	// transient error it is the least delay.
	After time.Duration
}

// Func brings the object of a key one step, or all the way, to its desired
// state. Its context ends when the loop is told to stop: what must not be cut
// off detaches itself with context.WithoutCancel.
type Func[K comparable] func(ctx context.Context, key K) (Result, error)

// Options configure a Loop.
type Options struct {
	// Workers is the number of keys that are reconciled at a time; at least 1.
	Workers int
	// Limit bounds one call; its context ends with the cause ErrLimit. 0 is no limit.
	Limit time.Duration
	// MinBackoff and MaxBackoff bound the delay after transient errors, which doubles.
	MinBackoff, MaxBackoff time.Duration
	// Jitter spreads every delay by a factor from 1-Jitter to 1+Jitter; below 1.
	Jitter float64
	// Rand returns a number in [0, 1).
	Rand func() float64
	// Log takes the errors.
	Log logr.Logger
}

func (o Options) validate() error {
	switch {
	case o.Workers < 1:
		return errors.New("reconciler needs a worker")
	case o.MinBackoff <= 0 || o.MaxBackoff < o.MinBackoff:
		return errors.New("reconciler needs 0 < MinBackoff ≤ MaxBackoff")
	case o.Jitter < 0 || o.Jitter >= 1:
		return errors.New("reconciler needs 0 ≤ Jitter < 1")
	case o.Rand == nil:
		return errors.New("reconciler needs a source of randomness")
	default:
		return nil
	}
}

// Loop calls a Func for the keys that are added to it.
type Loop[K comparable] struct {
	reconcile Func[K]
	opts      Options
	queue     *queue[K]
}

// New returns a loop that does nothing until Run.
func New[K comparable](reconcile Func[K], opts Options) (*Loop[K], error) {
	if err := opts.validate(); err != nil {
		return nil, err
	}
	return &Loop[K]{reconcile: reconcile, opts: opts, queue: newQueue[K]()}, nil
}

// Add asks for a call for the key now, or as soon as the present one is over.
func (l *Loop[K]) Add(key K) { l.queue.add(key) }

// AddAfter asks for a call after d. A key has one such request: the newest.
func (l *Loop[K]) AddAfter(key K, d time.Duration) { l.queue.addAfter(key, d) }

// Run works until ctx ends, and then until the calls under way have returned.
func (l *Loop[K]) Run(ctx context.Context) {
	var workers sync.WaitGroup
	for range l.opts.Workers {
		workers.Go(func() {
			for {
				key, ok := l.queue.next(ctx.Done())
				if !ok || ctx.Err() != nil {
					return
				}
				l.handle(ctx, key)
			}
		})
	}
	<-ctx.Done()
	l.queue.close()
	workers.Wait()
}

// handle makes one call and schedules the next.
func (l *Loop[K]) handle(ctx context.Context, key K) {
	if l.opts.Limit > 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeoutCause(ctx, l.opts.Limit, ErrLimit)
		defer cancel()
	}
	result, err := Once(ctx, l.reconcile, key)

	var wait *WaitError
	var terminal terminalError
	switch {
	case err == nil:
		l.queue.done(key, false)
		l.again(key, result.After)
	case errors.As(err, &wait):
		l.queue.done(key, false)
		l.again(key, wait.After)
	case errors.As(err, &terminal):
		l.queue.done(key, false)
		l.opts.Log.Error(err, "Reconciling failed for good", "key", key)
	case ctx.Err() != nil && context.Cause(ctx) != ErrLimit: //nolint:errorlint // the cause itself
		l.queue.done(key, false) // it was told to stop, and nothing follows
		l.opts.Log.Info("Reconciling was cut short", "key", key, "error", err.Error())
	default:
		failures := l.queue.done(key, true)
		delay := max(l.backoff(failures), result.After)
		l.opts.Log.Error(err, "Reconciling failed", "key", key, "failures", failures, "delay", delay.String())
		l.again(key, delay)
	}
}

// Once calls the function and turns a panic into an error.
func Once[K comparable](ctx context.Context, reconcile Func[K], key K) (result Result, err error) {
	defer func() {
		if r := recover(); r != nil {
			err = fmt.Errorf("%w: %v\n%s", ErrPanic, r, debug.Stack())
		}
	}()
	return reconcile(ctx, key)
}

func (l *Loop[K]) backoff(failures int) time.Duration {
	delay := l.opts.MinBackoff
	for range failures - 1 {
		if delay *= 2; delay >= l.opts.MaxBackoff {
			return l.opts.MaxBackoff
		}
	}
	return delay
}

func (l *Loop[K]) again(key K, after time.Duration) {
	if after > 0 {
		factor := 1 + l.opts.Jitter*(2*l.opts.Rand()-1)
		l.queue.addAfter(key, time.Duration(float64(after)*factor))
	}
}
