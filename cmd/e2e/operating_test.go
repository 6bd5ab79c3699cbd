package e2e_test

import (
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"os"
	"strconv"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// reasons are the constants Reason… of a file, with what their documentation says.
func reasons(t *testing.T, path string) (rows []string) {
	t.Helper()
	file, err := parser.ParseFile(token.NewFileSet(), path, nil, parser.ParseComments)
	if err != nil {
		t.Fatal(err)
	}
	ast.Inspect(file, func(n ast.Node) bool {
		spec, ok := n.(*ast.ValueSpec)
		if !ok || !strings.HasPrefix(spec.Names[0].Name, "Reason") {
			return true
		}
		literal, ok := spec.Values[0].(*ast.BasicLit)
		if !ok {
			t.Fatalf("%s is no literal", spec.Names[0].Name)
		}
		value, err := strconv.Unquote(literal.Value)
		if err != nil {
			t.Fatal(err)
		}
		text := strings.TrimPrefix(strings.Join(strings.Fields(spec.Doc.Text()), " "), spec.Names[0].Name+": ")
		means, todo, _ := strings.Cut(text, " Do: ")
		if todo == "" {
			todo = "nothing"
		}
		rows = append(rows, fmt.Sprintf("| **%s** | %s | %s |", value, sentence(means), sentence(todo)))
		return true
	})
	return rows
}

func sentence(s string) string {
	s = strings.TrimSuffix(strings.ReplaceAll(s, "|", "\\|"), ".")
	if strings.HasPrefix(s, "npcnix") || strings.HasPrefix(s, "journalctl") { // a command
		return s
	}
	return strings.ToUpper(s[:1]) + s[1:]
}

// The page for operators explains every reason, as its constant does.
func TestOperatingPageExplainsEveryReason(t *testing.T) {
	t.Parallel()
	const path = "../../docs/operating.md"
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	want := string(data)
	for marker, file := range map[string]string{"<!-- reasons -->\n": "apis/v1alpha1/conditions.go", "<!-- reasons of a window -->\n": "reconciler/window/window.go"} {
		head, rest, found := strings.Cut(want, marker)
		_, tail, more := strings.Cut(rest, "\n\n## ")
		rows := reasons(t, "../../"+file)
		if !found || len(rows) < 5 {
			t.Fatalf("%s has no %s, or %s %d reasons", path, marker, file, len(rows))
		}
		want = head + marker + "\n| reason | what it means | what to do |\n|---|---|---|\n" + strings.Join(rows, "\n")
		if more {
			want += "\n\n## " + tail
		} else {
			want += "\n"
		}
	}
	if *update {
		if err := os.WriteFile(path, []byte(want), 0o600); err != nil {
			t.Fatal(err)
		}
		return
	}
	if diff := cmp.Diff(want, string(data)); diff != "" {
		t.Errorf("make golden writes the reasons anew:\n%s", diff)
	}
}
