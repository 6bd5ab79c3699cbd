package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"time"

	"github.com/npcnix/npcnix/apis/meta"
	"github.com/npcnix/npcnix/apis/v1alpha1"
	"github.com/npcnix/npcnix/store"
)

// waitPause is the time between two looks at the statuses that are waited for.
const waitPause = 2 * time.Second

// wait looks at hosts until each of them has come to something after what it was
// asked, and tells what. It fails if one is not Ready by then.
func (c *cli) wait(ctx context.Context, s store.Store, asked map[string]*meta.Time, limit time.Duration) error {
	limited, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	ticker := time.NewTicker(waitPause)
	defer ticker.Stop()
	all, unready := len(asked), 0
	var f fleet
	var failed error // the last look
	look := c
	for all > 0 {
		now, err := look.readFleet(limited, s, slices.Collect(maps.Keys(asked)))
		switch {
		case lasting(err):
			c.noteOpen(f, asked)
			return err
		case err != nil && limited.Err() != nil: // this look was cut off, the one before was not
		case err != nil: // a bad moment of the store is none of the hosts
			failed = err
		default:
			failed = nil
			quiet := *c // what is told of documents is told once
			quiet.err = io.Discard
			look = &quiet
			f = now
			n, err := c.tellWhatCame(f, asked)
			if err != nil {
				return err
			}
			if unready += n; len(asked) == 0 {
				return notReady(unready, all)
			}
		}
		select {
		case <-limited.Done():
			return errors.Join(c.waitedInVain(ctx, f, asked, limit), failed)
		case <-ticker.C:
		}
	}
	return nil
}

// lasting reports whether an error of the store will not pass by itself.
func lasting(err error) bool {
	return errors.Is(err, store.ErrAccessDenied) || errors.Is(err, store.ErrUnauthorized) || errors.Is(err, store.ErrBucketNotFound)
}

// tellWhatCame tells of the hosts that have come to something, which are not
// waited for any more, and counts those that are not Ready.
func (c *cli) tellWhatCame(f fleet, asked map[string]*meta.Time) (unready int, err error) {
	for _, h := range f.hosts {
		name := h.view.Metadata.Name
		if !h.cameToSomething(asked[name]) {
			continue
		}
		delete(asked, name)
		status, reason, message := h.ready(c.now())
		if status != meta.True {
			unready++
		}
		if err := c.print("host/%s Ready is %s (%s): %s", name, status, reason, printable(message)); err != nil {
			return unready, err
		}
	}
	return unready, nil
}

// errNotReady is returned when hosts that were waited for are not Ready.
var errNotReady = errors.New("hosts are not Ready")

func notReady(unready, all int) error {
	if unready == 0 {
		return nil
	}
	return fmt.Errorf("%w: %d of %d", errNotReady, unready, all)
}

// tookUp reports whether a host took a request up.
func (h fleetHost) tookUp(asked *meta.Time) bool {
	s := h.view.Status
	return s != nil && s.Handled != nil && s.Handled.ReconcileRequestedAt != nil && !s.Handled.ReconcileRequestedAt.Before(asked.Time) // a later one took its place
}

// cameToSomething reports whether a host took a request up, and does nothing
// more about it by now: one that reboots, or waits for another switch to end, does.
func (h fleetHost) cameToSomething(asked *meta.Time) bool {
	if !h.tookUp(asked) {
		return false
	}
	ready := meta.FindCondition(h.view.Status.Conditions, v1alpha1.ConditionReady)
	if ready != nil && (ready.Reason == v1alpha1.ReasonRebooting || ready.Reason == v1alpha1.ReasonSwitchActive) {
		return false
	}
	reconciling := meta.FindCondition(h.view.Status.Conditions, v1alpha1.ConditionReconciling)
	return reconciling == nil || reconciling.Status != meta.True || reconciling.Reason == v1alpha1.ReasonRetrying
}

// waitedInVain says how the hosts stand that came to nothing in time.
func (c *cli) waitedInVain(ctx context.Context, f fleet, asked map[string]*meta.Time, limit time.Duration) error {
	if ctx.Err() != nil {
		return context.Cause(ctx) //nolint:wrapcheck // the person's own
	}
	c.noteOpen(f, asked)
	return fmt.Errorf("%w within %s: %d of those that were asked", errNotReady, meta.Short(limit), len(asked))
}

// noteOpen tells how the hosts stand that are still waited for.
func (c *cli) noteOpen(f fleet, asked map[string]*meta.Time) {
	for _, h := range f.hosts {
		if _, waits := asked[h.view.Metadata.Name]; waits {
			_, reason, message := h.ready(c.now())
			what := "has not taken the request up"
			if h.tookUp(asked[h.view.Metadata.Name]) {
				what = "is still at it"
			}
			c.note("%s %s (%s): %s", h.view.Metadata.Name, what, reason, printable(message))
		}
	}
}
