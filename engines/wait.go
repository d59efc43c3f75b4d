package engines

import (
	"bytes"
	"context"
	"fmt"
	"reflect"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

// The waits of engines for one another are a graph. Each mailbox keeps the waits that were made
// with its engine's context: for an answer, for room in another mailbox, or for an engine to start.
// A wait that closes a ring of engines would last for ever, so it is refused.
//
// Only the waits of an engine's own goroutine count, because an engine goes on while a goroutine
// that a handler started waits. The number of a goroutine is expensive to find (microseconds), so
// it is found only once a ring may have been closed: the goroutine that asks receives from the
// wait's channel, and the one that waits notes its number.

// pendingCall is a call that has no answer yet, or with a nil state the wait for room in a mailbox.
type pendingCall struct {
	state *atomic.Uint64 // of the slot
	gen   uint64
}

// inHand reports whether only the callee's goroutine can move the call on: it waits in the mailbox,
// or its handler runs and has not answered it.
func (c pendingCall) inHand() bool { return c.state.Load() == c.gen<<callBits }

// wait is one edge of the graph: a goroutine with caller's context waits for an engine.
type wait struct {
	caller *Mailbox
	callee *Mailbox // nil: the wait is for an engine to start, by name and dir
	name   string
	dir    Directory
	call   pendingCall     // zero: the wait is for room in the mailbox
	done   <-chan struct{} // of the context of the wait

	asked     chan struct{} // closed once goroutine is known, or the wait is over
	noted     bool          // whether asked is closed; only the waiting goroutine uses it
	goroutine atomic.Uint64 // the number of the waiting goroutine; 0 until noted, and when it is over
}

// waitFor notes that the goroutine waits for c, a call to m, or with a zero c for room in m. It
// returns nil if ctx belongs to no engine, and ErrWouldDeadlock if the wait would never end.
func waitFor(ctx context.Context, m *Mailbox, c pendingCall) (*wait, error) {
	caller := callerOf(ctx)
	if caller == nil && ctx.Done() == nil && m.hand.Load() != 0 && m.goroutine.Load() == goroutineNumber() {
		caller = m // a handler that calls its own engine with a context of its own, which never ends
	}
	if caller == nil {
		return nil, nil
	}

	w := &wait{caller: caller, callee: m, name: m.name, call: c, done: ctx.Done(), asked: make(chan struct{})}
	return w.enter()
}

// waitForStart is waitFor for an engine that is down.
func waitForStart(ctx context.Context, dir Directory, name string) (*wait, error) {
	caller := callerOf(ctx)
	if caller == nil {
		return nil, nil
	}

	w := &wait{caller: caller, name: name, dir: dir, done: ctx.Done(), asked: make(chan struct{})}
	w.note() // nothing answers questions while a directory waits

	return w.enter()
}

// enter puts w into the graph, and takes it out again if it closes a ring.
func (w *wait) enter() (*wait, error) {
	w.caller.addWait(w)
	ring := w.ring()
	if ring == nil {
		return w, nil
	}
	w.over()

	names := []string{w.caller.name}
	for _, edge := range ring {
		names = append(names, edge.name)
	}

	return nil, fmt.Errorf("%w: %s; answer the call first, or send a message and go on (Cast, Post)",
		ErrWouldDeadlock, strings.Join(names, " → "))
}

// over takes w out of the graph.
func (w *wait) over() {
	if w == nil {
		return
	}

	w.goroutine.Store(0)
	w.caller.dropWait(w)
	if !w.noted {
		w.noted = true
		close(w.asked)
	}
}

// note makes the number of the waiting goroutine known.
func (w *wait) note() {
	if w == nil || w.noted {
		return
	}
	w.noted = true
	w.goroutine.Store(goroutineNumber())
	close(w.asked)
}

// questions returns the channel on which the waiting goroutine is asked to note its number.
func (w *wait) questions() chan<- struct{} {
	if w == nil || w.noted {
		return nil
	}
	return w.asked
}

// holds reports whether the wait cannot end by itself: not by its context, nor by an answer that
// the callee may send from elsewhere.
func (w *wait) holds() bool {
	select {
	case <-w.done:
		return false
	default:
	}

	if w.callee != nil {
		select {
		case <-w.callee.done:
			return false
		default:
		}
	}

	return w.call.state == nil || w.call.inHand()
}

// blocks reports whether the goroutine of w is the one that serves its engine, and still waits.
func (w *wait) blocks() bool {
	for waiting := true; waiting; {
		_, waiting = <-w.asked
	}
	n := w.goroutine.Load()
	return n != 0 && n == w.caller.goroutine.Load()
}

// next returns the engine that w waits for, or nil if it is down and is not starting.
func (w *wait) next() *Mailbox {
	if w.callee != nil {
		return w.callee
	}
	return starting.find(w.dir, w.name)
}

// settleTime is how long a ring with a wait for room must last. A sender whose message was taken
// may not have run since, and its wait then still seems to last.
const settleTime = 50 * time.Millisecond

// ring returns the waits from w to w's caller, beginning with w, if they form a ring in which no
// engine can move.
func (w *wait) ring() []*wait {
	if w.next() == w.caller { // the usual mistake, and no other engine is asked
		w.note()
		if !w.blocks() {
			return nil
		}
		return []*wait{w}
	}

	always := func(*wait) bool { return true }
	if path(w.next(), w.caller, nil, always) == nil {
		return nil
	}

	w.note()
	if !w.blocks() {
		return nil
	}
	ring := path(w.next(), w.caller, nil, (*wait).blocks)
	if ring == nil {
		return nil
	}

	ring = append([]*wait{w}, ring...)
	if slices.ContainsFunc(ring, func(w *wait) bool { return w.callee != nil && w.call.state == nil }) {
		time.Sleep(settleTime)
		if slices.ContainsFunc(ring, func(w *wait) bool { return !w.holds() || !w.blocks() }) {
			return nil
		}
	}

	return ring
}

// path returns the waits that lead from an engine to another one, all of which hold and pass check,
// or nil if there are none.
func path(from, to *Mailbox, seen []*Mailbox, check func(*wait) bool) []*wait {
	if from == nil || slices.Contains(seen, from) {
		return nil
	}
	seen = append(seen, from)

	for _, w := range from.waiting() {
		if !w.holds() {
			continue
		}

		var rest []*wait
		if next := w.next(); next != to {
			if rest = path(next, to, seen, check); rest == nil {
				continue
			}
		}

		if check(w) {
			return append([]*wait{w}, rest...)
		}
	}

	return nil
}

// startingEngines holds the engines whose Init runs, by name. No directory knows them yet.
type startingEngines struct {
	mu    sync.Mutex
	boxes map[string][]*Mailbox
}

// starting is empty when no engine of this process starts.
var starting = startingEngines{boxes: make(map[string][]*Mailbox)}

func (s *startingEngines) add(m *Mailbox) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.boxes[m.name] = append(s.boxes[m.name], m)
}

func (s *startingEngines) remove(m *Mailbox) {
	s.mu.Lock()
	defer s.mu.Unlock()

	left := slices.DeleteFunc(s.boxes[m.name], func(other *Mailbox) bool { return other == m })
	if s.boxes[m.name] = left; len(left) == 0 {
		delete(s.boxes, m.name)
	}
}

func (s *startingEngines) find(dir Directory, name string) *Mailbox {
	s.mu.Lock()
	defer s.mu.Unlock()

	for _, m := range s.boxes[name] {
		if reflect.TypeOf(dir).Comparable() && m.dir == dir {
			return m
		}
	}

	return nil
}

// goroutineNumber returns the number of the calling goroutine.
func goroutineNumber() uint64 {
	var buf [40]byte
	text := buf[:runtime.Stack(buf[:], false)] // goroutine 7 [running]: ...
	text = bytes.TrimPrefix(text, []byte("goroutine "))
	n, _ := strconv.ParseUint(string(text[:max(0, bytes.IndexByte(text, ' '))]), 10, 64)
	return n
}
