package main

import (
	"bytes"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/npcnix/npcnix/cmd/exitcode"
	"github.com/npcnix/npcnix/reconciler/host"
	"github.com/npcnix/npcnix/reconciler/plan"
)

func TestCommandLine(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		args []string
		code int
		says string
	}{
		"help":            {[]string{"--help"}, exitcode.OK, "Usage: npcnix-reconciler"},
		"version":         {[]string{"--version"}, exitcode.OK, "npcnix-reconciler "},
		"unknown flag":    {[]string{"--twice"}, exitcode.BadUsage, "twice"},
		"an argument":     {[]string{"--once", "web-1"}, exitcode.BadUsage, `unexpected argument "web-1"`},
		"no store":        {[]string{"--once", "--root", t.TempDir()}, exitcode.BadUsage, "no store: set store in"},
		"malformed store": {[]string{"--once", "--root", t.TempDir(), "--store", "ftp://x"}, exitcode.BadUsage, "unknown scheme"},
		"bad name":        {[]string{"--once", "--root", t.TempDir(), "--store", "file:///x", "--host", "A_B"}, exitcode.BadUsage, "host: Invalid value"},
		"bad log":         {[]string{"--once", "--root", t.TempDir(), "--store", "file:///x", "--log-format", "xml"}, exitcode.BadUsage, "log.format"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var out bytes.Buffer
			code := run(t.Context(), c.args, world{getenv: func(string) string { return "" }, now: time.Now, stdout: &out, stderr: &out})
			if code != c.code || !strings.Contains(out.String(), c.says) {
				t.Errorf("exit code %d, want %d; printed:\n%s", code, c.code, &out)
			}
		})
	}
}

func TestExitCodesOfOnce(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		decision plan.Decision
		err      error
		want     int
	}{
		{plan.Decision{Ready: true}, nil, exitcode.Ready},
		{plan.Decision{Stalled: true}, nil, exitcode.NotReady},
		{plan.Decision{}, nil, exitcode.NotReady},
		{plan.Decision{Waiting: true}, nil, exitcode.Waiting},
		{plan.Decision{Ready: true}, errors.New("broken"), exitcode.Internal},
	} {
		if got := onceCode(host.Outcome{Decision: c.decision}, c.err); got != c.want {
			t.Errorf("%+v %v: %d, want %d", c.decision, c.err, got, c.want)
		}
	}
}

func TestStoreThatFailsAfterTheTargetWasKnownIsNotReady(t *testing.T) {
	t.Parallel()
	o := host.Outcome{TargetKnown: true, StoreFailed: true, Decision: plan.Decision{Ready: true}}
	if got := onceCode(o, errors.New("could not report")); got != exitcode.NotReady {
		t.Errorf("exit code %d", got)
	}
}
