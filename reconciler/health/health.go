package health

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/npcnix/npcnix/apis/v1alpha1"
	"github.com/npcnix/npcnix/nixos"
	"github.com/npcnix/npcnix/reconciler"
)

// Machine is what checks look at.
type Machine interface {
	nixos.Prober
	Units(ctx context.Context) (nixos.Units, error)
}

// Baseline is what was so before: it is held against nobody.
type Baseline struct {
	// Failed and Starting name services.
	Failed   []string `json:"failed,omitempty"`
	Starting []string `json:"starting,omitempty"`
	// Unmanaged, where nothing manages services, says what is wrong with them.
	Unmanaged string `json:"unmanaged,omitempty"`
}

// NewBaseline returns what of the services is so now.
func NewBaseline(ctx context.Context, m Machine) (Baseline, error) {
	units, err := m.Units(ctx)
	if errors.Is(err, nixos.ErrNoServiceManager) {
		return Baseline{}, nil
	}
	return Baseline{Failed: units.Failed(), Starting: units.Starting()}, err
}

// Error says which checks do not succeed.
type Error struct {
	// Checks are the failing ones, each with what it said last.
	Checks []string
	// Units are the services that failed since the baseline.
	Units []string
}

// Error joins what the checks said.
func (e *Error) Error() string { return strings.Join(e.Checks, "; ") }

// errUnmanaged is returned for units that nothing manages, of which the switch
// said that some failed.
var errUnmanaged = errors.New("systemd does not run here")

// checker runs the checks of one spec.
type checker struct {
	m        Machine
	spec     v1alpha1.HealthChecks
	baseline Baseline

	now func() time.Time
	mu  sync.Mutex
	// restarts counts them as they were last seen, grownAt when they grew.
	restarts map[string]uint32
	grownAt  map[string]time.Time
	// settled says that what is being started now is none of a switch's.
	settled bool
}

// Await runs the checks after their settle time, until each has succeeded as
// often in a row as it asks for. When ctx ends before, an *Error says what is missing.
func Await(ctx context.Context, m Machine, spec v1alpha1.HealthChecks, baseline Baseline, now func() time.Time) error {
	c := &checker{m: m, spec: spec, baseline: baseline, now: now, grownAt: map[string]time.Time{}}
	if units, err := m.Units(ctx); err == nil { // else the check itself says so
		c.restarts = units.Restarts()
	}
	if sleep(ctx, spec.Settle.Duration) != nil {
		return &Error{Checks: []string{"time was up before the settle time, " + spec.Settle.String()}}
	}
	return c.all(ctx, func(ctx context.Context, check v1alpha1.HealthCheck) error {
		var err error
		for good := int32(0); ; {
			if err = c.once(ctx, check); err == nil {
				if good++; good >= *check.SuccessThreshold {
					return nil
				}
			} else {
				good = 0
			}
			if errors.Is(err, errUnmanaged) {
				return err // which no time changes
			}
			if sleep(ctx, check.Interval.Duration) != nil {
				if err == nil {
					err = fmt.Errorf("succeeded %d of %d times in a row", good, *check.SuccessThreshold)
				}
				return err
			}
		}
	})
}

// Once runs each check once, without its settle time. What is being started, by
// a timer perhaps, is no fault then.
func Once(ctx context.Context, m Machine, spec v1alpha1.HealthChecks, baseline Baseline) error {
	c := &checker{m: m, spec: spec, baseline: baseline, settled: true}
	return c.all(ctx, c.once)
}

// all runs something for every check at a time.
func (c *checker) all(ctx context.Context, f func(ctx context.Context, check v1alpha1.HealthCheck) error) error {
	errs := make([]error, len(c.spec.Checks))
	checks := make([]func(), len(c.spec.Checks))
	for i, check := range c.spec.Checks {
		checks[i] = func() { errs[i] = f(ctx, check) }
	}
	reconciler.Together(checks...)
	failed := &Error{}
	for i, err := range errs {
		if err == nil {
			continue
		}
		failed.Checks = append(failed.Checks, "check "+c.spec.Checks[i].Name+": "+err.Error())
		if units := (unitsError{}); errors.As(err, &units) {
			failed.Units = units.failed
		}
	}
	if len(failed.Checks) == 0 {
		return nil
	}
	return failed
}

// once runs one check within its timeout.
func (c *checker) once(ctx context.Context, check v1alpha1.HealthCheck) error {
	limited, cancel := context.WithTimeout(ctx, check.Timeout.Duration)
	defer cancel()
	err := c.probe(limited, check)
	if err != nil && limited.Err() != nil && ctx.Err() == nil {
		return fmt.Errorf("did not end within %s", check.Timeout.Duration)
	}
	return err
}

func (c *checker) probe(ctx context.Context, check v1alpha1.HealthCheck) error {
	switch {
	case check.HTTP != nil:
		return c.m.HTTP(ctx, check.HTTP.URL)
	case check.TCP != nil:
		return c.m.TCP(ctx, check.TCP.Address)
	case check.Exec != nil:
		return c.m.Exec(ctx, check.Exec.Check)
	default:
		return c.noNewFailures(ctx)
	}
}

// unitsError says which services are in a worse state than before.
type unitsError struct{ failed, restarting, starting []string }

func (e unitsError) Error() string {
	var parts []string
	for what, names := range map[string][]string{"failed": e.failed, "restarts again and again": e.restarting, "still starting": e.starting} {
		if len(names) > 0 {
			parts = append(parts, what+": "+strings.Join(names, ", "))
		}
	}
	slices.Sort(parts)
	return strings.Join(parts, "; ")
}

// noNewFailures compares the services by name with the baseline.
func (c *checker) noNewFailures(ctx context.Context) error {
	units, err := c.m.Units(ctx)
	switch {
	case errors.Is(err, nixos.ErrNoServiceManager) && c.baseline.Unmanaged == "":
		return nil // nobody knows better
	case errors.Is(err, nixos.ErrNoServiceManager):
		return fmt.Errorf("%w: %s", errUnmanaged, c.baseline.Unmanaged)
	case err != nil:
		return err
	}
	e := unitsError{
		failed:   without(units.Failed(), c.baseline.Failed),
		starting: without(units.Starting(), slices.Concat(c.baseline.Starting, c.baseline.Failed)),
	}
	if c.settled {
		e.starting = nil
	}
	e.restarting = without(c.grown(units.Restarts()), c.baseline.Failed)
	if len(e.failed)+len(e.restarting)+len(e.starting) == 0 {
		return nil
	}
	return e
}

// grown names the services that were restarted less than a settle time ago.
func (c *checker) grown(now map[string]uint32) (names []string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.restarts == nil {
		return nil
	}
	for name, n := range now {
		if n > c.restarts[name] {
			c.grownAt[name] = c.now()
		}
		c.restarts[name] = n
	}
	for name, at := range c.grownAt {
		if c.now().Sub(at) < c.spec.Settle.Duration {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	return names
}

func without(names, known []string) []string {
	return slices.DeleteFunc(slices.Clone(names), func(name string) bool { return slices.Contains(known, name) })
}

func sleep(ctx context.Context, d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return context.Cause(ctx) //nolint:wrapcheck // the caller's own
	case <-timer.C:
		return nil
	}
}
