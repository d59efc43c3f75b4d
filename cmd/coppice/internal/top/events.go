package top

func (m *Model) eventsBody(room int) []line {
	e := &m.events
	head := line{in(dim, "filter: "), text("%s", e.filter)}
	if e.filter == "" {
		head = line{in(dim, "all events from now on, after the remembered ones of the tree; / sets a filter")}
	}
	if e.lost > 0 {
		head = append(head, in(warn, "  %s left out", plural(int(e.lost), "event")))
	}
	out := []line{head}
	if e.why != "" {
		out = append(out, wrap(e.why, m.width, bad)...)
	}

	list := max(room-len(out), 0)
	back := max(0, min(m.scroll[eventsView], len(e.lines)-list))
	m.scroll[eventsView] = back
	last := len(e.lines) - back

	for _, l := range e.lines[max(last-list, 0):last] {
		role := normal
		if l.Bad {
			role = bad
		}
		out = append(out, line{in(dim, "%s ", pad(l.Head, -12)), in(bold, "%s ", pad(l.Kind, 22)),
			in(role, "%s", l.Text)})
	}
	if len(e.lines) == 0 && e.why == "" {
		out = append(out, line{in(dim, "none yet")})
	}

	return out
}
