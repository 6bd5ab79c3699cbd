package host_test

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/npcnix/npcnix/apis/meta"
	"github.com/npcnix/npcnix/nixos"
	"github.com/npcnix/npcnix/store"
	"github.com/npcnix/npcnix/store/fault"
)

// Whoever suspends the host, it is suspended until the last of them is over; a
// sync from git undoes none but its own.
func TestSuspensionsCombine(t *testing.T) {
	t.Parallel()
	w := converged(t)
	w.spec(`  suspend: {reason: git, until: "2026-11-22T11:00:00Z"}` + "\n")
	w.override(`{suspend: {reason: INC-7, until: "2026-11-22T12:00:00Z"}}`)
	if _, err := w.r.Suspend("disk", 3*time.Hour); err != nil {
		t.Fatal(err)
	}
	w.publish("web 2")
	w.pass()
	w.want("Ready", meta.False, "Suspended", "Suspended by its HostSpec and by its HostOverride and on the host (git, INC-7, disk) until 2026-11-22T13:00:00Z; generation 2")
	w.spec("") // synced from git
	w.now = w.now.Add(90 * time.Minute)
	w.pass()
	w.want("Suspended", meta.True, "Suspended", "Suspended by its HostOverride and on the host (INC-7, disk)")
	if _, err := w.r.Resume(); err != nil {
		t.Fatal(err)
	}
	w.store.Follow(fault.On("overrides/web.yaml", fault.Fault{Err: store.ErrAccessDenied})) // which lifts nothing
	w.restart()
	_, _ = w.r.Reconcile(t.Context(), "web")
	w.store.Follow(nil)
	w.pass()
	w.want("Ready", meta.False, "Suspended", "Suspended by its HostOverride (INC-7) until")
	w.override(`{unknown: 1}`) // nor does what is not understood
	w.pass()
	w.want("Suspended", meta.True, "Suspended", "INC-7")
	w.want("SpecAccepted", meta.False, "SpecInvalid", "spec.unknown")
	w.override("{}")
	w.pass()
	w.want("Ready", meta.True, "UpToDate", "generation 2")
	if o := w.status().Status.Observed.Override; o == nil || o.Digest == "" {
		t.Errorf("observed %+v", o)
	}
	w.delete("overrides/web.yaml")
	w.pass()
	if o := w.status().Status.Observed.Override; o != nil {
		t.Errorf("observed %+v", o)
	}
}

// A request is taken up once, and what was taken up stands in the status.
func TestRequestsOfTheOverride(t *testing.T) {
	t.Parallel()
	w := converged(t)
	w.policy("")
	w.publish("web fails:x.service")
	w.pass()
	w.want("Ready", meta.False, "Quarantined", "")
	tests := func() (n int) { return strings.Count(strings.Join(w.machine.Calls(), "\n"), "test ") }
	before := tests()
	w.override(`{reconcileRequestedAt: "2026-11-22T10:00:00Z"}`)
	w.pass()
	if n := tests(); n != before {
		t.Errorf("reconcile lifted the quarantine: %v", w.machine.Calls())
	}
	w.override(`{reconcileRequestedAt: "2026-11-22T10:00:00Z", retryRequestedAt: "2026-11-22T10:01:00Z"}`)
	for range 3 {
		w.pass()
		w.restart()
	}
	if n := tests(); n != before+2 { // forth and back, once
		t.Errorf("retry made %d switches", n-before)
	}
	h := w.status().Status.Handled
	if h == nil || h.ReconcileRequestedAt.Format(time.RFC3339) != "2026-11-22T10:00:00Z" || h.RetryRequestedAt.Format(time.RFC3339) != "2026-11-22T10:01:00Z" {
		t.Errorf("handled %+v", h)
	}
}

// A request that comes with a look that cannot do anything is not lost with it.
func TestRequestIsHandledByALookThatCan(t *testing.T) {
	t.Parallel()
	w := failedOnce(t)
	w.override(`{reconcileRequestedAt: "2026-11-22T10:00:00Z"}`)
	w.store.Follow(fault.On("remotes/prod.yaml", fault.Fault{Err: errors.New("no route to host")}))
	_, _ = w.r.Reconcile(t.Context(), "web")
	w.store.Follow(nil)
	if h := w.status().Status.Handled; h != nil {
		t.Errorf("handled %+v", h)
	}
	w.restart()
	w.pass() // before the next attempt is due
	w.want("Ready", meta.True, "UpToDate", "generation 2")
	if h := w.status().Status.Handled; h == nil || h.ReconcileRequestedAt == nil {
		t.Errorf("handled %+v", h)
	}
}

// A request counts until an attempt has ended, whatever holds the host back when
// it is taken up: then back-off is not observed.
func TestRequestsOutliveWhatHoldsTheHostBack(t *testing.T) {
	t.Parallel()
	const asked = `reconcileRequestedAt: "2026-11-22T10:00:00Z"`
	for name, c := range map[string]struct{ hold, release func(w *world) }{
		"suspended": {
			func(w *world) { w.override(`{suspend: {reason: INC-42}, ` + asked + `}`) },
			func(w *world) { w.override("{" + asked + "}") },
		},
		"no HostSpec": {
			func(w *world) { w.override("{" + asked + "}"); w.delete("hosts/web.yaml") },
			func(w *world) { w.put("hosts/web.yaml", hostSpec) },
		},
		"no room": {
			func(w *world) { w.override("{" + asked + "}"); w.machine.Free = 1 },
			func(w *world) { w.machine.Free = 1 << 40 },
		},
		"a closed window": {
			func(w *world) {
				w.override("{" + asked + "}")
				w.spec(strings.Replace(mondays, "timeZone", "gates: [Build], timeZone", 1))
			},
			func(w *world) { w.spec("") },
		},
		"a store that is away, asked on the host": {
			func(w *world) { w.r.Ask(false); w.store.Follow(down()) },
			func(w *world) { w.store.Follow(nil) },
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := failedOnce(t)
			c.hold(w)
			_, _ = w.r.Reconcile(t.Context(), "web")
			w.restart()
			c.release(w)
			w.pass() // before the next attempt is due
			w.want("Ready", meta.True, "UpToDate", "generation 2")
		})
	}
}

// failedOnce has an attempt behind it, and the next one is not due.
func failedOnce(t *testing.T) *world {
	t.Helper()
	w := converged(t)
	w.machine.OnBuild = func(nixos.BuildRequest) error {
		return &nixos.BuildError{Failure: nixos.BuilderFailure, Message: "no", ExitCode: 1}
	}
	w.publish("web 2")
	w.pass()
	w.want("Ready", meta.False, "BuildFailed", "the next is due at")
	w.machine.OnBuild = nil
	return w
}

// One that comes during an attempt is not about that one.
func TestRequestDuringAnAttempt(t *testing.T) {
	t.Parallel()
	w := converged(t)
	w.machine.OnBuild = func(nixos.BuildRequest) error {
		w.machine.OnBuild = nil // what was wrong is mended, and somebody says so
		w.override(`{reconcileRequestedAt: "2026-11-22T10:00:00Z"}`)
		return &nixos.BuildError{Failure: nixos.BuilderFailure, Message: "no", ExitCode: 1}
	}
	w.publish("web 2")
	w.pass()
	w.want("Ready", meta.True, "UpToDate", "generation 2")
}

// What was answered on the host counts, also if the agent restarts before it looks.
func TestRequestOnTheHostOutlivesTheAgent(t *testing.T) {
	t.Parallel()
	w := converged(t)
	w.policy("")
	w.publish("web fails:x.service")
	w.pass()
	w.want("Ready", meta.False, "Quarantined", "")
	for range 2 { // once
		tests := strings.Count(strings.Join(w.machine.Calls(), "\n"), "test ")
		w.r.Ask(true)
		w.restart()
		w.pass()
		w.restart()
		w.pass()
		if n := strings.Count(strings.Join(w.machine.Calls(), "\n"), "test ") - tests; n != 2 { // forth and back
			t.Errorf("%d switches", n)
		}
	}
	if err := os.WriteFile(filepath.Join(w.state, "request.json"), []byte("{"), 0o600); err != nil {
		t.Fatal(err)
	}
	w.restart()
	w.pass()
	if _, err := os.Stat(filepath.Join(w.state, "request.json")); err == nil {
		t.Error("the request is still there")
	}
}

func TestLocalSuspension(t *testing.T) {
	t.Parallel()
	w := converged(t)
	if _, err := w.r.Suspend("INC-7", 2*time.Hour); err != nil {
		t.Fatal(err)
	}
	w.publish("web 2")
	w.pass()
	w.want("Ready", meta.False, "Suspended", "Suspended on the host (INC-7) until 2026-11-22T12:00:00Z; generation 2")
	w.want("Suspended", meta.True, "Suspended", "INC-7")
	w.restart() // it outlives the agent
	w.pass()
	w.want("Ready", meta.False, "Suspended", "INC-7")
	w.now = w.now.Add(2 * time.Hour)
	w.pass()
	w.want("Ready", meta.True, "UpToDate", "generation 2")
	if _, err := w.r.Suspend("INC-8", 0); err != nil {
		t.Fatal(err)
	}
	w.publish("web 3")
	w.pass()
	w.want("Ready", meta.False, "Suspended", "INC-8")
	if was, err := w.r.Resume(); !was || err != nil {
		t.Errorf("%v %v", was, err)
	}
	w.pass()
	w.want("Ready", meta.True, "UpToDate", "generation 3")
	if err := os.WriteFile(filepath.Join(w.state, "suspension.json"), []byte("{"), 0o600); err != nil {
		t.Fatal(err)
	}
	w.restart() // somebody wanted it: that is all that can be read
	w.publish("web 4")
	w.pass()
	w.want("Ready", meta.False, "Suspended", "cannot be read")
}
