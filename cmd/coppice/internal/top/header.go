package top

import (
	"fmt"
	"strings"
	"time"

	apiv1 "github.com/coppice-go/coppice/proto/coppice/api/v1"
)

// health returns the line that says whether the node is well, in words.
func (m *Model) health() line {
	now := m.clock()
	if !m.link.up {
		what := "NO ANSWER"
		if !m.link.seen {
			what = "NO ANSWER YET"
		}
		return line{in(bad, "%s for %s, trying again: ", what, ago(now.Sub(m.link.since).Truncate(time.Second))),
			text("%s", m.link.why)}
	}

	s := m.status
	ready := s.GetReadiness()
	var l line

	switch {
	case s.GetReady():
		l = append(l, in(good, "ready"))
		if ready.GetSince() != nil {
			l = append(l, text(" since %s", since(ready.Since, now)))
		}
	default:
		l = append(l, in(bad, "NOT READY: %s", ready.GetState()))
		if why := ready.GetReason(); why != "" {
			l = append(l, text(" (%s)", why))
		}
	}

	if n := len(m.trouble); n > 0 {
		l = append(l, text(", "), in(troubleRole(m.trouble[0]), "%s: %s", plural(n, "trouble"),
			strings.ReplaceAll(m.trouble[0].Kind, "_", " ")))
	}
	if s.GetHeight() > 0 {
		l = append(l, text(", height %s%s", number(s.Height), m.pace()))
	}

	crashes, role := m.lastHour(), normal
	if crashes > 0 {
		role = warn
	}
	within := "the last hour"
	if m.width < 100 {
		within = "1h"
	}
	l = append(l, text(", "), in(role, "%s in %s", plural(crashes, "crash"), within), text(", "))

	role = normal
	if m.orphans > 0 {
		role = bad
	}
	l = append(l, in(role, "%s", plural(int(m.orphans), "orphan")))

	if n := len(ready.GetWarnings()); n > 0 && m.trouble == nil {
		l = append(l, text(", "), in(warn, "%s: %s", plural(n, "warning"), ready.Warnings[0].State))
	}
	if held := s.GetHeld(); len(held) > 0 && m.trouble == nil {
		l = append(l, text(", "), in(bad, "gate %s holds block %d", held[0].Gate, held[0].Height))
	}

	return l
}

// pace returns how fast the chain has grown since the view began to look.
func (m *Model) pace() string {
	if len(m.heights) < 2 {
		return ""
	}

	first, last := m.heights[0], m.heights[len(m.heights)-1]
	took := m.clock().Sub(first.at)
	if last.height <= first.height || took < time.Second {
		return fmt.Sprintf(" (+0 in %s)", ago(took.Truncate(time.Second)))
	}

	return fmt.Sprintf(" (+1 every %s)", ago(took/time.Duration(last.height-first.height)))
}

// tabs returns the line with the views.
func (m *Model) tabs() line {
	var l line
	for i, name := range Views {
		label := fmt.Sprintf(" %d %s ", i+1, name)
		if view(i) == m.view {
			l = append(l, in(bar, "[%d %s]", i+1, name))
		} else {
			l = append(l, in(dim, "%s", label))
		}
	}
	if m.paused {
		l = append(l, in(warn, " PAUSED"))
	}
	if m.options.ReadOnly {
		l = append(l, in(dim, " read-only"))
	}
	return l
}

// hints are the keys that matter in a view.
var hints = [viewCount]string{
	overviewView: "enter place",
	treeView:     "/ search  ←→ fold  enter place  k kill",
	placeView:    "↑↓ scroll  s stacks  k kill",
	topView:      "<> column  r reverse  enter place  k kill",
	eventsView:   "/ filter  ↑↓ scroll",
	chainView:    "↑↓ scroll  s streams  o rounds  b blocks",
	diskView:     "↑↓ scroll",
}

// footer returns the last line: what is typed, what an action brought, or the keys.
func (m *Model) footer() line {
	switch m.mode {
	case searching:
		return line{in(bold, "search: "), text("%s▏", m.input), in(dim, "  enter keep, esc clear")}
	case filtering:
		return line{in(bold, "filter: "), text("%s▏", m.input), in(dim, "  enter apply, esc cancel")}
	case killing:
		return line{in(bold, "type %s to kill: ", m.kill.name()), text("%s▏", m.input)}
	}

	if m.note != "" {
		return line{in(m.noteRole, "%s", m.note), in(dim, "  (esc)")}
	}

	keys := hints[m.view]
	if !m.mayKill() {
		keys = strings.TrimSuffix(keys, "  k kill")
	}

	return line{in(dim, "1-7 view  %s  p pause  ? keys  q quit", keys)}
}

// node returns what the process is.
func (m *Model) node() line {
	s, h := m.status, m.host
	if h == nil {
		return line{in(dim, "asking the node …")}
	}

	l := line{text("coppice %s, process %d, up %s", h.Version, h.Pid, since(h.Started, m.clock()))}
	if s.GetConsensus() != "" {
		l = append(l, text(", consensus %s, profile %s", s.Consensus, s.Profile))
	}
	if h.Home != "" {
		l = append(l, in(dim, ", home %s", h.Home))
	}

	return l
}

func troubleRole(t *apiv1.Trouble) role {
	if t.GetGrave() {
		return bad
	}
	return warn
}

// troubles returns what is wrong: what, since when, and what to do.
func (m *Model) troubles(room int) (out []line) {
	if len(m.trouble) == 0 {
		return []line{{in(good, "no troubles")}}
	}

	short := 2*len(m.trouble) > room // then what to do is left out, and the lines are cut
	out = append(out, title("Troubles"))
	for _, t := range m.trouble {
		what := fmt.Sprintf("%s: %s", since(t.Since, m.clock()), t.Text)
		if short {
			out = append(out, line{in(troubleRole(t), "%s", what)})
			continue
		}
		out = append(out, wrap(what, m.width, troubleRole(t))...)
		out = append(out, wrap("  "+t.Advice+"; see "+t.Page, m.width, dim)...)
	}
	if h := m.status.GetReadiness().GetHold(); h != nil {
		out = append(out, resetLine(h))
	}

	return out
}

func resetLine(h *apiv1.Hold) line {
	return line{in(warn, "reset of epoch %d since height %d, step %d: %s", h.Epoch, h.Height, h.Step, h.Text)}
}

// concerns returns what the node warns of, a line each, if it does not tell its troubles.
func (m *Model) concerns(room int) (out []line) {
	if m.trouble != nil {
		return m.troubles(room)
	}

	r := m.status.GetReadiness()
	for _, w := range r.GetWarnings() {
		out = append(out, line{in(warn, "warning %s: %s", w.State, w.Reason)})
	}
	for _, g := range m.status.GetHeld() {
		out = append(out, line{in(bad, "gate %s holds block %d, waiting for %s", g.Gate, g.Height, heldBy(g.Sinks))})
	}
	if h := r.GetHold(); h != nil {
		out = append(out, resetLine(h))
	}
	if p := r.GetProcess(); p != nil && p.State != "running" {
		out = append(out, line{in(warn, "consensus process %s: %s", p.State, p.Text)})
	}

	return out
}

func heldBy(sinks []*apiv1.HeldSink) string {
	var names []string
	for _, s := range sinks {
		names = append(names, s.Name+" ("+s.State+")")
	}
	return strings.Join(names, ", ")
}
