package host

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/http"
	"sync/atomic"
	"time"

	"go.uber.org/zap"

	"github.com/coppice-go/coppice/node/api"
	"github.com/coppice-go/coppice/node/config"
	"github.com/coppice-go/coppice/supervisor"
)

// bounds are what clients of the listener may take before they are cut off.
type Bounds struct {
	Header, Idle time.Duration // for the head of a request, and without one
	Head         int           // bytes
	Conns        int
	Work, Admin  api.IntakeOptions // of transactions and reads; of everything that must answer whatever those do (I8)
}

// NewBounds returns the bounds of a listener with conns connections.
func NewBounds(conns int) Bounds {
	return Bounds{
		Header: 10 * time.Second, Idle: 2 * time.Minute, Head: 64 << 10, Conns: conns,
		Work:  api.IntakeOptions{MaxRequests: conns - StreamsOf(conns) - 2*AdminConns},
		Admin: api.IntakeOptions{MaxRequests: AdminConns, MaxBody: 64 << 10, MaxBodies: 8 << 20},
	}
}

// streamsOf is how many of the connections may be streams of events.
func StreamsOf(conns int) int { return conns / 4 }

// hostOptions are what the owner of the listener needs of a node.
type Options struct {
	Home               string
	Listen             string // host:port; port 0 takes a free one
	TLS                config.TLSConfig
	Token, SubmitToken string // SubmitToken may be empty: there is none
	Bounds             Bounds
	Diagnostics        *zap.Logger
}

// httpHost owns the listener of a process. It outlives the incarnations of the child that serves.
type Host struct {
	Options
	routes      []api.Route
	address     atomic.Pointer[string]
	certificate atomic.Pointer[tls.Certificate] // nil: no TLS
	up          chan struct{}
}

// newHost returns a host. Errors are ErrConfig: a certificate that cannot be used.
func New(o Options) (*Host, error) {
	h := &Host{Options: o, up: make(chan struct{})}
	return h, h.Reload()
}

// Route adds rows to the table of routes. It is for the time before the first Start.
func (h *Host) Route(routes ...api.Route) { h.routes = append(h.routes, routes...) }

// Addr waits until the host listens, and returns where.
func (h *Host) Addr(ctx context.Context) (string, error) {
	select {
	case <-h.up:
		return *h.address.Load(), nil
	case <-ctx.Done():
		return "", context.Cause(ctx)
	}
}

// Start is the StartFunc of the child that serves. A later incarnation takes the same port again,
// also where the first was free to choose.
func (h *Host) Start(ctx context.Context) (supervisor.Service, error) {
	listen := h.Listen
	if a := h.address.Load(); a != nil {
		listen = *a
	}
	l, err := new(net.ListenConfig).Listen(ctx, "tcp", listen)
	if err != nil {
		return nil, fmt.Errorf("%w; choose another address with --listen or in %s", err, config.FileName)
	}

	addr := l.Addr().String()
	first := h.address.Swap(&addr) == nil
	if err := h.nodeFile(addr).Write(h.Home); err != nil {
		return nil, errors.Join(err, l.Close())
	}
	if first {
		close(h.up)
	}

	streams, end := context.WithCancel(context.WithoutCancel(ctx)) // they would hold up an orderly stop
	h.Diagnostics.Info("listening", zap.String("address", addr))

	return &admin{listener: l, end: end, server: &http.Server{
		Handler: h.guarded(h.mux(streams)), TLSConfig: h.tlsConfig(), ReadHeaderTimeout: h.Bounds.Header,
		IdleTimeout: h.Bounds.Idle, MaxHeaderBytes: h.Bounds.Head,
		ConnState: newConns(h.Bounds.Conns).state,
		ErrorLog:  zap.NewStdLog(h.Diagnostics.Named("http")),
	}}, nil
}

// mux serves the table of routes. Streams end with the given context.
func (h *Host) mux(streams context.Context) http.Handler {
	work, ask := api.NewIntake(h.Bounds.Work), api.NewIntake(h.Bounds.Admin)
	mux := http.NewServeMux()

	for _, r := range h.routes {
		handler := r.Handler
		switch r.Class {
		case api.Ask:
			handler = ask.Handler(handler)
		case api.Work:
			handler = work.Handler(handler)
		case api.Stream:
			handler = api.Streaming(streams, handler)
		}
		mux.Handle(r.Pattern, handler)
	}

	return mux
}

// admin is one incarnation of the listener's owner.
type admin struct {
	listener net.Listener
	end      context.CancelFunc // of streams
	server   *http.Server
}

// grace is how long requests inside may take to end when admin is told to stop.
const grace = 500 * time.Millisecond

func (a *admin) Serve(ctx context.Context) error {
	defer a.end()
	defer a.server.Close() // however this incarnation ends, the port is free for the next

	done := make(chan error, 1)
	if err := supervisor.Go(ctx, func(context.Context) error {
		done <- a.serve()
		return nil
	}); err != nil {
		a.listener.Close()
		return err
	}

	faults := supervisor.Faults(ctx)

	for {
		select {
		case err := <-done:
			return fmt.Errorf("http server: %w", err)

		case f := <-faults:
			f.Do(ctx)

		case <-ctx.Done():
			a.end()
			late, cancel := context.WithTimeout(context.WithoutCancel(ctx), grace)
			defer cancel()
			a.server.Shutdown(late) // past the grace, Close cuts off whoever is inside
			return context.Cause(ctx)
		}
	}
}

func (a *admin) serve() error {
	if a.server.TLSConfig != nil {
		return a.server.ServeTLS(a.listener, "", "")
	}
	return a.server.Serve(a.listener)
}

// String names the service in reports.
func (a *admin) String() string { return "admin on " + a.listener.Addr().String() }
