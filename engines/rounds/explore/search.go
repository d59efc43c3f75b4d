package explore

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"slices"
	"time"

	"github.com/coppice-go/coppice/engines/rounds"
)

// MaxAgents is the largest number of agents of a search. The number of histories grows with its
// factorial.
const MaxAgents = 4

// Options bound a search.
type Options struct {
	Agents int // 1 to MaxAgents
	Depth  int // of the longest history; a payload is a step and so is the end of a block. 0: no bound
	States int // the search stops when it knows so many; 0: no bound

	// Progress, if set, is called from time to time.
	Progress func(states, depth int)
}

// Result is what a search has found.
type Result struct {
	Agents int `json:"agents"`
	States int `json:"states"` // that differ

	// Depth is the length of the histories up to which all were tried.
	Depth int `json:"depth"`

	// Complete says that there is no longer history that leads anywhere else.
	Complete bool `json:"complete"`

	Findings []Finding `json:"findings,omitempty"` // the first of each kind in each round
}

// Run searches the histories of a service that has no fault (rounds.Service.Check). When ctx ends,
// Run returns what it has found so far.
func Run[S any](ctx context.Context, service *rounds.Service[S], o Options) (Result, error) {
	if o.Agents < 1 || o.Agents > MaxAgents {
		return Result{}, fmt.Errorf("explore: %d agents: expected 1 to %d", o.Agents, MaxAgents)
	}
	if faults := service.Check(); len(faults) > 0 {
		return Result{}, fmt.Errorf("explore: %w", faults[0])
	}

	s, err := newSearch(service, o)
	if err != nil {
		return Result{}, err
	}
	if err := s.run(ctx); err != nil {
		return Result{}, err
	}

	s.judge()
	s.result.States = len(s.nodes)
	return s.result, nil
}

// step leads from one state to the next. The zero value is the end of a block and the beginning of
// the next one at the same time.
type step struct {
	says   bool  // agent says value
	late   bool  // the next block's time has passed the earliest deadline
	ballot uint8 // of the current round, or one more than the index of the background round
	agent  uint8
	value  uint16 // index of the samples
}

// node is a state in the middle of a block. The state before the first block is node 0.
type node struct {
	parent   int32
	depth    int32
	step     step // from parent
	round    rounds.Name
	expanded bool  // its steps are known
	broken   bool  // a function of the app has panicked: a finding of its own
	aside    bool  // agents have spoken in a background round that can start an app
	idle     int32 // the node after the end of the block, without time; -1: not known
	busy     bool  // a round ends on the way to idle
}

// edge is a step between two nodes.
type edge struct {
	from, to int32
	leaves   bool // the current round ends
	exits    bool // its app ends
	starts   bool // the app of a background round begins
}

type search[S any] struct {
	m       rounds.Machine[S]
	o       Options
	sides   []rounds.Background[S]
	ballots map[rounds.Name][][]byte // samples of each round
	beside  [][][]byte               // samples of each background round

	known map[[16]byte]int32
	nodes []node
	edges []edge
	queue []queued[S]

	panics map[string]bool // rounds and labels with a finding
	change map[string]bool // rounds whose end is no function of the history
	result Result
}

type queued[S any] struct {
	id int32
	st rounds.State[S]
}

// start is the time of every block: time stands still between two of them, and deadlines come
// nearer instead.
var start = time.Unix(1_000_000, 0).UTC()

// now is the block of a state. Places need not grow, because canonical clears State.Fired.
var now = rounds.Block{Place: rounds.Place{Height: 1}, Time: start}

func newSearch[S any](service *rounds.Service[S], o Options) (*search[S], error) {
	names := make([]rounds.Agent, o.Agents)
	for i := range names {
		names[i] = rounds.Agent(fmt.Sprintf("agent%d", i+1))
	}
	agents, err := rounds.NewAgents(0, names...)
	if err != nil {
		return nil, err
	}

	s := &search[S]{
		m: rounds.Machine[S]{Service: service, Agents: agents}, o: o, sides: service.Backgrounds(),
		ballots: map[rounds.Name][][]byte{}, known: map[[16]byte]int32{}, panics: map[string]bool{},
		change: map[string]bool{},
		result: Result{Agents: o.Agents},
	}
	for _, b := range s.sides {
		s.beside = append(s.beside, rounds.Samples(b.Round))
	}
	return s, nil
}

// run searches until every state is known or a bound is reached.
func (s *search[S]) run(ctx context.Context) error {
	var r rounds.Report
	first := s.m.Advance(s.m.Service.Begin(s.m.Agents), now, &r)
	if _, err := s.know(first, node{parent: -1, idle: -1}); err != nil {
		return err
	}

	for taken := 0; len(s.queue) > 0; taken++ {
		if taken%512 == 0 && s.o.Progress != nil {
			s.o.Progress(len(s.nodes), s.result.Depth)
		}

		next := s.queue[0]
		depth := int(s.nodes[next.id].depth)
		s.result.Depth = depth
		if ctx.Err() != nil || s.o.States > 0 && len(s.nodes) >= s.o.States || s.o.Depth > 0 && depth >= s.o.Depth {
			return nil
		}

		s.queue[0] = queued[S]{}
		s.queue = s.queue[1:]
		if err := s.expand(next.id, next.st); err != nil {
			return err
		}
	}

	s.result.Complete = true
	return nil
}

// expand takes every step from a node.
func (s *search[S]) expand(id int32, st rounds.State[S]) error {
	s.nodes[id].expanded = true

	if err := s.say(id, st, 0, s.m.Service.LabelOf(st.Round), st.Count, st.Ballot, s.samples(st.Round)); err != nil {
		return err
	}
	for i, side := range st.Sides {
		if err := s.say(id, st, i+1, s.sides[i].Label, side.Count, side.Ballot, s.beside[i]); err != nil {
			return err
		}
	}

	return s.end(id, st)
}

// samples returns the payloads of a round.
func (s *search[S]) samples(name rounds.Name) [][]byte {
	out, ok := s.ballots[name]
	if !ok {
		if round, has := s.m.Service.Round(name); has {
			out = rounds.Samples(round)
		}
		s.ballots[name] = out
	}
	return out
}

// say lets each agent that has not spoken say each payload.
func (s *search[S]) say(id int32, st rounds.State[S], ballot int, label string, count uint64, b rounds.Ballots,
	samples [][]byte,
) error {
	if b.Broken {
		return nil
	}

	for i, a := range s.m.Agents.Registered {
		if slices.ContainsFunc(b.Votes, func(v rounds.Vote) bool { return v.Agent == a }) {
			continue
		}

		for v, payload := range samples {
			var r rounds.Report
			next := s.m.Admit(st, rounds.Payload{Agent: a, Label: label, Count: count, Bytes: payload}, &r)
			by := step{says: true, ballot: uint8(ballot), agent: uint8(i), value: uint16(v)}
			s.failed(id, by, r)
			if len(r.Refusals) > 0 {
				continue
			}
			if err := s.lead(id, by, st, next, r); err != nil {
				return err
			}
		}
	}
	return nil
}

// end ends the block. The next one comes at the same time, or after the earliest deadline.
func (s *search[S]) end(id int32, st rounds.State[S]) error {
	var ended, next rounds.State[S]
	play := func(r *rounds.Report) rounds.State[S] {
		ended = s.canonical(s.m.End(st, now, r), start)
		next = s.m.Advance(ended, now, r)
		return next
	}

	r, same, err := s.twice(id, step{}, play)
	if err != nil || !same {
		return err
	}
	if err := s.lead(id, step{}, st, next, r); err != nil {
		return err
	}

	d, armed := ended.Deadline()
	if !armed {
		return nil
	}

	late, before := now, r.Ended
	late.Time = d.At.Add(1)
	r, same, err = s.twice(id, step{late: true}, func(r *rounds.Report) rounds.State[S] {
		r.Ended = before
		next = s.canonical(s.m.Advance(ended, late, r), late.Time)
		return next
	})
	if err != nil || !same {
		return err
	}
	return s.lead(id, step{late: true}, st, next, r)
}

// twice plays a step, and if a round ends in it, once more. It reports whether both came to the
// same state. If not, the step leads nowhere, because it leads to another state each time.
func (s *search[S]) twice(id int32, by step, play func(*rounds.Report) rounds.State[S]) (rounds.Report, bool, error) {
	var r, other rounds.Report
	first, err := s.encode(play(&r))
	if err != nil {
		return r, false, err
	}
	s.failed(id, by, r)
	if len(r.Ended) == 0 {
		return r, true, nil
	}

	second, err := s.encode(play(&other))
	if err != nil {
		return r, false, err
	}
	if bytes.Equal(first, second) {
		return r, true, nil
	}

	s.differs(id, by, r)
	return r, false, nil
}

// encode returns the canonical state as bytes.
func (s *search[S]) encode(st rounds.State[S]) ([]byte, error) {
	b, err := json.Marshal(s.canonical(st, start))
	if err != nil {
		return nil, fmt.Errorf("explore: the state of round %s does not encode: %w", st.Round, err)
	}
	return b, nil
}

// lead notes a step from a node to a state.
func (s *search[S]) lead(id int32, by step, from, to rounds.State[S], r rounds.Report) error {
	next, err := s.know(to, node{parent: id, depth: s.nodes[id].depth + 1, step: by, idle: -1})
	if err != nil {
		return err
	}

	e := edge{from: id, to: next}
	for _, ended := range r.Ended {
		switch {
		case ended.Round == "":
			e.starts = e.starts || ended.Next != ""
		case ended.Round == from.Round && ended.Count == from.Count:
			e.leaves = true
			e.exits = e.exits || s.m.Service.Exits(ended.Round, ended.Event)
		}
	}
	s.edges = append(s.edges, e)

	if by == (step{}) {
		s.nodes[id].idle, s.nodes[id].busy = next, len(r.Ended) > 0
	}
	return nil
}

// know returns the node of a state. If the state is new, it becomes the node n.
func (s *search[S]) know(st rounds.State[S], n node) (int32, error) {
	st = s.canonical(st, start)
	b, err := s.encode(st)
	if err != nil {
		return 0, err
	}

	sum := sha256.Sum256(b)
	key := [16]byte(sum[:16])
	if id, known := s.known[key]; known {
		return id, nil
	}

	id := int32(len(s.nodes))
	n.round, n.broken, n.aside = st.Round, st.Ballot.Broken, s.isAside(st)
	s.known[key] = id
	s.nodes = append(s.nodes, n)
	s.queue = append(s.queue, queued[S]{id, st})
	return id, nil
}

// isAside reports whether agents have spoken in a background round that can start an app.
func (s *search[S]) isAside(st rounds.State[S]) bool {
	for i, side := range st.Sides {
		if s.sides[i].Kind != rounds.EverRunning && len(side.Ballot.Votes) > 0 {
			return true
		}
	}
	return false
}

// canonical returns a state at the given time as if it were start, with the lowest counts and
// without what no round sees.
func (s *search[S]) canonical(st rounds.State[S], at time.Time) rounds.State[S] {
	st.Fired, st.Last, st.Period, st.Offences = rounds.Place{}, rounds.Transitions{}, 0, nil
	st.Count, st.Entries = 1, 1
	st.Deadlines = shifted(st.Deadlines, start.Sub(at))

	if st.Interrupted != nil {
		in := *st.Interrupted
		in.Deadlines = shifted(in.Deadlines, start.Sub(in.Since))
		in.Count, in.Since = 1, start
		st.Interrupted, st.Count, st.Entries = &in, 2, 2
	}

	for i := range st.Sides {
		if st.Sides[i].Count != 1 {
			st.Sides = slices.Clone(st.Sides)
			st.Sides[i].Count = 1
		}
	}
	return st
}

func shifted(deadlines []rounds.Deadline, by time.Duration) []rounds.Deadline {
	if by == 0 {
		return deadlines
	}
	out := slices.Clone(deadlines)
	for i := range out {
		out[i].At = out[i].At.Add(by)
	}
	return out
}
