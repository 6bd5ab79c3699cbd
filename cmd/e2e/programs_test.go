package e2e_test

import (
	"bytes"
	"context"
	"debug/elf"
	"flag"
	"fmt"
	"math"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// maxReconciler is the greatest size of the stripped agent in bytes: it is on
// the smallest of machines. D-Bus, without which no switch outlives the agent,
// takes one of these megabytes, windows, reboots and what else policy is about half
// a one.
const maxReconciler = 15_500_000

func TestAgentIsSmallAndStatic(t *testing.T) {
	t.Parallel()
	path := filepath.Join(bin, "npcnix-reconciler")
	info, err := os.Stat(path)
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("npcnix-reconciler, stripped: %d bytes", info.Size())
	if info.Size() > maxReconciler {
		t.Errorf("npcnix-reconciler has %d bytes, at most %d are allowed", info.Size(), maxReconciler)
	}
	program, err := elf.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = program.Close() }() // only read
	libraries, err := program.ImportedLibraries()
	if err != nil || len(libraries) != 0 {
		t.Errorf("it is linked to %v, %v", libraries, err)
	}
}

var update = flag.Bool("update", false, "write the golden files anew")

// What each program consists of is a decision: its size to a tenth of a MB, and
// the modules that are in it.
func TestProgramsConsistOf(t *testing.T) {
	t.Parallel()
	for _, name := range []string{"npcnix", "npcnix-reconciler"} {
		info, err := os.Stat(filepath.Join(bin, name))
		if err != nil {
			t.Fatal(err)
		}
		list := exec.CommandContext(t.Context(), "go", "list", "-deps", "-f", "{{with .Module}}{{.Path}}{{end}}", "../"+name)
		list.Env = append(os.Environ(), "CGO_ENABLED=0", "GOOS=linux")
		out, err := list.Output()
		if err != nil {
			t.Fatal(err)
		}
		modules := slices.Compact(slices.Sorted(slices.Values(strings.Fields(string(out)))))
		golden := filepath.Join("testdata", name+".golden")
		if *update {
			text := fmt.Sprintf("%.1f MB, static and stripped\n%s\n", float64(info.Size())/1e6, strings.Join(modules, "\n"))
			if err := os.WriteFile(golden, []byte(text), 0o600); err != nil {
				t.Fatal(err)
			}
		}
		data, err := os.ReadFile(golden)
		if err != nil {
			t.Fatal(err)
		}
		first, rest, _ := strings.Cut(strings.TrimSpace(string(data)), "\n")
		var size float64
		if _, err := fmt.Sscanf(first, "%f MB", &size); err != nil {
			t.Fatal(err)
		}
		if now := float64(info.Size()) / 1e6; math.Abs(now-size) > 0.2 { // the compiler's version is worth a tenth
			t.Errorf("%s has %.1f MB, it had %.1f; make golden if that is worth it", name, now, size)
		}
		if diff := cmp.Diff(strings.Split(rest, "\n"), modules); diff != "" {
			t.Errorf("%s consists of other modules; make golden if that is meant:\n%s", name, diff)
		}
	}
}

func TestProgramsBuildForEveryPlatform(t *testing.T) {
	t.Parallel()
	for _, platform := range []struct{ os, arch, program string }{
		{"linux", "amd64", "npcnix"},
		{"linux", "arm64", "npcnix"},
		{"darwin", "amd64", "npcnix"},
		{"darwin", "arm64", "npcnix"},
		{"linux", "amd64", "npcnix-reconciler"},
		{"linux", "arm64", "npcnix-reconciler"},
	} {
		t.Run(strings.Join([]string{platform.program, platform.os, platform.arch}, " "), func(t *testing.T) {
			t.Parallel()
			cmd := exec.CommandContext(t.Context(), "go", "build", "-o", os.DevNull, "../"+platform.program)
			cmd.Env = append(os.Environ(), "GOOS="+platform.os, "GOARCH="+platform.arch, "CGO_ENABLED=0")
			if out, err := cmd.CombinedOutput(); err != nil {
				t.Errorf("%v\n%s", err, out)
			}
		})
	}
}

func TestVersionNamesTheCommit(t *testing.T) {
	t.Parallel()
	out := filepath.Join(t.TempDir(), "npcnix")
	build := exec.CommandContext(t.Context(), "go", "build", "-buildvcs=true", "-o", out, "../npcnix")
	if msg, err := build.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, msg)
	}
	got, err := exec.CommandContext(t.Context(), out, "version").Output()
	if err != nil || !regexp.MustCompile(`^npcnix \S+ \([0-9a-f]{12}(-dirty)?\) go1\.\S+ \w+/\w+\n$`).Match(got) {
		t.Errorf("version is %q, %v", got, err)
	}
}

// The demonstration is what the README promises: it ends with a table of three
// hosts that are Ready at the new revision.
func TestDemo(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithTimeout(t.Context(), commandLimit)
	defer cancel()
	dir := filepath.Join(t.TempDir(), "demo")
	cmd := exec.CommandContext(ctx, "../../examples/demo.sh", dir)
	cmd.Env = append(os.Environ(), "PATH="+bin+":"+os.Getenv("PATH"))
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	if err := cmd.Run(); err != nil {
		t.Fatalf("%v\n%s%s", err, &stdout, &stderr)
	}
	tables := strings.Split(stdout.String(), "$ npcnix get hosts\n")
	if len(tables) != 3 {
		t.Fatalf("%d tables:\n%s", len(tables)-1, &stdout)
	}
	row := regexp.MustCompile(`(?m)^(db-1|web-1|web-2)\tTrue\tUpToDate\tdemo\t2\t([0-9a-f]{12})\t`)
	rows := row.FindAllStringSubmatch(tables[2], -1)
	if len(rows) != 3 || rows[0][2] != rows[2][2] || strings.Count(tables[2], "\n") != 4 {
		t.Errorf("last table:\n%s", tables[2])
	}
	if strings.Contains(tables[1], rows[0][2]) {
		t.Errorf("the revision did not change:\n%s", &stdout)
	}
}
