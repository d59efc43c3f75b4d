// Package plain makes text that a terminal only shows. Names, reasons and logs come from engines,
// backends, peers and transactions. Printed as they are, they could move the cursor, change colours
// or the title, or make a terminal type.
package plain

import (
	"fmt"
	"strings"
	"unicode"
	"unicode/utf8"
)

// Text returns s with a visible form in place of everything that a terminal might act on: control
// characters, among them newlines, invalid UTF-8, and what changes the direction of text. A tab
// becomes a space.
func Text(s string) string {
	if !strings.ContainsFunc(s, acts) && utf8.ValidString(s) {
		return s
	}

	var b strings.Builder

	for i := 0; i < len(s); {
		r, n := utf8.DecodeRuneInString(s[i:])
		switch {
		case r == utf8.RuneError && n == 1:
			fmt.Fprintf(&b, `\x%02x`, s[i])
		case r == '\t':
			b.WriteByte(' ')
		case acts(r) && r < utf8.RuneSelf:
			fmt.Fprintf(&b, `\x%02x`, r)
		case acts(r):
			fmt.Fprintf(&b, `\u%04x`, r)
		default:
			b.WriteRune(r)
		}
		i += n
	}

	return b.String()
}

// acts reports whether a terminal does more with r than to show it in a cell. Cf are the format
// characters of Unicode, among them those that change the direction of text.
func acts(r rune) bool {
	return unicode.IsControl(r) || unicode.In(r, unicode.Cf, unicode.Zl, unicode.Zp)
}

// Line returns the first line of s, or about its first max bytes, as Text, with "…" for what is
// left out.
func Line(s string, max int) string {
	s, _, cut := strings.Cut(s, "\n")
	if len(s) > max {
		for max > 0 && !utf8.RuneStart(s[max]) {
			max--
		}
		s, cut = s[:max], true
	}

	s = Text(s)
	if cut {
		s += "…"
	}

	return s
}
