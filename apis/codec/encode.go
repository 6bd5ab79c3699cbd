package codec

import (
	"encoding/json"
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"

	yamlv3 "go.yaml.in/yaml/v3"
	"sigs.k8s.io/yaml"
)

// Encode writes the object as YAML with sorted keys: the same object gives the
// same bytes. Every string that YAML 1.1 or 1.2 would read as something else
// is quoted.
func Encode(obj any) ([]byte, error) {
	data, err := json.Marshal(obj)
	if err != nil {
		return nil, fmt.Errorf("encode document as JSON: %w", err)
	}
	data, err = yaml.JSONToYAML(EscapeUnprintable(data))
	if err != nil {
		return nil, fmt.Errorf("encode document: %w", err)
	}
	return quoteAmbiguous(data)
}

// EscapeUnprintable writes the characters that JSON strings may hold as they
// are and YAML streams may not (YAML 1.2, 5.1) as \u escapes.
func EscapeUnprintable(data []byte) []byte {
	out := make([]byte, 0, len(data))
	for _, r := range string(data) {
		if r == 0x7f || (r >= 0x80 && r < 0xa0) || r == '\ufeff' || r == '\ufffe' || r == '\uffff' {
			out = fmt.Appendf(out, "\\u%04x", r)
			continue
		}
		out = utf8.AppendRune(out, r)
	}
	return out
}

// ambiguous matches plain scalars that some reader of YAML 1.1 or 1.2 takes for
// a boolean, null, number, base-60 number, timestamp, merge or value key, and
// that sigs.k8s.io/yaml may leave plain.
// Sources: yaml.org/type/{bool,float,int,merge,null,timestamp,value}.html and
// the core schema of YAML 1.2, section 10.3.2.
var ambiguous = regexp.MustCompile(`^(?i:=|<<|~|null|y|n|yes|no|true|false|on|off|[-+]?\.?(inf|nan)` +
	`|[-+]?\.?[0-9][0-9_.:]*(e[-+]?[0-9_]*)?|[-+]?0[box][0-9a-f_]*|[0-9]+-[0-9]+-[0-9]+([ t]+[-+0-9:.z ]*)?)$`)

// beginnings are the bytes with which a match of ambiguous begins.
const beginnings = "=<~nNyYtTfFoO+-.iI0123456789"

// itself matches what no writer leaves plain unless it is that: a number, a
// boolean or null.
var itself = regexp.MustCompile(`^(0|-?[1-9][0-9]*|true|false|null)$`)

// yamlLine matches a line as YAML 1.1 counts them.
var yamlLine = regexp.MustCompile("[^\n\u0085\u2028\u2029]*(\n|\u0085|\u2028|\u2029|$)")

// mayBeAmbiguous reports whether a line has a key or value that would have to be
// quoted if it is a plain string: mostly none has, and the document need not be
// read back to find which. A line without a key may be the rest of one before it.
func mayBeAmbiguous(text string) bool {
	if strings.ContainsAny(text, "\u0085\u2028\u2029") {
		return true
	}
	suspect := func(s string) bool {
		return s != "" && strings.IndexByte(beginnings, s[0]) >= 0 && ambiguous.MatchString(s)
	}
	for line := range strings.Lines(text) {
		line = strings.TrimLeft(strings.TrimSuffix(line, "\n"), "- ")
		key, value, _ := strings.Cut(line, ": ") // a key may have colons itself
		key = strings.TrimSuffix(key, ":")
		if suspect(key) || suspect(line) || (suspect(value) && !itself.MatchString(value)) {
			return true
		}
	}
	return false
}

// quoteAmbiguous quotes the plain string scalars that match ambiguous, from
// the last to the first so that positions stay true.
func quoteAmbiguous(data []byte) ([]byte, error) {
	text := string(data)
	if !mayBeAmbiguous(text) {
		return data, nil
	}
	var root yamlv3.Node
	if err := yamlv3.Unmarshal(data, &root); err != nil {
		return nil, fmt.Errorf("read back encoded document: %w", err)
	}
	lines := yamlLine.FindAllStringIndex(text, -1)
	for _, n := range slices.Backward(plainStrings(&root, nil)) {
		line := text[lines[n.Line-1][0]:]
		column := len(string([]rune(line)[:n.Column-1])) // columns count characters
		begin := len(text) - len(line) + column
		plain := folded(n.Value).FindString(text[begin:])
		text = text[:begin] + strconv.Quote(n.Value) + text[begin+len(plain):]
	}
	return []byte(text), nil
}

// folded matches a plain scalar, which may go on in the next line where it has
// a space.
func folded(scalar string) *regexp.Regexp {
	return regexp.MustCompile("^" + strings.ReplaceAll(regexp.QuoteMeta(scalar), " ", "(?: |\n +)"))
}

// plainStrings lists the nodes to quote in the order of the document.
func plainStrings(n *yamlv3.Node, list []*yamlv3.Node) []*yamlv3.Node {
	if n.Kind == yamlv3.ScalarNode && n.Style == 0 && (n.Tag == "!!str" || n.Tag == "!!merge") && ambiguous.MatchString(n.Value) {
		list = append(list, n)
	}
	for _, c := range n.Content {
		list = plainStrings(c, list)
	}
	return list
}

// canonical writes a decoded tree as JSON with sorted keys.
func canonical(tree any) ([]byte, error) {
	data, err := json.Marshal(tree)
	if err != nil {
		return nil, fmt.Errorf("encode canonical JSON: %w", err)
	}
	return data, nil
}
