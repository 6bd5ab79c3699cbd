package meta

import "unicode/utf8"

const ellipsis = "…"

// Cut returns s, or its first bytes and an ellipsis where it is longer than
// limit bytes. It never cuts a character in half.
func Cut(s string, limit int) string {
	if len(s) <= limit {
		return s
	}
	end := max(limit-len(ellipsis), 0)
	for end > 0 && !utf8.RuneStart(s[end]) {
		end--
	}
	return s[:end] + ellipsis
}

// CutFront is Cut from the other side: it keeps the last bytes.
func CutFront(s string, limit int) string {
	if len(s) <= limit {
		return s
	}
	start := min(len(s)-limit+len(ellipsis), len(s))
	for start < len(s) && !utf8.RuneStart(s[start]) {
		start++
	}
	return ellipsis + s[start:]
}
