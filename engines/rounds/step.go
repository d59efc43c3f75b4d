package rounds

import (
	"cmp"
	"fmt"
	"maps"
	"runtime/debug"
	"slices"
	"time"
)

// Block is what the FSM sees of a committed block.
type Block struct {
	Place
	Time     time.Time
	Payloads []Payload // whose signatures are valid, in block order

	// Resumed is set in the second block of an epoch only: the time of the block that decided on
	// the reset. The armed deadlines move by what the reset took.
	Resumed time.Time

	Absent       []Agent // whose validators' votes the block lacks
	DoubleSigned []Agent // whose validators the block proves to have signed twice
}

// Ended says that a round has ended.
type Ended struct {
	Round Name   `json:"round,omitempty"` // empty for a background round
	Count uint64 `json:"count"`
	Event Event  `json:"event"`
	Next  Name   `json:"next,omitempty"` // empty for a background round that starts no app
	Label string `json:"label"`
	Reset bool   `json:"reset,omitempty"` // the block decides on a reset of the chain
}

// ended notes the end of a round in the state and in the report.
func (st State[S]) ended(b Block, e Ended, r *Report) State[S] {
	r.Ended = append(r.Ended, e)
	if st.Last.Place != b.Place {
		st.Last = Transitions{Place: b.Place}
	}
	st.Last.Ended = append(slices.Clip(st.Last.Ended), e)
	return st
}

// Failed says that a function of the app panicked. Its writes are dropped, and only a timeout ends
// the round.
type Failed struct {
	Round Name
	Label string // of the background round, if it was one
	Panic string
	Stack []byte // differs from node to node
}

// Report is what happened in a block.
type Report struct {
	Refusals []Refusal
	Ended    []Ended
	Failed   []Failed
}

// Machine executes blocks: a service with its agents.
type Machine[S any] struct {
	Service *Service[S]
	Agents  Agents
}

// Step executes a block and returns the state after it. It is Advance, Admit for each payload in
// its order, and End.
func (m Machine[S]) Step(st State[S], b Block) (State[S], Report) {
	var r Report
	st = m.Advance(st, b, &r)
	for _, p := range b.Payloads {
		st = m.Admit(st, p, &r)
	}
	return m.End(st, b, &r), r
}

// Advance moves time to the block's: of the deadlines that it has passed the earliest one fires. A
// second Advance in the same block changes nothing.
func (m Machine[S]) Advance(st State[S], b Block, r *Report) State[S] {
	if st.Fired == b.Place {
		return st
	}

	if !st.Armed {
		st.Fired = b.Place
		return m.arm(st, b.Time)
	}

	if !b.Resumed.IsZero() {
		st.Fired = b.Place
		st.Deadlines = moved(st.Deadlines, b.Time.Sub(b.Resumed))
		if st.Interrupted != nil {
			in := *st.Interrupted
			in.Since = in.Since.Add(b.Time.Sub(b.Resumed))
			in.Deadlines = moved(in.Deadlines, b.Time.Sub(b.Resumed))
			st.Interrupted = &in
		}
	}

	d, armed := st.Deadline()
	if !armed || !b.Time.After(d.At) {
		return st
	}

	st.Fired = b.Place
	return m.enter(st, b, d.Event, r)
}

func moved(deadlines []Deadline, by time.Duration) []Deadline {
	out := slices.Clone(deadlines)
	for i := range out {
		out[i].At = out[i].At.Add(by)
	}
	return out
}

// arm sets the deadlines of the current round: of the timeouts that its transitions name.
func (m Machine[S]) arm(st State[S], now time.Time) State[S] {
	st.Armed, st.Deadlines = true, nil
	place := m.Service.places[st.Round]
	if place.app == nil {
		return st
	}

	for event, d := range place.app.Timeouts {
		if _, named := place.On[event]; named {
			st.Deadlines = append(st.Deadlines, Deadline{Event: event, At: now.Add(d)})
		}
	}
	slices.SortFunc(st.Deadlines, func(a, b Deadline) int {
		return cmp.Or(a.At.Compare(b.At), cmp.Compare(a.Event, b.Event))
	})

	return st
}

// Admit takes a payload of an agent whose signature is valid. A refused payload changes nothing but
// the agent's offences.
func (m Machine[S]) Admit(st State[S], p Payload, r *Report) State[S] {
	next, reason := m.admitted(st, p, r)
	if reason == "" {
		return next
	}

	r.Refusals = append(r.Refusals, Refusal{Payload: p, Reason: reason})
	if reason == Broken {
		return next // the ballot says it from here on
	}
	if reason.proves() && m.Agents.Has(p.Agent) {
		return st.offended(p.Agent, func(o *Offences) { o.Faults++ })
	}
	return st
}

func (m Machine[S]) admitted(st State[S], p Payload, r *Report) (State[S], Reason) {
	if !m.Agents.Has(p.Agent) {
		return st, Stranger
	}

	for i, b := range m.Service.backgrounds {
		if b.Label == p.Label {
			side := st.Sides[i]
			round, rejoins := kind(b.Round)
			reason := m.judge(st, round, rejoins, &side.Ballot, p, side.Count, side.Count, Failed{Label: b.Label}, r)
			st.Sides = slices.Clone(st.Sides)
			st.Sides[i] = side
			return st, reason
		}
	}

	place := m.Service.places[st.Round]
	if !m.Service.knows(p.Label) || p.Count == st.Count && p.Label != place.app.Label {
		return st, Malformed
	}

	ballot := st.Ballot
	reason := m.judge(st, place.inner, place.rejoins, &ballot, p, st.Count, st.Entries, Failed{Round: st.Round}, r)
	st.Ballot = ballot
	return st, reason
}

// judge adds payload p to the ballots of a round, or returns why not.
func (m Machine[S]) judge(st State[S], round Round[S], rejoins bool, ballots *Ballots, p Payload, count, highest uint64,
	failed Failed, r *Report,
) (reason Reason) {
	switch {
	case p.Count > highest:
		return Early
	case p.Count != count:
		return Late
	case ballots.Broken:
		return Broken
	}

	poll := m.poll(st, *ballots, rejoins)
	if !poll.Accepts(p.Agent) {
		return Stranger
	}
	if poll.Spoke(p.Agent) {
		return Spoken
	}

	vote := Vote{Agent: p.Agent, Payload: p.Bytes}
	err, ok := guarded(&failed, r, func() error { return round.Admit(poll, m.Service.copied(st.App), vote) })
	switch {
	case !ok:
		ballots.Broken = true
		return Broken
	case err == nil:
		ballots.Votes = append(slices.Clip(ballots.Votes), vote)
		return ""
	}

	if why, is := err.(Reason); is {
		return why
	}
	return Malformed
}

func (m Machine[S]) poll(st State[S], b Ballots, rejoins bool) Poll {
	return Poll{Agents: m.Agents, Participants: st.Participants, Rejoin: rejoins, Votes: b.Votes, Waited: b.Waited}
}

// guarded calls a function of the app. If it panics, the failure is reported and ok is false.
func guarded[T any](failed *Failed, r *Report, f func() T) (out T, ok bool) {
	defer func() {
		if v := recover(); v != nil {
			failed.Panic, failed.Stack = fmt.Sprint(v), debug.Stack()
			r.Failed = append(r.Failed, *failed)
			ok = false
		}
	}()
	return f(), true
}

// offended returns st with a change of an agent's offences.
func (st State[S]) offended(a Agent, change func(*Offences)) State[S] {
	st.Offences = maps.Clone(st.Offences)
	if st.Offences == nil {
		st.Offences = map[Agent]Offences{}
	}
	o := st.Offences[a]
	change(&o)
	st.Offences[a] = o
	return st
}

// End judges the rounds at the end of a block: the background rounds by priority, and then the
// current round. At most one of them makes a transition.
func (m Machine[S]) End(st State[S], b Block, r *Report) State[S] {
	for _, a := range b.DoubleSigned {
		if m.Agents.Has(a) {
			st = st.offended(a, func(o *Offences) { o.DoubleSigns++ })
		}
	}

	before := len(r.Ended)
	st = m.judgeAll(st, b, r)
	if len(r.Ended) > before {
		for _, a := range b.Absent {
			if m.Agents.Has(a) {
				st = st.offended(a, func(o *Offences) { o.Downtime++ })
			}
		}
	}

	return st
}

func (m Machine[S]) judgeAll(st State[S], b Block, r *Report) State[S] {
	for i, bg := range m.Service.backgrounds {
		var started bool
		if st, started = m.judgeSide(st, i, bg, b, r); started {
			return st
		}
	}

	place := m.Service.places[st.Round]
	if place.app == nil || st.Ballot.Broken {
		return st
	}

	failed := Failed{Round: st.Round}
	out, ok := m.outcome(st, place.inner, place.rejoins, st.Ballot, &failed, r)
	switch {
	case !ok:
		st.Ballot.Broken = true
		return st
	case out.Event == "":
		st.Ballot.Waited = out.Waited
		return st
	}

	return m.conclude(st, b, out, r)
}

// outcome asks a round how it ends.
func (m Machine[S]) outcome(st State[S], round Round[S], rejoins bool, ballots Ballots, failed *Failed, r *Report,
) (Outcome[S], bool) {
	return guarded(failed, r, func() Outcome[S] {
		return round.End(m.poll(st, ballots, rejoins), m.Service.copied(st.App))
	})
}

// judgeSide judges a background round, and reports whether its app has started.
func (m Machine[S]) judgeSide(st State[S], i int, bg Background[S], b Block, r *Report) (State[S], bool) {
	side := st.Sides[i]
	if side.Ballot.Broken || !m.mayStart(st, bg) {
		return st, false
	}

	round, rejoins := kind(bg.Round)
	failed := Failed{Label: bg.Label}
	out, ok := m.outcome(st, round, rejoins, side.Ballot, &failed, r)
	if ok && out.Event == "" && out.Waited == side.Ballot.Waited {
		return st, false
	}

	st.Sides = slices.Clone(st.Sides)
	switch {
	case !ok:
		st.Sides[i].Ballot.Broken = true
		return st, false
	case out.Event == "":
		st.Sides[i].Ballot.Waited = out.Waited
		return st, false
	}

	st.App = out.State
	st.Sides[i] = Side{Count: side.Count + 1}
	ended := Ended{Label: bg.Label, Count: side.Count, Event: out.Event}
	if bg.App == nil || out.Event != bg.On {
		return st.ended(b, ended, r), false
	}

	if bg.Kind == Normal {
		st.Interrupted = &Interrupted{Round: st.Round, Count: st.Count, Ballot: st.Ballot, Deadlines: st.Deadlines,
			Since: b.Time}
	} else {
		st.Interrupted = nil
	}

	st.Inside = i + 1
	ended.Next = bg.App.Start

	return m.begin(st.ended(b, ended, r), b, bg.App.Start), true
}

// mayStart reports whether a background round is judged while the app of another one runs.
func (m Machine[S]) mayStart(st State[S], bg Background[S]) bool {
	if st.Inside == 0 || bg.Kind == EverRunning {
		return true
	}
	return bg.Kind == Terminating && m.Service.backgrounds[st.Inside-1].Kind != Terminating
}

// conclude ends the current round with the outcome that it returned.
func (m Machine[S]) conclude(st State[S], b Block, out Outcome[S], r *Report) State[S] {
	app, ok := out.State, true
	if out.Period {
		app, ok = m.kept(st, app, r)
	}
	if !ok {
		st.Ballot.Broken = true
		return st
	}

	st.App = app
	if out.Participants != nil {
		st.Participants = slices.Sorted(slices.Values(out.Participants))
	}
	if out.Period {
		st.Period++
	}

	return m.enter(st, b, out.Event, r)
}

// kept returns what of the state outlives the period.
func (m Machine[S]) kept(st State[S], app S, r *Report) (S, bool) {
	var zero S
	if m.Service.keep == nil {
		return zero, true
	}
	return guarded(&Failed{Round: st.Round}, r, func() S { return m.Service.keep(app) })
}

// enter leaves the current round by an event.
func (m Machine[S]) enter(st State[S], b Block, event Event, r *Report) State[S] {
	next, ok := m.Service.places[st.Round].On[event]
	if !ok {
		st.Ballot.Broken = true // Check names the missing transition
		r.Failed = append(r.Failed, Failed{Round: st.Round, Panic: fmt.Sprintf("no transition for event %s", event)})
		return st
	}

	next = m.Service.follow(next)
	ended := Ended{Round: st.Round, Count: st.Count, Event: event, Next: next, Label: m.Service.LabelOf(st.Round)}
	place := m.Service.places[next]

	if st.Interrupted != nil && st.Inside > 0 && isFinal(place.inner) && place.background == st.Inside {
		ended.Next = st.Interrupted.Round
		return st.ended(b, ended, r).resumed(b.Time)
	}

	ended.Reset = m.Service.period.due(next, st.Period)

	return m.begin(st.ended(b, ended, r), b, next)
}

// begin enters a round.
func (m Machine[S]) begin(st State[S], b Block, name Name) State[S] {
	st.Entries++
	st.Round, st.Count, st.Ballot = name, st.Entries, Ballots{}
	return m.arm(st, b.Time)
}

// resumed goes on with the interrupted round.
func (st State[S]) resumed(now time.Time) State[S] {
	in := st.Interrupted
	st.Interrupted, st.Inside = nil, 0
	st.Round, st.Count, st.Ballot = in.Round, in.Count, in.Ballot
	st.Deadlines = moved(in.Deadlines, now.Sub(in.Since))
	return st
}
