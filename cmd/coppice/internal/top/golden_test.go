package top

import (
	"flag"
	"fmt"
	"html"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

var update = flag.Bool("update", false, "write the golden screens and the picture of the docs anew")

// screenText returns the screen without colours, and checks what is true of every screen.
func (w *world) screenText() string {
	w.t.Helper()
	s := w.m.View()
	require.NotContains(w.t, s, "\x1b", "without colours, no escape sequence reaches the terminal")

	lines := strings.Split(s, "\n")
	require.Len(w.t, lines, w.m.height)
	for _, l := range lines {
		require.Equal(w.t, w.m.width, width(l), "%q", l)
	}

	return s
}

// golden compares a screen with a file.
func golden(t *testing.T, name, got string) {
	t.Helper()
	if *update {
		require.NoError(t, os.MkdirAll(filepath.Dir(name), 0o755))
		require.NoError(t, os.WriteFile(name, []byte(got), 0o644))
	}
	want, err := os.ReadFile(name)
	require.NoError(t, err)
	require.Equal(t, string(want), got, "to accept it: go test ./cmd/coppice/internal/top -update")
}

// trimmed returns a screen without the spaces at the ends of its lines, so that files have none.
func trimmed(screen string) string {
	var b strings.Builder
	for l := range strings.Lines(screen) {
		b.WriteString(strings.TrimRight(l, " \n") + "\n")
	}
	return b.String()
}

// Every view is as the golden screens show it, on a small and on a large terminal.
func TestGoldenScreens(t *testing.T) {
	screens := []struct {
		name string
		do   func(w *world)
	}{
		{"overview", func(w *world) { w.keys("1") }},
		{"tree", func(w *world) { w.keys("2", "down", "down", "down", "down", "down") }},
		{"search", func(w *world) { w.keys("2", "/", "stor") }},
		{"place", func(w *world) {
			w.keys("2", "down", "down", "down", "down", "down", "enter")
			w.tell(storagePlace())
		}},
		{"top", func(w *world) { w.keys("4", "down") }},
		{"events", func(w *world) { w.keys("5") }},
		{"chain", func(w *world) { w.keys("6") }},
		{"disk", func(w *world) { w.keys("7") }},
		{"help", func(w *world) { w.keys("?") }},
		{"kill", func(w *world) {
			w.keys("2", "down", "down", "k")
			w.tell(consequencesMsg{path: "coppice/node/router", is: routerPlace()})
			w.keys("rout")
		}},
		{"lost", func(w *world) {
			w.keys("2")
			w.tell(treeLostMsg{errDown})
		}},
	}

	for _, size := range [][2]int{{80, 24}, {200, 60}} {
		for _, s := range screens {
			t.Run(fmt.Sprintf("%s %dx%d", s.name, size[0], size[1]), func(t *testing.T) {
				w := newWorld(t, Options{Token: true}, size[0], size[1])
				w.full()
				s.do(w)
				golden(t, fmt.Sprintf("testdata/%s-%dx%d.txt", s.name, size[0], size[1]), trimmed(w.screenText()))
			})
		}
	}
}

// colours of the roles in the picture.
var svgColours = [roles]string{normal: "#d0d0d0", dim: "#8a8a8a", bold: "#ffffff", good: "#5fd787", warn: "#ffd75f",
	bad: "#ff6b6b", changed: "#5fd7ff", chosen: "#1c1c1c", bar: "#1c1c1c"}

// picture draws a screen.
func picture(screen []line, columns int) string {
	const cell, row, pad = 8.4, 18, 12
	var b strings.Builder
	fmt.Fprintf(&b, `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 %.0f %d" role="img" `+
		`aria-label="coppice top" font-family="ui-monospace, monospace" font-size="14">`+"\n",
		float64(columns)*cell+2*pad, len(screen)*row+2*pad)
	b.WriteString(`<rect width="100%" height="100%" rx="6" fill="#1c1c1c"/>` + "\n")

	for i, l := range screen {
		at, y := 0, pad+(i+1)*row-5
		for _, s := range l.fit(columns) {
			n := width(s.text)
			x := float64(at)*cell + pad
			at += n
			if s.role == chosen || s.role == bar {
				fmt.Fprintf(&b, `<rect x="%.1f" y="%d" width="%.1f" height="%d" fill="#d0d0d0"/>`+"\n", x, y-13,
					float64(n)*cell, row)
			}
			if strings.TrimSpace(s.text) == "" {
				continue
			}
			fmt.Fprintf(&b, `<text xml:space="preserve" x="%.1f" y="%d" textLength="%.1f" fill="%s">%s</text>`+"\n", x, y,
				float64(n)*cell, svgColours[s.role], html.EscapeString(s.text))
		}
	}

	return b.String() + "</svg>\n"
}

// The picture in the docs shows the tree as it is drawn.
func TestPictureOfTheDocs(t *testing.T) {
	w := newWorld(t, Options{Token: true}, 110, 26)
	w.full()
	w.keys("2", "down", "down", "down", "down", "down")
	golden(t, "../../../../docs/top.svg", picture(w.m.lines(), 110))
}
