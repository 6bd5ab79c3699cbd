package nixostest

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/npcnix/npcnix/nixos"
)

// Machine is all roles in one.
type Machine interface {
	nixos.Observer
	nixos.Builder
	nixos.Activator
}

// Implementation names what is under test.
type Implementation string

// The implementations.
const (
	Local Implementation = "local"
	Fake  Implementation = "fake"
)

// Harness brings a machine to the contract.
type Harness struct {
	// New returns an empty machine below another root.
	New func(t *testing.T) Machine
	// Flake writes a flake that has the host web with that message of the day,
	// or, unless marked, without the marker for other roots.
	Flake func(t *testing.T, dir, motd string, marked bool)
}

// limit bounds builds and switches in the contract.
const limit = time.Minute

// contract is one sentence that a machine has to fulfil.
type contract struct {
	sentence string
	test     func(t *testing.T, h Harness, m Machine)
	// skipped says why an implementation cannot show it.
	skipped map[Implementation]string
}

// Check returns an error if a part of the contract is shown by nobody.
func Check() error {
	var errs []error
	for _, c := range contracts() {
		if len(c.skipped) > 1 {
			errs = append(errs, fmt.Errorf("%q is skipped by all", c.sentence))
		}
	}
	return errors.Join(errs...)
}

// Run runs the contract against an implementation.
func Run(t *testing.T, which Implementation, h Harness) {
	t.Helper()
	if err := Check(); err != nil {
		t.Fatal(err)
	}
	for _, c := range contracts() {
		t.Run(c.sentence, func(t *testing.T) {
			t.Parallel()
			if why, skipped := c.skipped[which]; skipped {
				t.Skipf("not shown by %s: %s", which, why)
			}
			c.test(t, h, h.New(t))
		})
	}
}

func contracts() []contract {
	return []contract{
		{"an empty machine has nothing", testEmpty, nil},
		{"a build is rooted where it was asked", testBuild, nil},
		{"equal sources give equal systems, others do not", testReproducible, nil},
		{"a missing attribute is told from other failures", testMissingAttribute, nil},
		{"a broken flake is an evaluation failure", testBrokenFlake, nil},
		{"a root that is gone is not built any more", testGoneRoot, nil},
		{"test activates and makes nothing permanent", testActivate, nil},
		{"boot makes a system of the profile the default", testBoot, nil},
		{"boot ignores a system in no profile", testBootWithoutProfile, nil},
		{"setting the profile twice adds one generation", testProfile, nil},
		{"a run that never started says so", testNeverStarted, nil},
		{"an unmarked system is refused, and nothing of it runs", testUnmarked, nil},
		{"a run is over when it was awaited, and its lock is free", testAwaitTwice, map[Implementation]string{Fake: "its runs hold no lock"}},
		{"nix says its version", testVersion, nil},
	}
}

// build builds the host web of a flake with that message of the day.
func build(t *testing.T, h Harness, m Machine, motd string, marked bool) (toplevel, outLink string) {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "a tree, with spaces & signs #?%20")
	if err := os.Mkdir(dir, 0o750); err != nil {
		t.Fatal(err)
	}
	h.Flake(t, dir, motd, marked)
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
	if id, err := m.BootID(t.Context()); err != nil || len(id) != 36 {
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
	h.Flake(t, dir, "one", true)
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
	for _, toplevel := range []string{one, two, one} {
		if err := m.SetProfile(t.Context(), toplevel); err != nil {
			t.Fatal(err)
		}
		stc(t, m, "boot", toplevel, nixos.ActionBoot)
		if got := observe(t, m, toplevel); got.BootDefault != toplevel || got.Profile != toplevel || got.Running != "" {
			t.Errorf("after boot of %s: %+v", toplevel, got)
		}
	}
}

func testBootWithoutProfile(t *testing.T, h Harness, m Machine) {
	t.Helper()
	one, _ := build(t, h, m, "one", true)
	two, _ := build(t, h, m, "two", true)
	if err := m.SetProfile(t.Context(), one); err != nil {
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
		if err := m.SetProfile(t.Context(), toplevel); err != nil {
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
		"check": m.Check(t.Context(), toplevel), "start": start, "set profile": m.SetProfile(t.Context(), toplevel),
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
