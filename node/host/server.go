package host

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"sync/atomic"
	"time"

	"go.uber.org/zap"

	"github.com/coppice-go/coppice/node/api"
	"github.com/coppice-go/coppice/node/config"
	"github.com/coppice-go/coppice/supervisor"
)

// Bounds limits how much of the listener its clients may use before they are cut off.
type Bounds struct {
	Header time.Duration // for the head of a request
	Idle   time.Duration // between requests
	Answer time.Duration // from the head of a request to the end of its answer, but for streams
	Head   int           // bytes of the head of a request
	Conns  int
	Shared int               // requests that one connection may carry at once, with HTTP/2
	Work   api.IntakeOptions // for transactions and reads
	Admin  api.IntakeOptions // for everything that must answer however much work there is (I8)
}

// NewBounds returns the default bounds of a listener that may hold conns connections.
func NewBounds(conns int) Bounds {
	return Bounds{
		Header: 10 * time.Second, Idle: 2 * time.Minute, Answer: api.AnswerTime, Head: 64 << 10, Conns: conns,
		Shared: 100,
		Work:   api.IntakeOptions{MaxRequests: conns - StreamsOf(conns) - 2*AdminConns},
		Admin:  api.IntakeOptions{MaxRequests: AdminConns, MaxBody: 64 << 10, MaxBodies: 8 << 20},
	}
}

// StreamsOf returns how many of the given connections may be streams of events.
func StreamsOf(conns int) int { return conns / 4 }

// each returns the bound of a class of requests that has no other bound than the connections.
func (b Bounds) each() api.IntakeOptions { return api.IntakeOptions{MaxRequests: b.Conns} }

// unread is how many bytes of bodies that no handler has read yet a connection takes with HTTP/2,
// for all its requests together.
const unread = 256 << 10

// http2 returns the bounds of a connection that speaks HTTP/2. What they do not bound, the others
// of b do for each request, whatever connection it has come by.
func (b Bounds) http2() *http.HTTP2Config {
	return &http.HTTP2Config{
		MaxConcurrentStreams: b.Shared, MaxReceiveBufferPerConnection: unread, MaxReceiveBufferPerStream: unread,
	}
}

// Options are what a Host needs from a node.
type Options struct {
	Home        string
	Listen      string // host:port; port 0 takes a free one
	TLS         config.TLSConfig
	Names       Names
	Tokens      api.Tokens
	Bounds      Bounds
	Diagnostics *zap.Logger
}

// Host owns the listener of a process. It outlives the incarnations of the child that serves.
type Host struct {
	Options
	routes      []api.Route
	login       api.Login
	address     atomic.Pointer[string]          // nil until the first Start
	certificate atomic.Pointer[tls.Certificate] // nil: no TLS
	names       atomic.Pointer[Names]           // in force
	up          chan struct{}                   // closed once address is set
}

// New returns a Host that does not listen yet. It returns exit.ErrConfig if the certificate cannot
// be used.
func New(o Options) (*Host, error) {
	h := &Host{Options: o, up: make(chan struct{})}
	return h, h.Reload(o.Names)
}

// Route adds rows to the table of routes. Call it before the first Start.
func (h *Host) Route(routes ...api.Route) { h.routes = append(h.routes, routes...) }

// Login says how browsers get past the guard of the listener. Call it before the first Start.
func (h *Host) Login(l api.Login) { h.login = l }

// Addr waits until the host listens, and returns its address.
func (h *Host) Addr(ctx context.Context) (string, error) {
	select {
	case <-h.up:
		return *h.address.Load(), nil
	case <-ctx.Done():
		return "", context.Cause(ctx)
	}
}

// Start is the StartFunc of the child admin, which serves. Later incarnations listen on the port of
// the first, even if the configuration left the choice of the port open.
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

	// Serve ends the streams itself: they would hold up an orderly stop.
	streams, end := context.WithCancel(context.WithoutCancel(ctx))
	h.Diagnostics.Info("listening", zap.String("address", addr))

	return &admin{listener: l, end: end, server: &http.Server{
		Handler: h.guarded(h.mux(streams)), TLSConfig: h.tlsConfig(), Protocols: protocols(),
		HTTP2: h.Bounds.http2(), ReadHeaderTimeout: h.Bounds.Header, WriteTimeout: h.Bounds.Answer,
		IdleTimeout: h.Bounds.Idle, MaxHeaderBytes: h.Bounds.Head,
		ConnState: newConns(h.Bounds.Conns).state,
		ErrorLog:  zap.NewStdLog(h.Diagnostics.Named("http")),
	}}, nil
}

// RemoveNodeFile removes the node file of the home, if this host has written it.
func (h *Host) RemoveNodeFile() {
	a := h.address.Load()
	if a == nil {
		return // it never listened: a node file is another's, or a killed process's
	}
	if there, err := api.ReadNodeFile(h.Home); err == nil && there == h.nodeFile(*a) {
		_ = os.Remove(filepath.Join(h.Home, api.NodeFileName)) // a stale file says that its process has ended
	}
}

// mux returns a handler that serves the table of routes. Its streams end when the context streams
// ends.
func (h *Host) mux(streams context.Context) http.Handler {
	h.Bounds.Work.Answer, h.Bounds.Admin.Answer = h.Bounds.Answer, h.Bounds.Answer
	work, ask := api.NewIntake(h.Bounds.Work), api.NewIntake(h.Bounds.Admin)
	// A connection carries several requests with HTTP/2. None of these two takes more than
	// connections with one request each would.
	quick, long := api.NewIntake(h.Bounds.each()), api.NewIntake(h.Bounds.each())
	mux := http.NewServeMux()

	for _, r := range h.routes {
		handler := r.Handler
		switch r.Class {
		case api.Ask:
			handler = ask.Handler(handler)
		case api.Work:
			handler = work.Handler(handler)
		case api.Stream:
			handler = long.Count(api.Streaming(streams, handler))
		default:
			handler = quick.Count(handler)
		}

		mux.Handle(r.Pattern, handler)
	}

	return mux
}

const (
	// grace is how long the requests in progress may take to end when admin is told to stop.
	grace = 500 * time.Millisecond

	// answering is how long answers are on their way when admin ends. With HTTP/2, a connection
	// writes an answer after its handler has returned, and nobody can wait for that. One of them
	// may be to the request that has ended admin.
	answering = 30 * time.Millisecond
)

// admin is one incarnation of the child admin, which serves.
type admin struct {
	listener net.Listener
	end      context.CancelFunc // ends the streams
	server   *http.Server
}

// Serve answers requests until ctx ends.
func (a *admin) Serve(ctx context.Context) error {
	defer a.server.Close() // however this incarnation ends, the port is free for the next
	defer time.Sleep(answering)
	defer a.end()

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

			a.server.Shutdown(late) // past the grace, Close cuts off the requests in progress

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
