package run_test

import (
	"bytes"
	"context"
	"errors"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/npcnix/npcnix/nixos/run"
)

// limit bounds what must end by itself.
const limit = 30 * time.Second

func sh(script string) run.Command {
	return run.Command{Path: "/bin/sh", Args: []string{"-c", script}, Env: run.Environ([]string{"PATH"}), Limit: limit, Grace: 200 * time.Millisecond}
}

func TestExitCodesAndSignalsAreNoErrors(t *testing.T) {
	t.Parallel()
	for script, want := range map[string]run.Result{
		"echo out; echo err >&2": {Stdout: []byte("out\n"), Stderr: []byte("err\n")},
		"exit 7":                 {ExitCode: 7},
		"kill -TERM $$":          {ExitCode: -1, Signal: "terminated"},
	} {
		got, err := run.Run(t.Context(), sh(script))
		if err != nil || got.ExitCode != want.ExitCode || got.Signal != want.Signal || !bytes.Equal(got.Stdout, want.Stdout) || !bytes.Equal(got.Stderr, want.Stderr) {
			t.Errorf("%s: %+v %v", script, got, err)
		}
	}
}

func TestProgramThatIsNotThereIsAnError(t *testing.T) {
	t.Parallel()
	if _, err := run.Run(t.Context(), run.Command{Path: "no-such-program"}); err == nil || !strings.Contains(err.Error(), "no-such-program") {
		t.Errorf("error %v", err)
	}
}

func TestEnvironmentIsOnlyWhatIsNamed(t *testing.T) {
	t.Setenv("NPCNIX_TEST_SECRET", "hunter2")
	t.Setenv("NPCNIX_TEST_PASSED", "yes")
	c := sh("env")
	c.Env = run.Environ([]string{"NPCNIX_TEST_PASSED", "NPCNIX_TEST_ABSENT"}, "ADDED=1")
	got, err := run.Run(t.Context(), c)
	out := string(got.Stdout)
	if err != nil || strings.Contains(out, "hunter2") || strings.Contains(out, "ABSENT") || !strings.Contains(out, "NPCNIX_TEST_PASSED=yes") || !strings.Contains(out, "ADDED=1") {
		t.Errorf("environment %q, %v", out, err)
	}
	c.Env = nil
	if got, err := run.Run(t.Context(), c); err != nil || strings.Contains(string(got.Stdout), "NPCNIX") {
		t.Errorf("no environment gives %q, %v", got.Stdout, err)
	}
}

// gone waits until the processes whose pids a file names are gone.
func gone(t *testing.T, pidFile string) {
	t.Helper()
	data, err := os.ReadFile(pidFile)
	if err != nil {
		t.Fatal(err)
	}
	ticker := time.NewTicker(10 * time.Millisecond)
	defer ticker.Stop()
	deadline := time.After(limit)
	for word := range strings.FieldsSeq(string(data)) {
		pid, err := strconv.Atoi(word)
		if err != nil {
			t.Fatal(err)
		}
		for alive(pid) {
			select {
			case <-ticker.C:
			case <-deadline:
				t.Fatalf("process %d is still there", pid)
			}
		}
	}
}

// alive reports whether a process runs; a zombie does not.
func alive(pid int) bool {
	if syscall.Kill(pid, 0) != nil {
		return false
	}
	stat, err := os.ReadFile(filepath.Join("/proc", strconv.Itoa(pid), "stat"))
	return err == nil && !bytes.Contains(stat, []byte(") Z "))
}

func TestStoppedCommandLeavesNothingBehind(t *testing.T) {
	t.Parallel()
	for name, script := range map[string]string{
		"plain":                       `echo $$ > $F; exec sleep 600`,
		"with a child":                `sleep 600 & echo $$ $! > $F; wait`,
		"with a child in a session":   `setsid sleep 600 & echo $$ $! > $F; wait`,
		"that ignores SIGTERM":        `trap "" TERM; echo $$ > $F; while :; do sleep 1; done`,
		"whose child ignores SIGTERM": `setsid sh -c 'trap "" TERM; echo $$ > $F.2; while :; do sleep 1; done' & echo $$ > $F; while [ ! -s $F.2 ]; do sleep 0.01; done; cat $F.2 >> $F; wait`,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			pids := filepath.Join(t.TempDir(), "pids")
			c := sh(script)
			c.Env = append(c.Env, "F="+pids)
			c.Limit = time.Second
			_, err := run.Run(t.Context(), c)
			if !errors.Is(err, run.ErrLimit) {
				t.Errorf("error %v", err)
			}
			gone(t, pids)
		})
	}
}

func TestCancelledCommandSaysWhy(t *testing.T) {
	t.Parallel()
	why := errors.New("draining")
	ctx, cancel := context.WithCancelCause(t.Context())
	time.AfterFunc(100*time.Millisecond, func() { cancel(why) })
	if _, err := run.Run(ctx, sh("exec sleep 600")); !errors.Is(err, why) {
		t.Errorf("error %v", err)
	}
}

func TestOutputIsBounded(t *testing.T) {
	t.Parallel()
	if _, err := run.Run(t.Context(), sh("exec cat /dev/zero")); !errors.Is(err, run.ErrOutput) {
		t.Errorf("endless output: %v", err)
	}
	got, err := run.Run(t.Context(), sh("head -c 300000 /dev/zero >&2; echo the end >&2"))
	if err != nil || len(got.Stderr) != 64<<10 || !bytes.HasSuffix(got.Stderr, []byte("the end\n")) {
		t.Errorf("%d bytes of messages, %v", len(got.Stderr), err)
	}
}

func TestChildThatHoldsThePipeIsNotWaitedForForEver(t *testing.T) {
	t.Parallel()
	pids := filepath.Join(t.TempDir(), "pids")
	c := sh(`setsid sleep 600 & echo $! > $F; echo done`)
	c.Env = append(c.Env, "F="+pids)
	got, err := run.Run(t.Context(), c)
	if err != nil || string(got.Stdout) != "done\n" {
		t.Errorf("%+v %v", got, err)
	}
	data, err := os.ReadFile(pids)
	if err != nil {
		t.Fatal(err)
	}
	pid, err := strconv.Atoi(strings.TrimSpace(string(data)))
	if err != nil {
		t.Fatal(err)
	}
	if err := syscall.Kill(pid, syscall.SIGKILL); err != nil { // it was left alone: the command had ended
		t.Error(err)
	}
}
