package e2e_test

import (
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// The README's quickstart is run as it stands there.
func TestQuickstartOfTheReadme(t *testing.T) {
	t.Parallel()
	readme, err := os.ReadFile("../../README.md")
	if err != nil {
		t.Fatal(err)
	}
	found := regexp.MustCompile("(?s)<!-- test: quickstart -->\n```sh\n(.*?)```").FindSubmatch(readme)
	if found == nil {
		t.Fatal("the README has no quickstart")
	}
	s := newSite(t, "")
	cmd := exec.CommandContext(t.Context(), "bash", "-eu", "-c", string(found[1]))
	cmd.Dir = "../.."
	for _, kv := range s.env { // it sets both itself
		if !strings.HasPrefix(kv, "NPCNIX_STORE=") && !strings.HasPrefix(kv, "NIX_CONFIG=") {
			cmd.Env = append(cmd.Env, kv)
		}
	}
	caches, err := exec.CommandContext(t.Context(), "go", "env", "GOCACHE", "GOMODCACHE").Output()
	if err != nil {
		t.Fatal(err)
	}
	cache := strings.Fields(string(caches)) // the site's HOME has none
	cmd.Env = append(cmd.Env, "TMPDIR="+s.dir, "GOCACHE="+cache[0], "GOMODCACHE="+cache[1])
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	if !strings.Contains(string(out), "web-1\tTrue\tUpToDate\tprod\t1\t") || !strings.Contains(string(out), "Ready:         True (UpToDate)") {
		t.Errorf("it printed:\n%s", out)
	}
}

// Every make target that the documentation names is there.
func TestDocumentedTargetsExist(t *testing.T) {
	t.Parallel()
	makefile, err := os.ReadFile("../../Makefile")
	if err != nil {
		t.Fatal(err)
	}
	for _, file := range []string{"README.md", "CONTRIBUTING.md"} {
		text, err := os.ReadFile(filepath.Join("../..", file))
		if err != nil {
			t.Fatal(err)
		}
		for _, m := range regexp.MustCompile("(?m)(?:`|\\$ )make ([a-z0-9]+)").FindAllSubmatch(text, -1) {
			if !regexp.MustCompile(`(?m)^` + string(m[1]) + `:`).Match(makefile) {
				t.Errorf("%s names make %s", file, m[1])
			}
		}
	}
}

// Each direct dependency is explained, and nothing else is.
func TestDependenciesAreExplained(t *testing.T) {
	t.Parallel()
	mod, err := os.ReadFile("../../go.mod")
	if err != nil {
		t.Fatal(err)
	}
	docs, err := os.ReadFile("../../docs/dependencies.md")
	if err != nil {
		t.Fatal(err)
	}
	modules := map[string]bool{}
	for _, m := range regexp.MustCompile(`(?m)^\s*(\S+) v\S+$`).FindAllSubmatch(mod, -1) {
		module := strings.TrimPrefix(string(m[1]), "github.com/aws/aws-sdk-go-v2/")
		modules[module] = true
		if !strings.Contains(string(docs), "`"+module+"`") {
			t.Errorf("%s is a direct dependency and not explained", module)
		}
	}
	for _, m := range regexp.MustCompile(`(?m)^\| .*`).FindAll(docs, -1) {
		for _, name := range regexp.MustCompile("`([a-z]\\S*)`").FindAllSubmatch(m, -1) {
			if module := string(name[1]); strings.Contains(module, ".") && !strings.HasPrefix(module, ".") && !modules[module] {
				t.Errorf("%s is explained and no direct dependency", module)
			}
		}
	}
}
