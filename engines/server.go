package engines

import (
	"context"
	"errors"
	"fmt"
	"reflect"
	"time"

	"github.com/coppice-go/coppice/supervisor"
)

// Server is the receiving side of one incarnation: its handlers and its mailbox. Spec.Init fills it
// in. Only the incarnation's own goroutine may use it, except for Post, which any goroutine may
// call.
type Server struct {
	box    *Mailbox
	sealed bool  // whether Init has returned, so that the handlers are final
	wrong  error // what is wrong with the handlers
	hand   int64 // what box.hand has

	current    *handler // what box.current has
	fast, skip int      // handlers in a row that were fast, and messages not to measure; see timed

	faults  <-chan supervisor.Fault
	offered func() bool // whether there is one
}

// handler handles the messages of one type.
type handler struct {
	isCall bool // whether OnCall registered it
	box    *Mailbox
	of     reflect.Type // of its messages
	kind   string       // the name of that type
	run    func(ctx context.Context, msg *message) error
	calls  pool // the slots for its calls
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
	s.handle(reflect.TypeFor[Q](), f == nil, &handler{isCall: true, run: func(ctx context.Context, msg *message) error {
		c, gen := msg.from.(*call[R]), msg.call
		if msg.timing&hasLimit != 0 && !c.awaited(gen) {
			return nil
		}
		if msg.timing&hasDeadline != 0 {
			return handleInTime(ctx, f, msg.value.(Q), From[R]{c, gen})
		}

		err := f(ctx, msg.value.(Q), From[R]{c, gen})
		c.returned(gen)
		return err
	}})
}

// OnCast makes f the handler of casts and posts of an M, or of a pointer to an M. Call it in
// Spec.Init. An error from f ends the incarnation.
func OnCast[M any](s *Server, f func(ctx context.Context, m M) error) {
	s.handle(reflect.TypeFor[M](), f == nil, &handler{run: func(ctx context.Context, msg *message) error {
		return f(ctx, msg.value.(M))
	}})
}

// handle registers h. What is wrong with it is the error of the start.
func (s *Server) handle(t reflect.Type, isNil bool, h *handler) {
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
	h.box, h.of, h.kind = s.box, t, t.String()
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
func (m *Mailbox) accept(v any, isCall bool) (*handler, any, error) {
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
func (m *Mailbox) adapt(v any) (*handler, any, bool) {
	t, rv := reflect.TypeOf(v), reflect.ValueOf(v)
	if t == nil {
		return nil, v, false
	}

	if t.Kind() == reflect.Pointer {
		h, ok := m.handlers[t.Elem()]
		if !ok || rv.IsNil() {
			return nil, v, false
		}
		return h, rv.Elem().Interface(), true
	}

	h, ok := m.handlers[reflect.PointerTo(t)]
	if !ok {
		return nil, v, false
	}
	p := reflect.New(t)
	p.Elem().Set(rv)

	return h, p.Interface(), true
}

// dispatch handles one message in the engine's goroutine.
func (s *Server) dispatch(ctx context.Context, msg *message) error {
	if s.hand != msg.sent {
		s.hand = msg.sent
		s.box.hand.Store(msg.sent)
	}
	if s.current != msg.handler {
		s.current = msg.handler
		s.box.current.Store(msg.handler)
	}

	if s.skip > 0 {
		s.skip--
		return msg.handler.run(ctx, msg)
	}
	return s.timed(ctx, msg)
}

// A look at the clock takes as long as a fast handler does. So while the handlers that are measured
// take less than fastHandler, only one message in measureEach is measured, and stands for all.
const (
	fastHandler = int64(time.Microsecond)
	measureEach = 16
	fastInARow  = 64 // before messages are left out
)

// timed handles a message and measures how long its handler takes.
func (s *Server) timed(ctx context.Context, msg *message) error {
	began := clock()
	s.box.began.Store(began)
	err := msg.handler.run(ctx, msg)
	took := clock() - began
	s.box.began.Store(0)

	if took >= fastHandler {
		s.box.busy.Add(took)
		s.fast = 0
		return err
	}

	if s.fast < fastInARow {
		s.fast++
		s.box.busy.Add(took)
		return err
	}

	s.box.busy.Add(took * measureEach)
	s.skip = measureEach - 1

	return err
}

// rest notes that no message is in hand.
func (s *Server) rest() {
	if s.hand != 0 {
		s.hand = 0
		s.box.hand.Store(0)
	}
}

// serve handles messages until ctx ends or a handler fails. Faults injected into the incarnation
// run here.
func (s *Server) serve(ctx context.Context) error {
	s.box.goroutine.Store(goroutineNumber())
	ctx = withCaller(ctx, s.box)
	defer context.AfterFunc(ctx, s.box.signal)()
	s.faults, s.offered = faultsOf(ctx), supervisor.OnInject(ctx, s.box.attend)

	var batch []message
	for {
		var posted []any
		batch, posted = s.box.take(batch)
		if err := s.servePosted(ctx, posted); err != nil {
			return err
		}
		if err := s.serveBatch(ctx, batch); err != nil {
			return err
		}
		s.rest()

		if len(batch) == 0 && len(posted) == 0 {
			if err := s.sleep(ctx); err != nil {
				return err
			}
		}
	}
}

// sleep waits until the queue may have something to take, and runs a fault that is on offer.
func (s *Server) sleep(ctx context.Context) error {
	if s.offered() {
		select {
		case f := <-s.faults:
			f.Do(ctx)
		case <-s.box.wake:
		}
	} else {
		<-s.box.wake // the end of ctx and a new offer wake it too
	}

	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	return nil
}

// serveBatch handles the messages of a batch. Before each, it serves what the engine has sent to
// itself and the faults, and it stops when the incarnation is told to end.
func (s *Server) serveBatch(ctx context.Context, batch []message) error {
	told := s.box.told

	for i := range batch {
		select {
		case <-told: // an incarnation that was told to stop takes nothing more
			return context.Cause(ctx)
		default:
		}

		if s.box.attention() {
			if err := s.attend(ctx); err != nil {
				return err
			}
		}

		s.box.begin(len(batch) - i - 1)
		if err := s.dispatch(ctx, &batch[i]); err != nil {
			return err
		}
	}

	return nil
}

// attend serves what the engine has sent to itself, and runs a fault that is on offer.
func (s *Server) attend(ctx context.Context) error {
	if err := s.servePosted(ctx, s.box.takePosted()); err != nil {
		return err
	}

	if s.offered() {
		s.box.call.Store(true) // look again before the next message: the offer may take a moment
		select {
		case f := <-s.faults:
			s.rest()
			f.Do(ctx)
		default:
		}
	}

	return nil
}

// servePosted handles messages that the engine has sent to itself.
func (s *Server) servePosted(ctx context.Context, posted []any) error {
	if len(posted) == 0 {
		return nil
	}
	now := clock() // stands for the time of posting, which is not recorded

	for _, v := range posted {
		h, value, err := s.box.accept(v, false)
		if err != nil {
			return err
		}
		s.box.taken.Add(1)
		if err := s.dispatch(ctx, &message{value: value, handler: h, sent: now}); err != nil {
			return err
		}
	}

	return nil
}
