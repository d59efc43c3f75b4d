package explore

import (
	"slices"
	"strings"

	"github.com/coppice-go/coppice/engines/rounds"
)

// failed notes the panics of a step.
func (s *search[S]) failed(id int32, by step, r rounds.Report) {
	for _, f := range r.Failed {
		s.nodes[id].broken = true
		key := string(f.Round) + "/" + f.Label
		if s.panics[key] {
			continue
		}

		s.panics[key] = true
		app := f.Label
		if f.Round != "" {
			app = s.m.Service.LabelOf(f.Round)
		}
		s.result.Findings = append(s.result.Findings, Finding{Kind: Panic, App: app, Round: f.Round,
			Problem: f.Panic, Agents: s.o.Agents, History: s.history(id, &by)})
	}
}

// differs notes a step that came to two states.
func (s *search[S]) differs(id int32, by step, r rounds.Report) {
	s.nodes[id].broken = true

	last := r.Ended[len(r.Ended)-1]
	if key := string(last.Round) + "/" + last.Label; !s.change[key] {
		s.change[key] = true
		app := last.Label
		if last.Round != "" {
			app = s.m.Service.LabelOf(last.Round)
		}
		s.result.Findings = append(s.result.Findings, Finding{Kind: Differs, App: app, Round: last.Round,
			Problem: "a function of the app reads a clock, a random number or the order of a map",
			Agents:  s.o.Agents, History: s.history(id, &by)})
	}
}

// judge finds what the graph of the states tells: dead ends, and loops. A node that was not
// expanded may lead anywhere, so a bounded search finds no mistake that a longer one would not.
//
// What agents can say in background rounds is no way out of the current round: every round of a
// service that can be terminated would have one.
func (s *search[S]) judge() {
	back := s.backward()
	open := func(n node) bool { return !n.expanded || n.broken || n.aside || s.m.Service.IsFinal(n.round) }
	away := func(e edge) bool { return s.nodes[e.to].aside && !s.nodes[e.from].aside }

	leaves := s.reaching(back, open, func(e edge) (good, follow bool) { return e.leaves || e.starts, !away(e) })
	s.first(DeadEnd, "nothing that agents can say and no timeout ends the round", leaves, func(n node) string {
		return string(n.round)
	})

	exits := s.reaching(back, func(n node) bool { return open(n) || s.m.Service.Endless(n.round) },
		func(e edge) (good, follow bool) {
			return e.exits || e.starts || !leaves[e.from] || !leaves[e.to], !away(e)
		})
	for id := range exits {
		exits[id] = exits[id] || !leaves[id]
	}
	s.passBefore(exits)
	s.first(NoExit, "the rounds go on for ever, and no continuation reaches a final round of the app", exits,
		func(n node) string { return s.m.Service.LabelOf(n.round) })

	s.restless()
}

// first adds a finding for the first node of each group that is not good.
func (s *search[S]) first(kind Kind, problem string, good []bool, group func(node) string) {
	seen := map[string]bool{}
	for id, n := range s.nodes {
		if good[id] || seen[group(n)] {
			continue
		}
		seen[group(n)] = true
		s.find(kind, int32(id), problem)
	}
}

func (s *search[S]) find(kind Kind, id int32, problem string) {
	n := s.nodes[id]
	s.result.Findings = append(s.result.Findings, Finding{Kind: kind, App: s.m.Service.LabelOf(n.round),
		Round: n.round, Problem: problem, Agents: s.o.Agents, History: s.history(id, nil)})
}

// backward returns, for each node, the indexes of the edges that lead to it.
func (s *search[S]) backward() [][]int32 {
	count := make([]int32, len(s.nodes))
	for _, e := range s.edges {
		count[e.to]++
	}

	all, back := make([]int32, len(s.edges)), make([][]int32, len(s.nodes))
	used := int32(0)
	for id, n := range count {
		back[id] = all[used : used : used+n]
		used += n
	}

	for i, e := range s.edges {
		back[e.to] = append(back[e.to], int32(i))
	}
	return back
}

// reaching reports for each node whether a path leads from it to a good node, or over a good edge.
// edges also says which edges a path may follow.
func (s *search[S]) reaching(back [][]int32, good func(node) bool, edges func(edge) (good, follow bool)) []bool {
	reaches := make([]bool, len(s.nodes))
	var waiting []int32
	mark := func(id int32) {
		if !reaches[id] {
			reaches[id] = true
			waiting = append(waiting, id)
		}
	}

	for id, n := range s.nodes {
		if good(n) {
			mark(int32(id))
		}
	}
	for _, e := range s.edges {
		if is, _ := edges(e); is {
			mark(e.from)
		}
	}

	for len(waiting) > 0 {
		id := waiting[len(waiting)-1]
		waiting = waiting[:len(waiting)-1]
		for _, i := range back[id] {
			if _, follow := edges(s.edges[i]); follow {
				mark(s.edges[i].from)
			}
		}
	}
	return reaches
}

// passBefore makes good what leads into a loop of nodes that are not good and is no part of it: the
// loop is to be named, and not the way to it.
func (s *search[S]) passBefore(good []bool) {
	inner := func(e edge) bool { return !good[e.from] && !good[e.to] && (e.from != e.to || e.leaves) }
	into, from := make([]int, len(s.nodes)), make([][]int32, len(s.nodes))
	for _, e := range s.edges {
		if inner(e) {
			into[e.to]++
			from[e.from] = append(from[e.from], e.to)
		}
	}

	var waiting []int32
	for id := range s.nodes {
		if !good[id] && into[id] == 0 {
			waiting = append(waiting, int32(id))
		}
	}

	for len(waiting) > 0 {
		id := waiting[len(waiting)-1]
		waiting = waiting[:len(waiting)-1]
		good[id] = true
		for _, next := range from[id] {
			if into[next]--; into[next] == 0 {
				waiting = append(waiting, next)
			}
		}
	}
}

// restless finds rings of empty blocks in which a round ends. Each node leads to one other by an
// empty block, so a walk from a node either ends or runs into one ring.
func (s *search[S]) restless() {
	walk := make([]int32, len(s.nodes)) // the walk that came by; 0: none
	seen := map[string]bool{}

	for begin := range s.nodes {
		at, number := int32(begin), int32(begin)+1
		for at >= 0 && walk[at] == 0 {
			walk[at] = number
			at = s.nodes[at].idle
		}
		if at < 0 || walk[at] != number {
			continue
		}

		if first, names, busy := s.ring(at); busy && !seen[names] {
			seen[names] = true
			s.find(NoRest, first, "without a payload and without time, rounds end and come back: "+names)
		}
	}
}

// ring returns the first node of a ring of empty blocks, and its rounds.
func (s *search[S]) ring(begin int32) (first int32, names string, busy bool) {
	first = begin
	var all []string

	for at := begin; ; {
		n := s.nodes[at]
		first, busy = min(first, at), busy || n.busy
		all = append(all, string(n.round))
		if at = n.idle; at == begin {
			break
		}
	}

	slices.Sort(all)
	return first, strings.Join(slices.Compact(all), ", "), busy
}
