package top

import (
	"fmt"
	"strings"
	"time"

	apiv1 "github.com/coppice-go/coppice/proto/coppice/api/v1"
)

const blocksShown = 21 // the interval of the last one needs one more

// chainMsg is what the view of the chain shows.
type chainMsg struct {
	blocks  []*apiv1.BlockInfo
	pool    *apiv1.PoolResponse
	peers   *apiv1.PeersResponse
	streams []*apiv1.Stream
	rounds  string
	missing []string
}

type chainPage chainMsg

func (m *Model) chainLines() []line {
	c := &m.chain
	s := m.status
	out := []line{{text("chain %s, period %d, app hash %.8x", s.GetChainId(), s.GetPeriod(), s.GetAppHash())}}
	for _, why := range c.missing {
		out = append(out, line{in(bad, "not known: %s", why)})
	}

	out = append(out, m.networkLines()...)
	out = append(out, m.resetLines()...)
	out = append(out, m.poolLines()...)
	out = append(out, m.streamLines()...)

	if c.rounds != "" {
		out = append(append(out, nil, title("Rounds")), texts(c.rounds, "", normal)...)
	}

	return append(out, m.blockLines()...)
}

func (m *Model) blockLines() []line {
	out := []line{nil, title("Last blocks"), {in(dim, "%s %s %s %s %s %s  %s", pad("HEIGHT", -9), pad("AGO", -7),
		pad("AFTER", -7), pad("TXS", -6), pad("FAILED", -6), pad("SIZE", -9), "HASH")}}
	blocks := m.chain.blocks
	if len(blocks) == 0 {
		return append(out, line{in(dim, "none yet")})
	}

	for i, b := range blocks {
		if i == blocksShown-1 {
			break
		}
		after := "-"
		if i+1 < len(blocks) {
			after = ago(b.Time.AsTime().Sub(blocks[i+1].Time.AsTime()))
		}
		failed := span{pad(number(uint64(b.Failed)), -6), normal}
		if b.Failed > 0 {
			failed.role = warn
		}
		out = append(out, line{
			text("%s %s %s %s ", pad(number(b.Height), -9),
				pad(ago(m.clock().Sub(b.Time.AsTime()).Truncate(time.Second)), -7), pad(after, -7),
				pad(number(uint64(b.Txs)), -6)),
			failed, text(" %s  %.16x", pad(size(float64(b.Bytes)), -9), b.Hash),
		})
	}

	return out
}

func (m *Model) poolLines() []line {
	p := m.chain.pool
	if p == nil {
		return nil
	}

	out := []line{nil, {in(bold, "Pool"), text("  %s, %s; %s without a place, %s executing", plural(int(p.Size),
		"transaction"), size(float64(p.Bytes)), number(p.Queued), number(p.Executing))}}
	if p.Size > 0 {
		old := span{"oldest: " + ago(p.Oldest.AsDuration()), normal}
		if p.Oldest.AsDuration() > time.Minute {
			old = in(bad, "oldest: %s, not ordered", ago(p.Oldest.AsDuration()))
		}
		out = append(out, line{old})
	}
	for i, t := range p.Txs {
		if i == 5 {
			out = append(out, line{in(dim, "…")})
			break
		}
		out = append(out, line{in(dim, "%.8x", t.Id), text(" %s, %s", t.Backend, size(float64(t.Bytes)))})
	}

	return out
}

func (m *Model) networkLines() []line {
	p := m.chain.peers
	if p == nil || p.PowerTotal == 0 && p.Configured == 0 && p.Connected == 0 {
		return nil
	}

	role := normal
	if 3*p.PowerPresent <= 2*p.PowerTotal {
		role = bad
	}
	out := []line{nil, {in(bold, "Validators"), text("  power "),
		in(role, "%d of %d present", p.PowerPresent, p.PowerTotal)}}
	if role == bad {
		out[1] = append(out[1], in(bad, ": no quorum"))
	}
	if len(p.Missing) > 0 {
		out = append(out, wrap("not heard from: "+strings.Join(p.Missing, ", "), m.width, warn)...)
	}

	switch p.Signing {
	case "":
		out = append(out, line{text("this node is no validator")})
	case "signing":
		out = append(out, line{text("this node signs")})
	default:
		out = append(out, line{in(bad, "this node does not sign: %s", p.Signing)})
	}

	peers := line{in(bold, "Peers"), text("  %d connected, %d configured", p.Connected, p.Configured)}
	if p.PeersHeight > p.Height {
		peers = append(peers, in(warn, "; the highest is at %s, this node at %s", number(p.PeersHeight),
			number(p.Height)))
	}
	if p.Round != "" {
		peers = append(peers, text("; height/round/step %s", p.Round))
	}
	out = append(out, peers)
	if p.PeersError != "" {
		out = append(out, line{in(warn, "%s", p.PeersError)})
	}
	for _, n := range p.Peers {
		way := "in "
		if n.Outbound {
			way = "out"
		}
		out = append(out, line{in(dim, "%s ", way), text("%s %s %s", n.Name, n.Address, n.Id)})
	}

	return out
}

// resetLines shows what the node does with the process of its consensus, and a reset under way.
func (m *Model) resetLines() (out []line) {
	r := m.status.GetReadiness()
	if p := r.GetProcess(); p != nil {
		out = append(out, nil, line{in(bold, "Consensus process"), text("  %s since %s: %s (%s, %s)", p.State,
			since(p.Since, m.clock()), p.Text, plural(int(p.Restarts), "restart"), plural(int(p.Resets), "reset"))})
	}
	if h := r.GetHold(); h != nil {
		out = append(out, nil, line{in(warn, "Reset"), text("  of epoch %d, decided at height %d, step %d: %s", h.Epoch,
			h.Height, h.Step, h.Text)})
	}
	return out
}

func (m *Model) streamLines() []line {
	if len(m.chain.streams) == 0 {
		return nil
	}

	out := []line{nil, title("Streams"), {in(dim, "%s %s %s %s %s %s %s  %s", pad("NAME", 16), pad("STATE", 12),
		pad("HEIGHT", -10), pad("BLOCKS", -7), pad("EVENTS", -8), pad("BYTES", -9), pad("BEHIND", -7), "LAST ERROR")}}
	for _, s := range m.chain.streams {
		at := "-"
		if s.Stands != nil {
			at = fmt.Sprint(s.Stands.Height)
		}
		role := bad // it waits for an operator
		switch s.State {
		case "live":
			role = good
		case "starting", "catching_up", "retrying", "standby", "paused", "degraded":
			role = warn
		}
		out = append(out, line{text("%s ", pad(s.Name, 16)), in(role, "%s ", pad(s.State, 12)), text(
			"%s %s %s %s %s  %s",
			pad(at, -10), pad(number(s.LagHeights), -7), pad(lagEvents(s.LagEvents), -8),
			pad(size(float64(s.LagBytes)), -9), pad(ago(time.Duration(s.LagSeconds*float64(time.Second))), -7),
			s.LastCause.GetText())})
	}

	return out
}

// lagEvents is an estimate that is not known before something was delivered.
func lagEvents(n int64) string {
	if n < 0 {
		return "?"
	}
	return number(uint64(n))
}

// sections are the keys that lead to a part of the view of the chain, with its heading.
var sections = map[string]string{"s": "Streams", "o": "Rounds", "b": "Last blocks"}

// jump scrolls to a part of the view of the chain.
func (m *Model) jump(heading string) {
	for i, l := range m.chainLines() {
		if len(l) > 0 && l[0].text == heading {
			m.scroll[chainView] = i
			return
		}
	}
	m.note, m.noteRole = "this node has none: "+heading, dim
}
