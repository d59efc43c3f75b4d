package top

import (
	"strings"
	"unicode"

	tea "github.com/charmbracelet/bubbletea"
)

// keys does what keys mean. Those that are typed fast come together, as one message. Pasted text is
// no command.
func (m *Model) keys(k tea.KeyMsg) tea.Cmd {
	if k.Type != tea.KeyRunes || len(k.Runes) == 1 {
		return m.key(k)
	}

	var all []tea.Cmd
	for _, r := range k.Runes {
		typing := m.mode == searching || m.mode == filtering || m.mode == killing
		if typing || !k.Paste {
			all = append(all, m.key(tea.KeyMsg{Type: tea.KeyRunes, Runes: []rune{r}}))
		}
	}

	return tea.Batch(all...)
}

// key does what a key means.
func (m *Model) key(k tea.KeyMsg) tea.Cmd {
	if k.Type == tea.KeyCtrlC {
		return tea.Quit
	}

	switch m.mode {
	case searching, filtering, killing:
		return m.typing(k)
	case helping:
		m.mode = moving
		return nil
	}

	switch s := k.String(); s {
	case "q":
		return tea.Quit
	case "?":
		m.mode = helping
	case "p":
		m.paused = !m.paused
		return m.ask.pause(m.paused)
	case "tab":
		return m.show((m.view + 1) % viewCount)
	case "shift+tab":
		return m.show((m.view + viewCount - 1) % viewCount)
	case "1", "2", "3", "4", "5", "6", "7":
		return m.show(view(s[0] - '1'))
	case "esc":
		m.note, m.search = "", ""
	case "k":
		return m.askKill(m.target())
	case "/":
		return m.begin()
	default:
		return m.move(s)
	}

	return nil
}

// show opens a view, and asks for what it shows.
func (m *Model) show(v view) tea.Cmd {
	m.view, m.note = v, ""
	if v == placeView {
		m.open(m.chosen)
	}
	return tea.Batch(m.opened(), m.poll())
}

// target is the path that an action is about.
func (m *Model) target() string {
	switch m.view {
	case treeView:
		return m.chosen
	case placeView:
		return m.place.path
	case topView:
		return m.engine
	}
	return ""
}

// begin begins to type a search or a filter.
func (m *Model) begin() tea.Cmd {
	switch m.view {
	case treeView, overviewView, placeView:
		m.view, m.mode, m.input = treeView, searching, m.search
	case eventsView:
		m.mode, m.input = filtering, m.events.filter
	}
	return nil
}

// typing takes a key into the input.
func (m *Model) typing(k tea.KeyMsg) tea.Cmd {
	switch k.Type {
	case tea.KeyEsc:
		if m.mode == searching {
			m.search = ""
		}
		m.mode, m.input = moving, ""
		return nil
	case tea.KeyEnter:
		return m.typed()
	case tea.KeyBackspace:
		if r := []rune(m.input); len(r) > 0 {
			m.input = string(r[:len(r)-1])
		}
	case tea.KeyCtrlU:
		m.input = ""
	case tea.KeyTab:
		if m.mode == killing {
			m.kill.how = (m.kill.how + 1) % len(hows)
		}
	case tea.KeyUp, tea.KeyDown:
		if m.mode == searching {
			return m.move(k.String())
		}
	case tea.KeyRunes, tea.KeySpace:
		for _, r := range k.Runes {
			if unicode.IsPrint(r) && len(m.input) < 500 {
				m.input += string(r)
			}
		}
	}

	if m.mode == searching {
		m.search = m.input
	}
	return nil
}

// typed takes what was typed.
func (m *Model) typed() tea.Cmd {
	mode, input := m.mode, m.input
	m.mode, m.input = moving, ""

	switch mode {
	case filtering:
		m.events = eventsPage{open: true, filter: strings.TrimSpace(input)}
		m.scroll[eventsView] = 0
		if m.paused {
			m.paused = false
			return tea.Batch(m.ask.pause(false), m.ask.follow(m.events.filter))
		}
		return m.ask.follow(m.events.filter)

	case killing:
		if input != m.kill.name() {
			m.note, m.noteRole = "not killed: "+input+" is not "+m.kill.name(), warn
			return nil
		}
		return m.ask.killChild(m.kill.path, hows[m.kill.how])
	}

	return nil
}

// move does what the keys for moving mean in a view.
func (m *Model) move(key string) tea.Cmd {
	page := max(m.height-chrome-4, 1)
	const all = 1 << 30
	step, ok := map[string]int{"up": -1, "down": 1, "pgup": -page, "pgdown": page, "home": -all, "end": all}[key]

	switch m.view {
	case treeView:
		if ok {
			m.moveTree(step)
			return nil
		}
		return m.treeKey(key)
	case topView:
		if ok {
			m.moveEngine(step)
			return nil
		}
		return m.topKey(key)
	case overviewView:
		if key == "enter" {
			return m.show(placeView)
		}
	case placeView:
		if key == "s" {
			return m.deepen()
		}
	case chainView:
		if heading := sections[key]; heading != "" {
			m.jump(heading)
		}
	case eventsView:
		step = -step // it begins at the end
	}

	if ok {
		m.scroll[m.view] = max(0, min(m.scroll[m.view]+step, all))
	}
	return nil
}

// deepen asks for stacks and state, or no longer.
func (m *Model) deepen() tea.Cmd {
	if !m.admin {
		m.note, m.noteRole = "stacks and state need the admin token", warn
		return nil
	}
	m.place.deep = !m.place.deep
	if m.place.path == "" {
		return nil
	}
	return m.ask.place(m.place.path, m.place.deep)
}

func (m *Model) moveTree(step int) {
	rows, at := m.treeRows()
	if len(rows) > 0 {
		m.chosen = rows[max(0, min(at+step, len(rows)-1))].Path
	}
}

func (m *Model) treeKey(key string) tea.Cmd {
	p := m.tree.by[m.chosen]
	if p == nil {
		return nil
	}

	switch key {
	case "enter":
		return m.show(placeView)
	case "left":
		if len(p.kids) > 0 && !m.folded(p) {
			m.folds[p.Path] = true
		} else if p.up != nil {
			m.chosen = p.up.Path
		}
	case "right":
		if len(p.kids) > 0 && m.folded(p) {
			m.folds[p.Path] = false
		} else if len(p.kids) > 0 {
			m.chosen = p.kids[0].Path
		}
	}

	return nil
}

func (m *Model) moveEngine(step int) {
	if at := m.engineAt(); at >= 0 {
		m.engine = m.engines[max(0, min(at+step, len(m.engines)-1))].Path
	}
}

func (m *Model) topKey(key string) tea.Cmd {
	switch key {
	case "enter":
		if m.engine != "" {
			m.chosen = m.engine
			return m.show(placeView)
		}
	case "<", "left":
		m.column = (m.column + len(columns) - 1) % len(columns)
	case ">", "right":
		m.column = (m.column + 1) % len(columns)
	case "r":
		m.reversed = !m.reversed
	}

	m.sortEngines()
	return nil
}

// mouse moves by the wheel, and selects by a click.
func (m *Model) mouse(e tea.MouseMsg) tea.Cmd {
	if m.mode != moving || e.Action != tea.MouseActionPress {
		return nil
	}

	switch e.Button {
	case tea.MouseButtonWheelUp:
		return m.move("up")
	case tea.MouseButtonWheelDown:
		return m.move("down")
	case tea.MouseButtonLeft:
		row := e.Y - (chrome - 1)
		if e.Y == 1 {
			return m.clickTab(e.X)
		}
		if row < 0 || row >= len(m.visible) || m.visible[row] == "" {
			return nil
		}
		if m.view == topView {
			m.engine = m.visible[row]
		} else {
			m.chosen = m.visible[row]
		}
	}

	return nil
}

func (m *Model) clickTab(x int) tea.Cmd {
	at := 0
	for i, name := range Views {
		at += len(name) + len("[1 ]")
		if x < at {
			return m.show(view(i))
		}
	}
	return nil
}

// base returns the last element of a path.
func base(path string) string { return path[strings.LastIndexByte(path, '/')+1:] }
