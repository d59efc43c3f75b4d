package engines

import (
	"context"
	"fmt"
	"reflect"
)

// Server is the receiving side of one incarnation: its handlers and its mailbox. Spec.Init fills it
// in. Only the incarnation's own goroutine may use it, except for Post, which any goroutine may
// call.
type Server struct {
	box      *Mailbox
	handlers map[reflect.Type]func(ctx context.Context, msg message) error
}

// Incarnation returns the number of this incarnation. It is unique in the process, and each new
// incarnation has a larger number than those before it.
func (s *Server) Incarnation() uint64 { return s.box.incarnation }

// Post puts m at the end of the engine's own queue, which the engine serves before the mailbox and
// which is never full. Use it for the completion of work that the engine itself asked for. Post
// never waits, and does nothing once the incarnation has ended.
func (s *Server) Post(m any) { s.box.post(m) }

// OnCall makes f the handler of calls with Q. An error from f ends the incarnation; an error for
// the caller goes through from.
func OnCall[Q Query[R], R any](s *Server, f func(ctx context.Context, q Q, from From[R]) error) {
	s.handle(reflect.TypeFor[Q](), func(ctx context.Context, msg message) error {
		c, ok := msg.from.(*call[R])
		if !ok {
			return nil // a query that was cast: no caller waits for the answer
		}
		return f(ctx, msg.value.(Q), From[R]{c})
	})
}

// OnCast makes f the handler of casts and posts of an M. An error from f ends the incarnation.
func OnCast[M any](s *Server, f func(ctx context.Context, m M) error) {
	s.handle(reflect.TypeFor[M](), func(ctx context.Context, msg message) error { return f(ctx, msg.value.(M)) })
}

func (s *Server) handle(t reflect.Type, h func(context.Context, message) error) {
	if _, twice := s.handlers[t]; twice {
		panic(fmt.Sprintf("engine %s: two handlers for %s", s.box.name, t))
	}
	s.handlers[t] = h
}

func (s *Server) dispatch(ctx context.Context, msg message) error {
	h, ok := s.handlers[reflect.TypeOf(msg.value)]
	if ok {
		s.box.hand.Store(msg.sent)
		err := h(ctx, msg)
		s.box.hand.Store(0)
		return err
	}

	err := fmt.Errorf("%w: %s was sent a %T", ErrUnknownMessage, s.box.name, msg.value)

	if c, isCall := msg.from.(failer); isCall {
		c.fail(err)
		return nil // the caller's fault
	}

	return err
}

// serve handles messages until ctx ends or a handler fails. Faults injected into the incarnation
// run here.
func (s *Server) serve(ctx context.Context) error {
	faults := faultsOf(ctx)
	for {
		posted, now := s.box.takePosted(), int64(0)
		if len(posted) > 0 {
			now = clock() // stands for the time of posting, which is not recorded
		}

		for _, v := range posted {
			if err := s.dispatch(ctx, message{value: v, sent: now}); err != nil {
				return err
			}
		}

		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-s.box.wake:
		case msg := <-s.box.in:
			if err := ctx.Err(); err != nil { // an incarnation that was told to stop takes nothing more
				return context.Cause(ctx)
			}
			if err := s.dispatch(ctx, msg); err != nil {
				return err
			}

		case f := <-faults:
			f.Do(ctx)
		}
	}
}
