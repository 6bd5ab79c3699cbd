package host_test

import (
	"bytes"
	"strings"
	"testing"
	"time"

	"github.com/npcnix/npcnix/apis/codec"
	"github.com/npcnix/npcnix/apis/meta"
	"github.com/npcnix/npcnix/apis/v1alpha1"
	"github.com/npcnix/npcnix/nixos"
	"github.com/npcnix/npcnix/store"
	"github.com/npcnix/npcnix/store/document"
)

func TestResultsOfTheSwitch(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		result      nixos.Result
		activating  bool
		ready       meta.ConditionStatus
		reason      string
		message     string
		calls       string
		stalled     bool
		retriesLeft bool
	}{
		"0 is done":                         {nixos.Result{Exited: true}, true, meta.True, "UpToDate", "", "build test profile boot", false, false},
		"4 is switched, checks decide":      {nixos.Result{Exited: true, ExitCode: 4, Output: "failed: x.service"}, true, meta.True, "UpToDate", "", "build test profile boot", false, false},
		"100 is staged for a reboot":        {nixos.Result{Exited: true, ExitCode: 100}, false, meta.False, "RebootPending", "with a reboot", "build test profile boot", false, false},
		"2 is a failed activation":          {nixos.Result{Exited: true, ExitCode: 2}, true, meta.False, "ActivationFailed", "exit code 2, the activation script failed. /run/current-system was then /nix/store/3381bdc58276ddebfe64119a5e879462-nixos-system-web.\nThere is no earlier system", "build test", false, true},
		"any other code says nothing":       {nixos.Result{Exited: true, ExitCode: 11, Output: "Could not acquire lock"}, false, meta.False, "ActivationFailed", "The switch ended before it changed anything: exit code 11. Output: Could not acquire lock.\nNothing was changed.", "build test", false, true},
		"a signal says nothing":             {nixos.Result{How: "ended by signal: killed"}, false, meta.False, "ActivationFailed", "failed: ended by signal: killed. /run/current-system was then no known system.\nThere is no earlier system", "build test", false, true},
		"nor does one that printed nothing": {nixos.Result{Exited: true, ExitCode: 1}, false, meta.False, "ActivationFailed", "failed: exit code 1. /run/current-system was then no known system.\nThere is no earlier system", "build test", false, true},
		"0 without the system running":      {nixos.Result{Exited: true}, false, meta.False, "ActivationFailed", "exit code 0, but /run/current-system does not name it. /run/current-system was then no known system", "build test", false, true},
		"4 without the system running too":  {nixos.Result{Exited: true, ExitCode: 4}, false, meta.False, "ActivationFailed", "exit code 4", "build test", false, true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t)
			w.machine.OnStart = func(a nixos.Activation) (nixos.Result, bool) {
				if a.Action == nixos.ActionTest {
					return c.result, c.activating
				}
				return nixos.Result{Exited: true}, true
			}
			w.put("hosts/web.yaml", hostSpec)
			w.publish("web 1")
			w.pass()
			w.want("Ready", c.ready, c.reason, c.message)
			w.wantCalls(strings.Fields(c.calls)...)
			if got := meta.IsTrue(w.status().Status.Conditions, "Stalled"); got != c.stalled {
				t.Errorf("Stalled is %v", got)
			}
			if m := w.machine.State(); c.ready == meta.False && c.reason != "RebootPending" && (m.Profile != "" || m.BootDefault != "") {
				t.Errorf("profile or boot default were touched: %+v", m)
			}
			w.now = w.now.Add(31 * time.Second)
			w.pass()
			if again := len(w.machine.Calls()) > len(strings.Fields(c.calls)); again != c.retriesLeft {
				t.Errorf("tried again: %v, calls %v", again, w.machine.Calls())
			}
		})
	}
}

// A system whose activation did not end well is activated again, even though
// /run/current-system names it already.
func TestHalfActivatedSystemIsNotCommitted(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	code := 2
	w.machine.OnStart = func(nixos.Activation) (nixos.Result, bool) { return nixos.Result{Exited: true, ExitCode: code}, true }
	w.put("hosts/web.yaml", hostSpec)
	w.publish("web 1")
	w.pass()
	w.restart()
	code = 0
	w.now = w.now.Add(time.Minute)
	w.pass()
	w.wantCalls("build", "test", "test", "profile", "boot")
	w.want("Ready", meta.True, "UpToDate", "")
}

func TestFailedBuildBacksOffUntilItsAttemptsAreUsedUp(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.machine.OnBuild = func(nixos.BuildRequest) error {
		return &nixos.BuildError{Failure: nixos.BuilderFailure, Message: "builder for x failed", ExitCode: 1}
	}
	w.put("hosts/web.yaml", hostSpec+"  rebuildPolicy: {retry: {maxAttempts: 3, minBackoff: 1m, maxBackoff: 10m}}\n")
	w.publish("web 1")
	w.pass()
	w.want("Ready", meta.False, "BuildFailed", "The build failed: builder for x failed.\nAttempt 1 of 3 at generation 1 of prod (abababababab) failed; the next is due at 2026-11-22T10:01:00Z.")
	w.want("Reconciling", meta.True, "Retrying", "")
	w.now = w.now.Add(59 * time.Second)
	w.pass()
	w.wantCalls("build")
	w.restart()
	w.now = w.now.Add(time.Second)
	w.pass()
	w.wantCalls("build", "build")
	if got := w.status().Status.NextAttemptAt; got == nil || !got.Equal(w.now.Add(2*time.Minute)) {
		t.Errorf("next attempt at %v", got)
	}
	w.once() // a person does not wait for the back-off
	w.want("Ready", meta.False, "RetriesExhausted", "failed 3 of 3 times with this flake attribute and rebuildPolicy, and is tried again when one of the three changes, or by npcnix reconcile --retry, or npcnix-reconciler retry on the host. Last: The build failed: builder for x failed.")
	w.want("Stalled", meta.True, "RetriesExhausted", "")
	w.once() // but maxAttempts is maxAttempts
	w.now = w.now.Add(24 * time.Hour)
	w.pass()
	w.wantCalls("build", "build", "build")
	if s := w.status().Status; len(s.History) != 2 || s.LastAttempt.Attempt != 3 {
		t.Errorf("history %+v, last %+v", s.History, s.LastAttempt)
	}
	w.machine.OnBuild = nil
	w.publish("web 2")
	w.pass()
	w.want("Ready", meta.True, "UpToDate", "generation 2")
}

func TestTransientFailuresAreNotCountedAndPermanentOnesNotRepeated(t *testing.T) {
	t.Parallel()
	for failure, c := range map[nixos.BuildFailure]struct {
		reason    string
		permanent bool
	}{
		nixos.InputUnavailable:  {"InputUnavailable", false},
		nixos.DiskFull:          {"DiskFull", false},
		nixos.NixUnavailable:    {"NixUnavailable", false},
		nixos.EvaluationFailure: {"EvaluationFailed", true},
		nixos.AttributeMissing:  {"AttributeNotFound", true},
	} {
		t.Run(string(failure), func(t *testing.T) {
			t.Parallel()
			w := newWorld(t)
			broken := true
			w.machine.OnBuild = func(nixos.BuildRequest) error {
				if broken {
					return &nixos.BuildError{Failure: failure, Message: "what nix said", ExitCode: 1}
				}
				return nil
			}
			w.put("hosts/web.yaml", hostSpec)
			w.publish("web 1")
			for range 8 {
				w.pass()
				w.now = w.now.Add(2 * time.Hour)
			}
			w.want("Ready", meta.False, c.reason, "what nix said")
			if n := len(w.machine.Calls()); (c.permanent && n != 1) || (!c.permanent && n != 8) {
				t.Errorf("%d builds", n)
			}
			broken = false
			if c.permanent {
				w.put("hosts/web.yaml", strings.Replace(hostSpec, "spec:", "spec:\n  flakeAttribute: web", 1))
			}
			w.pass()
			w.want("Ready", meta.True, "UpToDate", "")
		})
	}
}

func TestArchiveFailures(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		damage func(data []byte) []byte
		reason string
	}{
		"truncated": {func(d []byte) []byte { return d[:len(d)-1] }, "ArchiveInvalid"},
		"altered":   {func(d []byte) []byte { d = bytes.Clone(d); d[len(d)-1] ^= 1; return d }, "ArchiveInvalid"},
		"missing":   {func([]byte) []byte { return nil }, "ArchiveNotFound"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t)
			w.put("hosts/web.yaml", hostSpec)
			w.publish("web 1")
			remote, _, err := document.Get[v1alpha1.Remote](t.Context(), w.store.Store, "remotes/prod.yaml", "Remote")
			if err != nil {
				t.Fatal(err)
			}
			key := store.ArchiveKey(remote.Spec.Archive.Digest)
			data, _, err := store.ReadAll(t.Context(), w.store.Store, key, 1<<20, store.GetOptions{})
			if err != nil {
				t.Fatal(err)
			}
			if damaged := c.damage(data); damaged != nil {
				w.put(key, string(damaged))
			} else if err := w.store.Delete(t.Context(), key); err != nil {
				t.Fatal(err)
			}
			w.pass()
			w.want("Ready", meta.False, c.reason, "rchive")
			w.want("SourceVerified", meta.False, c.reason, "")
			w.wantCalls()
			w.publish("web 1") // pushed again by force
			w.now = w.now.Add(time.Minute)
			w.pass()
			w.want("Ready", meta.True, "UpToDate", "generation 2")
		})
	}
}

func TestWrongNarHashIsRefusedBeforeNixSeesIt(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.put("hosts/web.yaml", hostSpec)
	w.publish("web 1")
	remote, _, err := document.Get[v1alpha1.Remote](t.Context(), w.store.Store, "remotes/prod.yaml", "Remote")
	if err != nil {
		t.Fatal(err)
	}
	remote.Spec.Archive.NarHash = "sha256-" + strings.Repeat("A", 43) + "="
	data, err := codec.Encode(remote)
	if err != nil {
		t.Fatal(err)
	}
	w.put("remotes/prod.yaml", string(data))
	w.pass()
	w.want("Ready", meta.False, "ArchiveInvalid", "NAR hash")
	w.wantCalls()
}

func TestUnmarkedToplevelIsNotActivatedBelowAnotherRoot(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.machine.Rooted = true
	w.put("hosts/web.yaml", hostSpec)
	w.publish("web 1")
	w.pass()
	w.want("Stalled", meta.True, "RootNotSupported", "npcnix-root")
	w.wantCalls("build")
	w.publish("web npcnix-root")
	w.pass()
	w.want("Ready", meta.True, "UpToDate", "")
}

func TestBootLoaderThatFails(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	broken := true
	w.machine.OnStart = func(a nixos.Activation) (nixos.Result, bool) {
		if a.Action == nixos.ActionBoot && broken {
			return nixos.Result{Exited: true, ExitCode: 1, Output: "no space left on /boot"}, false
		}
		return nixos.Result{Exited: true}, true
	}
	w.put("hosts/web.yaml", hostSpec)
	w.publish("web 1")
	w.pass()
	w.want("Ready", meta.False, "BootLoaderFailed", "no space left on /boot.\nThere is no earlier system")
	broken = false
	w.now = w.now.Add(time.Minute)
	w.pass()
	w.want("Ready", meta.True, "UpToDate", "")
	w.wantCalls("build", "test", "profile", "boot", "test", "boot")
}

func TestClockThatWasWrongHoldsNothingBack(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	broken := true
	w.machine.OnBuild = func(nixos.BuildRequest) error {
		if broken {
			return &nixos.BuildError{Failure: nixos.BuilderFailure, Message: "x", ExitCode: 1}
		}
		return nil
	}
	w.put("hosts/web.yaml", hostSpec)
	w.publish("web 1")
	right := w.now
	w.now = right.AddDate(4, 0, 0)
	w.pass()
	broken = false
	w.now = right.Add(time.Minute)
	w.pass()
	w.want("Ready", meta.True, "UpToDate", "")
}
