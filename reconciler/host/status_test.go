package host_test

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/npcnix/npcnix/apis/meta"
	"github.com/npcnix/npcnix/apis/v1alpha1"
	"github.com/npcnix/npcnix/nixos"
	"github.com/npcnix/npcnix/reconciler/host"
	"github.com/npcnix/npcnix/store"
	"github.com/npcnix/npcnix/store/fault"
)

func TestHeartbeatPutsTheSameBytesAgain(t *testing.T) {
	t.Parallel()
	w := converged(t)
	first, err := w.store.Stat(t.Context(), "statuses/web.yaml")
	if err != nil {
		t.Fatal(err)
	}
	for range 6 {
		w.now = w.now.Add(time.Minute)
		w.pass()
	}
	second, err := w.store.Stat(t.Context(), "statuses/web.yaml")
	if err != nil || second.ETag != first.ETag || !second.LastModified.After(first.LastModified) {
		t.Errorf("status before %+v, after %+v, %v", first, second, err)
	}
}

// A host whose clock is set back is not silent until it has caught up.
func TestHeartbeatGoesOnAfterAClockWasSetBack(t *testing.T) {
	t.Parallel()
	w := converged(t)
	w.now = w.now.Add(-time.Hour)
	w.pass()
	info, err := w.store.Stat(t.Context(), "statuses/web.yaml")
	if err != nil || !info.LastModified.Equal(w.now) {
		t.Errorf("put at %s, now it is %s, %v", info.LastModified, w.now, err)
	}
}

func TestAnotherMachineUnderTheSameName(t *testing.T) {
	t.Parallel()
	w := converged(t)
	other := newWorld(t)
	other.store = w.store
	other.restart()
	if after := other.pass(); after != host.Heartbeat {
		t.Errorf("it looks again in %s", after)
	}
	other.wantCalls()
	if outcome := other.once(); outcome.Decision.Reason != "DuplicateHost" || !outcome.Decision.Stalled {
		t.Errorf("decision %+v", outcome.Decision)
	}
	w.want("Ready", meta.True, "UpToDate", "") // nothing was written
	w.now = w.now.Add(15 * time.Minute)
	other.now = w.now
	other.pass() // the first one is silent: a reinstalled host
	other.wantCalls("build", "test", "profile", "boot")
	w.now = w.now.Add(time.Minute)
	w.publish("web 2")
	w.pass() // comes back, and finds that it was replaced
	if outcome := w.once(); outcome.Decision.Reason != "DuplicateHost" {
		t.Errorf("decision %+v", outcome.Decision)
	}
	w.wantCalls("build", "test", "profile", "boot")
}

func TestStatusThatWasDeletedIsWrittenAgain(t *testing.T) {
	t.Parallel()
	w := converged(t)
	if err := w.store.Delete(t.Context(), "statuses/web.yaml"); err != nil {
		t.Fatal(err)
	}
	w.now = w.now.Add(host.Heartbeat)
	w.pass()
	w.want("Ready", meta.True, "UpToDate", "")
}

func TestHeartbeatGoesOnDuringABuild(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.put("hosts/web.yaml", hostSpec)
	w.publish("web 1")
	var puts int
	synctest.Test(t, func(*testing.T) {
		w.machine.OnBuild = func(nixos.BuildRequest) error {
			before := w.store.Count(fault.Put)
			time.Sleep(16 * time.Minute)
			synctest.Wait()
			puts = w.store.Count(fault.Put) - before
			return nil
		}
		w.pass()
	})
	if puts != 3 {
		t.Errorf("%d heartbeats in 16 minutes", puts)
	}
	w.want("Ready", meta.True, "UpToDate", "")
}

func TestStatusStaysSmall(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.machine.OnBuild = func(nixos.BuildRequest) error {
		return &nixos.BuildError{Failure: nixos.BuilderFailure, Message: strings.Repeat("\x01ü", 5000), ExitCode: 1}
	}
	w.put("hosts/web.yaml", hostSpec)
	for i := range 15 {
		w.publish(fmt.Sprintf("web %d", i))
		w.pass()
	}
	info, err := w.store.Stat(t.Context(), "statuses/web.yaml")
	if err != nil || info.Size > v1alpha1.MaxStatusSize || len(w.status().Status.History) > v1alpha1.MaxStatusHistory {
		t.Errorf("status %+v %v", info, err)
	}
}

// A write whose reply was lost may have been made: what is said next is put even
// if it is what was said before.
func TestStatusWhoseReplyWasLost(t *testing.T) {
	t.Parallel()
	w := converged(t)
	if _, err := w.r.Suspend("a moment", 0); err != nil {
		t.Fatal(err)
	}
	w.store.Follow(fault.On("statuses/web.yaml", fault.Fault{Err: errors.New("connection reset"), Done: true}))
	if _, err := w.r.Reconcile(t.Context(), "web"); err == nil {
		t.Error("a lost reply is no error")
	}
	w.want("Suspended", meta.True, "Suspended", "a moment")
	w.store.Follow(nil)
	if _, err := w.r.Resume(); err != nil {
		t.Fatal(err)
	}
	w.pass()
	w.want("Suspended", meta.False, "Accepted", "")
}

// A status that may not be read is taken for absent; before it was written once
// nobody knows whether another machine reports under this name.
func TestNothingIsDoneBeforeTheStatusIsKnownToBeOurs(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.put("hosts/web.yaml", hostSpec)
	w.publish("web 1")
	w.store.Follow(func(r fault.Request) fault.Fault {
		switch {
		case r.Key != "statuses/web.yaml":
			return fault.Fault{}
		case r.Op == fault.Get:
			return fault.Fault{Err: store.ErrAccessDenied}
		default:
			return fault.Fault{Err: errors.New("503")}
		}
	})
	if _, err := w.r.Reconcile(t.Context(), "web"); err == nil {
		t.Error("no error")
	}
	w.wantCalls()
	w.store.Follow(fault.On("statuses/web.yaml", fault.Fault{}))
	w.pass()
	w.want("Ready", meta.True, "UpToDate", "")
}

// ReadySince is since when the host is Ready on the generation that it runs.
func TestReadySince(t *testing.T) {
	t.Parallel()
	w := converged(t)
	since := func() string {
		at := w.status().Status.ReadySince
		if at == nil {
			return ""
		}
		return at.Format(time.TimeOnly)
	}
	begun := since()
	w.now = w.now.Add(10 * time.Minute)
	w.restart()
	w.pass()
	if got := since(); got != begun || got != "10:00:00" {
		t.Errorf("since %s, then after a restart since %s", begun, got)
	}
	w.publish("web 2")
	w.pass()
	if got := since(); got != "10:10:00" {
		t.Errorf("the second generation is Ready since %s", got)
	}
	w.machine.Change(func(m *nixos.Machine) { m.Running = "/nix/store/by-hand" })
	w.pass()
	if got := since(); got != "" {
		t.Errorf("a host that drifted is Ready since %s", got)
	}
	w.now = w.now.Add(time.Hour)
	w.pass()
	if got := since(); got != "11:10:00" {
		t.Errorf("a corrected host is Ready since %s", got)
	}
}
