package manager

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"time"

	"github.com/coppice-go/coppice/supervisor"
)

// Access says where the API listens, and who may use it.
type Access struct {
	Listen string // host:port

	// Beyond loopback the API wants a Token, or AllowUnauthenticated, because it can drop a chain.
	Token                string
	TokenFile            string // read at each request, in place of Token
	AllowUnauthenticated bool
}

// ErrOpen is the error for an API that everybody could use.
var ErrOpen = errors.New("the manager's API would be open to everybody")

// Check returns an error for an API that everybody could use.
func (a Access) Check() error {
	host, _, err := net.SplitHostPort(a.Listen)
	if err != nil {
		return fmt.Errorf("%w: --listen is %q, want host:port", ErrSettings, a.Listen)
	}
	if a.Token == "" && a.TokenFile == "" && !a.AllowUnauthenticated && !loopback(host) {
		return fmt.Errorf("%w: %s is not an address of loopback: want a token (--token-file), or "+
			"--allow-unauthenticated for clients that send none", ErrOpen, a.Listen)
	}
	return nil
}

func loopback(host string) bool {
	ip := net.ParseIP(host)
	return host == "localhost" || ip != nil && ip.IsLoopback()
}

// Server serves the API on a listener. It is a service of a supervisor and may be served again.
type Server struct {
	api      *API
	listener func() (net.Listener, error)
}

// NewServer returns the server of a machine's API. listener returns the listener of one life, which
// the server closes.
func NewServer(m *Machine, a Access, listener func() (net.Listener, error), log func(string)) *Server {
	host, _, _ := net.SplitHostPort(a.Listen)
	api := &API{Machine: m, Token: a.Token, Local: loopback(host), Log: log}
	if !api.Local && !a.AllowUnauthenticated {
		api.TokenFile = a.TokenFile
	}
	return &Server{api, listener}
}

// String names the service in reports.
func (*Server) String() string { return "HTTP API of the manager" }

// Serve serves until ctx ends.
func (s *Server) Serve(ctx context.Context) error {
	l, err := s.listener()
	if err != nil {
		return err
	}

	server := &http.Server{
		Handler: s.api.Handler(), ReadHeaderTimeout: 10 * time.Second,
		IdleTimeout: 2 * time.Minute, MaxHeaderBytes: 64 << 10,
		BaseContext: func(net.Listener) context.Context { return ctx },
	}
	failed := make(chan error, 1)
	if err := supervisor.Go(ctx, func(context.Context) error { failed <- server.Serve(l); return nil }); err != nil {
		return errors.Join(err, l.Close())
	}

	select {
	case err := <-failed:
		return fmt.Errorf("HTTP API of the manager: %w", err)
	case <-ctx.Done():
		return errors.Join(context.Cause(ctx), server.Close())
	}
}
