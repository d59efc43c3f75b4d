package engines

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"
	"time"
)

// Query is a message that is answered with an R. A message type becomes a Query by having a method
// Answer, which is never called:
//
//	type Balance struct{ Account string }
//	func (Balance) Answer(uint64) {}
type Query[R any] interface{ Answer(R) }

type outcome[R any] struct {
	value R
	err   error
}

// call carries the reply to one call back to the caller. Its channel has room for the reply, so
// replying never waits.
type call[R any] struct {
	reply    chan outcome[R]
	deadline time.Time          // the caller's; zero if it has none
	release  context.CancelFunc // frees the handler's context; nil without a deadline
	state    atomic.Uint32      // of the two bits below
}

const (
	callReturned = 1 << iota // the handler has returned; it may have kept the call
	callAnswered             // a reply is on its way
)

// begin returns the context with which the call is handled: it ends by the caller's deadline. It
// reports false, and fails the call, if the deadline has passed already.
func (c *call[R]) begin(ctx context.Context) (context.Context, bool) {
	if c.deadline.IsZero() {
		return ctx, true
	}

	if !time.Now().Before(c.deadline) {
		c.answer(outcome[R]{err: errDeadline})
		return ctx, false
	}

	ctx, c.release = context.WithDeadlineCause(withLifetime(ctx), c.deadline, errDeadline)

	return ctx, true
}

// end notes that the handler has returned err, and returns the error that ends the incarnation. The
// caller's deadline does not: if it is why the handler failed, the call fails.
func (c *call[R]) end(ctx context.Context, err error) error {
	if err != nil && !c.deadline.IsZero() && context.Cause(ctx) == errDeadline &&
		errors.Is(err, context.DeadlineExceeded) {
		c.answer(outcome[R]{err: err})
		err = nil
	}

	c.mark(callReturned)

	return err
}

// answer sends the first reply to the caller, and drops later ones.
func (c *call[R]) answer(o outcome[R]) {
	c.mark(callAnswered)
	select {
	case c.reply <- o:
	default:
	}
}

// mark sets a bit of the state. With both set, the handler's context is of no use any more.
func (c *call[R]) mark(bit uint32) {
	before := c.state.Or(bit)
	if c.release != nil && before != before|bit && before|bit == callReturned|callAnswered {
		c.release()
	}
}

// inHand reports whether only the callee's goroutine can move the call on: it waits in the mailbox,
// or its handler runs and has not answered it. It implements pending.
func (c *call[R]) inHand() bool { return c.state.Load() == 0 }

// From is a caller that waits for its reply. A handler may reply to it at once, or keep it and
// reply later from any goroutine; only the first reply counts. A caller that has no reply when the
// incarnation ends gets a *DownError.
type From[R any] struct{ c *call[R] }

// Reply sends r to the caller. It never waits.
func (f From[R]) Reply(r R) { f.c.answer(outcome[R]{value: r}) }

// Fail replies with err, which the caller gets as it is. It never waits.
func (f From[R]) Fail(err error) { f.c.answer(outcome[R]{err: err}) }

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
// Call waits as long as ctx allows: a timeout is a context.WithTimeout around ctx. The deadline of
// ctx travels with the call. The context of the handler ends by then too, and so do the calls that
// the handler makes with it. If the deadline passes while the call waits in the mailbox, the call
// is not handled. A cancellation does not travel.
//
// A handler that calls its own engine, or an engine that waits for it, would wait for ever. Such a
// call returns ErrWouldDeadlock at once, with the names of the engines, and is not sent. The
// runtime knows the caller by ctx: a handler makes its calls with the context that it was given, or
// with one derived from it. Two waits are not seen: that for a call which the callee keeps to
// answer later, and that of a handler for a goroutine which calls.
func Call[R any](ctx context.Context, to Address, q Query[R]) (R, error) {
	var answer R
	err := to.each(ctx, func(m *Mailbox) error {
		var err error
		answer, err = callOnce(ctx, m, q)
		return err
	})
	return answer, err
}

func callOnce[R any](ctx context.Context, m *Mailbox, q Query[R]) (R, error) {
	var none R
	h, value, err := m.accept(q, true)
	if err != nil {
		return none, err
	}

	c := &call[R]{reply: make(chan outcome[R], 1)}
	c.deadline, _ = ctx.Deadline()

	w, err := waitFor(ctx, m, c)
	if err != nil {
		return none, err
	}
	defer w.over()

	sent := clock()
	if err := m.send(ctx, message{value: value, handle: h.run, from: c, sent: sent}, w); err != nil {
		return none, err
	}

	faults, asked := faultsOf(ctx), w.questions()

	for {
		select {
		case o := <-c.reply:
			if m.calls != nil {
				m.calls.Observe(float64(clock()-sent) / 1e9)
			}
			return o.value, o.err

		case <-m.done:
			select {
			case o := <-c.reply: // answered before it ended
				return o.value, o.err
			default:
				return none, m.down(true)
			}

		case <-ctx.Done():
			return none, fmt.Errorf("call to %s: %w", m.name, context.Cause(ctx))

		case asked <- struct{}{}:
			w.note()
			asked = nil

		case f := <-faults:
			f.Do(ctx)
		}
	}
}

// Cast sends m to an engine. It waits for room in the mailbox, but not for m to be handled. It
// returns a *DownError when the engine is down, an ErrUnknownMessage when it has no OnCast handler
// for m, ctx's cause, or an ErrWouldDeadlock when the mailbox is full and the engine waits for the
// sender. That it returns nil does not say that m was handled: the engine may end first.
func Cast(ctx context.Context, to Address, m any) error {
	return to.each(ctx, func(box *Mailbox) error {
		h, value, err := box.accept(m, false)
		if err != nil {
			return err
		}
		return box.send(ctx, message{value: value, handle: h.run, sent: clock()}, nil)
	})
}
