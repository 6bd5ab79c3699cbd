package run_test

import (
	"context"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/npcnix/npcnix/nixos/run"
)

// inside says to this test's own program that it is in a namespace of processes
// of its own.
const inside = "NPCNIX_TEST_INSIDE"

// others returns the processes of this namespace but for its first, which does
// nothing but wait, and this one.
func others(t *testing.T) (list []string) {
	t.Helper()
	stats, err := filepath.Glob("/proc/[0-9]*/stat")
	if err != nil {
		t.Fatal(err)
	}
	for _, path := range stats {
		data, err := os.ReadFile(path)
		if err != nil {
			continue // it has just ended
		}
		pid, err := strconv.Atoi(filepath.Base(filepath.Dir(path)))
		if err != nil {
			t.Fatal(err)
		}
		if pid != 1 && pid != os.Getpid() {
			list = append(list, string(data))
		}
	}
	return list
}

// Whatever a builder does: it ends within its limit, and nothing of it is left,
// as the kernel counts it in a namespace of processes of their own.
func TestNothingIsLeftRunning(t *testing.T) { //nolint:paralleltest // one after the other, so that what is left has a culprit
	if os.Getenv(inside) == "" {
		ctx, cancel := context.WithTimeout(t.Context(), 2*limit)
		defer cancel()
		cmd := exec.CommandContext(ctx, "/bin/sh", "-c", `mount -t proc proc /proc && "$0" "$@"`, os.Args[0], "-test.run=^TestNothingIsLeftRunning$", "-test.v") //nolint:gosec // this very program
		cmd.Env = append(os.Environ(), inside+"=1")
		cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWPID | syscall.CLONE_NEWNS, Unshareflags: syscall.CLONE_NEWNS}
		out, err := cmd.CombinedOutput()
		if err != nil || !strings.Contains(string(out), "--- PASS: TestNothingIsLeftRunning/") {
			t.Fatalf("%v (it needs root)\n%s", err, out)
		}
		return
	}
	if err := run.AdoptOrphans(); err != nil {
		t.Fatal(err)
	}
	forever := `while :; do sleep 0.1; done`
	for name, c := range map[string]struct {
		script string
		want   error
	}{
		"ends and leaves a child":                     {`sleep 600 & exit 0`, nil},
		"ends and leaves a child of another session":  {`setsid sleep 600 & exit 0`, nil},
		"ends and leaves one that lost its parent":    {`(setsid sh -c 'trap "" TERM HUP; ` + forever + `' &) ; exit 0`, nil},
		"ends and leaves one that closed its output":  {`(setsid sh -c '` + forever + `' >/dev/null 2>&1 </dev/null &) ; exit 0`, nil},
		"hangs, and so does one that lost its parent": {`(setsid sh -c 'trap "" TERM HUP; ` + forever + `' &) ; exec sleep 600`, run.ErrLimit},
		"goes on after its parent's death":            {`sh -c 'setsid sh -c "trap \"\" TERM; ` + forever + `" & kill -9 $$'; exec sleep 600`, run.ErrLimit},
		"ignores SIGTERM":                             {`trap "" TERM; ` + forever, run.ErrLimit},
		"starts another again and again":              {`echo 'sleep 0.05; setsid sh "$0" &' > $D/again; setsid sh $D/again & exec sleep 600`, run.ErrLimit},
		"prints without end":                          {`exec cat /dev/zero`, run.ErrOutput},
		"prints errors without end":                   {`exec cat /dev/zero >&2`, run.ErrLimit},
		"prints garbage":                              {`head -c 100000 /dev/urandom; head -c 100000 /dev/urandom >&2`, nil},
		"prints without end from a child of its own":  {`setsid cat /dev/zero & exec sleep 600`, run.ErrOutput},
		"stops itself":                                {`kill -STOP $$`, run.ErrLimit},
		"is killed":                                   {`sleep 600 & kill -9 $$`, nil},
	} {
		t.Run(name, func(t *testing.T) {
			cmd := sh(c.script)
			cmd.Limit = time.Second
			cmd.Env = append(cmd.Env, "D="+t.TempDir())
			result, err := run.Run(t.Context(), cmd)
			if !errors.Is(err, c.want) {
				t.Errorf("error %v, want %v", err, c.want)
			}
			if len(result.Stdout) > 4<<20 || len(result.Stderr) > 64<<10 {
				t.Errorf("%d bytes of output, %d of messages", len(result.Stdout), len(result.Stderr))
			}
			if left := others(t); len(left) != 0 {
				t.Errorf("left running:\n%s", strings.Join(left, ""))
			}
		})
	}
	t.Run("is not what something else started", func(t *testing.T) { // such as the SDK's credential_process
		other := exec.CommandContext(t.Context(), "/bin/sh", "-c", "exec sleep 600")
		started := make(chan error)
		go func() {
			started <- other.Start()
		}()
		if _, err := run.Run(t.Context(), sh("sleep 0.2")); err != nil {
			t.Error(err)
		}
		if err := <-started; err != nil {
			t.Fatal(err)
		}
		if _, err := run.Run(t.Context(), sh("exit 0")); err != nil {
			t.Error(err)
		}
		if err := other.Process.Signal(syscall.Signal(0)); err != nil {
			t.Errorf("it was ended: %v", err)
		}
		if err := other.Process.Kill(); err != nil {
			t.Error(err)
		}
		_ = other.Wait() // it was killed
	})
	t.Run("leaves a daemon that starts workers", func(t *testing.T) { // as an activation script may
		log := filepath.Join(t.TempDir(), "log")
		cmd := sh(`setsid sh -c 'sleep 0.3; setsid sh -c "sleep 0.5; echo done > $L" & exit' >/dev/null 2>&1 &`)
		cmd.Leave, cmd.Env = true, append(cmd.Env, "L="+log)
		if _, err := run.Run(t.Context(), cmd); err != nil {
			t.Fatal(err)
		}
		if _, err := run.Run(t.Context(), sh("sleep 1.5")); err != nil { // the worker loses its parent meanwhile
			t.Fatal(err)
		}
		if data, err := os.ReadFile(log); err != nil || string(data) != "done\n" {
			t.Errorf("the worker was ended: %q %v", data, err)
		}
	})
	t.Run("may leave something", func(t *testing.T) {
		cmd := sh(`setsid sleep 600 >/dev/null 2>&1 & echo $!`)
		cmd.Leave = true
		result, err := run.Run(t.Context(), cmd)
		pid := strings.TrimSpace(string(result.Stdout))
		left := others(t)
		if err != nil || !slices.ContainsFunc(left, func(stat string) bool { return strings.HasPrefix(stat, pid+" ") }) {
			t.Errorf("%v, left %v", err, left)
		}
		if _, err := run.Run(t.Context(), sh("exit 0")); err != nil { // nor does the next command end what is older
			t.Error(err)
		}
		if left := others(t); len(left) != 1 {
			t.Errorf("left %v", left)
		}
	})
}
