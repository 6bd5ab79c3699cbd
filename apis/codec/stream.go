package codec

import (
	"bytes"
	"errors"
	"fmt"
)

// MaxDocumentSize bounds a file of documents before it is parsed, in bytes.
const MaxDocumentSize = 256 * 1024

// ErrTooLarge is returned for input longer than MaxDocumentSize.
var ErrTooLarge = errors.New("larger than 256 KiB, the limit for documents")

// Document is one YAML document of a stream.
type Document struct {
	// Source names the stream in errors, such as a file's path.
	Source string
	// Line is the number of lines of the stream before Raw.
	Line int
	// Raw holds the document's bytes as written, comments included.
	Raw []byte
}

// Split cuts a YAML stream into its documents, at lines that begin with the
// markers of YAML 1.2, 9.1.1: "---", behind which a document may begin, and
// "...". Documents of nothing but comments and blanks are left out.
func Split(source string, data []byte) ([]Document, error) {
	if len(data) > MaxDocumentSize {
		return nil, fmt.Errorf("%s: %w", source, ErrTooLarge)
	}
	var docs []Document
	current := Document{Source: source}
	flush := func(nextLine int) {
		if !blank(current.Raw) {
			docs = append(docs, current)
		}
		current = Document{Source: source, Line: nextLine}
	}
	n := 0
	for line := range bytes.Lines(data) {
		n++
		rest, isMarker := marker(line)
		if isMarker {
			flush(n - 1)
			line = rest // in the place of its line, so that lines stay true
		}
		current.Raw = append(current.Raw, line...)
	}
	flush(n)
	return docs, nil
}

// marker reports whether the line begins with a document marker, and returns
// what stands behind it.
func marker(line []byte) (rest []byte, ok bool) {
	for _, m := range []string{"---", "..."} {
		rest, found := bytes.CutPrefix(line, []byte(m))
		if found && (len(rest) == 0 || bytes.ContainsAny(rest[:1], " \t\r\n")) {
			return rest, true
		}
	}
	return nil, false
}

// blank reports whether raw holds no YAML node.
func blank(raw []byte) bool {
	for line := range bytes.Lines(raw) {
		line = bytes.TrimSpace(line)
		if len(line) > 0 && line[0] != '#' {
			return false
		}
	}
	return true
}
