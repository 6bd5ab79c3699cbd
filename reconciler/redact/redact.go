package redact

import (
	"bytes"
	"io"
	"regexp"
)

// Mark stands for what was left out.
const Mark = "[redacted]"

// Redactor leaves out words that are known to be secret.
type Redactor struct {
	words    [][]byte
	userinfo *regexp.Regexp
}

// New returns a redactor of these words, and of what stands before the @ in
// scheme://user:secret@host.
func New(words ...string) *Redactor {
	r := &Redactor{userinfo: regexp.MustCompile(`(\w+://)[^/\s@]+@`)}
	for _, word := range words {
		r.words = append(r.words, []byte(word))
	}
	return r
}

// Bytes returns the text without secrets; text itself where it has none.
func (r *Redactor) Bytes(text []byte) []byte {
	for _, word := range r.words {
		if bytes.Contains(text, word) {
			text = bytes.ReplaceAll(text, word, []byte(Mark))
		}
	}
	if !bytes.Contains(text, []byte("://")) { // what an idle host says
		return text
	}
	return r.userinfo.ReplaceAll(text, []byte("${1}"+Mark+"@"))
}

// String is Bytes for strings.
func (r *Redactor) String(text string) string { return string(r.Bytes([]byte(text))) }

// Writer returns a writer that leaves secrets out of each piece that is
// written. Pieces must be whole lines.
func (r *Redactor) Writer(w io.Writer) io.Writer { return writer{r, w} }

type writer struct {
	r *Redactor
	w io.Writer
}

func (w writer) Write(p []byte) (int, error) {
	if _, err := w.w.Write(w.r.Bytes(p)); err != nil {
		return 0, err //nolint:wrapcheck // the writer's own
	}
	return len(p), nil
}
