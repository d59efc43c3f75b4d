package engines

import (
	"context"
	"fmt"
	"time"

	"github.com/coppice-go/coppice/supervisor"
)

// Query is a message that is answered with an R. A message type becomes a Query by having a method
// Answer, which is never called:
//
//	type Balance struct{ Account string }
//	func (Balance) Answer(uint64) {}
type Query[R any] interface{ Answer(R) }

// From is a caller that waits for its reply. A handler may reply to it at once, or keep it and
// reply later from any goroutine; only the first reply counts. A caller that has no reply when the
// incarnation ends gets a *DownError.
type From[R any] struct {
	c   *call[R]
	gen uint64
}

// Reply sends r to the caller. It never waits.
func (f From[R]) Reply(r R) { f.c.answer(f.gen, r, nil) }

// Fail replies with err, which the caller gets as it is. It never waits.
func (f From[R]) Fail(err error) {
	var none R
	f.c.answer(f.gen, none, err)
}

// Answer replies with r, or fails when err is not nil.
func (f From[R]) Answer(r R, err error) {
	if err != nil {
		f.Fail(err)
		return
	}
	f.Reply(r)
}

// Call sends q to an engine and returns the answer. It returns the handler's error, a *DownError
// when the callee is down or ends first, an ErrUnknownMessage when the callee has no OnCall handler
// for q, or ctx's cause. While it waits, it executes the faults that are injected into the caller's
// incarnation.
//
// Call waits as long as ctx allows: a timeout is a context.WithTimeout around ctx, or CallFor. The
// deadline of ctx travels with the call. The context of the handler ends by then too, and so do the
// calls that the handler makes with it. If the deadline passes while the call waits in the mailbox,
// the call is not handled. A cancellation does not travel.
//
// A handler that calls its own engine, or an engine that waits for it, would wait for ever. Such a
// call returns ErrWouldDeadlock at once, with the names of the engines, and is not sent. The
// runtime knows the caller by ctx: a handler makes its calls with the context that it was given, or
// with one derived from it. With a context that never ends, a call to oneself is seen too. Two
// waits are not seen: that for a call which the callee keeps to answer later, and that of a handler
// for a goroutine which calls.
func Call[R any](ctx context.Context, to Address, q Query[R]) (R, error) {
	return callWith(ctx, 0, to, q)
}

// CallFor is Call with a time limit, as OTP's gen_server:call has one. If there is no answer within
// the limit, it returns an error that Is context.DeadlineExceeded. The limit costs less than a
// context.WithTimeout around Call does. Unlike the deadline of a context it does not travel: the
// context of the handler does not end with it. A call that still waits in the mailbox then is not
// handled.
func CallFor[R any](ctx context.Context, limit time.Duration, to Address, q Query[R]) (R, error) {
	var none R
	if limit <= 0 {
		return none, fmt.Errorf("%w: call to %s with a limit of %v; expected more than 0", supervisor.ErrSpec, to.name,
			limit)
	}

	if to.patience == FailFast {
		return callWith(ctx, limit, to, q)
	}

	ctx, cancel := context.WithTimeout(ctx, limit) // it also bounds the wait for the next incarnation
	defer cancel()
	return callWith(ctx, 0, to, q)
}

func callWith[R any](ctx context.Context, limit time.Duration, to Address, q Query[R]) (R, error) {
	var answer R
	err := to.each(ctx, func(m *Mailbox) error {
		var err error
		answer, err = callOnce(ctx, limit, to, m, q)
		return err
	})
	return answer, err
}

func callOnce[R any](ctx context.Context, limit time.Duration, to Address, m *Mailbox, q Query[R]) (R, error) {
	var none R
	h, value, err := to.accept(m, q, true)
	if err != nil {
		return none, err
	}

	c := slotOf[R](m, h)
	gen := c.next()
	msg := message{value: value, handler: h, from: c, call: gen}
	if deadline, ok := ctx.Deadline(); ok {
		c.deadline, msg.timing = deadline, hasDeadline
	}
	if limit > 0 {
		msg.timing |= hasLimit
		c.limit.begin(gen, limit)
	}
	if m.calls != nil {
		msg.sent = clock()
	}

	if limit == 0 || ctx.Done() != nil || callerOf(ctx) != nil || faultsOf(ctx) != nil {
		return callWatched(ctx, limit, m, &msg, c)
	}

	// Nothing but a reply, the end of the incarnation and the limit can end the wait.
	a, rouse := m.queue.put(&msg)
	if rouse {
		m.signal()
	}
	if a != admitted {
		return callWatched(ctx, limit, m, &msg, c)
	}

	<-c.ready
	return c.outcome(limit, m, &msg)
}

// callWatched is the rest of callOnce for a call whose caller is an engine, may be told to end, or
// obeys faults while it waits.
func callWatched[R any](ctx context.Context, limit time.Duration, m *Mailbox, msg *message, c *call[R]) (R, error) {
	var none R
	over := false
	defer func() {
		if !over { // a fault has ended the caller
			c.giveUp(m, msg, true)
		}
	}()

	refuse := func(err error) (R, error) {
		over = true
		c.giveUp(m, msg, true)
		return none, err
	}

	var w *wait
	if limit == 0 || callerOf(ctx) != nil {
		var err error
		if w, err = waitFor(ctx, m, pendingCall{&c.state, msg.call}); err != nil {
			return refuse(err)
		}
		defer w.over()
	}

	sending := ctx
	if limit > 0 {
		var cancel context.CancelFunc
		sending, cancel = context.WithTimeout(ctx, limit)
		defer cancel()
	}
	if err := m.send(sending, msg, w); err != nil {
		return refuse(err)
	}

	faults, asked := faultsOf(ctx), w.questions()

	for {
		select {
		case <-c.ready:
			over = true
			w.over()
			return c.outcome(limit, m, msg)

		case <-ctx.Done():
			over = true
			w.over()
			if !c.giveUp(m, msg, false) {
				return c.outcome(limit, m, msg) // answered, if only just
			}
			return none, fmt.Errorf("call to %s: %w", m.name, context.Cause(ctx))

		case asked <- struct{}{}:
			w.note()
			asked = nil

		case f := <-faults:
			f.Do(ctx)
		}
	}
}

// giveUp ends the wait of the call in msg. If the call has been resolved meanwhile, it takes the
// token and returns false; the outcome is then still to be taken, unless drop is set. Otherwise the
// slot is free, or of no more use: the handler of a call with a deadline uses its slot.
func (c *call[R]) giveUp(m *Mailbox, msg *message, drop bool) bool {
	ok, returned := c.claim(msg.call)
	if !ok {
		<-c.ready
		if !drop {
			return false
		}
	} else if returned && c.release != nil {
		c.release()
	}

	if msg.timing&hasDeadline != 0 {
		m.slots.remove(c)
	} else {
		c.recycle(msg.handler)
	}
	return true
}

// outcome returns what the call in msg was resolved with, and frees the slot.
func (c *call[R]) outcome(limit time.Duration, m *Mailbox, msg *message) (R, error) {
	value, err, by := c.value, c.err, c.by
	if by == byReply || msg.timing&hasDeadline == 0 {
		c.recycle(msg.handler)
	} else {
		m.slots.remove(c)
	}

	switch by {
	case byReply:
		if m.calls != nil {
			m.calls.Observe(float64(clock()-msg.sent) / 1e9)
		}
	case byLimit:
		err = fmt.Errorf("call to %s: no answer within %v: %w", m.name, limit, err)
	case byEnd:
		err = m.down(true)
	}

	return value, err
}

// Cast sends m to an engine. It waits for room in the mailbox, but not for m to be handled. It
// returns a *DownError when the engine is down, an ErrUnknownMessage when it has no OnCast handler
// for m, ctx's cause, or an ErrWouldDeadlock when the mailbox is full and the engine waits for the
// sender. That it returns nil does not say that m was handled: the engine may end first.
func Cast(ctx context.Context, to Address, m any) error {
	if h := to.usual(m); h != nil && ctx.Err() == nil {
		a, rouse := h.box.put(&message{value: m, handler: h})
		if rouse {
			h.box.signal()
		}
		if a == admitted {
			return nil
		}
	}

	return to.each(ctx, func(box *Mailbox) error {
		h, value, err := to.accept(box, m, false)
		if err != nil {
			return err
		}
		return box.send(ctx, &message{value: value, handler: h}, nil)
	})
}
