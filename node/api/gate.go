package api

import (
	"context"
	"fmt"
	"net/http"
	"sync"
	"time"

	"connectrpc.com/connect"

	"github.com/coppice-go/coppice/proto/coppice/api/v1/apiv1connect"
)

// Gate is the handler that the host's listener calls for the node's services. It passes requests on
// to the handler of the api engine. The listener outlives that engine, so each incarnation of the
// engine opens the gate for its own handler. A closed gate answers every request with unavailable
// and the reason. A Gate is safe for concurrent use.
type Gate struct {
	// Meter, if set before the first request, receives the requests that a closed gate refuses.
	Meter Meter

	// Patience, if set before the first request, is how long a submission waits at a closed gate.
	// A client that is refused asks again, after a pause that grows with the time that the node is
	// away; one that waits goes on as soon as the node is back.
	Patience time.Duration

	reason func() string
	wire   *connect.ErrorWriter
	end    func()
	ended  <-chan struct{} // closed by End

	mu     sync.Mutex
	cur    *Passage      // nil while closed
	opened chan struct{} // closed by the next Open
}

// NewGate returns a closed gate. It calls reason at each refused request, to find out why the gate
// is closed.
func NewGate(reason func() string) *Gate {
	ended := make(chan struct{})
	return &Gate{reason: reason, wire: connect.NewErrorWriter(), opened: make(chan struct{}), ended: ended,
		end: sync.OnceFunc(func() { close(ended) })}
}

// End says that the gate will not open again: nobody waits for it any more.
func (g *Gate) End() { g.end() }

// Passage is the time in which a Gate is open for one incarnation of the api engine. Open begins it
// and Close ends it.
type Passage struct {
	gate    *Gate
	handler http.Handler
	ctx     context.Context
	cancel  context.CancelCauseFunc

	// guarded by gate.mu
	inside int
	closed bool
	empty  chan struct{} // closed once the passage is closed and its last request has been answered
}

// Open lets the gate pass requests to h until the returned Passage is closed. If another Passage is
// open, Open replaces and closes it.
func (g *Gate) Open(h http.Handler) *Passage {
	ctx, cancel := context.WithCancelCause(context.Background()) // it lives as long as the passage, until Close
	p := &Passage{gate: g, handler: h, ctx: ctx, cancel: cancel, empty: make(chan struct{})}
	g.mu.Lock()
	old := g.cur
	g.cur = p
	close(g.opened)
	g.opened = make(chan struct{})
	g.mu.Unlock()

	if old != nil {
		old.Close("replaced by a newer incarnation")
	}

	return p
}

// Close lets no more requests through and cancels those that the handler is serving. Their clients
// receive unavailable with the reason. If another passage has replaced p, the gate stays open for
// that one. Closing p again does nothing.
func (p *Passage) Close(reason string) {
	p.gate.mu.Lock()
	if p.gate.cur == p {
		p.gate.cur = nil
	}

	if !p.closed {
		p.closed = true
		if p.inside == 0 {
			close(p.empty)
		}
	}

	p.gate.mu.Unlock()

	p.cancel(fmt.Errorf("%w: %s", ErrUnavailable, reason))
}

// Empty returns a channel that is closed once the passage is closed and its last request has been
// answered.
func (p *Passage) Empty() <-chan struct{} { return p.empty }

// enter returns the open passage, or nil and a channel that is closed once there is another.
func (g *Gate) enter() (*Passage, <-chan struct{}) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.cur != nil {
		g.cur.inside++
	}
	return g.cur, g.opened
}

// await is enter for a request that may have to wait. It returns nil if the gate stays closed.
func (g *Gate) await(r *http.Request) *Passage {
	p, opened := g.enter()
	if p != nil || g.Patience == 0 || r.URL.Path != apiv1connect.NodeServiceSubmitProcedure {
		return p
	}

	patience := time.NewTimer(g.Patience)
	defer patience.Stop()

	for p == nil {
		select {
		case <-opened:
			p, opened = g.enter()
		case <-patience.C:
			return nil
		case <-g.ended:
			return nil
		case <-r.Context().Done():
			return nil
		}
	}

	return p
}

func (p *Passage) leave() {
	p.gate.mu.Lock()
	defer p.gate.mu.Unlock()
	p.inside--
	if p.closed && p.inside == 0 {
		close(p.empty)
	}
}

// ServeHTTP passes the request through an open gate. The request's context also ends when the
// passage is closed.
func (g *Gate) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	p := g.await(r)
	if p == nil {
		if g.Meter != nil {
			g.Meter(Request{Method: methodOf(r.URL.Path), Code: connect.CodeUnavailable.String()})
		}
		g.writeUnavailable(w, r)
		return
	}
	defer p.leave()

	ctx, cancel := context.WithCancelCause(r.Context())
	defer cancel(nil)
	defer context.AfterFunc(p.ctx, func() { cancel(context.Cause(p.ctx)) })()

	p.handler.ServeHTTP(w, r.WithContext(ctx))
}

func (g *Gate) writeUnavailable(w http.ResponseWriter, r *http.Request) {
	writeUnavailable(g.wire, w, r, fmt.Errorf("%w: %s", ErrUnavailable, g.reason()))
}
