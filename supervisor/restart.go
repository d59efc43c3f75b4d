package supervisor

import (
	"slices"
	"time"
)

// handleExit decides what follows when a child has ended by itself (OTP rules 34 to 38, 65 to 67).
func (r *Run) handleExit(inc *incarnation) {
	rec := inc.record
	if rec.inc != inc {
		return // stopped or replaced since, which consumed its exit (OTP rule 59)
	}

	exit := inc.exit()
	r.updateKid(rec.id, func() { rec.inc, rec.state, rec.lastExit = nil, NotRunning, exit })
	v, reported := judge(rec.child.Restart, exit)
	if v == forget {
		r.remove(rec)
	}

	now := time.Now()
	r.hub.noteExited(inc, rec.child.Restart, reported, now)
	r.noteOrphan(rec, inc)

	switch {
	case r.ending != nil:
	case v == endTree:
		r.ending = exit.Err

	case v == restart:
		if exit.Duration > rec.child.Backoff.longest() {
			rec.attempts = 0
		}
		r.restart(rec, now)

	case rec.child.Significant:
		r.considerAutoShutdown(rec, inc)
	}
}

func (r *Run) considerAutoShutdown(rec *record, inc *incarnation) {
	var rest []member
	for _, x := range r.records {
		if x != rec {
			rest = append(rest, x.member())
		}
	}

	if !autoShutdown(r.spec.AutoShutdown, rest) {
		return
	}

	e := &AutoShutdownError{Supervisor: r.own.path, Child: inc.path, Exit: *inc.exit()}
	r.ending = e
	r.emit(func(h Header) Event { return AutoShutdownTriggered{Header: h, Err: e} })
}

// restart makes one attempt: it counts the attempt (OTP rule 39) and performs it, at once or after
// the child's backoff.
func (r *Run) restart(rec *record, now time.Time) {
	var delay time.Duration
	var tooMany *GiveUpError
	r.update(func() { delay, tooMany = r.attempt(&rec.slot, r.pathOf(rec.id), now) })

	if tooMany != nil {
		r.giveUp(tooMany)
		return
	}

	r.announceGroup(rec)

	if delay == 0 {
		r.perform(rec, now)
		return
	}

	// The group is stopped now, not after the delay: it must not run without the failed child.
	if group := r.stopGroup(rec); r.ending == nil {
		for _, x := range group {
			x.held = rec
		}
		r.updateKid(rec.id, func() {
			rec.state = Restarting
			r.postpone(&rec.slot, delay, func() { r.perform(rec, time.Now()) })
		})
	}
}

// retry marks the child as restarting and puts the next attempt at the end of the mailbox (OTP rule
// 52). When the message is served, the attempt is made for the child that then has this ID, if that
// child is restarting (rule 53). If the child failed again meanwhile, two attempts are in the
// mailbox, as in OTP. If an attempt of the child has been delayed meanwhile, the message has no
// effect.
func (r *Run) retry(rec *record) {
	r.updateKid(rec.id, func() { rec.state = Restarting })
	id := rec.id
	r.box.put(notice(func() {
		if x := r.lookup(id); x != nil && x.state == Restarting && x.timer == nil {
			r.restart(x, time.Now())
		}
	}))
}

func (r *Run) planFor(rec *record) (plan, []*record) {
	members := make([]member, len(r.records))
	for i, x := range r.records {
		members[i] = x.member()
	}
	return planRestart(r.spec.Strategy, members, slices.Index(r.records, rec)), slices.Clone(r.records)
}

func (r *Run) announceGroup(rec *record) {
	if r.spec.Strategy == OneForOne {
		return
	}

	p, records := r.planFor(rec)
	ids := make([]string, len(p.start))
	for i, at := range p.start {
		ids[i] = records[at].id
	}

	r.emit(func(h Header) Event { return GroupRestart{Header: h, Strategy: r.spec.Strategy, IDs: ids} })
}

// stopGroup stops and forgets the children that the strategy names, and returns those to start.
func (r *Run) stopGroup(rec *record) (start []*record) {
	if r.spec.Strategy == OneForOne {
		return []*record{rec} // no other child is concerned, however many there are
	}

	p, records := r.planFor(rec)
	pick := func(at []int) []*record {
		list := make([]*record, len(at))
		for i, n := range at {
			list[i] = records[n]
		}
		return list
	}

	if r.stopRow(pick(p.stop)); r.ending != nil {
		return nil
	}
	for _, x := range pick(p.forget) {
		r.remove(x)
	}

	return pick(p.start)
}

// perform stops and starts the group. The first start that fails ends the attempt, and the retry
// begins with that child (OTP rule 52).
func (r *Run) perform(rec *record, now time.Time) {
	if r.spec.Strategy == OneForOne && rec.held != rec {
		r.startAll(r.only(rec), now)
		return
	}

	start := r.stopGroup(rec)
	if r.ending != nil {
		return
	}

	r.updateKid(rec.id, func() { rec.state = NotRunning })

	if rec.held == rec { // the strategy may have changed since its group was stopped
		for _, x := range start {
			x.held = rec
		}
		start = r.heldBy(rec)
	}

	r.startAll(start, time.Now())
}

// heldBy returns the children that wait for the delay of rec, including rec, in start order.
func (r *Run) heldBy(rec *record) (held []*record) {
	for _, x := range r.records {
		if x.held == rec && x.inc == nil {
			held = append(held, x)
		}
	}
	return held
}

// letGo ends rec's restart delay without restarting rec. rec stays stopped. The children of its
// group that waited for the delay are started.
func (r *Run) letGo(rec *record) {
	waits := rec.held == rec
	if rec.held = nil; waits {
		r.box.put(notice(func() { r.startAll(r.heldBy(rec), time.Now()) }))
	}
}

// startAll starts the children of a group, now.
func (r *Run) startAll(start []*record, now time.Time) {
	for _, x := range start {
		x.held = nil
	}

	for len(start) > 0 && !r.stopping() {
		n, err := r.startRow(start, false, true, now)
		if n == len(start) || err == nil {
			return // all have started, or the run is to stop
		}

		failed := start[n]
		start, now = start[n+1:], time.Now()

		if err != ErrIgnore {
			r.retry(failed) // has no effect if the run is ending
			if r.spec.Strategy != OneForOne {
				return // its retry starts the rest too
			}
		}
	}
}
