package top

import (
	"cmp"
	"fmt"
	"slices"

	apiv1 "github.com/coppice-go/coppice/proto/coppice/api/v1"
)

// Columns of the engines.
const (
	columnName = iota
	columnMailbox
	columnOldest
	columnRate
	columnBusy
	columnHandled
	columnInHand
)

// almostFull is the share of a mailbox at which it is marked.
const almostFull = 0.85

// column is a column of the engines.
type column struct {
	name  string
	width int // negative: aligned to the right
	less  func(a, b *apiv1.Engine) int
	show  func(e *apiv1.Engine) string
}

var columns = []column{
	{"ENGINE", 18, func(a, b *apiv1.Engine) int { return cmp.Compare(a.Name, b.Name) },
		func(e *apiv1.Engine) string { return e.Name }},
	{"MAILBOX", -12, func(a, b *apiv1.Engine) int { return cmp.Compare(a.Mailbox, b.Mailbox) },
		func(e *apiv1.Engine) string { return fmt.Sprintf("%d of %d", e.Mailbox, e.Capacity) }},
	{"OLDEST", -7, func(a, b *apiv1.Engine) int {
		return cmp.Compare(a.Oldest.AsDuration(), b.Oldest.AsDuration())
	}, func(e *apiv1.Engine) string { return ago(e.Oldest.AsDuration()) }},
	{"MSG/S", -8, func(a, b *apiv1.Engine) int { return cmp.Compare(a.Rate, b.Rate) },
		func(e *apiv1.Engine) string { return fmt.Sprintf("%.1f", e.Rate) }},
	{"BUSY", -6, func(a, b *apiv1.Engine) int { return cmp.Compare(a.BusyShare, b.BusyShare) },
		func(e *apiv1.Engine) string { return fmt.Sprintf("%.0f%%", 100*e.BusyShare) }},
	{"HANDLED", -10, func(a, b *apiv1.Engine) int { return cmp.Compare(a.Handled, b.Handled) },
		func(e *apiv1.Engine) string { return number(e.Handled) }},
	{"IN HAND", 24, func(a, b *apiv1.Engine) int {
		return cmp.Compare(a.Handling.AsDuration(), b.Handling.AsDuration())
	}, func(e *apiv1.Engine) string {
		if e.InHand == "" {
			return "-"
		}
		return e.InHand + " for " + ago(e.Handling.AsDuration())
	}},
}

func (m *Model) learnEngines(msg enginesMsg) {
	if msg.err != nil {
		return // the status and the stream of the tree say why
	}

	m.engines = msg.engines
	most, rate := 0.0, 0.0
	for _, e := range m.engines {
		most, rate = max(most, float64(e.Mailbox)), rate+e.Rate
	}
	m.waiting = keep(append(m.waiting, most), maxValues)
	m.rates = keep(append(m.rates, rate), maxValues)
	m.sortEngines()
}

// sortEngines sorts by the chosen column, and by name where that is equal, so that rows do not
// jump.
func (m *Model) sortEngines() {
	less := columns[m.column].less
	slices.SortStableFunc(m.engines, func(a, b *apiv1.Engine) int {
		c := less(a, b)
		if !m.ascending() {
			c = -c
		}
		return cmp.Or(c, cmp.Compare(a.Name, b.Name))
	})
}

// ascending reports the order: numbers begin with the highest and names with the first, until r.
func (m *Model) ascending() bool { return m.reversed != (m.column == columnName) }

// engineAt returns the index of the selected engine.
func (m *Model) engineAt() int {
	i := slices.IndexFunc(m.engines, func(e *apiv1.Engine) bool { return e.Path == m.engine })
	if i < 0 && len(m.engines) > 0 {
		i, m.engine = 0, m.engines[0].Path
	}
	return i
}

func (m *Model) topBody(room int) []line {
	at := m.engineAt()
	if at < 0 {
		return []line{{in(dim, "no engines yet")}}
	}

	var head line
	head = append(head, in(dim, "  "))
	for i, c := range columns {
		name, role := c.name, dim
		if i == m.column {
			name, role = name+"↓", bold
			if m.ascending() {
				name = c.name + "↑"
			}
		}
		head = append(head, in(role, "%s ", pad(name, c.width)))
	}
	out := []line{head}

	list := max(room-2, 1)
	top := max(0, min(m.scroll[topView], len(m.engines)-list))
	top = max(min(top, at), at-list+1)
	m.scroll[topView] = top

	for i := top; i < min(top+list, len(m.engines)); i++ {
		if n := len(out); n < len(m.visible) {
			m.visible[n] = m.engines[i].Path
		}
		out = append(out, m.engineLine(m.engines[i], i == at))
	}
	for len(out) < room-1 {
		out = append(out, nil)
	}

	return append(out, line{in(bold, "%s", m.engines[at].Path), in(dim, "  %s; rates of the last 5 s",
		plural(len(m.engines), "engine"))})
}

func (m *Model) engineLine(e *apiv1.Engine, selected bool) line {
	mark := " "
	if selected {
		mark = ">"
	}

	full := e.Capacity > 0 && float64(e.Mailbox) >= almostFull*float64(e.Capacity)
	l := line{in(bold, "%s", mark)}
	if full {
		l = append(l, in(bad, "!"))
	} else {
		l = append(l, text(" "))
	}

	for i, c := range columns {
		role := normal
		if full && i == columnMailbox {
			role = bad
		}
		l = append(l, in(role, "%s ", pad(c.show(e), c.width)))
	}
	if selected {
		l = l.fit(m.width).as(chosen)
	}

	return l
}
