package reconciler_test

import (
	"context"
	"errors"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/go-logr/logr"

	"github.com/npcnix/npcnix/reconciler"
)

func options() reconciler.Options {
	return reconciler.Options{
		Workers: 2, MinBackoff: time.Second, MaxBackoff: 10 * time.Second,
		Rand: func() float64 { return 0.5 }, Log: logr.Discard(),
	}
}

// record runs a loop for a virtual time and returns when the key was reconciled.
func record(t *testing.T, opts reconciler.Options, d time.Duration, f reconciler.Func[string], during func(l *reconciler.Loop[string])) []time.Duration {
	t.Helper()
	var calls []time.Duration
	synctest.Test(t, func(t *testing.T) {
		start := time.Now()
		var mu sync.Mutex
		loop, err := reconciler.New(func(ctx context.Context, key string) (reconciler.Result, error) {
			mu.Lock()
			calls = append(calls, time.Since(start))
			mu.Unlock()
			return f(ctx, key)
		}, opts)
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithTimeout(t.Context(), d)
		defer cancel()
		loop.Add("host")
		if during != nil {
			go during(loop)
		}
		loop.Run(ctx)
	})
	return calls
}

func equal(t *testing.T, got []time.Duration, seconds ...float64) {
	t.Helper()
	var want []time.Duration
	for _, s := range seconds {
		want = append(want, time.Duration(s*float64(time.Second)))
	}
	if !slices.Equal(got, want) {
		t.Errorf("calls at %v, want %v", got, want)
	}
}

func TestResultAsksForTheNextCall(t *testing.T) {
	t.Parallel()
	equal(t, record(t, options(), 35*time.Second, func(context.Context, string) (reconciler.Result, error) {
		return reconciler.Result{After: 10 * time.Second}, nil
	}, nil), 0, 10, 20, 30)
}

func TestZeroResultWaitsForAdd(t *testing.T) {
	t.Parallel()
	equal(t, record(t, options(), time.Hour, func(context.Context, string) (reconciler.Result, error) {
		return reconciler.Result{}, nil
	}, func(l *reconciler.Loop[string]) {
		time.Sleep(time.Minute)
		l.Add("host")
	}), 0, 60)
}

func TestTransientErrorsBackOffToTheMaximumAndForgetAfterSuccess(t *testing.T) {
	t.Parallel()
	n := 0
	equal(t, record(t, options(), 46*time.Second, func(context.Context, string) (reconciler.Result, error) {
		if n++; n == 6 {
			return reconciler.Result{After: time.Second}, nil
		}
		return reconciler.Result{}, errors.New("store is down")
	}, nil), 0, 1, 3, 7, 15, 25, 26, 27, 29, 33, 41)
}

func TestJitterSpreadsDelays(t *testing.T) {
	t.Parallel()
	opts := options()
	opts.Jitter = 0.5
	values := []float64{0, 0.999999, 0.5}
	opts.Rand = func() float64 {
		v := values[0]
		values = append(values[1:], v)
		return v
	}
	calls := record(t, opts, 31*time.Second, func(context.Context, string) (reconciler.Result, error) {
		return reconciler.Result{After: 10 * time.Second}, nil
	}, nil)
	if len(calls) != 4 || calls[1] != 5*time.Second || (calls[2]-calls[1]).Round(time.Millisecond) != 15*time.Second || calls[3]-calls[2] != 10*time.Second {
		t.Errorf("calls at %v", calls)
	}
}

func TestWaitIsNoFailureAndTerminalWaitsForAdd(t *testing.T) {
	t.Parallel()
	n := 0
	equal(t, record(t, options(), time.Hour, func(context.Context, string) (reconciler.Result, error) {
		switch n++; n {
		case 1, 2:
			return reconciler.Result{}, reconciler.Wait("window is closed", 20*time.Second)
		case 3:
			return reconciler.Result{}, errors.New("transient")
		default:
			return reconciler.Result{}, reconciler.Terminal(errors.New("broken"))
		}
	}, func(l *reconciler.Loop[string]) {
		time.Sleep(30 * time.Minute)
		l.Add("host")
	}), 0, 20, 40, 41, 1800)
}

func TestPanicIsATransientError(t *testing.T) {
	t.Parallel()
	equal(t, record(t, options(), 2500*time.Millisecond, func(context.Context, string) (reconciler.Result, error) {
		panic("bug")
	}, nil), 0, 1)
	_, err := reconciler.Once(t.Context(), func(context.Context, int) (reconciler.Result, error) { panic("bug") }, 1)
	if !errors.Is(err, reconciler.ErrPanic) {
		t.Errorf("error is %v", err)
	}
}

func TestLimitEndsACallWithItsOwnCause(t *testing.T) {
	t.Parallel()
	opts := options()
	opts.Limit = 5 * time.Second
	var cause error
	record(t, opts, 6*time.Second, func(ctx context.Context, _ string) (reconciler.Result, error) {
		<-ctx.Done()
		cause = errors.Join(cause, context.Cause(ctx))
		return reconciler.Result{}, context.Cause(ctx)
	}, nil)
	if !errors.Is(cause, reconciler.ErrLimit) {
		t.Errorf("cause is %v", cause)
	}
}

func TestAKeyIsNeverReconciledTwiceAtATimeAndNoAddIsLost(t *testing.T) {
	t.Parallel()
	running, most := 0, 0
	calls := record(t, options(), time.Minute, func(context.Context, string) (reconciler.Result, error) {
		running++
		most = max(most, running)
		time.Sleep(10 * time.Second)
		running--
		return reconciler.Result{}, nil
	}, func(l *reconciler.Loop[string]) {
		for range 3 {
			time.Sleep(time.Second)
			l.Add("host") // three events during one call make one more call
		}
	})
	if most != 1 {
		t.Errorf("%d calls at a time", most)
	}
	equal(t, calls, 0, 10)
}

func TestDrainWaitsForTheCallUnderWayAndStartsNoOther(t *testing.T) {
	t.Parallel()
	finished := 0
	calls := record(t, options(), 5*time.Second, func(context.Context, string) (reconciler.Result, error) {
		time.Sleep(20 * time.Second) // detached from its context, as a switch is
		finished++
		return reconciler.Result{After: time.Second}, nil
	}, func(l *reconciler.Loop[string]) {
		time.Sleep(time.Second)
		l.Add("host")
	})
	equal(t, calls, 0)
	if finished != 1 {
		t.Errorf("%d calls finished", finished)
	}
}

func TestOptionsAreValidated(t *testing.T) {
	t.Parallel()
	for name, change := range map[string]func(o *reconciler.Options){
		"no workers":    func(o *reconciler.Options) { o.Workers = 0 },
		"no backoff":    func(o *reconciler.Options) { o.MinBackoff = 0 },
		"backoff order": func(o *reconciler.Options) { o.MaxBackoff = o.MinBackoff / 2 },
		"jitter":        func(o *reconciler.Options) { o.Jitter = 1 },
		"no randomness": func(o *reconciler.Options) { o.Rand = nil },
	} {
		opts := options()
		change(&opts)
		if _, err := reconciler.New[int](nil, opts); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
}
