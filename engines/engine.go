package engines

import (
	"context"
	"errors"
	"fmt"
	"reflect"

	"github.com/coppice-go/coppice/supervisor"
)

// DefaultMailbox is the number of messages a mailbox holds when Spec.Mailbox is 0.
const DefaultMailbox = 1024

// Spec describes an engine. Start makes it a supervised child.
type Spec struct {
	// Name is the engine's address.
	Name string

	// Mailbox is the number of messages that may wait; 0 means DefaultMailbox.
	Mailbox int

	// Init builds the state of one incarnation and registers its handlers. The supervisor waits for
	// it, and only after it has returned can the engine be reached. Init may call the engines that
	// started before this one.
	Init func(ctx context.Context, s *Server) error

	// Stop, if set, runs at the end of each incarnation, however it ends: after its last message,
	// and before its callers learn of the end. It must not wait.
	Stop func()
}

// ErrEngineEnded is the Cause of the DownError that callers get when an incarnation panicked or
// ended its goroutine. The supervisor's event has the value and the stack of the panic.
var ErrEngineEnded = errors.New("panicked, or ended its goroutine")

// Start returns a supervisor.StartFunc. Each call of that function starts one incarnation, and
// registers it in dir once Init has returned.
func (e Spec) Start(dir Directory) supervisor.StartFunc {
	size := e.Mailbox
	if size == 0 {
		size = DefaultMailbox
	}
	return func(ctx context.Context) (supervisor.Service, error) {
		s := &Server{
			box:      newMailbox(e.Name, supervisor.Incarnation(ctx), size),
			handlers: make(map[reflect.Type]func(context.Context, message) error),
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

		if err := e.Init(ctx, s); err != nil {
			return nil, fmt.Errorf("engine %s: %w", e.Name, err)
		}
		if err := dir.Register(s.box); err != nil {
			return nil, err
		}

		started = true

		return end, nil
	}
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

// String names the engine in reports.
func (i incarnation) String() string { return i.spec.Name }
