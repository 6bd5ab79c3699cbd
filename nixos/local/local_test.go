package local_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/npcnix/npcnix/nixos"
	"github.com/npcnix/npcnix/nixos/local"
	"github.com/npcnix/npcnix/nixos/nixostest"
)

// The tests' own program is what local.Machine starts anew for a run of stc.
func TestMain(m *testing.M) {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM)
	if code, handled := local.Helper(ctx, os.Args[1:], os.Getenv); handled {
		os.Exit(code)
	}
	stop()
	if len(os.Args) > 1 && os.Args[1] == "guard" {
		os.Exit(guard(os.Args[2:]))
	}
	os.Exit(m.Run())
}

// guard is what the program of these tests does as a guard: it waits as a guard
// does, and leaves a line.
func guard(args []string) int {
	dir, after := args[len(args)-1], time.Duration(0)
	for i, arg := range args {
		if arg == "--after" {
			after, _ = time.ParseDuration(args[i+1])
		}
	}
	time.Sleep(after) // SIGTERM ends it, as it does a guard that waits
	f, err := os.OpenFile(filepath.Join(dir, nixostest.GuardActed), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err == nil {
		_, err = f.WriteString("acted\n")
	}
	if err != nil {
		return 1
	}
	return 0
}

func (m machine) TransactionDir(id string) string { return filepath.Join(m.state, "transactions", id) }

// machine adds what the contract wants to look at.
type machine struct {
	*local.Machine

	state string
}

func (m machine) Touched(id string) bool {
	return strings.Contains(string(m.Output(id, 1<<10)), "activating the configuration")
}

func (m machine) RootsOf(name string) (paths []string) {
	links, _ := filepath.Glob(filepath.Join(strings.NewReplacer(" ", "?", "[", "?").Replace(m.state), "gcroots", name+".*"))
	for _, link := range links {
		if target, err := os.Readlink(link); err == nil {
			paths = append(paths, target)
		}
	}
	return paths
}

// newMachine returns an empty machine in a directory.
func newMachine(t *testing.T, root string) machine {
	t.Helper()
	own, err := local.Executable()
	if err != nil {
		t.Fatal(err)
	}
	state := filepath.Join(root, "state")
	m, err := local.New(t.Context(), local.Options{Root: root, StateDir: state, CacheDir: filepath.Join(root, "cache"), Executable: own})
	if err != nil {
		t.Fatal(err)
	}
	return machine{m, state}
}

// flake writes the example's system with the host web.
func flake(t *testing.T, dir, host string) {
	t.Helper()
	files := map[string]string{"flake.nix": `{ outputs = _: { nixosConfigurations.web = import ./system.nix "web" ` + host + `; }; }`}
	for _, name := range []string{"system.nix", "switch-to-configuration.sh"} {
		data, err := os.ReadFile("../../examples/flake/" + name)
		if err != nil {
			t.Fatal(err)
		}
		files[name] = string(data)
	}
	for name, data := range files {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, []byte(data), 0o600); err != nil {
			t.Fatal(err)
		}
		if err := os.Chtimes(path, time.Unix(1, 0), time.Unix(1, 0)); err != nil { // as unpacking does
			t.Fatal(err)
		}
	}
	if err := os.Chtimes(dir, time.Unix(1, 0), time.Unix(1, 0)); err != nil {
		t.Fatal(err)
	}
}

func build(t *testing.T, m *local.Machine, host string) string {
	t.Helper()
	dir := t.TempDir()
	flake(t, dir, host)
	toplevel, err := m.Build(t.Context(), nixos.BuildRequest{Dir: dir, Attribute: "web", OutLink: filepath.Join(t.TempDir(), "root"), Limit: time.Minute})
	if err != nil {
		t.Fatal(err)
	}
	return toplevel
}

func TestContract(t *testing.T) {
	t.Parallel()
	nixostest.Run(t, nixostest.Harness{
		New: func(t *testing.T) nixostest.Machine {
			t.Helper()
			return newMachine(t, filepath.Join(t.TempDir(), "a root, with spaces & signs #?%20"))
		},
		Flake: func(t *testing.T, dir string, system nixostest.System) {
			t.Helper()
			activation := ""
			if system.Hangs {
				activation = "sleep 600"
			}
			flake(t, dir, fmt.Sprintf("{ motd = %q; demo = %v; activation = %q; }", system.Motd, !system.Unmarked, activation))
		},
	})
}

// An agent that is started while an earlier one's switch still runs waits for
// it and learns how it ended.
func TestSwitchOutlivesItsAgent(t *testing.T) {
	t.Parallel()
	root := t.TempDir()
	first, second := newMachine(t, root), newMachine(t, root)
	gate := filepath.Join(root, "gate")
	toplevel := build(t, first.Machine, `{ activation = "while [ ! -e `+gate+` ]; do sleep 0.05; done; exit 1"; }`)
	a := nixos.Activation{ID: "one", Toplevel: toplevel, Action: nixos.ActionTest, Limit: time.Minute}
	if err := first.Start(t.Context(), a); err != nil {
		t.Fatal(err)
	}
	if err := second.Start(t.Context(), a); !errors.Is(err, nixos.ErrRunExists) {
		t.Errorf("second start: %v", err)
	}
	short, cancel := context.WithTimeout(t.Context(), 200*time.Millisecond)
	defer cancel()
	if result, err := second.Await(short, "one"); err == nil {
		t.Errorf("it was not waited for: %+v", result)
	}
	if err := os.WriteFile(gate, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for _, m := range []machine{second, first} {
		result, err := m.Await(t.Context(), "one")
		if err != nil || !result.Exited || result.ExitCode != nixos.ExitActivationFailed || !result.Touched {
			t.Errorf("%+v %v", result, err)
		}
	}
}

// What a switch leaves behind in the background holds nobody up.
func TestRunEndsWithItsProcess(t *testing.T) {
	t.Parallel()
	root := t.TempDir()
	m := newMachine(t, root)
	toplevel := build(t, m.Machine, "{ activation = ''sleep 600 >/dev/null 2>&1 & echo $! > $NPCNIX_ROOT/left''; }")
	if err := m.Start(t.Context(), nixos.Activation{ID: "one", Toplevel: toplevel, Action: nixos.ActionTest, Limit: time.Minute}); err != nil {
		t.Fatal(err)
	}
	if result, err := newMachine(t, root).Await(t.Context(), "one"); err != nil || !result.Done() {
		t.Errorf("%+v %v", result, err)
	}
	left, err := os.ReadFile(filepath.Join(root, "left"))
	if err != nil {
		t.Fatal(err)
	}
	pid, err := strconv.Atoi(strings.TrimSpace(string(left)))
	if err != nil {
		t.Fatal(err)
	}
	if err := syscall.Kill(pid, syscall.SIGKILL); err != nil { // it was let go on
		t.Error(err)
	}
}

// A process that waits for a run can be killed: then nobody knows how the run
// ended, and the result says so.
func TestRunWhoseResultIsLostSaysSo(t *testing.T) {
	t.Parallel()
	root := t.TempDir()
	m := newMachine(t, root)
	toplevel := build(t, m.Machine, "{ activation = ''kill -KILL $(cat /proc/$PPID/status | sed -n 's/^PPid:.//p'); sleep 600''; }")
	if err := m.Start(t.Context(), nixos.Activation{ID: "one", Toplevel: toplevel, Action: nixos.ActionTest, Limit: time.Minute}); err != nil {
		t.Fatal(err)
	}
	if result, err := m.Await(t.Context(), "one"); err != nil || result.Exited || !result.Lost {
		t.Errorf("%+v %v", result, err)
	}
}

func TestResultsOfRealRuns(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		host string
		code int
		how  string
	}{
		"activation fails":    {`{ activation = "exit 1"; }`, nixos.ExitActivationFailed, ""},
		"unit fails":          {`{ failedUnits = [ "x.service" ]; }`, nixos.ExitUnitsFailed, ""},
		"killed":              {`{ activation = "kill -KILL $PPID"; }`, -1, "it was ended by signal: killed"},
		"longer than allowed": {`{ activation = "sleep 600"; }`, -1, "it was stopped at its time limit"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			m := newMachine(t, t.TempDir())
			toplevel := build(t, m.Machine, c.host)
			a := nixos.Activation{ID: "x", Toplevel: toplevel, Action: nixos.ActionTest, Limit: time.Minute}
			if strings.Contains(c.how, "time limit") {
				a.Limit = time.Second
			}
			if err := m.Start(t.Context(), a); err != nil {
				t.Fatal(err)
			}
			result, err := m.Await(t.Context(), "x")
			if err != nil || (result.Exited && result.ExitCode != c.code) || !strings.Contains(result.How, c.how) || result.Exited != (c.how == "") {
				t.Errorf("%+v %v", result, err)
			}
		})
	}
}

func TestSpecialisationIsRecognised(t *testing.T) {
	t.Parallel()
	root := t.TempDir()
	m := newMachine(t, root)
	parent, child := filepath.Join(root, "parent"), filepath.Join(root, "child")
	for _, dir := range []string{filepath.Join(parent, "specialisation"), child, filepath.Join(root, "run")} {
		if err := os.MkdirAll(dir, 0o750); err != nil {
			t.Fatal(err)
		}
	}
	for link, target := range map[string]string{parent + "/specialisation/gaming": child, root + "/run/current-system": child} {
		if err := os.Symlink(target, link); err != nil {
			t.Fatal(err)
		}
	}
	got, err := m.Observe(t.Context(), parent)
	if err != nil || got.Specialisation != "gaming" || !got.Runs(parent) || got.Runs("") {
		t.Errorf("%+v %v", got, err)
	}
}

func TestBootDefaultIsReadOnlyWhereItIsCertain(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct{ loader, entry, want string }{
		"systemd-boot":  {"timeout 5\ndefault nixos-generation-7.conf\n", "title NixOS\noptions init=/nix/store/x-nixos-system/init loglevel=4\n", "/nix/store/x-nixos-system"},
		"without .conf": {"default nixos-generation-7\n", "options init=/nix/store/x/init\n", "/nix/store/x"},
		"a pattern":     {"default nixos-*\n", "options init=/nix/store/x/init\n", nixos.Unknown},
		"saved":         {"default @saved\n", "options init=/nix/store/x/init\n", nixos.Unknown},
		"no default":    {"timeout 5\n", "options init=/nix/store/x/init\n", nixos.Unknown},
		"no init":       {"default nixos-generation-7.conf\n", "options quiet\n", nixos.Unknown},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			root := t.TempDir()
			if err := os.MkdirAll(filepath.Join(root, "boot/loader/entries"), 0o750); err != nil {
				t.Fatal(err)
			}
			for file, data := range map[string]string{"loader.conf": c.loader, "entries/nixos-generation-7.conf": c.entry} {
				if err := os.WriteFile(filepath.Join(root, "boot/loader", file), []byte(data), 0o600); err != nil {
					t.Fatal(err)
				}
			}
			if got, err := newMachine(t, root).Observe(t.Context(), ""); err != nil || got.BootDefault != c.want {
				t.Errorf("boot default is %q, %v; want %q", got.BootDefault, err, c.want)
			}
		})
	}
}

// A disk that is full holds up no switch back: its files are in memory then.
func TestRunOnAFullDisk(t *testing.T) {
	t.Parallel()
	root := t.TempDir()
	m := newMachine(t, root)
	toplevel := build(t, m.Machine, `{ motd = "back"; }`)
	if err := os.MkdirAll(m.state, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := syscall.Mount("tmpfs", m.state, "tmpfs", 0, "nr_inodes=1"); err != nil { // none is left
		t.Fatalf("a full disk cannot be mounted, which this test needs root for: %v", err)
	}
	t.Cleanup(func() { _ = syscall.Unmount(m.state, syscall.MNT_DETACH) })
	if err := m.Start(t.Context(), nixos.Activation{ID: "one", Toplevel: toplevel, Action: nixos.ActionTest, Limit: time.Minute}); err != nil {
		t.Fatal(err)
	}
	if result, err := m.Await(t.Context(), "one"); err != nil || !result.Done() || !result.Touched {
		t.Errorf("%+v %v", result, err)
	}
	if got, err := m.Observe(t.Context(), toplevel); err != nil || got.Running != toplevel {
		t.Errorf("%+v %v", got, err)
	}
}

// One that becomes full while a switch runs does not lose how it ended.
func TestDiskThatFillsUpDuringARun(t *testing.T) {
	t.Parallel()
	root := t.TempDir()
	m := newMachine(t, root)
	toplevel := build(t, m.Machine, `{ motd = "fills"; activation = "sleep 1"; }`)
	if err := os.MkdirAll(m.state, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := syscall.Mount("tmpfs", m.state, "tmpfs", 0, "nr_inodes=16"); err != nil {
		t.Fatalf("a small disk cannot be mounted, which this test needs root for: %v", err)
	}
	t.Cleanup(func() { _ = syscall.Unmount(m.state, syscall.MNT_DETACH) })
	if err := m.Start(t.Context(), nixos.Activation{ID: "one", Toplevel: toplevel, Action: nixos.ActionTest, Limit: time.Minute}); err != nil {
		t.Fatal(err)
	}
	limited, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	ticker := time.NewTicker(10 * time.Millisecond)
	defer ticker.Stop()
	for len(m.Output("one", 1)) == 0 && limited.Err() == nil {
		<-ticker.C
	}
	n := 0
	for os.WriteFile(filepath.Join(m.state, strconv.Itoa(n)), nil, 0o600) == nil {
		n++
	}
	if result, err := m.Await(t.Context(), "one"); err != nil || !result.Done() || !result.Touched {
		t.Errorf("%+v %v", result, err)
	}
}

func TestWarnings(t *testing.T) {
	t.Parallel()
	root := t.TempDir()
	m := newMachine(t, root)
	if err := os.MkdirAll(m.state, 0o700); err != nil {
		t.Fatal(err)
	}
	if warnings := m.Warnings(t.Context()); len(warnings) != 1 || !strings.Contains(warnings[0], "systemd does not run here") {
		t.Errorf("warnings %q", warnings)
	}
	if err := syscall.Mount("tmpfs", m.state, "tmpfs", 0, "size=1m"); err != nil {
		t.Fatalf("no file system in memory can be mounted, which this test needs root for: %v", err)
	}
	t.Cleanup(func() { _ = syscall.Unmount(m.state, syscall.MNT_DETACH) })
	if warnings := m.Warnings(t.Context()); len(warnings) != 2 || !strings.Contains(warnings[1], "is in memory") {
		t.Errorf("warnings %q", warnings)
	}
}
