package codec

import (
	"regexp"
	"strconv"
	"strings"

	"go.yaml.in/yaml/v3"
)

// positions knows the line of each field path of a document.
type positions struct {
	lines      map[string]int
	duplicates []Problem
}

// locate reads the positions of a document's fields. Aliases are not followed,
// so a document cannot have more positions than bytes.
func locate(raw []byte) positions {
	p := positions{lines: map[string]int{}}
	var root yaml.Node
	if yaml.Unmarshal(raw, &root) != nil || len(root.Content) == 0 {
		return p // another reader found the fault, or there is none
	}
	p.walk(root.Content[0], "", false)
	return p
}

func (p *positions) walk(n *yaml.Node, path string, inMap bool) {
	p.lines[path] = n.Line
	switch n.Kind {
	case yaml.MappingNode:
		seen := map[string]bool{}
		for i := 0; i+1 < len(n.Content); i += 2 {
			key, value := n.Content[i], n.Content[i+1]
			at := join(path, key.Value)
			if inMap {
				at = path + "[" + key.Value + "]"
			}
			if seen[key.Value] {
				p.duplicates = append(p.duplicates, Problem{Path: at, Line: key.Line, Message: "field is there twice"})
			}
			seen[key.Value] = true
			p.walk(value, at, path == "metadata" && (key.Value == "labels" || key.Value == "annotations"))
			p.lines[at] = key.Line
		}
	case yaml.SequenceNode:
		for i, e := range n.Content {
			p.walk(e, path+"["+strconv.Itoa(i)+"]", false)
		}
	case yaml.DocumentNode, yaml.ScalarNode, yaml.AliasNode: // nothing below them has a path
	}
}

// line returns the line of the path or of its nearest parent that is written down.
func (p *positions) line(path string) int {
	for {
		if n, ok := p.lines[path]; ok {
			return n
		}
		i := strings.LastIndexAny(path, ".[")
		if i < 0 {
			return p.lines[""]
		}
		path = path[:i]
	}
}

// shiftLine moves the line numbers in a YAML parser's message to those of the stream.
func shiftLine(message string, by int) string {
	return regexp.MustCompile(`line ([0-9]+)`).ReplaceAllStringFunc(message, func(s string) string {
		n, err := strconv.Atoi(strings.TrimPrefix(s, "line "))
		if err != nil {
			return s
		}
		return "line " + strconv.Itoa(n+by)
	})
}
