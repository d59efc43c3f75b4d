package top

import (
	"fmt"
	"strings"

	apiv1 "github.com/coppice-go/coppice/proto/coppice/api/v1"
)

// nearest returns the place at path, or the nearest one above it that is there.
func nearest(t *places, path string) string {
	for path != "" && t.by[path] == nil {
		i := strings.LastIndexByte(path, '/')
		if i < 0 {
			path = ""
			break
		}
		path = path[:i]
	}
	if path == "" && t.root != nil {
		return t.root.Path
	}
	return path
}

// folded reports whether a place hides what is below it. Dynamic supervisors do at first: they may
// have thousands of children.
func (m *Model) folded(p *place) bool {
	if f, ok := m.folds[p.Path]; ok {
		return f
	}
	return p.dynamic()
}

// treeRows returns the rows of the tree, and the index of the selected one.
func (m *Model) treeRows() (rows []row, at int) {
	rows = m.tree.rows(m.folded, m.search, nil)
	for i, r := range rows {
		if r.Path == m.chosen {
			return rows, i
		}
	}

	// The selected place is hidden: select what hides it.
	for i, r := range rows {
		if strings.HasPrefix(m.chosen, r.Path+"/") {
			at = i
		}
	}
	if len(rows) > 0 {
		m.chosen = rows[at].Path
	}

	return rows, at
}

func (m *Model) treeBody(room int) []line {
	rows, at := m.treeRows()
	if len(rows) == 0 {
		return []line{{in(dim, "no tree yet")}}
	}

	out := []line{m.treeHead()}
	foot := m.treeFoot(rows[at])
	list := max(room-len(out)-len(foot), 1)

	top := max(0, min(m.scroll[treeView], len(rows)-list))
	top = min(top, at)
	top = max(top, at-list+1)
	m.scroll[treeView] = top

	for i := top; i < min(top+list, len(rows)); i++ {
		if n := len(out); n < len(m.visible) {
			m.visible[n] = rows[i].Path
		}
		out = append(out, m.treeLine(rows[i], i == at))
	}
	for len(out) < room-len(foot) {
		out = append(out, nil)
	}

	return append(out, foot...)
}

// wide reports whether the last exit has a column.
func (m *Model) wide() bool { return m.width >= 110 }

func (m *Model) nameWidth() int { return min(max(m.width-50, 20), 48) }

func (m *Model) treeHead() line {
	l := line{in(dim, "  %s %s %s %s %s  %s", pad("PLACE", m.nameWidth()), pad("STATE", 10), pad("LIFE", -6),
		pad("UP", -6), pad("RST", -4), pad("LIMIT USED", 15))}
	if m.wide() {
		l = append(l, in(dim, " LAST EXIT"))
	}
	return l
}

func (m *Model) treeLine(r row, selected bool) line {
	live := r.GetLive()
	mark, name := " ", branch(r)+r.Id
	if r.folded {
		name += fmt.Sprintf(" +%d", len(r.kids))
	}
	if r.marked(m.clock()) {
		mark = "*"
	}
	cursor := " "
	if selected {
		cursor = ">"
	}

	role := normal
	if r.marked(m.clock()) {
		role = changed
	}

	used := limitUsed(r.place)
	usedRole := normal
	if r.near() {
		used, usedRole = used+" !", bad
	}

	l := line{
		in(bold, "%s", cursor), in(changed, "%s", mark),
		in(role, "%s ", pad(name, m.nameWidth())),
		in(stateRole(live.GetState()), "%s ", pad(stateWord(r.place), 10)),
		in(role, "%s %s %s  ", pad(life(live), -6), pad(since(live.GetStarted(), m.clock()), -6),
			pad(restarts(live), -4)),
		in(usedRole, "%s", pad(used, 15)),
	}
	if m.wide() {
		l = append(l, in(dim, " %s", live.GetLastExit()))
	}
	if selected {
		l = l.fit(m.width).as(chosen)
	}

	return l
}

// treeFoot returns what does not fit into the row of the selected place.
func (m *Model) treeFoot(r row) []line {
	l := line{in(bold, "%s", r.Path)}
	if note := r.GetSpec().GetNote(); note != "" {
		l = append(l, text(": %s", note))
	}
	exit := line{in(dim, "last exit: "), text("%s", r.GetLive().GetLastExit())}
	if r.GetLive().GetLastExit() == "" {
		exit = line{in(dim, "it has not ended since its supervisor started")}
	}
	if m.search != "" {
		l = append(line{in(warn, "showing what matches %q  ", m.search)}, l...)
	}

	return []line{l, exit}
}

// branch draws the lines of a tree in front of a name.
func branch(r row) string {
	var b strings.Builder
	for i, last := range r.last {
		switch end := i == len(r.last)-1; {
		case end && last:
			b.WriteString("└ ")
		case end:
			b.WriteString("├ ")
		case last:
			b.WriteString("  ")
		default:
			b.WriteString("│ ")
		}
	}
	return b.String()
}

func stateWord(p *place) string { return word(p.GetLive().GetState(), "CHILD_STATE_") }

func stateRole(s apiv1.ChildState) role {
	switch s {
	case apiv1.ChildState_CHILD_STATE_RUNNING:
		return good
	case apiv1.ChildState_CHILD_STATE_STOPPED, apiv1.ChildState_CHILD_STATE_ORPHANED:
		return bad
	}
	return warn
}

func life(l *apiv1.Live) string {
	if l.GetIncarnation() == 0 {
		return "-"
	}
	return fmt.Sprintf("#%d", l.Incarnation)
}

func restarts(l *apiv1.Live) string {
	if l.GetRestarts() == 0 {
		return "-"
	}
	return fmt.Sprint(l.Restarts)
}

// limitUsed returns how much of its restart limit a supervisor has used: "1 of 5 in 1m".
func limitUsed(p *place) string {
	s, l := p.GetSpec(), p.GetLive()
	switch {
	case !p.supervisor():
		return ""
	case p.dynamic():
		return plural(int(l.Instances), "child")
	}
	return fmt.Sprintf("%d of %d in %s", l.GetInWindow(), s.GetMaxRestarts(), period(s.GetPeriod().AsDuration()))
}
