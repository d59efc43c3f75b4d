package explore

import (
	"fmt"
	"slices"
	"strings"

	"github.com/coppice-go/coppice/engines/rounds"
)

// history returns the blocks that lead to a node, and over one more step.
func (s *search[S]) history(id int32, more *step) []string {
	var steps []step
	for ; s.nodes[id].parent >= 0; id = s.nodes[id].parent {
		steps = append(steps, s.nodes[id].step)
	}
	slices.Reverse(steps)
	if more != nil {
		steps = append(steps, *more)
	}

	var r rounds.Report
	w := writer{}
	st := s.canonical(s.m.Advance(s.m.Service.Begin(s.m.Agents), now, &r), start)
	for _, by := range steps {
		st = s.write(&w, st, by)
	}
	return w.done()
}

// write writes a step down, and takes it.
func (s *search[S]) write(w *writer, st rounds.State[S], by step) rounds.State[S] {
	var r rounds.Report

	if by.says {
		p := rounds.Payload{Agent: s.m.Agents.Registered[by.agent], Label: s.m.Service.LabelOf(st.Round),
			Count: st.Count}
		aside := ""
		if i := int(by.ballot) - 1; i >= 0 {
			p.Label, p.Count, p.Bytes = s.sides[i].Label, st.Sides[i].Count, s.beside[i][by.value]
			aside = " for " + p.Label
		} else {
			p.Bytes = s.samples(st.Round)[by.value]
		}

		next := s.m.Admit(st, p, &r)
		w.add("%s says %s%s", p.Agent, text(p.Bytes), aside)
		w.report(r)
		return s.canonical(next, start)
	}

	st = s.canonical(s.m.End(st, now, &r), start)
	w.report(r)
	w.end()

	b := now
	if by.late {
		d, _ := st.Deadline()
		b.Time = d.At.Add(1)
		w.add("%v pass", d.At.Sub(start))
	}
	r = rounds.Report{}
	st = s.m.Advance(st, b, &r)
	w.report(r)
	return s.canonical(st, b.Time)
}

func text(payload []byte) string {
	if len(payload) == 0 {
		return "nothing"
	}
	return string(payload)
}

// writer writes a history, a line for each block.
type writer struct {
	lines []string
	block []string // of the line in progress
}

func (w *writer) add(format string, args ...any) {
	w.block = append(w.block, fmt.Sprintf(format, args...))
}

func (w *writer) report(r rounds.Report) {
	for _, e := range r.Ended {
		name := string(e.Round)
		if name == "" {
			name = e.Label
		}
		next := ""
		if e.Next != "" {
			next = fmt.Sprintf(", and %s begins", e.Next)
		}
		w.add("%s ends with %s%s", name, e.Event, next)
	}
	for _, f := range r.Failed {
		w.add("%s%s panics", f.Round, f.Label)
	}
}

func (w *writer) end() {
	if len(w.block) == 0 {
		w.add("empty")
	}
	w.lines = append(w.lines, fmt.Sprintf("block %d: %s", len(w.lines)+1, strings.Join(w.block, "; ")))
	w.block = nil
}

// done returns the lines. The last block may not have ended.
func (w *writer) done() []string {
	if len(w.block) > 0 {
		w.end()
	}
	return w.lines
}
