package top

import (
	"io"
	"strings"

	"github.com/charmbracelet/lipgloss"

	_ "github.com/coppice-go/coppice/cmd/coppice/internal/top/early" // before Bubble Tea
)

// styles are how a terminal shows the roles.
type styles [roles]lipgloss.Style

// stylesFor returns styles in the colours that the terminal behind w has; without NO_COLOR, that is
// (no-color.org).
func stylesFor(w io.Writer) styles {
	r := lipgloss.NewRenderer(w)
	style := func() lipgloss.Style { return r.NewStyle().TabWidth(lipgloss.NoTabConversion) }

	return styles{
		normal:  style(),
		dim:     style().Faint(true),
		bold:    style().Bold(true),
		good:    style().Foreground(lipgloss.ANSIColor(2)),
		warn:    style().Foreground(lipgloss.ANSIColor(3)).Bold(true),
		bad:     style().Foreground(lipgloss.ANSIColor(1)).Bold(true),
		changed: style().Foreground(lipgloss.ANSIColor(6)).Bold(true),
		chosen:  style().Reverse(true),
		bar:     style().Bold(true).Reverse(true),
	}
}

// render returns the lines as a terminal gets them. All of them have the same width, so that a
// shorter line leaves nothing of the one before it.
func (s styles) render(screen []line, columns int) string {
	var b strings.Builder
	for i, l := range screen {
		if i > 0 {
			b.WriteByte('\n')
		}
		for _, part := range l.fit(columns) {
			if part.role == normal {
				b.WriteString(part.text)
			} else {
				b.WriteString(s[part.role].Render(part.text))
			}
		}
	}
	return b.String()
}
