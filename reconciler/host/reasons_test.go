package host_test

import (
	"flag"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"unicode"

	"github.com/npcnix/npcnix/apis/v1alpha1"
)

// reasons are those that the constants of the API list.
var reasons = sync.OnceValue(func() map[string]bool {
	known := map[string]bool{}
	file, err := parser.ParseFile(token.NewFileSet(), "../../apis/v1alpha1/conditions.go", nil, 0)
	if err != nil {
		return known
	}
	ast.Inspect(file, func(n ast.Node) bool {
		if spec, ok := n.(*ast.ValueSpec); ok && strings.HasPrefix(spec.Names[0].Name, "Reason") {
			if literal, ok := spec.Values[0].(*ast.BasicLit); ok {
				known[strings.Trim(literal.Value, `"`)] = true
			}
		}
		return true
	})
	return known
})

// said are the reasons that a status gave in any of these tests.
var said sync.Map

// elsewhere are the reasons that no status of a host gives.
func elsewhere() []string {
	return []string{
		v1alpha1.ReasonNoStatus, v1alpha1.ReasonStatusUnreadable, v1alpha1.ReasonSilent, v1alpha1.ReasonUndeclared, v1alpha1.ReasonOutdated, // npcnix does
		v1alpha1.ReasonDuplicateHost, // the status is another machine's then
	}
}

// reasonsSaid fails, once every test has run, where the list has a reason that no
// status gave: a state that no test reaches, or one that there is no more.
type reasonsSaid struct{ *testing.M }

// Run runs the tests.
func (m reasonsSaid) Run() int {
	code := m.M.Run()
	for _, some := range []string{"test.run", "test.fuzz", "test.list", "test.bench"} {
		if flag.Lookup(some).Value.String() != "" {
			return code
		}
	}
	for _, reason := range slices.Sorted(maps.Keys(reasons())) {
		_, ok := said.Load(reason)
		if told := slices.Contains(elsewhere(), reason); ok == told {
			fmt.Fprintf(os.Stderr, "reason %s: a status of a test gave it: %v, want %v\n", reason, ok, !told)
			code = 1
		}
	}
	return code
}

// The sentences that people read stand in two files of this package and one of the
// planner's: no other has one, but for the log.
func TestSentencesAreInOnePlace(t *testing.T) {
	t.Parallel()
	for _, dir := range []string{".", "../plan"} {
		files, err := filepath.Glob(dir + "/*.go")
		if err != nil || len(files) < 4 {
			t.Fatal(files, err)
		}
		for _, path := range files {
			if name := filepath.Base(path); strings.HasSuffix(name, "_test.go") || name == "message.go" || name == "conditions.go" {
				continue
			}
			for _, text := range sentences(t, path) {
				t.Errorf("%s has the sentence %q", path, text)
			}
		}
	}
}

// sentences are the literals of a file that read like one, but for what is logged.
func sentences(t *testing.T, path string) (list []string) {
	t.Helper()
	file, err := parser.ParseFile(token.NewFileSet(), path, nil, 0)
	if err != nil {
		t.Fatal(err)
	}
	ast.Inspect(file, func(n ast.Node) bool {
		if call, ok := n.(*ast.CallExpr); ok {
			if f, ok := call.Fun.(*ast.SelectorExpr); ok && (f.Sel.Name == "Info" || f.Sel.Name == "Error") {
				return false
			}
		}
		if literal, ok := n.(*ast.BasicLit); ok && literal.Kind == token.STRING {
			text, err := strconv.Unquote(literal.Value)
			if err == nil && strings.Contains(text, " ") && unicode.IsUpper(rune(text[0])) {
				list = append(list, text)
			}
		}
		return true
	})
	return list
}
