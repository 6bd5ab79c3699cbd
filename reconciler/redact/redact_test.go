package redact_test

import (
	"strings"
	"testing"

	"github.com/npcnix/npcnix/reconciler/redact"
)

func TestSecretsAreLeftOut(t *testing.T) {
	t.Parallel()
	r := redact.New("very-secret-word")
	for text, want := range map[string]string{ //nolint:gosec // they stand for credentials, and are none
		"nothing":                                 "nothing",
		"a very-secret-word here":                 "a [redacted] here",
		"git+https://someone:word@example.org/x":  "git+https://[redacted]@example.org/x",
		"https://example.org/a@b":                 "https://example.org/a@b",
		"very-secret-word very-secret-word https": "[redacted] [redacted] https",
	} {
		if got := r.String(text); got != want {
			t.Errorf("%q became %q, want %q", text, got, want)
		}
		var out strings.Builder
		if n, err := r.Writer(&out).Write([]byte(text)); n != len(text) || err != nil || out.String() != want {
			t.Errorf("%q was written as %q: %d, %v", text, &out, n, err)
		}
	}
}
