package local

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/npcnix/npcnix/apis/meta"
	"github.com/npcnix/npcnix/nixos"
)

// The files hold what Nix 2.8.0, 2.26.3 and 2.34.8 printed when these things
// went wrong.
func TestFailuresAreClassifiedAlikeInOldAndNewNix(t *testing.T) {
	t.Parallel()
	for _, version := range []string{"2.8", "2.26", "2.34"} {
		for name, c := range map[string]struct {
			kind nixos.BuildFailure
			// fixed says that it is so only of a derivation with a fixed output.
			fixed bool
			says  string
		}{
			"attr-missing": {nixos.AttributeMissing, false, "does not provide attribute"},
			"abort":        {nixos.EvaluationFailure, false, "evaluation aborted"},
			"assert":       {nixos.EvaluationFailure, false, ""},
			"flakesyn":     {nixos.EvaluationFailure, false, "syntax error"},
			"stackov":      {nixos.EvaluationFailure, false, "stack overflow"},
			"inf":          {nixos.EvaluationFailure, false, "infinite recursion"},
			"missfile":     {nixos.EvaluationFailure, false, ""},
			"ifdno":        {nixos.EvaluationFailure, false, "during evaluation"},
			"throwmid":     {nixos.EvaluationFailure, false, ""},
			"warntrace":    {nixos.EvaluationFailure, false, ""},
			"l_tarhash":    {nixos.EvaluationFailure, false, "mismatch"},
			"l_gitrev":     {nixos.EvaluationFailure, false, ""},
			"l_gitref":     {nixos.EvaluationFailure, false, "couldn't find remote ref"},
			"bfail":        {nixos.BuilderFailure, false, "exit code 3"},
			"bansi":        {nixos.BuilderFailure, false, "exit code"},
			"dep":          {nixos.BuilderFailure, false, "exit code"},
			"dep2":         {nixos.BuilderFailure, false, "exit code"},
			"ifd":          {nixos.BuilderFailure, false, "exit code 7"},
			"bhash":        {nixos.BuilderFailure, false, "hash mismatch in fixed-output derivation"},
			"btimeout":     {nixos.BuilderFailure, false, "timed out after 2 seconds"},
			"bkill":        {nixos.NixUnavailable, false, "signal 9"},
			"benospc":      {nixos.DiskFull, false, "No space left"},
			"fod":          {nixos.InputUnavailable, true, "unable to download"},
			"fodcurl":      {nixos.InputUnavailable, true, "curl: ("},
			"netbuild":     {nixos.InputUnavailable, true, ""},
			"e_url":        {nixos.InputUnavailable, false, "unable to download"},
			"h_404":        {nixos.InputUnavailable, false, "HTTP error 404"},
			"h_503":        {nixos.InputUnavailable, false, "HTTP error 503"},
			"e_git":        {nixos.InputUnavailable, false, "fatal:"},
			"in_git":       {nixos.InputUnavailable, false, ""},
			"h_git401":     {nixos.InputUnavailable, false, ""},
			"in_github":    {nixos.InputUnavailable, false, "unable to download"},
			"in_ssh":       {nixos.InputUnavailable, false, "fatal:"},
		} {
			t.Run(version+" "+name, func(t *testing.T) {
				t.Parallel()
				data, err := os.ReadFile(filepath.Join("testdata", "nix-"+version, name+".txt"))
				if err != nil {
					t.Fatal(err)
				}
				got := classify(string(data))
				if got.kind != c.kind || (got.fixedOutput != "") != c.fixed || !strings.Contains(got.message, c.says) {
					t.Errorf("%s (fixed output %q), want %s; message:\n%s", got.kind, got.fixedOutput, c.kind, got.message)
				}
				if len(got.message) > meta.MaxMessage || got.message == "" || !utf8.ValidString(got.message) || strings.ContainsAny(got.message, "\x1b\r\x00") {
					t.Errorf("message of %d bytes: %q", len(got.message), got.message)
				}
			})
		}
	}
}

func TestWordsOfABuildersLogDecideNothing(t *testing.T) {
	t.Parallel()
	log := "error: builder for '/nix/store/00000000000000000000000000000000-x.drv' failed with exit code 1;\n" +
		"       last 2 log lines:\n       > error: flake 'x' does not provide attribute 'y'\n       > No space left to the right\n" +
		"       For full logs, run 'nix log /nix/store/00000000000000000000000000000000-x.drv'.\n"
	if got := classify(strings.Replace(log, "No space left", "no room", 1)); got.kind != nixos.BuilderFailure || strings.Contains(got.message, "For full logs") {
		t.Errorf("%s: %s", got.kind, got.message)
	}
	if got := classify(""); got.kind != nixos.NixUnavailable {
		t.Errorf("silence is %s", got.kind)
	}
}

func TestFaultsOfTheMachineAreNotTheSources(t *testing.T) {
	t.Parallel()
	for _, head := range []string{
		"unable to fork: Cannot allocate memory", "std::bad_alloc", "reading from file: Connection reset by peer", "writing to file: Input/output error",
		"file 'nar/0000.nar.xz' does not exist in binary cache 'https://cache.example.org'", "failed to extract archive (Truncated tar archive)",
		"unexpected end-of-file", "opening lock file '/nix/var/nix/db/big-lock': Resource temporarily unavailable", "cannot build on 'ssh://builder'",
	} {
		if got := classify("error: " + head + "\n"); got.kind != nixos.NixUnavailable {
			t.Errorf("%s is %s", head, got.kind)
		}
		thrown := "error: " + head + "\n\n       at /nix/store/00000000000000000000000000000000-source/flake.nix:3:5:\n"
		if got := classify(thrown); got.kind != nixos.EvaluationFailure {
			t.Errorf("thrown: %s is %s", head, got.kind)
		}
	}
}

func FuzzClassify(f *testing.F) {
	f.Add("error: x\n       > y\n")
	f.Add("error:\n       … while\n       error: deep\n")
	f.Fuzz(func(t *testing.T, stderr string) {
		if got := classify(stderr); got.kind == "" || len(got.message) > meta.MaxMessage {
			t.Errorf("%q: %s, %d bytes", stderr, got.kind, len(got.message))
		}
	})
}
