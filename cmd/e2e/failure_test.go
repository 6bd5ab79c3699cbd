package e2e_test

import (
	"io/fs"
	"os"
	"regexp"
	"strings"
	"testing"
)

// Each sentence of docs/failure.md names a test, or a scenario on real hosts,
// that is there.
func TestEverySentenceOfTheFailurePageIsHeld(t *testing.T) {
	t.Parallel()
	page, err := os.ReadFile("../../docs/failure.md")
	if err != nil {
		t.Fatal(err)
	}
	var tests strings.Builder
	module := os.DirFS("../..")
	err = fs.WalkDir(module, ".", func(path string, d fs.DirEntry, err error) error {
		if d != nil && d.IsDir() && d.Name() == ".cache" {
			return fs.SkipDir
		}
		if err != nil || d.IsDir() || !strings.HasSuffix(path, "_test.go") {
			return err
		}
		data, err := fs.ReadFile(module, path)
		tests.Write(data)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	held := 0
	for line := range strings.Lines(string(page)) {
		if line = strings.TrimSpace(line); !strings.HasPrefix(line, "- ") {
			continue
		}
		found := regexp.MustCompile(`<!-- (\w+) -->$`).FindStringSubmatch(line)
		if found == nil {
			t.Errorf("no test is named: %s", line)
			continue
		}
		test, scenario := "func "+found[1]+"(t *testing.T)", "var "+found[1]+" = scenario{"
		if !strings.Contains(tests.String(), test) && !strings.Contains(tests.String(), scenario) {
			t.Errorf("there is no test %s: %s", found[1], line)
		}
		held++
	}
	if held < 30 {
		t.Errorf("%d sentences", held)
	}
}
