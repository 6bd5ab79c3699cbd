package e2e_test

import (
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// Each sentence of "Who may import whom" in CONTRIBUTING.md is a rule of the
// linter. Here each rule is broken once, and the linter has to say so.
func TestEveryLayerIsHeldByTheLinter(t *testing.T) {
	t.Parallel()
	const module = "github.com/npcnix/npcnix/"
	planted := []struct{ file, imports, says string }{
		{"apis/planted/a.go", module + "store", "apis know no storage"},
		{"apis/planted/b.go", module + "nixos", "apis know no machine"},
		{"apis/planted/c.go", module + "reconciler", "apis know no loop"},
		{"apis/planted/d.go", module + "config", "apis know no process"},
		{"apis/planted/e.go", module + "cmd/exitcode", "apis know no program"},
		{"store/planted.go", module + "apis/meta", "store/document knows kinds"},
		{"store/planted/a.go", module + "nixos", "sideways import"},
		{"store/planted/b.go", module + "reconciler", "upward import"},
		{"store/planted/c.go", module + "apis/v1alpha1", "store/document knows kinds"},
		{"store/file/planted.go", module + "apis/meta", "store/document knows kinds"},
		{"nixos/planted/a.go", module + "store", "sideways import"},
		{"nixos/planted/b.go", module + "reconciler", "upward import"},
		{"reconciler/planted.go", module + "apis/meta", "the loop knows nothing about hosts"},
		{"reconciler/planted/a.go", module + "config", "handed its configuration"},
		{"reconciler/planted/b.go", module + "nixos/run", "asks roles and starts nothing"},
		{"reconciler/planted/c.go", module + "store/s3", "only cmd names concrete drivers"},
		{"reconciler/planted/d.go", module + "store/file", "only cmd names concrete drivers"},
		{"reconciler/planted/e.go", module + "nixos/local", "only cmd names concrete drivers"},
		{"reconciler/planted/f.go", "go.uber.org/zap", "zap is wired in cmd"},
		{"reconciler/planted/g.go", "github.com/spf13/cobra", "flags live in cmd"},
		{"reconciler/planted/h.go", "os/exec", "processes are started in nixos/run"},
		{"reconciler/planted/i.go", "github.com/aws/aws-sdk-go-v2/aws", "the SDK stays in store/s3"},
		{"reconciler/planted/j.go", "sigs.k8s.io/yaml", "documents go through apis/codec"},
		{"reconciler/plan/planted.go", "os", "no I/O in a pure package"},
		{"reconciler/plan/planted2.go", "net", "no I/O in a pure package"},
		{"reconciler/plan/planted3.go", "math/rand", "no randomness in a pure package"},
		{"reconciler/plan/planted4.go", module + "store", "no I/O in a pure package"},
		{"reconciler/window/planted.go", "os", "no I/O in a pure package"},
		{"reconciler/planted/k.go", "github.com/coreos/go-systemd/v22/dbus", "systemd is asked in nixos/systemd"},
		{"reconciler/planted/l.go", module + "nixos/systemd", "only nixos/local and cmd ask systemd"},
		{"reconciler/transaction/planted/a.go", module + "reconciler/host", "upward import"},
		{"reconciler/transaction/planted/b.go", module + "store", "a guard knows no store"},
		{"reconciler/health/planted/a.go", module + "reconciler/plan", "a transaction has no policy"},
		{"config/planted.go", module + "nixos/run", "only nixos/local and cmd run commands"},
		{"cmd/npcnix/planted.go", "os/exec", "processes are started in nixos/run"},
		{"cmd/npcnix/planted2.go", "github.com/aws/aws-sdk-go-v2/aws", "the SDK stays in store/s3"},
	}
	linter, err := filepath.Abs("../../.cache/bin/golangci-lint")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(linter); err != nil {
		t.Fatalf("no linter: %v; run make tools", err)
	}
	dir := t.TempDir()
	copyModule(t, dir)
	for _, p := range planted {
		path := filepath.Join(dir, p.file)
		if err := os.MkdirAll(filepath.Dir(path), 0o750); err != nil {
			t.Fatal(err)
		}
		source := "package " + packageOf(p.file) + "\n\nimport _ \"" + p.imports + "\"\n"
		if err := os.WriteFile(path, []byte(source), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	cmd := exec.CommandContext(t.Context(), linter, "run", "--enable-only", "depguard", "--output.text.colors=false", "./...")
	cmd.Dir = dir
	out, err := cmd.CombinedOutput()
	if err == nil {
		t.Errorf("the linter accepts everything")
	}
	for _, p := range planted {
		found := false
		for line := range strings.Lines(string(out)) {
			found = found || (strings.HasPrefix(line, p.file+":") && strings.Contains(line, p.says))
		}
		if !found {
			t.Errorf("%s imports %s, and the linter does not say %q", p.file, p.imports, p.says)
		}
	}
	if t.Failed() {
		t.Logf("%s", out)
	}
}

func packageOf(file string) string {
	if name := filepath.Base(filepath.Dir(file)); name != "npcnix" {
		return name
	}
	return "main"
}

// copyModule copies what the linter needs of this module.
func copyModule(t *testing.T, dir string) {
	t.Helper()
	for _, name := range []string{"apis", "store", "nixos", "reconciler", "config", "cmd"} {
		if err := os.CopyFS(filepath.Join(dir, name), os.DirFS("../../"+name)); err != nil {
			t.Fatal(err)
		}
	}
	for _, name := range []string{"go.mod", "go.sum", ".golangci.yml"} {
		data, err := os.ReadFile("../../" + name)
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(dir, name), data, 0o600); err != nil {
			t.Fatal(err)
		}
	}
}

// Every package has a doc.go that says what it is for and who may use it.
func TestEveryPackageSaysWhatItIsFor(t *testing.T) {
	t.Parallel()
	out, err := exec.CommandContext(t.Context(), "go", "list", "-f", "{{.Dir}}\t{{.Name}}\t{{len .GoFiles}}", "../../...").Output()
	if err != nil {
		t.Fatal(err)
	}
	users := regexp.MustCompile(`\b(uses?|imports?|is handed|names it|for tests|nothing but tests)\b`)
	for line := range strings.Lines(string(out)) {
		words := strings.Split(strings.TrimSpace(line), "\t")
		if words[2] == "0" {
			continue // tests alone
		}
		doc, err := os.ReadFile(filepath.Join(words[0], "doc.go"))
		text := string(doc)
		says := strings.HasPrefix(text, "// Package "+words[1]+" ") && users.MatchString(text)
		if words[1] == "main" {
			says = strings.HasPrefix(text, "// Command ")
		}
		if err != nil || !says {
			t.Errorf("%s: %v, doc.go says\n%s", words[0], err, text)
		}
	}
}
