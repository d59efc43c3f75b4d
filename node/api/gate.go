package api

import (
	"context"
	"fmt"
	"net/http"
	"sync"

	"connectrpc.com/connect"
)

// Gate is the handler that the listener keeps while what is behind it comes and goes. The listener
// belongs to the host and outlives the api engine; each incarnation of the engine opens the gate
// for itself. A closed gate answers every request with unavailable and the reason. Safe for
// concurrent use.
type Gate struct {
	// Meter, if set before the first request, is told of those that a closed gate refuses.
	Meter Meter

	reason func() string
	wire   *connect.ErrorWriter

	mu  sync.Mutex
	cur *Passage // nil while closed
}

// NewGate returns a closed gate. Reason is asked at each refused request why it is closed.
func NewGate(reason func() string) *Gate {
	return &Gate{reason: reason, wire: connect.NewErrorWriter()}
}

// Passage is one incarnation's turn at a Gate.
type Passage struct {
	gate    *Gate
	handler http.Handler
	ctx     context.Context
	cancel  context.CancelCauseFunc

	// guarded by gate.mu
	inside int
	closed bool
	empty  chan struct{} // closed once the passage is closed and nobody is inside
}

// Open lets requests through to h until the Passage is closed or another one is opened, which
// closes this one.
func (g *Gate) Open(h http.Handler) *Passage {
	ctx, cancel := context.WithCancelCause(context.Background()) // a passage's life, not a request's: Close ends it
	p := &Passage{gate: g, handler: h, ctx: ctx, cancel: cancel, empty: make(chan struct{})}
	g.mu.Lock()
	old := g.cur
	g.cur = p
	g.mu.Unlock()

	if old != nil {
		old.Close("replaced by a newer incarnation")
	}

	return p
}

// Close lets no more requests in and cancels those inside; their clients get unavailable with the
// reason. A passage that was replaced leaves the gate to its successor. Closing twice is closing
// once.
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

// Empty is closed once the passage is closed and its last request has been answered.
func (p *Passage) Empty() <-chan struct{} { return p.empty }

func (g *Gate) enter() *Passage {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.cur != nil {
		g.cur.inside++
	}
	return g.cur
}

func (p *Passage) leave() {
	p.gate.mu.Lock()
	defer p.gate.mu.Unlock()
	p.inside--
	if p.closed && p.inside == 0 {
		close(p.empty)
	}
}

// ServeHTTP passes the request through an open gate; its context ends with the passage, too.
func (g *Gate) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	p := g.enter()
	if p == nil {
		if g.Meter != nil {
			g.Meter(Request{Method: methodOf(r.URL.Path), Code: connect.CodeUnavailable.String()})
		}
		g.refuse(w, r)
		return
	}
	defer p.leave()

	ctx, cancel := context.WithCancelCause(r.Context())
	defer cancel(nil)
	defer context.AfterFunc(p.ctx, func() { cancel(context.Cause(p.ctx)) })()

	p.handler.ServeHTTP(w, r.WithContext(ctx))
}

func (g *Gate) refuse(w http.ResponseWriter, r *http.Request) {
	refuse(g.wire, w, r, fmt.Errorf("%w: %s", ErrUnavailable, g.reason()))
}
