package host_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/npcnix/npcnix/apis/meta"
	"github.com/npcnix/npcnix/apis/v1alpha1"
	"github.com/npcnix/npcnix/nixos"
	"github.com/npcnix/npcnix/reconciler"
	"github.com/npcnix/npcnix/reconciler/host"
)

func TestJournalOfANewerAgentIsLeftAlone(t *testing.T) {
	t.Parallel()
	w := converged(t)
	path := filepath.Join(w.state, "journal.json")
	newer := []byte(`{"formatVersion": 3, "phase": "Teleporting"}`)
	if err := os.WriteFile(path, newer, 0o600); err != nil {
		t.Fatal(err)
	}
	w.publish("web 2")
	w.restart()
	w.pass()
	w.want("Ready", meta.False, "JournalTooNew", "newer agent")
	w.wantCalls("build", "test", "profile", "boot")
	if data, err := os.ReadFile(path); err != nil || !bytes.Equal(data, newer) {
		t.Errorf("journal is %s, %v", data, err)
	}
}

func TestAgentThatWasKilledInASwitchTriesAgain(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	killed := errors.New("killed")
	w.machine.OnStart = func(nixos.Activation) (nixos.Result, bool) { panic(killed) }
	w.put("hosts/web.yaml", hostSpec)
	w.publish("web 1")
	func() {
		defer func() {
			if err, ok := recover().(error); !ok || !errors.Is(err, killed) {
				t.Errorf("recovered %v", err)
			}
		}()
		w.pass()
	}()
	w.machine.OnStart = nil
	w.restart()
	w.pass()
	w.want("Ready", meta.True, "UpToDate", "")
	if s := w.status().Status; len(s.History) != 1 || s.History[0].Reason != "Interrupted" || s.LastAttempt.Attempt != 1 {
		t.Errorf("history %+v, last %+v", s.History, s.LastAttempt)
	}
}

func TestDrainEndsABuildAndCountsNothing(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.put("hosts/web.yaml", hostSpec)
	w.publish("web 1")
	ctx, stop := context.WithCancelCause(t.Context())
	draining := errors.New("draining")
	w.machine.OnBuild = func(nixos.BuildRequest) error { stop(draining); return context.Canceled }
	if _, err := w.r.Reconcile(ctx, "web"); !errors.Is(err, draining) {
		t.Errorf("error %v", err)
	}
	w.machine.OnBuild = nil
	w.restart()
	w.pass()
	if a := w.status().Status.LastAttempt; a.Attempt != 1 || a.Outcome != v1alpha1.OutcomeCommitted {
		t.Errorf("attempt %+v", a)
	}
}

// An agent that is told to stop during a switch, perhaps by that very switch,
// leaves it to the next one.
func TestDrainInASwitchLeavesItToTheNextAgent(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.put("hosts/web.yaml", hostSpec)
	w.publish("web 1")
	ctx, stop := context.WithCancel(t.Context())
	w.machine.OnStart = func(nixos.Activation) (nixos.Result, bool) { stop(); return nixos.Result{Exited: true}, true }
	if _, err := w.r.Reconcile(ctx, "web"); !errors.Is(err, context.Canceled) {
		t.Errorf("error %v", err)
	}
	w.restart()
	w.pass()
	w.wantCalls("build", "test", "profile", "boot")
	w.want("Ready", meta.True, "UpToDate", "")
	if a := w.status().Status.LastAttempt; a.Outcome != v1alpha1.OutcomeCommitted || a.Attempt != 1 {
		t.Errorf("attempt %+v", a)
	}
}

func TestTwoAgentsDoNotWorkInOneStateDirectory(t *testing.T) {
	t.Parallel()
	w := converged(t)
	ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	_, err := host.New(ctx, w.options())
	if !errors.Is(err, host.ErrLocked) {
		t.Errorf("error %v", err)
	}
}

// An agent that is killed between a switch that ended well and its commit has
// not failed; one whose switch ended badly, or unseen, has.
func TestAgentThatWasKilledBeforeItsCommitGoesOn(t *testing.T) {
	t.Parallel()
	for _, code := range []int{0, 4} {
		w := newWorld(t)
		w.machine.OnStart = func(a nixos.Activation) (nixos.Result, bool) {
			if a.Action == nixos.ActionTest {
				return nixos.Result{Exited: true, ExitCode: code}, true
			}
			panic("killed")
		}
		w.put("hosts/web.yaml", hostSpec+"  rebuildPolicy: {retry: {maxAttempts: 1}}\n")
		w.publish("web 1")
		if _, err := reconciler.Once(t.Context(), w.r.Reconcile, "web"); !errors.Is(err, reconciler.ErrPanic) {
			t.Fatal(err)
		}
		w.machine.OnStart = nil
		w.restart()
		w.pass()
		w.wantCalls("build", "test", "profile", "boot")
		w.want("Ready", meta.True, "UpToDate", "")
	}
}

func TestJournalStaysSmall(t *testing.T) {
	t.Parallel()
	w := converged(t)
	size := func() int64 {
		t.Helper()
		info, err := os.Stat(filepath.Join(w.state, "journal.json"))
		if err != nil {
			t.Fatal(err)
		}
		return info.Size()
	}
	w.machine.OnBuild = func(req nixos.BuildRequest) error { // another source, the same system
		return os.WriteFile(filepath.Join(req.Dir, "flake.nix"), []byte("web 1"), 0o600)
	}
	grow := func(from, to int) {
		t.Helper()
		for i := from; i < to; i++ {
			w.publish(fmt.Sprintf("web %d", i))
			w.pass()
		}
	}
	grow(100, 115)
	before := size()
	grow(115, 130)
	if after := size(); after > before+100 {
		t.Errorf("the journal grew from %d to %d bytes", before, after)
	}
	roots, err := os.ReadDir(filepath.Join(w.state, "gcroots"))
	if err != nil || len(roots) > 6 {
		t.Errorf("%d roots, %v", len(roots), err)
	}
	w.want("Ready", meta.True, "UpToDate", "")
}

func TestStoppedAgentSaysSo(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.put("hosts/web.yaml", hostSpec)
	w.publish("web 1")
	ctx, stop := context.WithCancel(t.Context())
	w.machine.OnBuild = func(nixos.BuildRequest) error { stop(); return context.Canceled }
	if _, err := w.r.Reconcile(ctx, "web"); err == nil {
		t.Error("no error")
	}
	w.want("Ready", meta.False, "Interrupted", "The agent was stopped")
	if a := w.status().Status.LastAttempt; a.Outcome != v1alpha1.OutcomeFailed {
		t.Errorf("attempt %+v", a)
	}
}
