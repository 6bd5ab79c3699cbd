package codec

import (
	"errors"
	"fmt"
	"strings"
)

// Problem is one fault of a document.
type Problem struct {
	// Source and Line say where; Line is 0 where it is not known.
	Source string
	Line   int
	// Path is the field path, such as spec.rebuildPolicy.retry; empty for the whole document.
	Path string
	// Message says what is wrong and what would be right.
	Message string
}

// String writes source:line: path: message, without the parts that are unknown.
func (p Problem) String() string {
	var b strings.Builder
	b.WriteString(p.Source)
	if p.Line > 0 {
		fmt.Fprintf(&b, ":%d", p.Line)
	}
	if b.Len() > 0 {
		b.WriteString(": ")
	}
	if p.Path != "" {
		b.WriteString(p.Path + ": ")
	}
	b.WriteString(p.Message)
	return b.String()
}

// Problems returns what an error of this package consists of.
func Problems(err error) []Problem {
	if invalid, ok := errors.AsType[*InvalidError](err); ok {
		return invalid.Problems
	}
	return []Problem{{Message: err.Error()}}
}

// InvalidError holds every problem of a document, or of several.
type InvalidError struct{ Problems []Problem }

// Error writes one problem a line.
func (e *InvalidError) Error() string {
	lines := make([]string, len(e.Problems))
	for i, p := range e.Problems {
		lines[i] = p.String()
	}
	return strings.Join(lines, "\n")
}
