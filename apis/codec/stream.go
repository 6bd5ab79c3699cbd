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

// Split cuts a YAML stream into its documents at lines that are exactly "---"
// or begin with "--- ". Documents of nothing but comments and blanks are left out.
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
		if separator(line) {
			flush(n)
			continue
		}
		current.Raw = append(current.Raw, line...)
	}
	flush(n)
	return docs, nil
}

func separator(line []byte) bool {
	return bytes.Equal(bytes.TrimRight(line, " \t\r\n"), []byte("---"))
}

// blank reports whether raw holds no YAML node.
func blank(raw []byte) bool {
	for line := range bytes.Lines(raw) {
		line = bytes.TrimSpace(line)
		if len(line) > 0 && line[0] != '#' && !bytes.Equal(line, []byte("...")) {
			return false
		}
	}
	return true
}
