package health_test

import (
	"context"
	"errors"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/npcnix/npcnix/apis/meta"
	"github.com/npcnix/npcnix/apis/v1alpha1"
	"github.com/npcnix/npcnix/nixos"
	"github.com/npcnix/npcnix/reconciler/health"
)

// machine answers by the time since it was made.
type machine struct {
	began time.Time
	units func(after time.Duration) (nixos.Units, error)
	probe func(ctx context.Context, after time.Duration) error
}

func (m machine) Units(context.Context) (nixos.Units, error) {
	if m.units == nil {
		return nil, nil
	}
	return m.units(time.Since(m.began))
}

func (m machine) HTTP(ctx context.Context, _ string) error { return m.probe(ctx, time.Since(m.began)) }

func (m machine) TCP(ctx context.Context, _ string) error { return m.probe(ctx, time.Since(m.began)) }

func (m machine) Exec(ctx context.Context, _ string) error { return m.probe(ctx, time.Since(m.began)) }

func seconds(n int) *meta.Duration { return &meta.Duration{Duration: time.Duration(n) * time.Second} }

// spec has one check of web, or the default one of units.
func spec(settle int, threshold int32, web bool) v1alpha1.HealthChecks {
	h := v1alpha1.HealthChecks{Settle: seconds(settle)}
	if web {
		h.Checks = []v1alpha1.HealthCheck{{
			Name: "web", HTTP: &v1alpha1.HTTPCheck{URL: "http://127.0.0.1/"}, Timeout: seconds(3), Interval: seconds(5), SuccessThreshold: &threshold,
		}}
	}
	return h.WithDefaults()
}

func failing(after time.Duration, until int) error {
	if after < time.Duration(until)*time.Second {
		return errors.New("connection refused")
	}
	return nil
}

// periods counts periods of 20 seconds.
func periods(a time.Duration) (n uint32) {
	for ; a >= 20*time.Second; a -= 20 * time.Second {
		n++
	}
	return n
}

func TestAwait(t *testing.T) {
	t.Parallel()
	unit := func(u nixos.Unit) func(time.Duration) (nixos.Units, error) {
		return func(time.Duration) (nixos.Units, error) { return nixos.Units{u}, nil }
	}
	for name, c := range map[string]struct {
		machine  machine
		spec     v1alpha1.HealthChecks
		baseline health.Baseline
		took     int // seconds
		says     string
	}{
		"nothing fails":         {machine{}, spec(30, 1, false), health.Baseline{}, 30, ""},
		"without a settle time": {machine{}, spec(0, 1, false), health.Baseline{}, 0, ""},
		"a unit fails":          {machine{units: unit(nixos.Unit{Name: "x.service", Failed: true})}, spec(30, 1, false), health.Baseline{}, 100, "check units: failed: x.service"},
		"it failed before":      {machine{units: unit(nixos.Unit{Name: "x.service", Failed: true})}, spec(30, 1, false), health.Baseline{Failed: []string{"x.service"}}, 30, ""},
		"a oneshot is waited for": {machine{units: func(a time.Duration) (nixos.Units, error) {
			return nixos.Units{{Name: "x.service", Starting: a < 42*time.Second}}, nil
		}}, spec(30, 1, false), health.Baseline{}, 45, ""},
		"one that never ends":    {machine{units: unit(nixos.Unit{Name: "x.service", Starting: true})}, spec(30, 1, false), health.Baseline{}, 100, "still starting: x.service"},
		"it was starting before": {machine{units: unit(nixos.Unit{Name: "x.service", Starting: true})}, spec(30, 1, false), health.Baseline{Starting: []string{"x.service"}}, 30, ""},
		"it restarts every 20 seconds": {machine{units: func(a time.Duration) (nixos.Units, error) {
			return nixos.Units{{Name: "x.service", Restarts: periods(a)}}, nil
		}}, spec(30, 1, false), health.Baseline{}, 100, "restarts again and again: x.service"},
		"it restarted once": {machine{units: func(a time.Duration) (nixos.Units, error) {
			return nixos.Units{{Name: "x.service", Restarts: min(periods(a), 1)}}, nil
		}}, spec(30, 1, false), health.Baseline{}, 60, ""},
		"its restarts are old":             {machine{units: unit(nixos.Unit{Name: "x.service", Restarts: 7})}, spec(30, 1, false), health.Baseline{}, 30, ""},
		"units cannot be listed":           {machine{units: func(time.Duration) (nixos.Units, error) { return nil, errors.New("no answer") }}, spec(30, 1, false), health.Baseline{}, 100, "no answer"},
		"nobody manages units":             {machine{units: func(time.Duration) (nixos.Units, error) { return nil, nixos.ErrNoServiceManager }}, spec(30, 1, false), health.Baseline{}, 30, ""},
		"nobody does, and the switch told": {machine{units: func(time.Duration) (nixos.Units, error) { return nil, nixos.ErrNoServiceManager }}, spec(30, 1, false), health.Baseline{Unmanaged: "exit code 4"}, 30, "check units: systemd does not run here: exit code 4"},
		"it comes up late":                 {machine{probe: func(_ context.Context, a time.Duration) error { return failing(a, 42) }}, spec(30, 1, true), health.Baseline{}, 45, ""},
		"three times in a row":             {machine{probe: func(_ context.Context, a time.Duration) error { return failing(a, 0) }}, spec(30, 3, true), health.Baseline{}, 40, ""},
		"never three times in a row": {machine{probe: func(_ context.Context, a time.Duration) error {
			if a/(5*time.Second)%3 == 0 {
				return errors.New("flaps")
			}
			return nil
		}}, spec(30, 3, true), health.Baseline{}, 100, "check web:"},
		"it hangs":                     {machine{probe: func(ctx context.Context, _ time.Duration) error { <-ctx.Done(); return ctx.Err() }}, spec(30, 1, true), health.Baseline{}, 100, "check web: did not end within 3s"},
		"time is up before it settled": {machine{}, spec(200, 1, false), health.Baseline{}, 100, "time was up before the settle time, 3m20s"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				ctx, cancel := context.WithTimeout(t.Context(), 100*time.Second)
				defer cancel()
				c.machine.began = time.Now()
				err := health.Await(ctx, c.machine, c.spec, c.baseline, time.Now)
				if took := int(time.Since(c.machine.began).Seconds()); took != c.took {
					t.Errorf("took %d s, want %d", took, c.took)
				}
				if (err == nil) != (c.says == "") || (err != nil && !strings.Contains(err.Error(), c.says)) {
					t.Errorf("says %v, want %q", err, c.says)
				}
			})
		})
	}
}

func TestOnceNamesEveryCheckAndUnit(t *testing.T) {
	t.Parallel()
	m := machine{
		began: time.Now(),
		units: func(time.Duration) (nixos.Units, error) {
			return nixos.Units{{Name: "b.service", Failed: true}, {Name: "a.service", Failed: true}}, nil
		},
		probe: func(context.Context, time.Duration) error { return errors.New("refused") },
	}
	checks := spec(0, 1, true)
	checks.Checks = append(checks.Checks, spec(0, 1, false).Checks...)
	err := health.Once(t.Context(), m, checks, health.Baseline{})
	failed, ok := errors.AsType[*health.Error](err)
	if !ok || err.Error() != "check web: refused; check units: failed: a.service, b.service" || strings.Join(failed.Units, " ") != "a.service b.service" {
		t.Errorf("%v, units %v", err, failed)
	}
}
