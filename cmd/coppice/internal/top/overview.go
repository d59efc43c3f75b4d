package top

import (
	"slices"
	"time"

	"github.com/coppice-go/coppice/cmd/coppice/internal/eventline"
)

const crashesShown = 10

func (m *Model) overviewBody(room int) []line {
	charts := m.charts()
	out := append([]line{m.node()}, m.concerns(room-len(charts)-8)...)
	if len(out) > room-len(charts) {
		charts = nil // what is wrong comes first
	}
	left := max(room-len(out)-len(charts), 2)

	if m.width >= 120 {
		half := m.width/2 - 2
		out = append(out, beside(m.troubled(left, half), m.crashLines(left), half)...)
	} else {
		crashes := m.crashLines(max(left/2, 3))
		places := m.troubled(left-len(crashes), m.width)
		out = append(append(out, places...), crashes...)
	}

	for len(out) < room-len(charts) {
		out = append(out, nil)
	}

	return append(out[:max(room-len(charts), 0)], charts...)
}

// troubled returns the places that are not plainly running, with those above them.
func (m *Model) troubled(room, columns int) []line {
	now := m.clock()
	running, all := 0, len(m.tree.by)
	for _, p := range m.tree.by {
		if p.plainly(now) {
			running++
		}
	}

	out := []line{title("Tree: %d of %s run", running, plural(all, "place"))}
	if running == all {
		return append(out, line{in(good, "all places run; none has changed within 3 s")})
	}

	for _, r := range m.tree.rows(m.folded, "", func(p *place) bool { return !p.plainly(now) }) {
		if len(out) == room-1 {
			return append(out, line{in(dim, "… see 2 tree")})
		}
		mark := " "
		if r.marked(now) {
			mark = "*"
		}
		l := line{in(changed, "%s ", mark), text("%s ", pad(branch(r)+r.Id, max(columns-40, 16))),
			in(stateRole(r.GetLive().GetState()), "%s", stateWord(r.place)),
			text(" %s %s", life(r.GetLive()), limitUsed(r.place))}
		if r.near() {
			l = append(l, in(bad, " !"))
		}
		out = append(out, l)
	}

	return out
}

// crashLines returns the last abnormal ends, the newest first.
func (m *Model) crashLines(room int) []line {
	out := []line{title("Last crashes")}
	if len(m.crashes) == 0 {
		return append(out, line{in(good, "none is remembered")})
	}

	for i, e := range slices.Backward(m.crashes) {
		if len(out) >= min(room, crashesShown+1) {
			break
		}
		at := ago(m.clock().Sub(m.crashes[i].Time.AsTime()).Truncate(time.Second))
		out = append(out, line{in(bad, "%s ago ", pad(at, -6)), text("%s", eventline.OfTree(e).Text)})
	}

	return out
}

// charts returns the figures of the last blocks and the time since the view was opened.
func (m *Model) charts() []line {
	columns := max(min(m.width-44, 60), 8)
	var txs, intervals []float64
	for i, b := range slices.Backward(m.chain.blocks) {
		txs = append(txs, float64(b.Txs))
		if i+1 < len(m.chain.blocks) {
			intervals = append(intervals, b.Time.AsTime().Sub(m.chain.blocks[i+1].Time.AsTime()).Seconds())
		}
	}

	chart := func(name string, values []float64, now string) line {
		return line{text("%s ", pad(name, 24)), in(bold, "%s ", pad(spark(values, columns), columns)), text("%s", now)}
	}
	last := func(values []float64) float64 {
		if len(values) == 0 {
			return 0
		}
		return values[len(values)-1]
	}

	return []line{
		chart("transactions of blocks", txs, number(uint64(last(txs)))),
		chart("time between blocks", intervals, ago(time.Duration(last(intervals)*float64(time.Second)))),
		chart("messages a second", m.rates, number(uint64(last(m.rates)))),
		chart("longest mailbox", m.waiting, number(uint64(last(m.waiting)))),
	}
}
