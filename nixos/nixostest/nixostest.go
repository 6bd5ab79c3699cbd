package nixostest

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/npcnix/npcnix/nixos"
)

// Machine is all roles in one.
type Machine interface {
	nixos.Observer
	nixos.Builder
	nixos.Activator
	nixos.Guard
	// Touched reports whether a run has begun to change the machine.
	Touched(id string) bool
	// TransactionDir is where the machine looks for a transaction.
	TransactionDir(id string) string
	// RootsOf are the paths that Root of that name keeps.
	RootsOf(name string) []string
}

// Harness brings a machine to the contract.
type Harness struct {
	// New returns an empty machine below another root.
	New func(t *testing.T) Machine
	// Flake writes a flake that has the host web.
	Flake func(t *testing.T, dir string, system System)
}

// System is what the host web of a flake is like.
type System struct {
	// Motd tells it from others.
	Motd string
	// Unmarked leaves out the marker for other roots.
	Unmarked bool
	// Hangs makes its activation take ten minutes.
	Hangs bool
}

// limit bounds builds and switches in the contract.
const limit = time.Minute

// GuardActed is the file, in a transaction's directory, to which the harness's
// guard appends a line.
const GuardActed = "acted"

// contract is one sentence that a machine has to fulfil.
type contract struct {
	sentence string
	test     func(t *testing.T, h Harness, m Machine)
}

// Run runs the contract against an implementation.
func Run(t *testing.T, h Harness) {
	t.Helper()
	for _, c := range contracts() {
		t.Run(c.sentence, func(t *testing.T) {
			t.Parallel()
			c.test(t, h, h.New(t))
		})
	}
}

func contracts() []contract {
	return []contract{
		{"an empty machine has nothing", testEmpty},
		{"a build is rooted where it was asked", testBuild},
		{"equal sources give equal systems, others do not", testReproducible},
		{"a missing attribute is told from other failures", testMissingAttribute},
		{"a broken flake is an evaluation failure", testBrokenFlake},
		{"a root that is gone is not built any more", testGoneRoot},
		{"test activates and makes nothing permanent", testActivate},
		{"boot makes a system of the profile the default", testBoot},
		{"boot ignores a system in no profile", testBootWithoutProfile},
		{"setting the profile twice adds one generation", testProfile},
		{"a run that never started says so", testNeverStarted},
		{"an unmarked system is refused, and nothing of it runs", testUnmarked},
		{"a run is awaited by whoever asks, as often as they ask", testAwaitTwice},
		{"a run is started once", testStartTwice},
		{"a run that is stopped did not exit, and says that it was at work", testStop},
		{"a run ends at its limit", testLimit},
		{"awaiting ends with its context, and the run goes on", testAwaitCancelled},
		{"dry-activate changes nothing", testDry},
		{"the profile goes back to a generation that is still there", testProfileBack},
		{"what runs, is the profile's, the default or protected outlasts retention", testRetain},
		{"roots last until they are removed, and what is no store path has none", testRoots},
		{"nix says its version", testVersion},
		{"an armed guard acts after its time, once", testGuardArmed},
		{"a guard that is fired acts at once", testGuardFired},
		{"a guard that is disarmed does not act", testGuardDisarmed},
		{"a guard can be fired although it was never armed, or was disarmed", testGuardUnarmed},
	}
}

// build builds the host web of a flake with that message of the day.
func build(t *testing.T, h Harness, m Machine, motd string, marked bool) (toplevel, outLink string) {
	t.Helper()
	return buildSystem(t, h, m, System{Motd: motd, Unmarked: !marked})
}

func buildSystem(t *testing.T, h Harness, m Machine, system System) (toplevel, outLink string) {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "a tree, with spaces & signs #?%20")
	if err := os.Mkdir(dir, 0o750); err != nil {
		t.Fatal(err)
	}
	h.Flake(t, dir, system)
	outLink = filepath.Join(t.TempDir(), "roots", "web")
	toplevel, err := m.Build(t.Context(), nixos.BuildRequest{Dir: dir, Attribute: "web", OutLink: outLink, Limit: limit})
	if err != nil {
		t.Fatal(err)
	}
	return toplevel, outLink
}

func observe(t *testing.T, m Machine, desired string) nixos.Machine {
	t.Helper()
	got, err := m.Observe(t.Context(), desired)
	if err != nil {
		t.Fatal(err)
	}
	return got
}

// stc runs stc and wants that it ends well.
func stc(t *testing.T, m Machine, id, toplevel string, action nixos.Action) {
	t.Helper()
	if err := m.Start(t.Context(), nixos.Activation{ID: id, Toplevel: toplevel, Action: action, Limit: limit}); err != nil {
		t.Fatal(err)
	}
	result, err := m.Await(t.Context(), id)
	if err != nil || !result.Exited || result.ExitCode != nixos.ExitDone {
		t.Fatalf("%s: %+v %v", action, result, err)
	}
}

func testEmpty(t *testing.T, _ Harness, m Machine) {
	t.Helper()
	if got := observe(t, m, ""); got != (nixos.Machine{}) {
		t.Errorf("an empty machine is %+v", got)
	}
	if id, err := m.BootID(t.Context()); err != nil || len(id) < 36 {
		t.Errorf("boot id %q, %v", id, err)
	}
}

func testBuild(t *testing.T, h Harness, m Machine) {
	t.Helper()
	toplevel, outLink := build(t, h, m, "one", true)
	if target, err := os.Readlink(outLink); err != nil || target != toplevel {
		t.Errorf("root points at %s, %v; built %s", target, err, toplevel)
	}
	if !m.Built(t.Context(), outLink, toplevel) {
		t.Error("a fresh build is not built")
	}
	if got := observe(t, m, toplevel); got.Running != "" || got.Profile != "" {
		t.Errorf("building changed the machine: %+v", got)
	}
}

func testReproducible(t *testing.T, h Harness, m Machine) {
	t.Helper()
	one, _ := build(t, h, m, "one", true)
	again, _ := build(t, h, m, "one", true)
	two, _ := build(t, h, m, "two", true)
	if one != again || one == two {
		t.Errorf("one %s, again %s, two %s", one, again, two)
	}
}

func testMissingAttribute(t *testing.T, h Harness, m Machine) {
	t.Helper()
	dir := t.TempDir()
	h.Flake(t, dir, System{Motd: "one"})
	_, err := m.Build(t.Context(), nixos.BuildRequest{Dir: dir, Attribute: "absent", OutLink: filepath.Join(t.TempDir(), "x"), Limit: limit})
	wantFailure(t, err, nixos.AttributeMissing)
}

func testBrokenFlake(t *testing.T, _ Harness, m Machine) {
	t.Helper()
	_, err := m.Build(t.Context(), nixos.BuildRequest{Dir: t.TempDir(), Attribute: "web", OutLink: filepath.Join(t.TempDir(), "x"), Limit: limit})
	wantFailure(t, err, nixos.EvaluationFailure)
}

func wantFailure(t *testing.T, err error, want nixos.BuildFailure) {
	t.Helper()
	failed, ok := errors.AsType[*nixos.BuildError](err)
	if !ok || failed.Failure != want || failed.Message == "" || failed.ExitCode == 0 {
		t.Errorf("error %+v, want %s", err, want)
	}
}

func testGoneRoot(t *testing.T, h Harness, m Machine) {
	t.Helper()
	toplevel, outLink := build(t, h, m, "one", true)
	if m.Built(t.Context(), outLink, toplevel+"x") {
		t.Error("another system is built")
	}
	if err := os.Remove(outLink); err != nil {
		t.Fatal(err)
	}
	if m.Built(t.Context(), outLink, toplevel) {
		t.Error("still built without its root")
	}
}

func testActivate(t *testing.T, h Harness, m Machine) {
	t.Helper()
	toplevel, _ := build(t, h, m, "one", true)
	stc(t, m, "one", toplevel, nixos.ActionTest)
	got := observe(t, m, toplevel)
	if !got.Runs(toplevel) || got.Profile != "" || got.BootDefault != "" {
		t.Errorf("after test: %+v", got)
	}
}

func testBoot(t *testing.T, h Harness, m Machine) {
	t.Helper()
	one, _ := build(t, h, m, "one", true)
	two, _ := build(t, h, m, "two", true)
	for i, toplevel := range []string{one, two, one} {
		if err := m.SetProfile(t.Context(), toplevel, 0); err != nil {
			t.Fatal(err)
		}
		stc(t, m, fmt.Sprint("boot", i), toplevel, nixos.ActionBoot)
		if got := observe(t, m, toplevel); got.BootDefault != toplevel || got.Profile != toplevel || got.Running != "" {
			t.Errorf("after boot of %s: %+v", toplevel, got)
		}
	}
}

func testBootWithoutProfile(t *testing.T, h Harness, m Machine) {
	t.Helper()
	one, _ := build(t, h, m, "one", true)
	two, _ := build(t, h, m, "two", true)
	if err := m.SetProfile(t.Context(), one, 0); err != nil {
		t.Fatal(err)
	}
	stc(t, m, "one", one, nixos.ActionBoot)
	stc(t, m, "two", two, nixos.ActionBoot)
	if got := observe(t, m, two); got.BootDefault != one {
		t.Errorf("boot default is %s, want %s", got.BootDefault, one)
	}
}

func testProfile(t *testing.T, h Harness, m Machine) {
	t.Helper()
	one, _ := build(t, h, m, "one", true)
	two, _ := build(t, h, m, "two", true)
	for i, toplevel := range []string{one, one, two} {
		if err := m.SetProfile(t.Context(), toplevel, 0); err != nil {
			t.Fatal(err)
		}
		want := []int64{1, 1, 2}[i]
		if got := observe(t, m, ""); got.Profile != toplevel || got.ProfileGeneration != want {
			t.Errorf("profile is %s, generation %d, want %s, %d", got.Profile, got.ProfileGeneration, toplevel, want)
		}
	}
}

func testNeverStarted(t *testing.T, _ Harness, m Machine) {
	t.Helper()
	if result, err := m.Await(t.Context(), "none"); err != nil || result.Exited || result.How == "" {
		t.Errorf("%+v %v", result, err)
	}
}

func testUnmarked(t *testing.T, h Harness, m Machine) {
	t.Helper()
	toplevel, _ := build(t, h, m, "one", false)
	start := m.Start(t.Context(), nixos.Activation{ID: "x", Toplevel: toplevel, Action: nixos.ActionTest, Limit: limit})
	for what, err := range map[string]error{
		"check": m.Check(t.Context(), toplevel), "start": start, "set profile": m.SetProfile(t.Context(), toplevel, 0),
	} {
		if !errors.Is(err, nixos.ErrRootNotSupported) {
			t.Errorf("%s: %v", what, err)
		}
	}
	if got := observe(t, m, toplevel); got != (nixos.Machine{}) {
		t.Errorf("the machine changed: %+v", got)
	}
}

func testAwaitTwice(t *testing.T, h Harness, m Machine) {
	t.Helper()
	toplevel, _ := build(t, h, m, "one", true)
	stc(t, m, "one", toplevel, nixos.ActionTest)
	result, err := m.Await(t.Context(), "one") // as an agent does that was started since
	if err != nil || !result.Exited || result.ExitCode != nixos.ExitDone {
		t.Errorf("%+v %v", result, err)
	}
}

func testVersion(t *testing.T, _ Harness, m Machine) {
	t.Helper()
	if version, err := m.NixVersion(t.Context()); err != nil || version == "" || version[0] < '0' || version[0] > '9' {
		t.Errorf("version %q, %v", version, err)
	}
}

func testStartTwice(t *testing.T, h Harness, m Machine) {
	t.Helper()
	toplevel, _ := build(t, h, m, "one", true)
	stc(t, m, "one", toplevel, nixos.ActionTest)
	err := m.Start(t.Context(), nixos.Activation{ID: "one", Toplevel: toplevel, Action: nixos.ActionTest, Limit: limit})
	if !errors.Is(err, nixos.ErrRunExists) {
		t.Errorf("second start: %v", err)
	}
}

// hanging starts a run that does not end by itself within a test.
func hanging(t *testing.T, h Harness, m Machine, limit time.Duration) (toplevel string) {
	t.Helper()
	toplevel, _ = buildSystem(t, h, m, System{Motd: "hangs", Hangs: true})
	if err := m.Start(t.Context(), nixos.Activation{ID: "hangs", Toplevel: toplevel, Action: nixos.ActionTest, Limit: limit}); err != nil {
		t.Fatal(err)
	}
	return toplevel
}

func testStop(t *testing.T, h Harness, m Machine) {
	t.Helper()
	toplevel := hanging(t, h, m, limit)
	eventually(func() bool { return m.Touched("hangs") })
	if err := m.Stop(t.Context(), "hangs"); err != nil {
		t.Fatal(err)
	}
	result, err := m.Await(t.Context(), "hangs")
	if err != nil || result.Exited || result.How == "" || !result.Touched {
		t.Errorf("%+v %v", result, err)
	}
	if got := observe(t, m, toplevel); got.Running != "" {
		t.Errorf("it runs %s", got.Running)
	}
	if err := m.Stop(t.Context(), "hangs"); err != nil {
		t.Errorf("stop what does not run: %v", err)
	}
}

func testLimit(t *testing.T, h Harness, m Machine) {
	t.Helper()
	hanging(t, h, m, time.Second)
	result, err := m.Await(t.Context(), "hangs")
	if err != nil || result.Exited || !strings.Contains(result.How, "time limit") {
		t.Errorf("%+v %v", result, err)
	}
}

func testAwaitCancelled(t *testing.T, h Harness, m Machine) {
	t.Helper()
	hanging(t, h, m, limit)
	ctx, cancel := context.WithTimeout(t.Context(), time.Millisecond)
	defer cancel()
	if result, err := m.Await(ctx, "hangs"); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("%+v %v", result, err)
	}
	if err := m.Stop(t.Context(), "hangs"); err != nil {
		t.Fatal(err)
	}
}

func testDry(t *testing.T, h Harness, m Machine) {
	t.Helper()
	toplevel, _ := build(t, h, m, "one", true)
	stc(t, m, "dry", toplevel, nixos.ActionDry)
	if got := observe(t, m, toplevel); got != (nixos.Machine{}) {
		t.Errorf("the machine changed: %+v", got)
	}
}

func testProfileBack(t *testing.T, h Harness, m Machine) {
	t.Helper()
	one, _ := build(t, h, m, "one", true)
	two, _ := build(t, h, m, "two", true)
	for _, c := range []struct {
		toplevel         string
		generation, want int64
	}{{one, 0, 1}, {two, 0, 2}, {one, 1, 1}, {two, 1, 2}, {one, 9, 3}} {
		if err := m.SetProfile(t.Context(), c.toplevel, c.generation); err != nil {
			t.Fatal(err)
		}
		if got := observe(t, m, ""); got.Profile != c.toplevel || got.ProfileGeneration != c.want {
			t.Errorf("profile is %s, generation %d, want %s, %d", got.Profile, got.ProfileGeneration, c.toplevel, c.want)
		}
	}
}

func testRetain(t *testing.T, h Harness, m Machine) {
	t.Helper()
	names := []string{"runs", "is protected", "is the default", "is nothing", "is the profile's"}
	systems := make([]string, len(names))
	for i, name := range names {
		systems[i], _ = build(t, h, m, name, true)
		if err := m.SetProfile(t.Context(), systems[i], 0); err != nil {
			t.Fatal(err)
		}
		switch name {
		case "runs":
			stc(t, m, "runs", systems[i], nixos.ActionTest)
		case "is the default":
			stc(t, m, "default", systems[i], nixos.ActionBoot)
		}
	}
	for range 2 {
		if err := m.Retain(t.Context(), 1, systems[1], ""); err != nil {
			t.Fatal(err)
		}
	}
	newest := int64(len(names))
	for i, name := range names { // a generation that is gone cannot be gone back to
		want := int64(i + 1)
		if name == "is nothing" {
			newest++
			want = newest
		}
		if err := m.SetProfile(t.Context(), systems[i], int64(i+1)); err != nil {
			t.Fatal(err)
		}
		if got := observe(t, m, ""); got.ProfileGeneration != want {
			t.Errorf("what %s is generation %d, want %d", name, got.ProfileGeneration, want)
		}
	}
}

func testRoots(t *testing.T, h Harness, m Machine) {
	t.Helper()
	one, _ := build(t, h, m, "one", true)
	if err := m.Root(t.Context(), "x", one, "", "/run/current-system", "/nix/store/../x"); err != nil {
		t.Fatal(err)
	}
	if roots := m.RootsOf("x"); len(roots) != 1 || roots[0] != one {
		t.Errorf("roots %v, want %s", roots, one)
	}
	for range 2 {
		if err := m.Unroot("x"); err != nil {
			t.Fatal(err)
		}
	}
	if roots := m.RootsOf("x"); len(roots) != 0 {
		t.Errorf("roots %v are left", roots)
	}
}

// transaction makes the directory of a transaction where the machine looks for it.
func transaction(t *testing.T, m Machine, id string) string {
	t.Helper()
	dir := m.TransactionDir(id)
	if err := os.MkdirAll(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	return dir
}

// acted waits until the guard has acted, and says how often it did.
func acted(t *testing.T, dir string) int {
	t.Helper()
	n := 0
	eventually(func() bool {
		data, err := os.ReadFile(filepath.Join(dir, GuardActed))
		n = strings.Count(string(data), "\n")
		return err == nil && n > 0
	})
	return n
}

// eventually waits for a condition, within a limit.
func eventually(condition func() bool) {
	for tries := limit / time.Millisecond; tries > 0 && !condition(); tries-- {
		time.Sleep(time.Millisecond)
	}
}

func testGuardArmed(t *testing.T, _ Harness, m Machine) {
	t.Helper()
	dir := transaction(t, m, "armed")
	for _, after := range []time.Duration{time.Hour, 200 * time.Millisecond} { // the newer takes its place
		if err := m.Arm(t.Context(), "armed", dir, after); err != nil {
			t.Fatal(err)
		}
	}
	if n := acted(t, dir); n != 1 {
		t.Errorf("it acted %d times", n)
	}
}

func testGuardFired(t *testing.T, _ Harness, m Machine) {
	t.Helper()
	dir := transaction(t, m, "fired")
	if err := m.Arm(t.Context(), "fired", dir, time.Hour); err != nil {
		t.Fatal(err)
	}
	if err := m.Fire(t.Context(), "fired", dir); err != nil {
		t.Fatal(err)
	}
	if n := acted(t, dir); n != 1 {
		t.Errorf("it acted %d times", n)
	}
	if err := m.Disarm(t.Context(), "fired"); err != nil {
		t.Error(err)
	}
}

func testGuardDisarmed(t *testing.T, _ Harness, m Machine) {
	t.Helper()
	dir := transaction(t, m, "disarmed")
	if err := m.Arm(t.Context(), "disarmed", dir, time.Hour); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		if err := m.Disarm(t.Context(), "disarmed"); err != nil {
			t.Fatal(err)
		}
	}
	eventually(func() bool { runs, err := m.Runs(t.Context(), "disarmed"); return err == nil && !runs })
	if _, err := os.Stat(filepath.Join(dir, GuardActed)); err == nil {
		t.Error("it acted")
	}
}

func testGuardUnarmed(t *testing.T, _ Harness, m Machine) {
	t.Helper()
	dir := transaction(t, m, "unarmed")
	if err := m.Arm(t.Context(), "unarmed", dir, time.Hour); err != nil { // which links its program
		t.Fatal(err)
	}
	if err := m.Disarm(t.Context(), "unarmed"); err != nil {
		t.Fatal(err)
	}
	if err := m.Fire(t.Context(), "unarmed", dir); err != nil {
		t.Fatal(err)
	}
	if n := acted(t, dir); n != 1 {
		t.Errorf("it acted %d times", n)
	}
}
