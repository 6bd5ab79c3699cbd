package host_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/go-logr/logr"
	"github.com/go-logr/logr/testr"

	"github.com/npcnix/npcnix/apis/meta"
	"github.com/npcnix/npcnix/apis/v1alpha1"
	"github.com/npcnix/npcnix/nixos"
	"github.com/npcnix/npcnix/nixos/nixfake"
	"github.com/npcnix/npcnix/reconciler"
	"github.com/npcnix/npcnix/reconciler/host"
	"github.com/npcnix/npcnix/store"
	"github.com/npcnix/npcnix/store/archive"
	"github.com/npcnix/npcnix/store/document"
	"github.com/npcnix/npcnix/store/mem"
)

const hostSpec = `apiVersion: npcnix.dev/v1alpha1
kind: HostSpec
metadata: {name: web, labels: {role: web}}
spec:
  remote: prod
`

// world is a host with its store, its machine and its clock.
type world struct {
	t       *testing.T
	now     time.Time
	store   *counting
	machine *nixfake.Machine
	state   string
	ids     int
	r       *host.Reconciler
}

// counting counts the requests to a store.
type counting struct {
	*mem.Store

	gets, puts atomic.Int64
	down       error
	broken     map[string]error
}

func (c *counting) Get(ctx context.Context, key string, opts store.GetOptions) (*store.Object, error) {
	c.gets.Add(1)
	if err := errors.Join(c.down, c.broken[key]); err != nil {
		return nil, err
	}
	return c.Store.Get(ctx, key, opts)
}

func (c *counting) Put(ctx context.Context, key string, body io.ReadSeeker, opts store.PutOptions) (string, error) {
	c.puts.Add(1)
	if c.down != nil {
		return "", c.down
	}
	return c.Store.Put(ctx, key, body, opts)
}

func newWorld(t *testing.T) *world {
	t.Helper()
	w := &world{t: t, now: time.Date(2026, 11, 22, 10, 0, 0, 0, time.UTC), machine: &nixfake.Machine{}, state: filepath.Join(t.TempDir(), "state")}
	w.store = &counting{Store: mem.New(func() time.Time { return w.now })}
	w.restart()
	return w
}

// restart starts a new agent over the same state.
func (w *world) restart() {
	w.t.Helper()
	if w.r != nil {
		if err := w.r.Close(); err != nil {
			w.t.Fatal(err)
		}
	}
	r, err := host.New(w.t.Context(), host.Options{
		Host: "web", Store: w.store, Observer: w.machine, Builder: w.machine, Activator: w.machine,
		StateDir: w.state, MachineIDFile: filepath.Join(w.state, "none"), Limits: archive.DefaultLimits(), Version: "test",
		Now:   func() time.Time { return w.now },
		NewID: func() string { w.ids++; return fmt.Sprintf("attempt-%d", w.ids) },
		Log:   testLog(w.t),
	})
	if err != nil {
		w.t.Fatal(err)
	}
	if w.r == nil {
		w.t.Cleanup(func() {
			if err := w.r.Close(); err != nil {
				w.t.Error(err)
			}
		})
	}
	w.r = r
}

func testLog(t *testing.T) logr.Logger {
	t.Helper()
	if testing.Verbose() {
		return testr.New(t)
	}
	return logr.Discard()
}

func (w *world) put(key, data string) {
	w.t.Helper()
	if _, err := w.store.Store.Put(w.t.Context(), key, strings.NewReader(data), store.PutOptions{}); err != nil {
		w.t.Fatal(err)
	}
}

// publish publishes a flake of one file that provides web.
func (w *world) publish(flake string) {
	w.t.Helper()
	dir := w.t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "flake.nix"), []byte(flake), 0o600); err != nil {
		w.t.Fatal(err)
	}
	root, err := os.OpenRoot(dir)
	if err != nil {
		w.t.Fatal(err)
	}
	defer func() { _ = root.Close() }() // only read
	var buf bytes.Buffer
	sum, err := archive.Pack(&buf, root, []string{"flake.nix"})
	if err != nil {
		w.t.Fatal(err)
	}
	_, err = document.Publish(w.t.Context(), w.store.Store, document.Publication{
		Remote: "prod", Archive: bytes.NewReader(buf.Bytes()), Force: true,
		Spec: v1alpha1.RemoteSpec{
			PublishedAt: meta.NewTime(w.now), Source: &v1alpha1.Source{Revision: strings.Repeat("ab", 20)},
			Archive: v1alpha1.Archive{Digest: sum.Digest, Size: sum.Size, NarHash: sum.NarHash},
		},
	})
	if err != nil {
		w.t.Fatal(err)
	}
}

// pass lets the agent look once, as its loop does.
func (w *world) pass() time.Duration {
	w.t.Helper()
	result, err := w.r.Reconcile(w.t.Context(), "web")
	if err != nil {
		w.t.Fatalf("reconcile: %v", err)
	}
	return result.After
}

func (w *world) once() host.Outcome {
	w.t.Helper()
	outcome, err := w.r.Once(w.t.Context())
	if err != nil {
		w.t.Fatalf("once: %v", err)
	}
	return outcome
}

func (w *world) status() *v1alpha1.HostStatus {
	w.t.Helper()
	status, _, err := document.Get[v1alpha1.HostStatus](w.t.Context(), w.store.Store, store.StatusKey("web"), v1alpha1.KindHostStatus)
	if err != nil {
		w.t.Fatal(err)
	}
	return status
}

func (w *world) want(condition string, status meta.ConditionStatus, reason, message string) {
	w.t.Helper()
	c := meta.FindCondition(w.status().Status.Conditions, condition)
	if c == nil || c.Status != status || c.Reason != reason || !strings.Contains(c.Message, message) {
		w.t.Errorf("condition %s is %+v, want %s/%s with %q", condition, c, status, reason, message)
	}
}

func (w *world) wantCalls(want ...string) {
	w.t.Helper()
	var got []string
	for _, call := range w.machine.Calls() {
		got = append(got, strings.Fields(call)[0])
	}
	if strings.Join(got, " ") != strings.Join(want, " ") {
		w.t.Errorf("calls %v, want %v", got, want)
	}
}

func converged(t *testing.T) *world {
	t.Helper()
	w := newWorld(t)
	w.put("hosts/web.yaml", hostSpec)
	w.publish("web 1")
	w.pass()
	w.want("Ready", meta.True, "UpToDate", "generation 1 of prod (abababababab)")
	return w
}

func TestHostGoesFromNothingToReady(t *testing.T) {
	t.Parallel()
	w := converged(t)
	w.wantCalls("build", "test", "profile", "boot")
	s := w.status().Status
	m := w.machine.State()
	if s.Desired.Toplevel != m.Running || s.System.Profile != m.Running || s.System.BootDefault != m.Running || s.System.Generation != 1 {
		t.Errorf("status %+v of machine %+v", s.System, m)
	}
	if s.LastAttempt.Outcome != v1alpha1.OutcomeCommitted || s.LastAttempt.Attempt != 1 || *s.LastAttempt.ExitCode != 0 || s.ReadySince == nil {
		t.Errorf("attempt %+v", s.LastAttempt)
	}
	if w.status().Metadata.Labels["role"] != "web" || s.Observed.Remote.Generation != 1 || s.Observed.Remote.Revision == "" {
		t.Errorf("observed %+v", s.Observed.Remote)
	}
	for _, c := range []string{"SpecAccepted", "SourceVerified", "Built", "Activated", "Staged"} {
		if !meta.IsTrue(s.Conditions, c) {
			t.Errorf("%s is not True", c)
		}
	}
}

func TestIdleIsThreeConditionalGetsAndNothingElse(t *testing.T) {
	t.Parallel()
	w := converged(t)
	w.store.gets.Store(0)
	w.store.puts.Store(0)
	before, err := os.Stat(filepath.Join(w.state, "journal.json"))
	if err != nil {
		t.Fatal(err)
	}
	w.now = w.now.Add(time.Minute)
	w.pass()
	after, err := os.Stat(filepath.Join(w.state, "journal.json"))
	if err != nil {
		t.Fatal(err)
	}
	if w.store.gets.Load() != 3 || w.store.puts.Load() != 0 || !os.SameFile(before, after) {
		t.Errorf("%d gets, %d puts, same journal: %v", w.store.gets.Load(), w.store.puts.Load(), os.SameFile(before, after))
	}
	w.wantCalls("build", "test", "profile", "boot")
}

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

func TestPollingAdaptsToTheAgeOfTheDocuments(t *testing.T) {
	t.Parallel()
	w := converged(t)
	for _, c := range []struct{ age, want time.Duration }{
		{0, 5 * time.Second}, {time.Minute, 6 * time.Second}, {10 * time.Minute, time.Minute}, {21 * time.Minute, 2 * time.Minute},
	} {
		w.now = time.Date(2026, 11, 22, 10, 0, 0, 0, time.UTC).Add(c.age)
		if got := w.pass(); got != c.want {
			t.Errorf("after %s the next look is in %s, want %s", c.age, got, c.want)
		}
	}
}

func TestUnchangedToplevelIsNotActivated(t *testing.T) {
	t.Parallel()
	w := converged(t)
	w.publish("web 1") // the same tree as generation 2
	w.pass()
	w.wantCalls("build", "test", "profile", "boot")
	w.want("Ready", meta.True, "UpToDate", "generation 2 of prod")
}

func TestEqualContentUploadedAgainIsNoChange(t *testing.T) {
	t.Parallel()
	w := converged(t)
	etag, err := w.store.Stat(t.Context(), "statuses/web.yaml")
	if err != nil {
		t.Fatal(err)
	}
	w.put("hosts/web.yaml", "# a comment\n"+hostSpec)
	w.pass()
	again, err := w.store.Stat(t.Context(), "statuses/web.yaml")
	if err != nil || etag.ETag != again.ETag {
		t.Errorf("status changed: %v", err)
	}
	w.wantCalls("build", "test", "profile", "boot")
}

func TestSuspendedHostObservesAndReports(t *testing.T) {
	t.Parallel()
	w := converged(t)
	suspended := strings.Replace(hostSpec, "spec:\n", "spec:\n  suspend: {reason: INC-42, until: \"2026-11-22T12:00:00Z\"}\n", 1)
	w.put("hosts/web.yaml", suspended)
	w.pass()
	w.want("Ready", meta.True, "UpToDate", "")
	w.want("Suspended", meta.True, "Suspended", "INC-42")
	w.publish("web 2")
	if outcome := w.once(); !outcome.Decision.Waiting {
		t.Errorf("decision %+v", outcome.Decision)
	}
	w.want("Ready", meta.False, "Suspended", "Suspended (INC-42) until 2026-11-22T12:00:00Z; generation 2 of prod (abababababab) is not in force.")
	w.wantCalls("build", "test", "profile", "boot")
	w.now = w.now.Add(2 * time.Hour)
	w.pass()
	w.want("Ready", meta.True, "UpToDate", "generation 2")
}

func TestDriftIsCorrectedAfterItsGrace(t *testing.T) {
	t.Parallel()
	w := converged(t)
	desired := w.machine.State().Running
	w.machine.Change(func(m *nixos.Machine) { m.Running = "/nix/store/by-hand" })
	w.pass()
	w.want("Ready", meta.False, "Drifted", "it runs /nix/store/by-hand instead of "+desired)
	w.now = w.now.Add(10 * time.Minute)
	w.machine.Change(func(m *nixos.Machine) { m.Running = "/nix/store/by-hand-again" })
	w.pass() // the grace starts anew
	w.now = w.now.Add(10 * time.Minute)
	w.pass()
	w.wantCalls("build", "test", "profile", "boot")
	w.now = w.now.Add(5 * time.Minute)
	w.pass()
	w.wantCalls("build", "test", "profile", "boot", "test")
	w.want("Ready", meta.True, "UpToDate", "")
}

func TestDriftOfProfileOrBootDefaultIsMendedWithoutActivation(t *testing.T) {
	t.Parallel()
	w := converged(t)
	w.put("hosts/web.yaml", hostSpec+"  rebuildPolicy: {drift: {grace: 0s}}\n")
	w.machine.Change(func(m *nixos.Machine) { m.Profile = "/nix/store/other" })
	w.pass()
	w.wantCalls("build", "test", "profile", "boot", "profile", "boot")
	w.machine.Change(func(m *nixos.Machine) { m.BootDefault = "/nix/store/other" })
	w.pass()
	w.wantCalls("build", "test", "profile", "boot", "profile", "boot", "boot")
	w.want("Ready", meta.True, "UpToDate", "")
}

func TestDriftIsOnlyReportedWherePolicySaysSo(t *testing.T) {
	t.Parallel()
	w := converged(t)
	w.put("hosts/web.yaml", hostSpec+"  rebuildPolicy: {drift: {action: Report, grace: 0s}}\n")
	w.machine.Change(func(m *nixos.Machine) { m.Running = "/nix/store/by-hand" })
	if outcome := w.once(); !outcome.Decision.Waiting {
		t.Errorf("decision %+v", outcome.Decision)
	}
	w.want("Ready", meta.False, "Drifted", "The policy is to report it only.")
	w.wantCalls("build", "test", "profile", "boot")
}

func TestSpecialisationOfTheDesiredSystemIsNoDrift(t *testing.T) {
	t.Parallel()
	w := converged(t)
	w.machine.Change(func(m *nixos.Machine) { m.Running += "-specialisation-gaming" })
	w.pass()
	w.want("Ready", meta.True, "UpToDate", "")
}

func TestUnknownBootDefaultIsNoDrift(t *testing.T) {
	t.Parallel()
	w := converged(t)
	w.machine.Change(func(m *nixos.Machine) { m.BootDefault = nixos.Unknown })
	w.pass()
	w.want("Ready", meta.True, "UpToDate", "")
	w.want("Staged", meta.Unknown, "Pending", "cannot be read")
}

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
		"0 is done":                        {nixos.Result{Exited: true}, true, meta.True, "UpToDate", "", "build test profile boot", false, false},
		"4 is switched, degraded":          {nixos.Result{Exited: true, ExitCode: 4, Output: "failed: x.service"}, true, meta.False, "Degraded", "x.service", "build test profile boot", true, false},
		"100 asks for a reboot":            {nixos.Result{Exited: true, ExitCode: 100}, false, meta.False, "RebootRequired", "by a reboot", "build test", true, false},
		"2 is a failed activation":         {nixos.Result{Exited: true, ExitCode: 2}, true, meta.False, "ActivationFailed", "exit code 2, the activation script failed. What runs now: the new system, perhaps not completely. Nothing was rolled back", "build test", false, true},
		"any other code says nothing":      {nixos.Result{Exited: true, ExitCode: 11}, false, meta.False, "ActivationFailed", "exit code 11. What runs now: no system.", "build test", false, true},
		"a signal says nothing":            {nixos.Result{How: "ended by signal: killed"}, false, meta.False, "ActivationFailed", "ended by signal: killed", "build test", false, true},
		"0 without the system running":     {nixos.Result{Exited: true}, false, meta.False, "ActivationFailed", "exit code 0, but /run/current-system does not name it. What runs now: no system", "build test", false, true},
		"4 without the system running too": {nixos.Result{Exited: true, ExitCode: 4}, false, meta.False, "ActivationFailed", "exit code 4", "build test", false, true},
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
			if m := w.machine.State(); c.ready == meta.False && c.reason != "Degraded" && (m.Profile != "" || m.BootDefault != "") {
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
	w.want("Ready", meta.False, "BuildFailed", "builder for x failed\nAttempt 1 of 3 at generation 1 of prod (abababababab) failed; the next is due at 2026-11-22T10:01:00Z.")
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
	w.want("Ready", meta.False, "RetriesExhausted", "failed 3 of 3 times with this flake attribute and rebuildPolicy, and is tried again when one of the three changes. Last: builder for x failed")
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
	if _, err := document.Put(t.Context(), w.store.Store, "remotes/prod.yaml", remote, store.PutOptions{}); err != nil {
		t.Fatal(err)
	}
	w.pass()
	w.want("Ready", meta.False, "ArchiveInvalid", "NAR hash")
	w.wantCalls()
}

func TestSpecProblems(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct{ key, data, reason, message string }{
		"missing":          {"", "", "SpecNotFound", "no hosts/web.yaml in the store"},
		"unknown field":    {"hosts/web.yaml", hostSpec + "  remotte: x\n", "SpecInvalid", `hosts/web.yaml:6: spec.remotte: unknown field (did you mean "remote"?)`},
		"wrong kind":       {"hosts/web.yaml", strings.Replace(hostSpec, "HostSpec", "Remote", 1), "SpecInvalid", `kind: found "Remote", expected HostSpec`},
		"another's name":   {"hosts/web.yaml", strings.Replace(hostSpec, "name: web", "name: db", 1), "SpecInvalid", "metadata.name is db, expected web"},
		"empty":            {"hosts/web.yaml", "", "SpecInvalid", "empty"},
		"too large":        {"hosts/web.yaml", strings.Repeat("#", 10<<20), "SpecInvalid", "256 KiB"},
		"missing remote":   {"hosts/web.yaml", strings.Replace(hostSpec, "prod", "other", 1), "RemoteNotFound", "npcnix push --remote other"},
		"override":         {"overrides/web.yaml", "whatever", "NotSupported", "overrides/web.yaml"},
		"second document":  {"hosts/web.yaml", hostSpec + "---\n" + hostSpec, "NotSupported", "a second YAML document"},
		"a window":         {"hosts/web.yaml", hostSpec + "  maintenanceWindow: {timeZone: UTC}\n", "NotSupported", "spec.maintenanceWindow"},
		"health checks":    {"hosts/web.yaml", hostSpec + "  healthChecks: {settle: 1s}\n", "NotSupported", "spec.healthChecks"},
		"closures":         {"hosts/web.yaml", hostSpec + "  origin: Closure\n", "NotSupported", "spec.origin: Closure"},
		"another mode":     {"hosts/web.yaml", hostSpec + "  rebuildPolicy: {mode: Boot}\n", "NotSupported", "spec.rebuildPolicy.mode"},
		"reboots":          {"hosts/web.yaml", hostSpec + "  rebuildPolicy: {reboot: {when: Always}}\n", "NotSupported", "spec.rebuildPolicy.reboot"},
		"rollback":         {"hosts/web.yaml", hostSpec + "  rebuildPolicy: {rollback: {onFailure: Keep}}\n", "NotSupported", "spec.rebuildPolicy.rollback"},
		"full disk":        {"hosts/web.yaml", hostSpec + "  rebuildPolicy: {diskFull: GarbageCollect}\n", "NotSupported", "spec.rebuildPolicy.diskFull"},
		"free disk":        {"hosts/web.yaml", hostSpec + "  rebuildPolicy: {minFreeDisk: 1GiB}\n", "NotSupported", "spec.rebuildPolicy.minFreeDisk"},
		"retention":        {"hosts/web.yaml", hostSpec + "  rebuildPolicy: {retention: {generations: 3}}\n", "NotSupported", "spec.rebuildPolicy.retention"},
		"agent removal":    {"hosts/web.yaml", hostSpec + "  rebuildPolicy: {allowAgentRemoval: web}\n", "NotSupported", "spec.rebuildPolicy.allowAgentRemoval"},
		"confirm timeout":  {"hosts/web.yaml", hostSpec + "  rebuildPolicy: {timeouts: {confirm: 1m}}\n", "NotSupported", "spec.rebuildPolicy.timeouts.confirm"},
		"reboot timeout":   {"hosts/web.yaml", hostSpec + "  rebuildPolicy: {timeouts: {reboot: 1m}}\n", "NotSupported", "spec.rebuildPolicy.timeouts.reboot"},
		"malformed remote": {"remotes/prod.yaml", "kind: [", "RemoteInvalid", "remotes/prod.yaml"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t)
			w.publish("web 1")
			if c.key != "" {
				w.put("hosts/web.yaml", hostSpec)
				w.put(c.key, c.data)
			}
			if outcome := w.once(); outcome.Decision.Ready || outcome.Decision.Waiting {
				t.Errorf("decision %+v", outcome.Decision)
			}
			w.want("Ready", meta.False, c.reason, c.message)
			w.want("Stalled", meta.True, c.reason, "")
			w.wantCalls()
			if err := errors.Join(w.store.Delete(t.Context(), "overrides/web.yaml"), w.store.Delete(t.Context(), "remotes/prod.yaml")); err != nil {
				t.Fatal(err)
			}
			w.put("hosts/web.yaml", hostSpec)
			w.publish("web 2")
			w.pass()
			w.want("Ready", meta.True, "UpToDate", "")
		})
	}
}

func TestDefaultsWrittenOutAreSupported(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.put("hosts/web.yaml", hostSpec+`  origin: Auto
  rebuildPolicy:
    mode: Switch
    reboot: {when: Never, delay: 1m}
    rollback: {onFailure: Rollback}
    diskFull: Report
    minFreeDisk: 2GiB
    retention: {generations: 10}
    timeouts: {build: 1h, activate: 1m, confirm: 300s, reboot: 15m}
`)
	w.publish("web 1")
	w.pass()
	w.want("Ready", meta.True, "UpToDate", "")
}

func TestSpecThatIsNotUnderstoodLeavesTheLastGoodOneInForce(t *testing.T) {
	t.Parallel()
	for _, restarted := range []bool{false, true} {
		w := converged(t)
		w.put("hosts/web.yaml", hostSpec+"  newField: 1\n")
		w.publish("web 2")
		if restarted {
			w.restart()
		}
		w.pass()
		w.want("SpecAccepted", meta.False, "SpecInvalid", "newField")
		w.want("Ready", meta.False, "SpecInvalid", "newField")
		w.wantCalls("build", "test", "profile", "boot", "build", "test", "profile", "boot") // it goes on following its remote
	}
}

func TestSpecThatIsGoneStartsNothingNew(t *testing.T) {
	t.Parallel()
	w := converged(t)
	if err := w.store.Delete(t.Context(), "hosts/web.yaml"); err != nil {
		t.Fatal(err)
	}
	w.publish("web 2")
	w.machine.Change(func(m *nixos.Machine) { m.Running = "/nix/store/by-hand" })
	w.now = w.now.Add(time.Hour)
	w.pass()
	w.want("Ready", meta.False, "SpecNotFound", "keeps what it runs")
	w.wantCalls("build", "test", "profile", "boot")
}

func TestStoreThatIsDownIsAnErrorAndRecovers(t *testing.T) {
	t.Parallel()
	w := converged(t)
	w.store.down = errors.New("no route to host")
	if _, err := w.r.Reconcile(t.Context(), "web"); err == nil || !strings.Contains(err.Error(), "no route") {
		t.Errorf("error %v", err)
	}
	w.store.down = nil
	w.publish("web 2")
	w.pass()
	w.want("Ready", meta.True, "UpToDate", "generation 2")
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

func TestJournalOfANewerAgentIsLeftAlone(t *testing.T) {
	t.Parallel()
	w := converged(t)
	path := filepath.Join(w.state, "journal.json")
	newer := []byte(`{"formatVersion": 2, "phase": "Teleporting"}`)
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

func TestANewNixBuildsAgainAndActivatesOnlyWhatDiffers(t *testing.T) {
	t.Parallel()
	w := converged(t)
	w.machine.UpgradeNix()
	w.restart()
	w.pass()
	w.wantCalls("build", "test", "profile", "boot", "build")
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
	w.want("Ready", meta.False, "BootLoaderFailed", "no space left on /boot")
	broken = false
	w.now = w.now.Add(time.Minute)
	w.pass()
	w.want("Ready", meta.True, "UpToDate", "")
	w.wantCalls("build", "test", "profile", "boot", "boot")
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
	if s := w.status().Status; len(s.History) != 1 || s.History[0].Reason != "Interrupted" || s.LastAttempt.Attempt != 2 {
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

func TestDrainInASwitchCommitsWhatWasActivated(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.put("hosts/web.yaml", hostSpec)
	w.publish("web 1")
	ctx, stop := context.WithCancel(t.Context())
	w.machine.OnStart = func(nixos.Activation) (nixos.Result, bool) { stop(); return nixos.Result{Exited: true}, true }
	if _, err := w.r.Reconcile(ctx, "web"); err != nil {
		t.Error(err)
	}
	w.wantCalls("build", "test", "profile", "boot")
	w.want("Ready", meta.True, "UpToDate", "")
}

func TestHeartbeatGoesOnDuringABuild(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.put("hosts/web.yaml", hostSpec)
	w.publish("web 1")
	var puts int64
	synctest.Test(t, func(*testing.T) {
		w.machine.OnBuild = func(nixos.BuildRequest) error {
			before := w.store.puts.Load()
			time.Sleep(16 * time.Minute)
			synctest.Wait()
			puts = w.store.puts.Load() - before
			return nil
		}
		w.pass()
	})
	if puts != 3 {
		t.Errorf("%d heartbeats in 16 minutes", puts)
	}
	w.want("Ready", meta.True, "UpToDate", "")
}

func TestTwoAgentsDoNotWorkInOneStateDirectory(t *testing.T) {
	t.Parallel()
	w := converged(t)
	ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	_, err := host.New(ctx, host.Options{
		Host: "web", Store: w.store, Observer: w.machine, Builder: w.machine, Activator: w.machine, StateDir: w.state,
		Now: time.Now, NewID: func() string { return "x" },
	})
	if !errors.Is(err, host.ErrLocked) {
		t.Errorf("error %v", err)
	}
}

// A switch by hand changes profile and boot default too: all is mended at once.
func TestWholeSwitchByHandIsCorrectedAtOnceAfterItsGrace(t *testing.T) {
	t.Parallel()
	w := converged(t)
	w.machine.Change(func(m *nixos.Machine) {
		m.Running, m.Profile, m.BootDefault = "/nix/store/by-hand", "/nix/store/by-hand", "/nix/store/by-hand"
	})
	w.pass()
	w.now = w.now.Add(15 * time.Minute)
	w.pass()
	w.wantCalls("build", "test", "profile", "boot", "test", "profile", "boot")
	w.want("Ready", meta.True, "UpToDate", "")
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
		if code == 0 {
			w.want("Ready", meta.True, "UpToDate", "")
		} else {
			w.want("Ready", meta.False, "Degraded", "") // not forgotten over the kill
		}
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

func TestDocumentThatCannotBeReadIsReported(t *testing.T) {
	t.Parallel()
	w := converged(t)
	w.store.broken = map[string]error{"remotes/prod.yaml": errors.New("request 1: internal error")}
	if _, err := w.r.Reconcile(t.Context(), "web"); err == nil {
		t.Error("no error")
	}
	w.want("Ready", meta.False, "StoreUnavailable", "observe remote failed")
	w.want("Activated", meta.True, "Running", "")
	if s := w.status().Status; s.System == nil || s.System.Current != w.machine.State().Running {
		t.Errorf("system %+v", s.System)
	}
	w.store.broken = nil
	w.pass()
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

func TestRefusedSpecDoesNotBringAnOlderOneBack(t *testing.T) {
	t.Parallel()
	w := converged(t)
	w.put("hosts/web.yaml", hostSpec+"  maintenanceWindow: {timeZone: UTC}\n")
	w.pass()
	w.want("Stalled", meta.True, "NotSupported", "")
	w.put("hosts/web.yaml", hostSpec+"  maintenanceWindow: {timeZone: UTC}\n  typo: 1\n")
	w.publish("web 2")
	w.restart()
	w.pass()
	w.want("Ready", meta.False, "SpecInvalid", "")
	w.wantCalls("build", "test", "profile", "boot")
}

func TestStateIsForRootAlone(t *testing.T) {
	t.Parallel()
	w := converged(t)
	info, err := os.Stat(w.state)
	if err != nil || info.Mode().Perm() != 0o700 {
		t.Errorf("state directory: %v %v", info.Mode(), err)
	}
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
