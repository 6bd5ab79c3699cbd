package main

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"

	"github.com/npcnix/npcnix/apis/codec"
	"github.com/npcnix/npcnix/cmd/exitcode"
	"github.com/npcnix/npcnix/store"
	"github.com/npcnix/npcnix/store/archive"
)

func TestMain(m *testing.M) {
	testscript.Main(m, map[string]func(){"npcnix": main})
}

// The scripts show the command line as scripts and people use it; each has an
// empty directory as its store.
func TestScripts(t *testing.T) {
	t.Parallel()
	testscript.Run(t, testscript.Params{
		Dir: "testdata/script",
		Setup: func(e *testscript.Env) error {
			e.Setenv("NPCNIX_STORE", "file://"+e.WorkDir+"/store")
			e.Setenv("HOME", e.WorkDir)
			for _, name := range []string{"GIT_AUTHOR_NAME", "GIT_AUTHOR_EMAIL", "GIT_COMMITTER_NAME", "GIT_COMMITTER_EMAIL"} {
				e.Setenv(name, "dev@example.org")
			}
			e.Setenv("GIT_CONFIG_GLOBAL", "/dev/null")
			e.Setenv("GIT_AUTHOR_DATE", "2026-11-22T10:00:00Z")
			e.Setenv("GIT_COMMITTER_DATE", "2026-11-22T10:00:00Z")
			return nil
		},
		Cmds: map[string]func(ts *testscript.TestScript, neg bool, args []string){
			"code":   code,
			"age":    setAge,
			"fifo":   func(ts *testscript.TestScript, _ bool, args []string) { ts.Check(mkfifo(ts.MkAbs(args[0]))) },
			"repeat": repeat,
		},
	})
}

// code N COMMAND… wants that exit code of npcnix.
func code(ts *testscript.TestScript, _ bool, args []string) {
	err := ts.Exec(args[1], args[2:]...)
	got := "0"
	if err != nil {
		got = strings.TrimPrefix(err.Error(), "exit status ")
	}
	if got != args[0] {
		ts.Fatalf("exit code %s, want %s", got, args[0])
	}
}

// age FILE DURATION makes a file that much older.
func setAge(ts *testscript.TestScript, _ bool, args []string) {
	d, err := time.ParseDuration(args[1])
	ts.Check(err)
	then := time.Now().Add(-d)
	ts.Check(os.Chtimes(ts.MkAbs(args[0]), then, then))
}

// repeat FILE TEXT N writes a text n times.
func repeat(ts *testscript.TestScript, _ bool, args []string) {
	n := 0
	_, err := fmt.Sscan(args[2], &n)
	ts.Check(err)
	ts.Check(os.MkdirAll(filepath.Dir(ts.MkAbs(args[0])), 0o750))
	ts.Check(os.WriteFile(ts.MkAbs(args[0]), []byte(strings.Repeat(args[1]+"\n", n)), 0o600))
}

func TestInputsAreFoundInFlakes(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]bool{
		`{ outputs = { self }: { }; }`:                                 false,
		`{ outputs = _: { }; }`:                                        false,
		`{ outputs = inputs: { }; }`:                                   false,
		`{ inputs = { }; outputs = { self, ... }: { }; }`:              false,
		`{ description = "no inputs here"; outputs = { self }: { }; }`: false,
		`{ /* inputs.nixpkgs.url = "x"; */ # inputs = { a.url = "x"; };` + "\n outputs = { self }: { }; }": false,
		`{ outputs = { self }: { x = self.inputs.foo; }; }`:                                                false,
		`{ inputs.nixpkgs.url = "github:NixOS/nixpkgs"; outputs = { self, nixpkgs }: { }; }`:               true,
		"{ inputs = {\n nixpkgs.url = \"x\"; };\n outputs = inputs: { }; }":                                true,
		"{ outputs = { self }: {\n    x = { inputs = { a = 1; }; }; }; }":                                  false,
		"{\n  outputs = inputs: { };\n  inputs = {\n    a.url = \"x\"; }; }":                               true,
		`{ outputs = { self, nixpkgs }: { }; }`:                                                            true,
		`{ outputs = args@{ self, nixpkgs, ... }: { }; }`:                                                  true,
		`{ inputs."nixpkgs".url = "x"; outputs = _: { }; }`:                                                true,
	} {
		if got := hasInputs(text); got != want {
			t.Errorf("%s: %v", text, got)
		}
	}
}

func TestUserinfoIsRemovedFromURLs(t *testing.T) {
	t.Parallel()
	for in, want := range map[string]string{
		"https://user:hunter2@example.org/infra.git": "https://example.org/infra.git",
		"https://hunter2@example.org/infra.git":      "https://example.org/infra.git",
		"ssh://git@example.org/infra.git":            "ssh://example.org/infra.git",
		"git@example.org:infra.git":                  "git@example.org:infra.git",
		"/srv/git/infra.git":                         "/srv/git/infra.git",
		"https://us%er:hunter2@example.org/":         "",
	} {
		if got := withoutUserinfo(in); got != want {
			t.Errorf("%s became %s, want %s", in, got, want)
		}
	}
}

func TestNothingPrintedMovesTheTerminal(t *testing.T) {
	t.Parallel()
	if got := printable("a\x1b[31mb\rc\u202ed\u009b31m\ne"); got != "a\ufffd[31mb\ufffdc\ufffdd\ufffd31m\ne" {
		t.Errorf("%q", got)
	}
	var out strings.Builder
	table := table{w: &out}
	table.add("web-1\nweb-2\tTrue", "")
	if err := table.print("NAME", "READY"); err != nil || out.String() != "NAME\tREADY\nweb-1 web-2 True\t-\n" {
		t.Errorf("%q %v", out.String(), err)
	}
}

func TestExitCodes(t *testing.T) {
	t.Parallel()
	for want, errs := range map[int][]error{
		exitcode.Failed:   {errors.New("x"), store.ErrAccessDenied, store.ErrBucketNotFound},
		exitcode.Usage:    {errUsage},
		exitcode.Refused:  {errRefused, &codec.InvalidError{}, codec.ErrTooLarge, archive.ErrRefused, archive.ErrInvalid},
		exitcode.NotFound: {errNotFound, store.ErrNotFound},
		exitcode.Conflict: {store.ErrConflict},
	} {
		for _, err := range errs {
			c := &cli{started: true}
			if got := c.code(fmt.Errorf("wrapped: %w", err)); got != want {
				t.Errorf("%v: %d, want %d", err, got, want)
			}
		}
	}
	if got := (&cli{}).code(errors.New("unknown flag")); got != exitcode.Usage {
		t.Errorf("a command line that is not understood: %d", got)
	}
}

func TestAges(t *testing.T) {
	t.Parallel()
	for d, want := range map[time.Duration]string{
		-time.Second: "0s", 119 * time.Second: "119s", 2 * time.Minute: "2m", 179 * time.Minute: "179m", 3 * time.Hour: "3h", 47 * time.Hour: "47h", 72 * time.Hour: "3d",
	} {
		if got := age(d); got != want {
			t.Errorf("%s is %s, want %s", d, got, want)
		}
	}
	for d, want := range map[time.Duration]string{
		40*time.Second + 400*time.Millisecond: "40s", 5*time.Hour + 24*time.Minute: "5h24m", 5*time.Hour + 20*time.Second: "5h", 90 * time.Minute: "1h30m", 72 * time.Hour: "3d",
	} {
		if got := left(d); got != want {
			t.Errorf("%s is left as %s, want %s", d, got, want)
		}
	}
}
