package engines

import (
	"context"
	"errors"
	"fmt"
	"reflect"

	"github.com/coppice-go/coppice/supervisor"
)

// Server is the receiving side of one incarnation: its handlers and its mailbox. Spec.Init fills it
// in. Only the incarnation's own goroutine may use it, except for Post, which any goroutine may
// call.
type Server struct {
	box    *Mailbox
	sealed bool  // whether Init has returned, so that the handlers are final
	wrong  error // what is wrong with the handlers
}

// handler handles the messages of one type.
type handler struct {
	isCall bool // whether OnCall registered it
	run    func(ctx context.Context, msg message) error
}

// Incarnation returns the number of this incarnation. It is unique in the process, and each new
// incarnation has a larger number than those before it.
func (s *Server) Incarnation() uint64 { return s.box.incarnation }

// Post puts m at the end of the engine's own queue, which the engine serves before the mailbox and
// which is never full. Use it for the completion of work that the engine itself asked for, for a
// message from the engine to itself (a call to itself would wait for ever), and for timers:
//
//	timer := time.AfterFunc(time.Minute, func() { s.Post(tick{}) })
//
// Post never waits, and does nothing once the incarnation has ended. If the engine has no OnCast
// handler for m, that is its own mistake: the incarnation ends with ErrUnknownMessage.
func (s *Server) Post(m any) { s.box.post(m) }

// OnCall makes f the handler of calls with Q, or with a pointer to a Q. Call it in Spec.Init. An
// error from f ends the incarnation; an error for the caller goes through from.
//
// The context of f ends by the caller's deadline. If f returns an error that wraps
// context.DeadlineExceeded after the deadline, the call fails with that error and the incarnation
// goes on. So f must leave its state whole whenever it gives up. For a step that must not stop
// half-way, f uses Lifetime(ctx).
func OnCall[Q Query[R], R any](s *Server, f func(ctx context.Context, q Q, from From[R]) error) {
	s.handle(reflect.TypeFor[Q](), f == nil, handler{true, func(ctx context.Context, msg message) error {
		c := msg.from.(*call[R])
		ctx, inTime := c.begin(ctx)
		if !inTime {
			return nil
		}
		return c.end(ctx, f(ctx, msg.value.(Q), From[R]{c}))
	}})
}

// OnCast makes f the handler of casts and posts of an M, or of a pointer to an M. Call it in
// Spec.Init. An error from f ends the incarnation.
func OnCast[M any](s *Server, f func(ctx context.Context, m M) error) {
	s.handle(reflect.TypeFor[M](), f == nil, handler{false, func(ctx context.Context, msg message) error {
		return f(ctx, msg.value.(M))
	}})
}

// handle registers h. What is wrong with it is the error of the start.
func (s *Server) handle(t reflect.Type, isNil bool, h handler) {
	_, twice := s.box.handlers[t]
	switch {
	case s.sealed:
		panic(fmt.Sprintf("engine %s: a handler for %s after Init has returned", s.box.name, t))
	case isNil:
		s.wrong = errors.Join(s.wrong, fmt.Errorf("the handler for %s is nil", t))
	case twice:
		s.wrong = errors.Join(s.wrong, fmt.Errorf("there are two handlers for %s", t))
	case t.Kind() == reflect.Interface:
		s.wrong = errors.Join(s.wrong, fmt.Errorf("a handler for %s, an interface; expected the type of a message", t))
	}
	s.box.handlers[t] = h
}

// seal makes the handlers final. It returns an error if one of them is wrong.
func (s *Server) seal() error {
	s.sealed = true
	if s.wrong != nil {
		return fmt.Errorf("%w: engine %q: %w", supervisor.ErrSpec, s.box.name, s.wrong)
	}
	return nil
}

// accept returns the handler for v and the value that the handler expects: v, what v points to, or
// a pointer to a copy of v. It returns ErrUnknownMessage if there is none, or if it is for the
// other of calls and casts.
func (m *Mailbox) accept(v any, isCall bool) (handler, any, error) {
	h, ok := m.handlers[reflect.TypeOf(v)]
	if !ok {
		h, v, ok = m.adapt(v)
	}

	switch {
	case ok && h.isCall == isCall:
		return h, v, nil
	case ok && isCall:
		return h, v, fmt.Errorf("%w: %s takes a %T by Cast and gives no answer; it was called", ErrUnknownMessage,
			m.name, v)
	case ok:
		return h, v, fmt.Errorf("%w: %s takes a %T by Call and answers it; it was cast", ErrUnknownMessage, m.name, v)
	default:
		return h, v, fmt.Errorf("%w: %s was sent a %T and has no handler for it", ErrUnknownMessage, m.name, v)
	}
}

// adapt finds the handler for the type that v points to, or for pointers to v's type.
func (m *Mailbox) adapt(v any) (handler, any, bool) {
	t, rv := reflect.TypeOf(v), reflect.ValueOf(v)
	if t == nil {
		return handler{}, v, false
	}

	if t.Kind() == reflect.Pointer {
		h, ok := m.handlers[t.Elem()]
		if !ok || rv.IsNil() {
			return handler{}, v, false
		}
		return h, rv.Elem().Interface(), true
	}

	h, ok := m.handlers[reflect.PointerTo(t)]
	if !ok {
		return handler{}, v, false
	}
	p := reflect.New(t)
	p.Elem().Set(rv)

	return h, p.Interface(), true
}

func (s *Server) dispatch(ctx context.Context, msg message) error {
	s.box.hand.Store(msg.sent)
	err := msg.handle(ctx, msg)
	s.box.hand.Store(0)
	return err
}

// serve handles messages until ctx ends or a handler fails. Faults injected into the incarnation
// run here.
func (s *Server) serve(ctx context.Context) error {
	s.box.goroutine.Store(goroutineNumber())
	ctx = withCaller(ctx, s.box)
	faults := faultsOf(ctx)

	for {
		if err := s.servePosted(ctx); err != nil {
			return err
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

// servePosted handles the messages that the engine has sent to itself so far.
func (s *Server) servePosted(ctx context.Context) error {
	posted := s.box.takePosted()
	if len(posted) == 0 {
		return nil
	}
	now := clock() // stands for the time of posting, which is not recorded

	for _, v := range posted {
		h, value, err := s.box.accept(v, false)
		if err != nil {
			return err
		}
		if err := s.dispatch(ctx, message{value: value, handle: h.run, sent: now}); err != nil {
			return err
		}
	}

	return nil
}
