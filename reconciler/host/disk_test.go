package host_test

import (
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/npcnix/npcnix/apis/meta"
	"github.com/npcnix/npcnix/nixos"
)

func TestDiskPreflight(t *testing.T) {
	t.Parallel()
	w := converged(t)
	w.machine.Free = 1 << 30
	w.publish("web 2")
	w.pass()
	w.want("Ready", meta.False, "DiskFull", "is not built: less is free on /nix than rebuildPolicy.minFreeDisk, 2GiB. nix-collect-garbage")
	w.wantCalls("build", "test", "profile", "boot")
	w.spec("  rebuildPolicy: {diskFull: GarbageCollect}\n")
	w.pass()
	w.want("Ready", meta.False, "DiskFull", "Collecting garbage did not make enough room")
	w.pass() // not once more
	w.wantCalls("build", "test", "profile", "boot", "collect")
	w.now = w.now.Add(time.Hour)
	w.machine.OnCollect = func() { w.machine.Free = 3 << 30 }
	w.pass()
	w.want("Ready", meta.True, "UpToDate", "generation 2")
}

// A /boot that is full is made room on as far as retention allows; a spec that
// keeps fewer generations helps a host on which nothing can be committed.
func TestFullBootIsPruned(t *testing.T) {
	t.Parallel()
	w := converged(t)
	for name := range strings.FieldsSeq("2 3") {
		w.publish("web " + name)
		w.pass()
	}
	w.machine.Change(func(m *nixos.Machine) { m.Booted = m.Running })
	w.machine.Full = true
	w.machine.OnStart = func(a nixos.Activation) (nixos.Result, bool) {
		if a.Action == nixos.ActionBoot && w.machine.Generation(1) == "" {
			w.machine.Full = false
		}
		return nixos.Result{Exited: true}, true
	}
	w.publish("web 4")
	calls := len(w.machine.Calls())
	for range 3 { // it is tried once an hour
		w.pass()
		w.now = w.now.Add(time.Minute)
		w.want("Ready", meta.False, "DiskFull", "/boot has no room for generation 4 of prod (abababababab), which waits for it, although no generations are left beyond rebuildPolicy.retention, 10. Keep fewer")
	}
	var made []string
	for _, call := range w.machine.Calls()[calls:] {
		made = append(made, strings.Fields(call)[0])
	}
	if m := w.machine.State(); strings.Join(made, " ") != "build boot" || m.BootDefault != m.Running {
		t.Errorf("it made %v: %+v", made, m)
	}
	w.spec("  rebuildPolicy: {retention: {generations: 2}}\n")
	w.pass()
	w.want("Ready", meta.True, "UpToDate", "generation 4")
}

// The profile keeps as many generations as it shall, and what is needed.
func TestRetention(t *testing.T) {
	t.Parallel()
	w := converged(t)
	first := w.runs()
	w.machine.Change(func(m *nixos.Machine) { m.Booted = first })
	w.spec("  rebuildPolicy: {retention: {generations: 2}}\n")
	for name := range strings.FieldsSeq("2 3 4 5 6") {
		w.publish("web " + name)
		w.pass()
	}
	var left []int64
	for number := range int64(10) {
		if w.machine.Generation(number) != "" {
			left = append(left, number)
		}
	}
	if len(left) != 3 || left[0] != 1 || left[1] != 5 || left[2] != 6 {
		t.Errorf("generations %v are left, the first of them was booted", left)
	}
}

// A disk that is full where the agent keeps its state: nothing is begun that
// could not be remembered, and it goes on when there is room.
func TestFullDisk(t *testing.T) {
	t.Parallel()
	w := converged(t)
	old := w.machine.State().Running
	if err := syscall.Mount("tmpfs", w.state, "tmpfs", 0, "size=1m"); err != nil {
		t.Fatalf("a small disk cannot be mounted, which this test needs root for: %v", err)
	}
	t.Cleanup(func() { _ = syscall.Unmount(w.state, syscall.MNT_DETACH) })
	filler := filepath.Join(w.state, "filler")
	w.now = w.now.Add(time.Hour) // with its state, its identity is another one
	w.restart()
	w.pass()
	w.pass()
	w.want("Ready", meta.True, "UpToDate", "generation 1")
	fill := func() {
		f, err := os.Create(filler)
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = f.Close() }()
		for block := make([]byte, 4096); ; {
			if _, err := f.Write(block); err != nil {
				return
			}
		}
	}
	fill()
	w.publish("web 2")
	_, err := w.r.Reconcile(t.Context(), "web")
	if m := w.machine.State(); m.Running != old || m.Profile != old {
		t.Errorf("machine %+v, %v", m, err)
	}
	w.want("Ready", meta.False, "StateNotWritable", "The agent's state directory cannot be written (no space left on device): nothing is begun that could not be remembered.")
	said := w.status()
	_, _ = w.r.Reconcile(t.Context(), "web")
	if diff := cmp.Diff(said, w.status()); diff != "" {
		t.Errorf("the status changes with mere time: %s", diff)
	}
	if err := os.Remove(filler); err != nil {
		t.Fatal(err)
	}
	w.now = w.now.Add(time.Hour)
	w.pass()
	w.want("Ready", meta.True, "UpToDate", "generation 2")
}

// Targets that fail leave no trees behind but the newest one's.
func TestFailedTargetsLeaveNoTrees(t *testing.T) {
	t.Parallel()
	w := converged(t)
	w.machine.OnBuild = func(nixos.BuildRequest) error {
		return &nixos.BuildError{Failure: nixos.EvaluationFailure, Message: "no", ExitCode: 1}
	}
	for n := range 5 {
		w.publish("web " + strings.Repeat("x", n+2))
		w.pass()
		w.want("Ready", meta.False, "EvaluationFailed", "")
	}
	trees, err := os.ReadDir(filepath.Join(w.state, "trees"))
	if err != nil || len(trees) != 1 {
		t.Errorf("%v, %v", trees, err)
	}
}

// A generation of which a specialisation runs or was booted is kept with it.
func TestRetentionOfSpecialisations(t *testing.T) {
	t.Parallel()
	w := converged(t)
	first := w.runs()
	w.spec("  rebuildPolicy: {retention: {generations: 1}}\n")
	w.machine.Change(func(m *nixos.Machine) { m.Booted = first + "-specialisation-quiet" })
	for name := range strings.FieldsSeq("2 3 4") {
		w.publish("web " + name)
		w.pass()
	}
	if w.machine.Generation(1) != first || w.machine.Generation(2) != "" {
		t.Errorf("generations %q and %q", w.machine.Generation(1), w.machine.Generation(2))
	}
}
