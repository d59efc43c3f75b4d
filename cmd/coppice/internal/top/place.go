package top

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/coppice-go/coppice/cmd/coppice/internal/eventline"
	apiv1 "github.com/coppice-go/coppice/proto/coppice/api/v1"
)

// placePage is what the view of a place shows.
type placePage struct {
	path string
	deep bool // also stacks of all goroutines, and state
	busy bool
	placeMsg
}

func (m *Model) learnPlace(msg placeMsg) {
	p := &m.place
	p.busy = false
	if msg.path != p.path {
		return // another place was opened meanwhile
	}
	if msg.err != nil && p.placeMsg.path == p.path { // keep what was known
		p.err = msg.err
		return
	}
	p.placeMsg = msg
}

// open shows a place.
func (m *Model) open(at string) {
	if at == "" {
		return
	}
	if at != m.place.path {
		m.place = placePage{path: at}
		m.scroll[placeView] = 0
	}
	m.chosen, m.view = at, placeView
}

func (m *Model) placeLines() []line {
	p := &m.place
	out := []line{{in(bold, "%s", p.path)}}
	if p.err != nil {
		out = append(out, line{in(bad, "not shown: %s", p.err)})
	}
	if p.placeMsg.path != p.path || p.is == nil {
		return append(out, line{in(dim, "asking …")})
	}

	c := p.is.GetChild()
	if note := c.GetSpec().GetNote(); note != "" {
		out = append(out, wrap(note, m.width, normal)...)
	}
	out = append(out, m.lifeLine(c))
	out = append(out, wrap(m.policy(c), m.width, normal)...)
	out = append(out, m.inHand()...)
	out = append(out, m.exitLines()...)
	out = append(out, m.orphanLines()...)
	out = append(out, m.stateLines()...)

	return append(out, m.historyLines()...)
}

func (m *Model) lifeLine(c *apiv1.Child) line {
	l := c.GetLive()
	out := line{in(stateRole(l.GetState()), "%s", word(l.GetState(), "CHILD_STATE_"))}
	if l.GetIncarnation() != 0 {
		out = append(out, text(", incarnation %s for %s", life(l), since(l.GetStarted(), m.clock())))
	}
	out = append(out, text(", %s", plural(int(l.GetRestarts()), "restart")))

	if c.GetType() == apiv1.ChildType_CHILD_TYPE_SUPERVISOR {
		p := &place{Child: c}
		role := normal
		if p.near() {
			role = bad
		}
		out = append(out, text(", limit used: "), in(role, "%s", limitUsed(p)))
	}

	return out
}

// policy says in sentences what the supervisors do.
func (m *Model) policy(c *apiv1.Child) string {
	var s []string
	spec := c.GetSpec()

	switch spec.GetRestart() {
	case apiv1.Restart_RESTART_PERMANENT:
		s = append(s, "It is restarted whenever it ends.")
	case apiv1.Restart_RESTART_TRANSIENT:
		s = append(s, "It is restarted when it ends abnormally.")
	case apiv1.Restart_RESTART_TEMPORARY:
		s = append(s, "It is never restarted.")
	}
	if up := m.tree.above(c.GetPath()); up != nil {
		s = append(s, group(c, m.place.is.GetRestartsWith()),
			fmt.Sprintf("Its supervisor, %s, is %s and gives up after more than %s in %s.", up.Path,
				word(up.GetSpec().GetStrategy(), "STRATEGY_"),
				plural(int(up.GetSpec().GetMaxRestarts()), "restart"), period(up.GetSpec().GetPeriod().AsDuration())))
	}
	if spec.GetSignificant() {
		s = append(s, "It is significant: its end may end its supervisor.")
	}
	if spec.GetShutdown() != "" {
		s = append(s, "Time to stop: "+spec.GetShutdown()+".")
	}
	if c.GetType() == apiv1.ChildType_CHILD_TYPE_SUPERVISOR {
		s = append(s, fmt.Sprintf("It supervises its own children %s.", word(spec.GetStrategy(), "STRATEGY_")))
	}

	return strings.Join(s, " ")
}

// group says what the end of a child restarts.
func group(c *apiv1.Child, with []string) string {
	others := slices.DeleteFunc(slices.Clone(with), func(s string) bool { return s == c.GetId() || s == c.GetPath() })
	what := "Its end restarts it alone."
	switch {
	case c.GetSpec().GetRestart() == apiv1.Restart_RESTART_TEMPORARY && len(others) == 0:
		return "Its end changes no other child."
	case len(others) > 0:
		what = "Its end also restarts " + strings.Join(others, ", ") + "."
	}
	if c.GetType() == apiv1.ChildType_CHILD_TYPE_SUPERVISOR {
		what = strings.TrimSuffix(what, ".") + ", and everything below."
	}
	return what
}

// inHand says what an engine is doing.
func (m *Model) inHand() []line {
	e := m.place.is.GetEngine()
	if e == nil {
		return nil
	}

	hand := line{text("message in hand: none")}
	if e.InHand != "" {
		hand = line{text("message in hand: "), in(bold, "%s", e.InHand), text(" for %s, sent %s ago",
			ago(e.Handling.AsDuration()), ago(e.Oldest.AsDuration()))}
	}

	return []line{nil, title("Engine %s", e.Name),
		{text("mailbox: %d of %d, %d posted to itself", e.Mailbox, e.Capacity, e.Posted)}, hand,
		{text("%.1f messages/s, busy %.0f%% of the last 5 s; %s handled in %s", e.Rate, 100*e.BusyShare,
			number(e.Handled), ago(e.Busy.AsDuration()))}}
}

func (m *Model) exitLines() []line {
	exit := m.place.is.GetChild().GetLive().GetLastExit()
	if exit == "" {
		return nil
	}
	out := append([]line{nil, title("Last exit")}, wrap(exit, m.width, bad)...)
	return append(out, texts(m.place.is.GetLastStack(), "  ", dim)...)
}

// orphanLines shows the orphans of the place and below it, with their stacks.
func (m *Model) orphanLines() (out []line) {
	all := m.tree.root != nil && m.place.path == m.tree.root.Path
	for _, o := range m.place.orphans {
		if !all && o.Path != m.place.path && !strings.HasPrefix(o.Path, m.place.path+"/") {
			continue
		}
		out = append(out, nil, line{in(bad, "ORPHAN %s #%d", o.Path, o.Incarnation),
			text(" since %s, %s still run", since(o.Since, m.clock()), plural(int(o.Goroutines), "goroutine"))})
		out = append(out, texts(o.Stacks, "  ", dim)...)
	}
	return out
}

// stateLines shows what was asked for by s.
func (m *Model) stateLines() (out []line) {
	p := &m.place
	if !p.deep {
		return nil
	}

	out = append(out, nil, title("State"))
	switch {
	case p.is.GetStateError() != "":
		out = append(out, line{in(dim, "%s", p.is.GetStateError())})
	case len(p.is.GetState()) == 0:
		out = append(out, line{in(dim, "asking …")})
	}
	for _, k := range sortedKeys(p.is.GetState()) {
		out = append(out, line{in(bold, "%s", pad(k, 24)), text(" %s", p.is.GetState()[k])})
	}

	out = append(out, nil, title("Stacks of %s", plural(int(p.is.GetGoroutines()), "goroutine")))
	return append(out, texts(p.is.GetStacks(), "  ", dim)...)
}

// historyLines shows the remembered events, the newest first, with their stacks.
func (m *Model) historyLines() []line {
	out := []line{nil, title("History, the newest first")}
	events := m.place.history.GetEvents()
	if len(events) == 0 {
		return append(out, line{in(dim, "no event is remembered")})
	}

	for _, e := range slices.Backward(events) {
		l := eventline.OfTree(e)
		role := normal
		if l.Bad {
			role = bad
		}
		at := ago(m.clock().Sub(e.Time.AsTime()).Truncate(time.Second))
		out = append(out, line{in(dim, "%s ago ", pad(at, -6)), in(bold, "%s ", pad(l.Kind, 22)),
			in(role, "%s", l.Text)})
		out = append(out, texts(e.Stack, "            ", dim)...)
	}
	if m.place.history.GetMore() {
		out = append(out, line{in(dim, "older events are forgotten")})
	}

	return out
}
