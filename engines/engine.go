package engines

import (
	"context"
	"errors"
	"fmt"

	"github.com/coppice-go/coppice/supervisor"
)

const (
	// DefaultMailbox is the number of messages a mailbox holds when Spec.Mailbox is 0.
	DefaultMailbox = 1024
	// MaxMailbox is the largest Spec.Mailbox. The memory for a full mailbox is taken at the start.
	MaxMailbox = 1 << 24
)

// Spec describes an engine. Start makes it a supervised child.
type Spec struct {
	// Name is the engine's address. One engine has it at a time.
	Name string

	// Mailbox is the number of messages that may wait, at most MaxMailbox; 0 means DefaultMailbox.
	Mailbox int

	// Init builds the state of one incarnation and registers its handlers. The supervisor waits for
	// it, and only after it has returned can the engine be reached. Init may call the engines that
	// started before this one.
	Init func(ctx context.Context, s *Server) error

	// Stop, if set, runs at the end of each incarnation, however it ends: after its last message,
	// and before its callers learn of the end. It must not wait.
	Stop func()

	// Inspect, if set, returns what the engine shows of its state to operators, as
	// supervisor.Inspected describes. It runs beside the handlers.
	Inspect func(ctx context.Context) map[string]string
}

// ErrEngineEnded is the Cause of the DownError that callers get when an incarnation panicked or
// ended its goroutine. The supervisor's event has the value and the stack of the panic.
var ErrEngineEnded = errors.New("panicked, or ended its goroutine")

// Start returns a supervisor.StartFunc. Each call of that function starts one incarnation, and
// registers it in dir once Init has returned. The error for an invalid Spec, or for invalid
// handlers, wraps supervisor.ErrSpec. If another engine of the name runs, the error is an
// ErrNameTaken, and Init is not run.
func (e Spec) Start(dir Directory) supervisor.StartFunc {
	return func(ctx context.Context) (supervisor.Service, error) {
		size, err := e.check(dir)
		if err != nil {
			return nil, err
		}

		s := &Server{box: newMailbox(ctx, dir, e.Name, size)}
		if old, err := dir.Resolve(e.Name); err == nil {
			if err := s.box.Replaces(old); err != nil {
				return nil, err
			}
		}

		if m, ok := dir.(Measurer); ok {
			s.box.calls = m.CallTimes(e.Name)
		}

		end := incarnation{spec: e, server: s}
		started := false
		defer func() { // Init panicked or failed, so Serve will not close the incarnation
			if !started {
				end.close(ErrEngineEnded)
			}
		}()

		if err := e.init(ctx, s); err != nil {
			return nil, err
		}
		if err := dir.Register(s.box); err != nil {
			return nil, err
		}

		started = true

		if e.Inspect != nil {
			return inspected{end}, nil
		}
		return end, nil
	}
}

// check returns the size of the mailbox, or what is wrong with the spec.
func (e Spec) check(dir Directory) (int, error) {
	wrong := func(format string, args ...any) (int, error) {
		return 0, fmt.Errorf("%w: engine %q: %s", supervisor.ErrSpec, e.Name, fmt.Sprintf(format, args...))
	}

	switch {
	case e.Name == "":
		return wrong("Name is empty; expected the engine's address")
	case e.Init == nil:
		return wrong("Init is nil; expected the function that registers the handlers")
	case e.Mailbox < 0 || e.Mailbox > MaxMailbox:
		return wrong("Mailbox is %d; expected 1 to %d messages, or 0 for %d", e.Mailbox, MaxMailbox, DefaultMailbox)
	case dir == nil:
		return wrong("Start has a nil Directory; expected the one in which callers look for the engine")
	case e.Mailbox == 0:
		return DefaultMailbox, nil
	}

	return e.Mailbox, nil
}

// init runs Init. Meanwhile the runtime knows the engine as one that starts.
func (e Spec) init(ctx context.Context, s *Server) error {
	s.box.goroutine.Store(goroutineNumber())
	starting.add(s.box)
	defer starting.remove(s.box)

	if err := e.Init(withCaller(ctx, s.box), s); err != nil {
		return fmt.Errorf("engine %s: %w", e.Name, err)
	}
	if err := s.seal(); err != nil {
		return err
	}

	if ctx.Err() != nil { // replaced or stopped while it started: it must not be reached any more
		return fmt.Errorf("engine %s: %w", e.Name, context.Cause(ctx))
	}

	return nil
}

// incarnation is the Service of one started engine.
type incarnation struct {
	spec   Spec
	server *Server
}

func (i incarnation) close(exit error) {
	if i.spec.Stop != nil {
		i.spec.Stop()
	}
	i.server.box.close(exit)
}

// Serve handles messages until the incarnation ends.
func (i incarnation) Serve(ctx context.Context) (err error) {
	err = ErrEngineEnded // remains if serve panics or ends the goroutine
	defer func() { i.close(err) }()
	err = i.server.serve(ctx)
	return err
}

// inspected is the Service of an engine that shows some of its state.
type inspected struct{ incarnation }

// Inspect returns what the engine shows.
func (i inspected) Inspect(ctx context.Context) map[string]string { return i.spec.Inspect(ctx) }

// String names the engine in reports.
func (i incarnation) String() string { return i.spec.Name }
