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
const ambiguous = `^(?i:=|<<|~|null|y|n|yes|no|true|false|on|off|[-+]?\.?(inf|nan)` +
	`|[-+.]?[0-9][-+0-9a-fox_.:]*([ t]+[-+0-9:.z ]*)?)$`

// yamlLine matches a line as YAML 1.1 counts them.
const yamlLine = "[^\n\u0085\u2028\u2029]*(\n|\u0085|\u2028|\u2029|$)"

// quoteAmbiguous quotes the plain string scalars that match ambiguous, from
// the last to the first so that positions stay true.
func quoteAmbiguous(data []byte) ([]byte, error) {
	var root yamlv3.Node
	if err := yamlv3.Unmarshal(data, &root); err != nil {
		return nil, fmt.Errorf("read back encoded document: %w", err)
	}
	lines := regexp.MustCompile(yamlLine).FindAllString(string(data), -1)
	for _, n := range slices.Backward(plainStrings(&root, regexp.MustCompile(ambiguous), nil)) {
		line := []rune(lines[n.Line-1]) // columns count characters
		before, after := line[:n.Column-1], line[n.Column-1+utf8.RuneCountInString(n.Value):]
		lines[n.Line-1] = string(before) + strconv.Quote(n.Value) + string(after)
	}
	return []byte(strings.Join(lines, "")), nil
}

// plainStrings lists the nodes to quote in the order of the document.
func plainStrings(n *yamlv3.Node, ambiguous *regexp.Regexp, list []*yamlv3.Node) []*yamlv3.Node {
	if n.Kind == yamlv3.ScalarNode && n.Style == 0 && (n.Tag == "!!str" || n.Tag == "!!merge") && ambiguous.MatchString(n.Value) {
		list = append(list, n)
	}
	for _, c := range n.Content {
		list = plainStrings(c, ambiguous, list)
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
