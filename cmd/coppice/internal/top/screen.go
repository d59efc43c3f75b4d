package top

import "strings"

// The rows above and below the body: health, tabs, footer.
const chrome = 3

// lines returns the whole screen.
func (m *Model) lines() []line {
	screen := []line{m.health(), m.tabs()}
	room := max(m.height-chrome, 0)
	m.visible = make([]string, room)

	var body []line
	switch {
	case m.mode == helping:
		body = m.window(help(), room, 0)
	case m.mode == killing:
		body = m.window(m.kill.lines(m.width), room, 0)
	default:
		body = m.body(room)
	}

	for len(body) < room {
		body = append(body, nil)
	}
	screen = append(append(screen, body[:room]...), m.footer())

	return screen[:min(len(screen), max(m.height, 1))]
}

func (m *Model) body(room int) []line {
	switch m.view {
	case treeView:
		return m.treeBody(room)
	case placeView:
		return m.scrolled(m.placeLines(), room)
	case topView:
		return m.topBody(room)
	case eventsView:
		return m.eventsBody(room)
	case chainView:
		return m.scrolled(m.chainLines(), room)
	case diskView:
		return m.scrolled(m.diskLines(), room)
	}
	return m.overviewBody(room)
}

// View implements tea.Model.
func (m *Model) View() string { return m.styles.render(m.lines(), m.width) }

// scrolled returns the part of a page that its scroll position shows.
func (m *Model) scrolled(page []line, room int) []line {
	m.scroll[m.view] = max(0, min(m.scroll[m.view], len(page)-room))
	return m.window(page, room, m.scroll[m.view])
}

// window returns room lines of a page from a line on.
func (m *Model) window(page []line, room, from int) []line {
	page = page[min(from, len(page)):]
	return page[:min(room, len(page))]
}

// help returns the keys.
func help() []line {
	keys := []struct{ key, does string }{
		{"1 … 7, tab", "one of the views; the next one"},
		{"↑ ↓ pgup pgdn home end", "move or scroll"},
		{"← →", "tree: collapse, expand"},
		{"enter", "open the place that is selected"},
		{"/", "tree: search; events: filter, as in 'coppice events'"},
		{"esc", "clear the search or the message; close"},
		{"< >", "top: sort by the column to the left, to the right"},
		{"r", "top: reverse the order"},
		{"s", "place: stacks of goroutines, state (admin token)"},
		{"s o b", "chain: go to the streams, the rounds, the blocks"},
		{"k", "kill what is selected; its name has to be typed"},
		{"p", "pause the view; again: go on where it was"},
		{"?", "these keys"},
		{"q, ctrl+c", "quit"},
	}

	out := []line{title("Keys"), nil}
	for _, k := range keys {
		out = append(out, line{in(bold, "%s", pad(k.key, 24)), text("%s", k.does)})
	}
	out = append(out, nil,
		line{text("> selected   * changed within 3 s   + collapsed   ! needs a look")},
		line{in(dim, "Rates and busy are of the last 5 s. Looking waits for no engine.")})

	return out
}

// indent returns spaces for a depth.
func indent(n int) string { return strings.Repeat(" ", max(n, 0)) }
