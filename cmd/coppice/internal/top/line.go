package top

import (
	"fmt"
	"strings"

	"github.com/charmbracelet/lipgloss"

	"github.com/coppice-go/coppice/cmd/coppice/internal/plain"
)

// role says what a span means. A role never is the only sign of something: words and marks say the
// same, for terminals without colours.
type role int

const (
	normal role = iota
	dim
	bold
	good
	warn
	bad
	changed // a place that has just changed
	chosen  // the selected row
	bar     // the selected tab, and titles
	roles   // the number of roles
)

// span is a text in one role. Its text may have any characters.
type span struct {
	text string
	role role
}

// line is one row of the screen.
type line []span

func text(format string, args ...any) span { return span{fmt.Sprintf(format, args...), normal} }

// in returns a span in a role.
func in(r role, format string, args ...any) span { return span{fmt.Sprintf(format, args...), r} }

// title returns the line over a part of a view.
func title(format string, args ...any) line { return line{in(bold, format, args...)} }

// width returns the number of cells that s takes.
func width(s string) int {
	for i := range len(s) {
		if s[i] < ' ' || s[i] > '~' {
			return lipgloss.Width(s)
		}
	}
	return len(s)
}

// cut returns at most max cells of s, which must be plain. "…" stands for what is left out.
func cut(s string, max int) string {
	if width(s) <= max {
		return s
	}
	if max <= 0 {
		return ""
	}

	var b strings.Builder
	at := 0
	for _, r := range s {
		w := width(string(r))
		if at+w > max-1 {
			break
		}
		b.WriteRune(r)
		at += w
	}

	return b.String() + "…"
}

// pad returns s with spaces up to max cells, or cut to them. A negative max aligns to the right.
func pad(s string, max int) string {
	right := max < 0
	if right {
		max = -max
	}

	s = cut(plain.Text(s), max)
	space := strings.Repeat(" ", max-width(s))
	if right {
		return space + s
	}
	return s + space
}

// fit returns l with plain texts in exactly columns cells, the last span being filled up.
func (l line) fit(columns int) line {
	out := make(line, 0, len(l)+1)
	left := columns

	for _, s := range l {
		t := cut(plain.Text(s.text), left)
		if t == "" {
			continue
		}
		left -= width(t)
		out = append(out, span{t, s.role})
		if left == 0 {
			break
		}
	}

	if left > 0 {
		out = append(out, span{strings.Repeat(" ", left), normal})
	}

	return out
}

// as returns l with every span in a role.
func (l line) as(r role) line {
	out := make(line, len(l))
	for i, s := range l {
		out[i] = span{s.text, r}
	}
	return out
}

// wrap returns s in lines of at most columns cells, broken at spaces, or anywhere if a word is too
// long.
func wrap(s string, columns int, r role) (out []line) {
	if columns < 1 {
		return nil
	}

	now := ""
	for _, w := range strings.Fields(plain.Text(s)) {
		for width(w) > columns {
			head := cut(w, columns+1)
			head = strings.TrimSuffix(head, "…")
			if now != "" {
				out, now = append(out, line{{now, r}}), ""
			}
			if head == "" { // one character is wider than the line
				return out
			}
			out = append(out, line{{head, r}})
			w = w[len(head):]
		}
		switch {
		case now == "":
			now = w
		case width(now)+1+width(w) <= columns:
			now += " " + w
		default:
			out, now = append(out, line{{now, r}}), w
		}
	}

	if now != "" {
		out = append(out, line{{now, r}})
	}

	return out
}

// texts returns the lines of a text of many lines, such as a stack.
func texts(s, indent string, r role) (out []line) {
	for l := range strings.Lines(strings.TrimRight(s, "\n")) {
		l = strings.ReplaceAll(strings.TrimRight(l, "\r\n"), "\t", "    ")
		out = append(out, line{{indent + l, r}})
	}
	return out
}

// beside joins two blocks of lines, the left one in columns cells.
func beside(left, right []line, columns int) (out []line) {
	for i := range max(len(left), len(right)) {
		var l line
		if i < len(left) {
			l = left[i]
		}
		l = append(l.fit(columns), in(dim, " │ "))
		if i < len(right) {
			l = append(l, right[i]...)
		}
		out = append(out, l)
	}
	return out
}
