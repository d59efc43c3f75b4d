package supervisor

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"strconv"
	"time"
)

// dynamicRun is one run of a Dynamic. Callers start, forget and stop instances in their own
// goroutines, under the lock. Only restarts go through the run's goroutine, which does not wait for
// them.
type dynamicRun struct {
	core

	// Guarded by core.mu.
	child     Child // the template
	most      int
	verbose   bool
	instances map[string]*instance
	numbered  uint64
	unclean   map[string]*ShutdownError // ends while stopping that were not quiet, by reason
	drained   chan struct{}             // closed when stopping and empty
	waiters   []chan struct{}           // of callers of startChild; none of them is in use
}

// instance is one child of a Dynamic. core.mu guards it.
type instance struct {
	slot               // without an incarnation between two attempts
	start    StartFunc // nil for a temporary one (OTP rule 73)
	first    bool      // StartChild waits for inc
	stopping bool
}

func newDynamicRun[A any](ctx context.Context, self any, name string, template Child,
	spec DynamicSpec[A]) (*dynamicRun, error) {
	r := &dynamicRun{child: template, most: spec.MaxChildren, verbose: spec.Verbose,
		instances: map[string]*instance{}, unclean: map[string]*ShutdownError{}, drained: make(chan struct{})}
	r.state, r.intensity = Running, spec.Intensity
	if err := r.join(ctx, name, self, r, spec.Observers); err != nil {
		return nil, err
	}
	return r, nil
}

// main executes the run. It calls over before done is closed.
func (r *dynamicRun) main(over func()) {
	r.emit(func(h Header) Event { return SupervisorStarted{Header: h, Kind: DynamicKind, Intensity: r.intensity} })
	r.own.acknowledge()
	err := r.loop()
	r.stopAll()
	r.end(err, over)
}

// reload puts a new template in force. It also applies to running instances, except for their start
// (OTP rule 81).
func (r *dynamicRun) reload(template Child, intensity Intensity, most int, verbose bool) {
	var given []*incarnation
	r.mu.Lock()
	r.child, r.intensity, r.most, r.verbose = template, intensity, most, verbose

	for _, in := range r.instances {
		if template.Restart == Temporary {
			in.start = nil // OTP rule 73
		}
		if in.inc != nil {
			if in.inc.respecify(template) {
				given = append(given, in.inc)
			}
		} else if in.start == nil {
			r.forget(in) // it waited to be restarted
		}
	}

	r.emit(func(h Header) Event { return Reloaded{Header: h} })
	r.mu.Unlock()

	for _, inc := range given {
		inc.conclude(true)
	}
}

// firstLife is a temporary instance with its only incarnation.
type firstLife struct {
	instance
	inc incarnation
}

// incarnate gives the instance its incarnation inc, at path. r.mu is held.
func (r *dynamicRun) incarnate(in *instance, inc *incarnation, path string) {
	r.specify(inc, in.id, path, &r.child)
	inc.newContext(r.base, &r.above, time.Now())
	in.inc = inc
	r.hub.changes.fire()
	r.hub.touch(r.own.path, true)

	if r.verbose {
		inc.isVerbose, inc.isExplicit = true, in.first
		r.hub.noteStarting(inc, inc.began)
	}
}

func (r *dynamicRun) startChild(ctx context.Context, id string, start StartFunc) (Ref, error) {
	if ctx.Err() != nil {
		return Ref{}, context.Cause(ctx)
	}

	r.mu.Lock()

	if r.state != Running {
		r.mu.Unlock()
		return Ref{}, r.gone()
	}

	if r.most > 0 && len(r.instances) >= r.most {
		r.mu.Unlock()
		return Ref{}, fmt.Errorf("%s: %w: %d", r.own.subject(), ErrMaxChildren, r.most)
	}

	path := ""
	if id == "" {
		id, path = r.nextID()
	} else if in, taken := r.instances[id]; taken {
		defer r.mu.Unlock()
		if in.inc == nil {
			return Ref{}, fmt.Errorf("%q: %w", id, ErrAlreadyPresent)
		}
		return Ref{}, &AlreadyStartedError{Ref: Ref{in.inc}}
	}

	if path == "" {
		path = r.pathOf(id)
	}

	var in *instance
	var inc *incarnation
	if r.child.Restart == Temporary {
		l := new(firstLife)
		in, inc = &l.instance, &l.inc
	} else {
		in, inc = &instance{start: start}, new(incarnation)
	}

	in.id, in.child, in.first = id, &r.child, true
	r.instances[id] = in
	r.incarnate(in, inc, path)
	inc.wake = r.waiterLocked()
	r.mu.Unlock()

	inc.launch(start)

	err := inc.await(ctx)
	r.giveBack(inc)

	switch {
	case err != nil:
		r.tell(in, err)
		return Ref{}, err

	case inc.started():
		return Ref{inc}, nil
	}

	if err = inc.startFailure(); err == ErrIgnore {
		return Ref{}, nil
	}
	return Ref{}, passThrough(&StartError{Path: inc.path, ID: id, Err: err})
}

// tell tells the instance to end, in whatever incarnation it is by now, and does not wait.
func (r *dynamicRun) tell(in *instance, cause error) {
	r.mu.Lock()
	inc := in.inc

	switch {
	case r.instances[in.id] != in: // it has ended since
		inc = nil
	case inc == nil:
		r.forget(in) // it waited to be restarted
	default:
		in.stopping = true
	}

	r.mu.Unlock()

	if inc != nil {
		inc.terminate(cause)
	}
}

// nextID returns the next free ID, and its path.
func (r *dynamicRun) nextID() (id, path string) {
	for {
		r.numbered++
		var room [64]byte
		text := room[:0]
		if r.own.path != "" {
			text = append(append(text, r.own.path...), '/')
		}
		above := len(text)

		path = string(strconv.AppendUint(text, r.numbered, 10))
		id = path[above:]
		if _, taken := r.instances[id]; !taken {
			return id, path
		}
	}
}

// exited records the end of an incarnation, in the goroutine that was its last.
func (r *dynamicRun) exited(inc *incarnation) (awaited bool) {
	if !r.endedQuietly(inc) {
		r.recordExit(inc)
	}
	return false
}

// endedQuietly is recordExit for the usual end, that of a temporary instance that returned nil,
// which nobody is told of. It reports whether the end was one. recordExit has a large frame, and
// the goroutine of a short-lived instance has a small stack: to grow it would cost more than all
// else.
func (r *dynamicRun) endedQuietly(inc *incarnation) bool {
	r.mu.Lock()
	defer r.mu.Unlock()

	in := r.instances[inc.name]
	if in == nil || in.inc != inc || in.stopping || in.start != nil || r.state != Running || r.verbose ||
		inc.exit().Class != Normal || !inc.started() {
		return false
	}

	in.first = false
	r.forget(in)
	return true
}

// recordExit is exited for any end.
func (r *dynamicRun) recordExit(inc *incarnation) {
	r.mu.Lock()
	in := r.instances[inc.name]
	if in == nil || in.inc != inc {
		r.mu.Unlock()
		return
	}

	exit, started := inc.exit(), inc.started()
	first := in.first
	in.first = false

	if exit.Orphaned && inc.orphanPolicy() == Escalate && r.orphan == nil {
		r.orphan = r.giveUpError(inc.path, ErrOrphan, *exit)
		if r.state == Running {
			r.box.put(notice(func() { r.giveUp(r.orphan) }))
		}
	}

	if r.state != Running && r.orphan == nil {
		r.orphan = exit.orphanBelow()
	}

	var event, unclean func(Header) Event

	switch {
	case in.stopping || r.state != Running:
		r.forget(in)
		event, unclean = r.stopped(inc, started, first)

	case !started && inc.startFailure() == ErrIgnore:
		r.forget(in)
		event = func(h Header) Event { return ChildIgnored{Header: h} }

	case !started:
		err := inc.startFailure()
		event = func(h Header) Event { return ChildStartFailed{Header: h, Explicit: first, Err: err} }
		if first {
			r.forget(in)
			break
		}
		failed := *exit
		failed.Class, failed.Err = Abnormal, err
		r.again(in, &failed)

	default:
		kept := r.child.Restart
		if in.start == nil {
			kept = Temporary // it was temporary when it started, so no start was kept
		}

		v, reported := judge(kept, exit)
		if reported || r.verbose {
			event = func(h Header) Event {
				return ChildExited{Header: h, Exit: *exit, Restart: kept, Reported: reported}
			}
		}

		switch v {
		case restart:
			if exit.Duration > r.child.Backoff.longest() {
				in.attempts = 0
			}
			r.again(in, exit)

		case endTree:
			r.forget(in)
			r.box.put(notice(func() { r.ending = exit.Err }))

		default:
			r.forget(in)
		}
	}

	// Under the lock, so that the start of the next instance with this ID comes after this end in
	// the history.
	if event != nil {
		inc.emit(event)
	}
	if unclean != nil {
		inc.emit(unclean)
	}

	r.mu.Unlock()
}

// forget removes an instance. r.mu is held.
func (r *dynamicRun) forget(in *instance) {
	if in.timer != nil {
		in.timer.Stop()
	}
	delete(r.instances, in.id)
	r.hub.changes.fire()
	r.hub.touch(r.own.path, true)
	if r.state == Stopping && len(r.instances) == 0 {
		close(r.drained)
	}
}

// stopped returns the events for an end that was asked for: event for the end, and unclean if the
// end was not quiet. Either is nil if there is nothing to emit. While the run stops, ends that are
// not quiet are collected instead. r.mu is held.
func (r *dynamicRun) stopped(inc *incarnation, started, explicit bool) (event, unclean func(Header) Event) {
	exit := inc.exit()
	if !quietStop(Temporary, r.child.Shutdown, exit) {
		if r.state == Running {
			unclean = func(h Header) Event { return ShutdownError{Header: h, Exit: *exit, Count: 1} }
		} else if e := r.unclean[exit.String()]; e != nil {
			e.Count++
		} else {
			r.unclean[exit.String()] = &ShutdownError{Exit: *exit, Count: 1}
		}
	}

	switch {
	case !r.verbose:
		return nil, unclean
	case !started:
		err := inc.startFailure()
		return func(h Header) Event { return ChildStartFailed{Header: h, Explicit: explicit, Err: err} }, unclean
	default:
		return func(h Header) Event { return ChildStopped{Header: h, Exit: *exit} }, unclean
	}
}

// again asks the run's goroutine to make the next attempt to restart the instance. r.mu is held.
func (r *dynamicRun) again(in *instance, exit *Exit) {
	in.inc, in.lastExit = nil, exit
	r.hub.touch(r.own.path, true)
	r.box.put(notice(func() { r.restart(in) }))
}

// waiting reports whether the instance still waits for an attempt. r.mu is held.
func (r *dynamicRun) waiting(in *instance) bool {
	return r.state == Running && r.instances[in.id] == in && in.inc == nil
}

func (r *dynamicRun) restart(in *instance) {
	r.mu.Lock()
	if !r.waiting(in) {
		r.mu.Unlock()
		return
	}

	delay, tooMany := r.attempt(&in.slot, r.pathOf(in.id), time.Now())
	if tooMany != nil {
		r.forget(in)
		r.mu.Unlock()
		r.giveUp(tooMany)
		return
	}

	if delay > 0 {
		r.postpone(&in.slot, delay, func() { r.perform(in) })
		r.mu.Unlock()
		return
	}

	r.mu.Unlock()

	r.perform(in)
}

func (r *dynamicRun) perform(in *instance) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.waiting(in) {
		r.incarnate(in, new(incarnation), r.pathOf(in.id))
		in.inc.launch(in.start)
	}
}

// terminate stops one instance. If only is not nil, it does so only while that is the instance's
// incarnation.
func (r *dynamicRun) terminate(ctx context.Context, id string, only *incarnation) error {
	r.mu.Lock()
	in := r.instances[id]

	switch {
	case r.state != Running:
		r.mu.Unlock()
		return r.gone()

	case in == nil && only != nil, in != nil && only != nil && in.inc != only:
		r.mu.Unlock()
		return nil // it has ended since

	case in == nil:
		r.mu.Unlock()
		return fmt.Errorf("%s has no child %q: %w", r.own.subject(), id, ErrNotFound)

	case in.inc == nil:
		r.forget(in)
		r.mu.Unlock()
		return nil
	}

	inc := in.inc

	for c := incarnationOf(ctx); c != nil; c = c.parent {
		if c == inc {
			r.mu.Unlock()
			return ErrWouldDeadlock
		}
	}

	in.stopping = true
	r.mu.Unlock()

	inc.stop()

	select {
	case <-inc.doneChan():
		if inc.exit().Orphaned {
			return fmt.Errorf("%q %w", id, ErrOrphan)
		}
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// stopAll stops all instances by OTP rule 74. All are told at once, with one timer for all, and
// those that are late are orphans. Ends that were not quiet are reported by reason.
func (r *dynamicRun) stopAll() {
	r.mu.Lock()
	r.state = Stopping
	var incs []*incarnation

	for _, in := range r.instances {
		if in.inc == nil {
			r.forgetWaiting(in)
		} else {
			incs = append(incs, in.inc)
		}
	}

	if len(r.instances) == 0 {
		close(r.drained)
	}

	r.mu.Unlock()

	var bounded []*incarnation
	var bound time.Duration

	for _, inc := range incs {
		switch d := inc.tell(ErrShutdown); d {
		case Brutal:
			inc.abandon()
		case Infinity:
		default:
			bound, bounded = d, append(bounded, inc)
		}
	}

	if len(bounded) > 0 {
		timer := time.AfterFunc(bound, func() { r.hub.expiries.add(expireAll, bounded...) })
		defer timer.Stop()
	}

	<-r.drained
	r.mu.Lock()
	reports := make([]*ShutdownError, 0, len(r.unclean))
	for _, e := range r.unclean {
		reports = append(reports, e)
	}

	r.mu.Unlock()

	slices.SortFunc(reports, func(a, b *ShutdownError) int { return cmp.Compare(a.Exit.String(), b.Exit.String()) })
	for _, e := range reports {
		r.emit(func(h Header) Event { return ShutdownError{Header: h, Exit: e.Exit, Count: e.Count} })
	}
}

// forgetWaiting removes an instance that is between two attempts, while the run stops. r.mu is
// held.
func (r *dynamicRun) forgetWaiting(in *instance) {
	if in.timer != nil {
		in.timer.Stop()
	}
	delete(r.instances, in.id)
}

func (in *instance) status() State {
	switch {
	case in.inc == nil:
		return Restarting
	case in.stopping:
		return Stopping
	case !in.inc.started():
		return Starting
	default:
		return Running
	}
}

func (in *instance) kindOf() Kind {
	if in.inc == nil {
		return Worker
	}
	return in.inc.kindOf()
}

func (r *dynamicRun) byName(id string) kid {
	if in := r.instances[id]; in != nil {
		return in
	}
	return nil
}

func (r *dynamicRun) all() []kid {
	out := make([]kid, 0, len(r.instances))
	for _, in := range r.instances {
		out = append(out, in)
	}
	return out
}

func (r *dynamicRun) draw(t *Tree, deep bool) []kid {
	t.Kind, t.Instances = DynamicKind, len(r.instances)
	list := make([]*instance, 0, len(r.instances))

	for _, in := range r.instances {
		list = append(list, in)
		t.Busy = t.Busy || (in.inc != nil && !Ref{in.inc}.Alive())
		if in.inc != nil && in.inc.seen(in.status()) == Running {
			t.InstancesRunning++
		}
	}

	if !deep {
		return nil
	}

	slices.SortFunc(list, func(a, b *instance) int {
		return cmp.Or(cmp.Compare(a.number(), b.number()), cmp.Compare(a.id, b.id))
	})

	var out []kid
	for _, in := range list[:min(len(list), TreeInstances)] {
		out = append(out, in)
	}

	return out
}

func (in *instance) number() uint64 {
	if in.inc == nil {
		return 0
	}
	return in.inc.id
}
