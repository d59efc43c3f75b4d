package engines

import (
	"context"
	"fmt"
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
type call[R any] struct{ reply chan outcome[R] }

// fail replies with an error, without knowing R.
func (c *call[R]) fail(err error) {
	select {
	case c.reply <- outcome[R]{err: err}:
	default:
	}
}

type failer interface{ fail(error) }

// From is a caller that waits for its reply. A handler may reply to it at once, or keep it and
// reply later from any goroutine; only the first reply counts. A caller that has no reply when the
// incarnation ends gets a *DownError.
type From[R any] struct{ c *call[R] }

// Reply sends r to the caller. It never waits.
func (f From[R]) Reply(r R) {
	select {
	case f.c.reply <- outcome[R]{value: r}:
	default:
	}
}

// Fail replies with err, which the caller gets as it is. It never waits.
func (f From[R]) Fail(err error) { f.c.fail(err) }

// Answer replies with r, or fails when err is not nil.
func (f From[R]) Answer(r R, err error) {
	if err != nil {
		f.c.fail(err)
		return
	}
	f.Reply(r)
}

// Call sends q to an engine and returns the answer. It returns the handler's error, a *DownError
// when the callee is down or ends first, or ctx's cause. While it waits, it executes the faults
// that are injected into the caller's incarnation.
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
	c := &call[R]{reply: make(chan outcome[R], 1)}
	sent := clock()
	if err := m.send(ctx, message{value: q, from: c, sent: sent}); err != nil {
		return none, err
	}

	faults := faultsOf(ctx)

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

		case f := <-faults:
			f.Do(ctx)
		}
	}
}

// Cast sends m to an engine. It waits for room in the mailbox, but not for m to be handled.
func Cast(ctx context.Context, to Address, m any) error {
	return to.each(ctx, func(box *Mailbox) error { return box.send(ctx, message{value: m, sent: clock()}) })
}
