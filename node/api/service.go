package api

import (
	"context"
	"fmt"
	"net/http"
	"sync/atomic"

	"github.com/coppice-go/coppice/supervisor"
)

// Service is the api engine. While it serves, the gate is open to a NodeService over its Core. It
// has no mailbox and no state of its own, so its death costs only the requests that it is serving.
type Service struct {
	Gate    *Gate
	Core    Core
	Options NodeOptions
	Ready   func() // called once the gate is open; may be nil
}

// Serve opens the gate and keeps it open until ctx ends. Then it cuts off the requests that are
// being served, and waits for their handlers to return. It implements suture.Service.
func (s *Service) Serve(ctx context.Context) error {
	path, h := NodeHandler(s.Core, s.Options)
	mux := http.NewServeMux()
	mux.Handle(path, h)
	var fault atomic.Pointer[chan struct{}] // set during a fault of this goroutine; closed when it is over
	p := s.Gate.Open(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if over := fault.Load(); over != nil { // an engine that hangs handles nothing
			select {
			case <-*over:
			case <-r.Context().Done():
			}
		}
		mux.ServeHTTP(w, r)
	}))
	// Close the gate even if this goroutine panics or exits: no request may reach an incarnation
	// that has ended (I5).
	defer p.Close("the api engine ended")

	if s.Ready != nil {
		s.Ready()
	}

	faults := supervisor.Faults(ctx)

	for ctx.Err() == nil {
		select {
		case <-ctx.Done():
		case f := <-faults:
			over := make(chan struct{})
			fault.Store(&over)
			f.Do(ctx)
			fault.Store(nil)
			close(over)
		}
	}

	p.Close(fmt.Sprintf("the api engine is stopping: %v", context.Cause(ctx)))
	<-p.Empty()

	return ctx.Err()
}

// String returns the engine's name.
func (s *Service) String() string { return "api" }
